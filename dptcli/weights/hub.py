"""Models of the Hugging Face hub: found in the cache, else downloaded whole and checked.

The client is huggingface_hub, so its environment variables hold here too: HF_HOME, HF_ENDPOINT,
HF_TOKEN, HF_HUB_OFFLINE. It is imported when a function needs it, since that takes a while.
A model that is in the cache is used without asking the hub.
"""

import logging
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dptcli.errors import MissingModelError, ModelError
from dptcli.model.access import Access
from dptcli.model.families.entry import OWN_TERMS
from dptcli.weights.folder import (
    CONFIG_NAME,
    HERE,
    PROCESSOR_NAME,
    authors_architecture,
    files_of,
    original_among,
    originals_among,
    processor_among,
    read_config,
    shards_of,
    task_of,
    tasks_of,
    weights_among,
)
from dptcli.weights.hub_errors import explained, quiet_disk_warning
from dptcli.weights.hub_hash import digest_of

logger = logging.getLogger(__name__)

NEWEST = "main"
NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")

_NOT_CACHED = (
    "model {name!r} is not in the cache, and offline mode forbids to download it; "
    "run `dpt models download {name}` where there is a network, or give a folder"
)


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


def cached(name: HubName) -> Path | None:
    """The folder or original file of a model that lies whole in the cache, else None.

    Asks nobody.
    """
    found = name.find(CONFIG_NAME)
    if found is None:
        return _cached_original(name)
    folder = found.parent
    try:
        files_of(folder, name.access)
    except ModelError:
        return None
    return folder


def _cached_original(name: HubName) -> Path | None:
    """The one file of the authors' own that a repository without config.json holds here."""
    held = _cache_of(name).glob("snapshots/*/*")
    only = original_among({path.name for path in held if name.find(path.name)})
    return name.find(only) if only else None


def _cache_of(name: HubName) -> Path:
    """Where the client keeps what it fetched of a repository."""
    from huggingface_hub import constants

    cache = name.access.cache_dir or Path(constants.HF_HUB_CACHE)
    return cache / f"models--{name.repository.replace('/', '--')}"


def _lacking(name: HubName) -> str | None:
    """What a model lacks of which a part is in the cache, in words; None where nothing is."""
    found = name.find(CONFIG_NAME)
    if found is None:
        return None
    try:
        files_of(found.parent, name.access)
    except ModelError as error:
        return (
            f"model {str(name)!r} is in the cache but for a part: {error}; "
            f"`dpt models download {name}` fetches it where there is a network"
        )
    return None


def lies_here(name: HubName) -> bool:
    """Whether anything of a repository is in the cache, told in a hundredth of `cached`'s time."""
    return _cache_of(name).is_dir()


def fetch(
    name: HubName,
    *,
    task: str | None = None,
    licence: str | None = None,
    hint: str = "",
    offline: bool = False,
    refresh: bool = False,
    bare: bool = False,
) -> Path:
    """The folder of a model: from the cache, else downloaded.

    Of a repository in no layout of the hub it is the authors' own file, if it holds just one.
    task: refuse a model for another task before its weights are fetched. licence: as far as it is
    known already; otherwise the repository's page says it. hint: for an unknown name, the nearest
    known one. refresh: ask for a newer version though one is cached. bare: a model for no task
    will do, such as a backbone.
    Raises ModelError in one line that says what to do; nothing half-fetched is ever used.
    """
    from huggingface_hub import constants

    folder = None if refresh or name.access.force_download else cached(name)
    if folder is not None:
        return folder
    if offline or constants.HF_HUB_OFFLINE:
        kept = cached(name)
        if kept is not None:
            return kept
        raise MissingModelError(_lacking(name) or _NOT_CACHED.format(name=str(name)))
    with explained(name, hint=hint), quiet_disk_warning():
        return _download(name, task=task, licence=licence, bare=bare)


