"""Models of the Hugging Face hub: found in the cache, else downloaded whole and checked.

The client is huggingface_hub, so its environment variables hold here too: HF_HOME, HF_ENDPOINT,
HF_TOKEN, HF_HUB_OFFLINE. It is imported when a function needs it, since that takes a while.
A model that is in the cache is used without asking the hub.
"""

import shutil
from pathlib import Path

from dptcli.errors import MissingModelError, ModelError
from dptcli.weights.folder import CONFIG_NAME, files_of, original_among
from dptcli.weights.hub_download import described, download, download_original
from dptcli.weights.hub_errors import explained, quiet_disk_warning
from dptcli.weights.hub_hash import digest_of
from dptcli.weights.hub_name import HubName, cache_of

_NOT_CACHED = (
    "model {name!r} is not in the cache, and offline mode forbids to download it; "
    "run `dpt models download {name}` where there is a network, or give a folder"
)


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
    held = cache_of(name).glob("snapshots/*/*")
    only = original_among({path.name for path in held if name.find(path.name)})
    return name.find(only) if only else None


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
    return cache_of(name).is_dir()


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
        return download(name, task=task, licence=licence, bare=bare)


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
        info = described(name)
        files = {file.rfilename: file for file in info.siblings or ()}
        if file_name not in files:
            raise MissingModelError(f"{name} does not hold {file_name}; give a file of your own")
        return download_original(name, files[file_name], commit=str(info.sha), licence=licence)


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
