"""What names a model of the Hugging Face hub, and how one file of it is found or fetched."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dptcli.model.access import Access
from dptcli.weights.folder import HERE

NEWEST = "main"
NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubName:
    """A repository, the branch, tag or commit of it (None: the newest), and how to reach it."""

    repository: str
    revision: str | None = None
    access: Access = HERE

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository

    def find(self, file_name: str, *, revision: str | None = None) -> Path | None:
        """A file in the cache that was named, or in the usual one. Asks nobody."""
        from huggingface_hub import try_to_load_from_cache

        inside = str(PurePosixPath(self.access.subfolder, file_name))
        for cache in dict.fromkeys((self.access.cache_dir, None)):
            found = try_to_load_from_cache(
                self.repository,
                inside,
                cache_dir=cache,
                revision=revision or self.revision or NEWEST,
            )
            if isinstance(found, str):
                return Path(found)
        return None

    def download(self, file_name: str, *, revision: str | None = None) -> Path:
        """A file from the hub, through the cache; raises what the client raises."""
        from huggingface_hub import hf_hub_download

        return Path(
            hf_hub_download(
                self.repository,
                file_name,
                subfolder=self.access.subfolder or None,
                revision=revision or self.revision or NEWEST,
                cache_dir=self.access.cache_dir,
                token=self.access.token,
                force_download=self.access.force_download,
            )
        )


def parse_name(text: str) -> HubName | None:
    """The parts of `owner/name[@revision]`; None for what cannot be one, such as a path."""
    match = NAME.fullmatch(text)
    return HubName(match["repository"], match["revision"]) if match else None


def cache_of(name: HubName) -> Path:
    """Where the client keeps what it fetched of a repository."""
    from huggingface_hub import constants

    cache = name.access.cache_dir or Path(constants.HF_HUB_CACHE)
    return cache / f"models--{name.repository.replace('/', '--')}"