def fetch_file(name: HubName, file_name: str, *, offline: bool = False) -> Path:
    """One small file of a repository: from the cache, else downloaded. Raises ModelError."""
    from huggingface_hub import constants

    found = name.find(file_name)
    if found is not None and not name.access.force_download:
        return found
    if offline or constants.HF_HUB_OFFLINE:
        raise MissingModelError(_NOT_CACHED.format(name=str(name)))
    with explained(name, hint=""), quiet_disk_warning():
        return name.download(file_name)


def fetch_original(
    name: HubName, file_name: str, *, licence: str, offline: bool = False, refresh: bool = False
) -> Path:
    """The authors' own file of a repository in no layout of the hub: cached, else downloaded.

    Raises ModelError in one line that says what to do; what arrives is compared with its hash.
    """
    from huggingface_hub import constants

    found = name.find(file_name)
    if found is not None and not (refresh or name.access.force_download):
        return found
    if offline or constants.HF_HUB_OFFLINE:
        if found is not None:
            return found
        raise MissingModelError(_NOT_CACHED.format(name=str(name)))
    with explained(name, hint=""), quiet_disk_warning():
        info = _described(name)
        files = {file.rfilename: file for file in info.siblings or ()}
        if file_name not in files:
            raise MissingModelError(f"{name} does not hold {file_name}; give a file of your own")
        return _download_original(name, files[file_name], commit=str(info.sha), licence=licence)


def _described(name: HubName) -> Any:
    """What the hub says of a repository: its commit, its files with their hashes, its licence."""
    from huggingface_hub import HfApi

    api = HfApi(token=name.access.token)
    return api.model_info(name.repository, revision=name.revision or NEWEST, files_metadata=True)


def _download_original(name: HubName, file: Any, *, commit: str, licence: str | None) -> Path:
    _show_licence(name, licence)
    _require_space(name, file.size or 0)
    _get_checked(name, file.rfilename, commit=commit, file=file)
    return name.download(file.rfilename)  # which points the branch or tag at the commit


def remove(name: HubName) -> int:
    """Remove a repository from the cache, every revision of it; the bytes that were freed."""
    from huggingface_hub import constants, scan_cache_dir

    root = Path(constants.HF_HUB_CACHE)
    for repository in scan_cache_dir(root).repos if root.is_dir() else ():
        if repository.repo_type == "model" and repository.repo_id == name.repository:
            size = sum(path.stat().st_size for path in repository.repo_path.glob("blobs/*"))
            shutil.rmtree(repository.repo_path)
            return size
    raise ModelError(f"model {str(name)!r} is not in the cache, {root}")


def damaged_files(folder: Path) -> list[Path]:
    """The files of a cached model whose content is not what the hub's hash says.

    Files that lie outside a cache have no hash to compare with and count as good.
    """
    damaged = []
    for path in [folder] if folder.is_file() else files_of(folder):
        blob = path.resolve()
        digest = digest_of(blob, len(blob.name)) if blob.parent.name == "blobs" else None
        if digest not in (None, blob.name):
            damaged.append(path)
    return damaged


def is_cache(folder: Path) -> bool:
    """Whether a folder, or a file's, is one that the hub's client made: blobs named by hashes."""
    folder = folder.parent if folder.is_file() else folder
    return folder.parent.name == "snapshots"


