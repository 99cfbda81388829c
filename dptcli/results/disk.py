"""What the place of the results allows: which names it tells apart, whether it can be written."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from dptcli.errors import UsageError
from dptcli.remote import store
from dptcli.remote.places import RemotePath


def case_rule(path: Path) -> Callable[[str], str]:
    """Return how the file system of a result tells names apart: str as they are, or case-folded."""
    if isinstance(path, RemotePath):
        return str
    with tempfile.NamedTemporaryFile(prefix="dpt-case-", dir=_nearest_folder(path)) as probe:
        lower = Path(probe.name)
        same = lower.with_name(lower.name.swapcase()).exists()
    return str.casefold if same else str


def refuse_unwritable(folder: Path, *, first: Path | None = None) -> None:
    """Raise UsageError when nothing can be made in a folder, which need not exist yet.

    first: a result that will go there, by whose name a store is asked.
    """
    if isinstance(folder, RemotePath):
        if first is not None:
            _refuse_denied(first)
        return
    nearest = folder if folder.exists() else _nearest_folder(folder)
    if not nearest.is_dir():
        raise UsageError(
            f"cannot write into {str(folder)!r}: {str(nearest)!r} is a file; name a folder, or a "
            "file with the ending of a result"
        )
    try:
        # By doing it: permissions alone say nothing of /proc, full disks, or who runs as root.
        with tempfile.TemporaryFile(dir=nearest, buffering=0) as probe:
            probe.write(b"dpt")
    except OSError as error:
        raise UsageError(
            f"cannot write into {str(folder)!r}: nothing can be made in {str(nearest)!r} "
            f"({error.strerror}); name another folder"
        ) from None


def _refuse_denied(path: Path) -> None:
    """Raise UsageError when a store takes no object of this name, as far as it can be asked."""
    try:
        store.try_upload(str(path))
    except (PermissionError, FileNotFoundError) as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from None
    except OSError:
        return  # what may pass, or a store that answers in its own way: the first result shows it


def _nearest_folder(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())
