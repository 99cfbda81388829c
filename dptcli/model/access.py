"""How the files of a model are reached: what from_pretrained's keywords say about the hub.

These are facts of one call, not of a model: configurations and processors never keep them, whether
they come as keywords or stand in a file that some older release wrote, and so never save a token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dptcli.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where and how to look for files.

    revision: a branch, tag or commit. token: for the hub, in place of HF_TOKEN. cache_dir: where
    downloads go; what the usual cache holds is taken from there. subfolder: of the folder or
    repository. force_download: fetch anew. offline: never download. variant: of the weights, as in
    model.fp16.safetensors. use_safetensors: whether these (True) or pickles (False) alone will do.
    """

    revision: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: Path | None = None
    subfolder: str = ""
    force_download: bool = False
    offline: bool = False
    variant: str | None = None
    use_safetensors: bool | None = None


# The document's keywords for the above.
_NAMES = (
    "revision",
    "token",
    "use_auth_token",
    "cache_dir",
    "subfolder",
    "force_download",
    "local_files_only",
    "variant",
    "use_safetensors",
)
# Keywords that change nothing here: downloads always resume, no code of a repository is ever run,
# pictures are always resized by Pillow, and the last are the reference's notes to itself.
_WITHOUT_EFFECT = (
    "resume_download",
    "trust_remote_code",
    "code_revision",
    "user_agent",
    "use_fast",
    "backend",
    "_from_auto",
    "_from_pipeline",
    "_commit_hash",
)
NEVER_KEPT = frozenset((*_NAMES, *_WITHOUT_EFFECT, "proxies"))


def split_access(values: Mapping[str, Any]) -> tuple[Access, dict[str, Any]]:
    """What keywords say about reaching files, and the other keywords.

    Raises ConfigError for proxies, which the environment names.
    """
    if values.get("proxies"):
        raise ConfigError("proxies: are not taken; set HTTPS_PROXY in the environment")
    cache_dir = values.get("cache_dir")
    token = values.get("token")
    access = Access(
        revision=values.get("revision"),
        token=values.get("use_auth_token") if token is None else token,
        cache_dir=None if cache_dir is None else Path(cache_dir),
        subfolder=str(values.get("subfolder") or ""),
        force_download=bool(values.get("force_download")),
        offline=bool(values.get("local_files_only")),
        variant=values.get("variant"),
        use_safetensors=values.get("use_safetensors"),
    )
    return access, {name: value for name, value in values.items() if name not in NEVER_KEPT}