def _download(name: HubName, *, task: str | None, licence: str | None, bare: bool) -> Path:
    """Fetch the files that loading reads, in the order in which they can be refused."""
    info = _described(name)
    inside = f"{name.access.subfolder}/" if name.access.subfolder else ""
    files = {
        file.rfilename.removeprefix(inside): file
        for file in info.siblings or ()
        if file.rfilename.startswith(inside)
    }
    weights = weights_among(files, name.access)
    foreign = MissingModelError(
        f"{name} does not hold {CONFIG_NAME}, {PROCESSOR_NAME} and weights, so it is no model "
        "of this family; `dpt models` lists those that are"
    )
    if weights is None or CONFIG_NAME not in files:
        original = None if inside or bare else original_among(files)
        if original is None:
            _refuse_several(name, files)
            raise foreign
        licence = licence or _card_licence(info)
        return _download_original(name, files[original], commit=str(info.sha), licence=licence)

    def get(file_name: str) -> Path:
        return _get_checked(name, file_name, commit=str(info.sha), file=files[file_name])

    config = read_config(get(CONFIG_NAME).parent)
    processor = processor_among(files)
    if processor is None and authors_architecture(config) is None:
        raise foreign
    if not bare:
        _refuse_other_models(name, config, task=task)
    if processor is not None:
        get(processor)
    _show_licence(name, licence or _card_licence(info))
    wanted = [weights]
    if weights.endswith(".json"):
        wanted = sorted(set(shards_of(get(weights)).values()))
        lacking = [shard for shard in wanted if shard not in files]
        if lacking:
            raise ModelError(f"{name}: its index names {lacking[0]!r}, which it does not hold")
    _require_space(name, sum(files[file_name].size or 0 for file_name in wanted))
    for file_name in wanted:
        get(file_name)
    # Last, the branch or tag is pointed at the commit, so that a name never leads to a part.
    folder = name.download(CONFIG_NAME).parent
    files_of(folder, name.access)
    return folder


def _get_checked(name: HubName, file_name: str, *, commit: str, file: Any) -> Path:
    """One file of a commit. What arrives is compared with the hub's hash, and kept if it fits."""
    known = name.find(file_name, revision=commit)
    path = _get_resumed(name, file_name, commit=commit)
    if known is not None and not name.access.force_download:
        return path
    expected = file.lfs["sha256"] if file.lfs else file.blob_id
    actual = digest_of(path, len(expected or ""))
    if actual is not None and actual != expected:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise ModelError(
            f"{name}: {file_name} arrived damaged (its hash is {actual[:12]}…, the hub says "
            f"{expected[:12]}…) and was removed; run it again, or choose another HF_ENDPOINT"
        )
    return path


def _get_resumed(name: HubName, file_name: str, *, commit: str) -> Path:
    """One file, asked for again as long as each cut connection left a longer part of it.

    Clients from 2.x resume by themselves and keep no part; older ones keep it and give up.
    """
    blobs = _cache_of(name) / "blobs"
    kept_before = 0
    while True:
        try:
            return name.download(file_name, revision=commit)
        except Exception:
            kept = sum(path.stat().st_size for path in blobs.glob("*.incomplete"))
            if kept <= kept_before:
                raise
            kept_before = kept


def _refuse_several(name: HubName, files: Collection[str]) -> None:
    found = originals_among(files)
    if found:
        raise MissingModelError(
            f"{name} holds several files of its authors' own, {', '.join(found)}; fetch one of "
            "them and give its path"
        )


def _refuse_other_models(name: HubName, config: Mapping[str, Any], *, task: str | None) -> None:
    found = task_of(config)
    if found is None:
        raise ModelError(
            f"{name} is a {config.get('model_type')!r} model with architectures "
            f"{config.get('architectures')}, for neither depth nor segmentation; "
            "`dpt models` lists those that are"
        )
    if task is not None and task not in tasks_of(config):
        raise ModelError(f"model {str(name)!r} is for `dpt {found}`, not for `dpt {task}`")


def _card_licence(info: Any) -> str | None:
    card = info.card_data
    return None if card is None else card.get("license")


def _show_licence(name: HubName, licence: str | None) -> None:
    text = licence or "not stated"
    if "-nc" in text.lower():
        logger.warning("%s: licence %s, not for commercial use", name, text)
    elif text in OWN_TERMS:
        terms = "%s: under the %s, the publisher's own terms: %s"
        logger.warning(terms, name, text, OWN_TERMS[text])
    else:
        logger.info("%s: licence %s", name, text)


def _require_space(name: HubName, size: int) -> None:
    """Refuse a download that the disk cannot hold, before it starts."""
    from huggingface_hub import constants

    cache = name.access.cache_dir or Path(constants.HF_HUB_CACHE)
    existing = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise ModelError(
            f"{name} needs {size / 1e6:,.1f} MB, but {existing} has {free / 1e6:,.1f} MB left; "
            "make room, or set HF_HOME to a folder on another disk"
        )
