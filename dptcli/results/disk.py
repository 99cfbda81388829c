"""What the place of the results allows: which names it tells apart, whether it can be written."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from dptcli.errors import UsageError
from dptcli.remote.places import RemotePath


def case_rule(path: Path) -> Callable[[str], str]:
    """Return how the file system of a result tells names apart: str as they are, or case-folded."""
    if isinstance(path, RemotePath):
        return str
    with tempfile.NamedTemporaryFile(prefix="dpt-case-", dir=_nearest_folder(path)) as probe:
        lower = Path(probe.name)
        same = lower.with_name(lower.name.swapcase()).exists()
    return str.casefold if same else str


def refuse_unwritable(folder: Path) -> None:
    """Raise UsageError when nothing can be made in a folder, which need not exist yet.

    What a store's credentials allow shows with the first result.
    """
    if isinstance(folder, RemotePath):
        return
    nearest = folder if folder.exists() else _nearest_folder(folder)
    if not nearest.is_dir():
        raise UsageError(
            f"cannot write into {str(folder)!r}: {str(nearest)!r} is a file; name a folder, or a "
            "file with the ending of a result"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(
            f"cannot write into {str(folder)!r}: no permission or a read-only file system"
        )


def _nearest_folder(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())
