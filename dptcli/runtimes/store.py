"""Where a model's graph and what runtimes compile from it lie: beside its files, or in a cache.

A model is known by the hash of its files, so nothing that was made for other weights is ever used.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dptcli.errors import ModelError
from dptcli.weights.fingerprint import model_hash

logger = logging.getLogger(__name__)

FOLDER_NAME = ".dpt-runtimes"
# What is kept: of each model's compilations (one serves all sizes where the graph is dynamic),
# and of models, the last used of each. A compilation holds the weights once more.
MOST_COMPILED = 8
MOST_MODELS = 8
_PACKAGE = Path(__file__).resolve().parents[1]


def store_for(model: Path, task: str) -> Path:
    """The folder for a model's graphs for a task; model: its folder, or an authors' file.

    Raises ModelError where neither the model's folder nor the user's cache can be written.
    """
    digest = model_hash(model).partition(":")[2]
    beside = model if model.is_dir() else model.parent
    places = [beside / FOLDER_NAME, user_cache() / "runtimes"]
    if beside.resolve().is_relative_to(_PACKAGE):  # an installation is pip's to keep
        del places[0]
    for place in places:
        if (folder := _made(place / digest / task)) is not None:
            keep_last(place, folder.parent, most=MOST_MODELS)
            return folder
    tried = " or ".join(repr(str(place)) for place in places)
    raise ModelError(
        f"a runtime's files cannot be written into {tried}; set XDG_CACHE_HOME to a folder "
        "that can be written, or take --runtime torch"
    )


def user_cache() -> Path:
    """The user's folder for what can be made anew."""
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(root) if root else Path.home() / ".cache") / "dpt"


def compiled_in(store: Path, name: str) -> Path:
    """The folder for one compilation, marked as used now; older ones than the last few go."""
    folder = store / "compiled" / name
    folder.mkdir(parents=True, exist_ok=True)
    keep_last(folder.parent, folder, most=MOST_COMPILED)
    return folder


def keep_last(place: Path, used: Path, *, most: int) -> None:
    """Mark a folder as used now and remove the ones beside it that were not used for longest."""
    with contextlib.suppress(OSError):
        os.utime(used)
        others = sorted(_folders(place), key=lambda found: found[0], reverse=True)
        for _, folder in [found for found in others if found[1] != used][most - 1 :]:
            logger.info("removing %s, unused for longest", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _folders(place: Path) -> Iterator[tuple[int, Path]]:
    for entry in os.scandir(place):
        if entry.is_dir(follow_symlinks=False):
            yield entry.stat().st_mtime_ns, Path(entry.path)


def _made(folder: Path) -> Path | None:
    """The folder, where it can be made and written; else None."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.debug("cannot make %s: %s", folder, error)
        return None
    return folder if os.access(folder, os.W_OK) else None
