"""Files that are whole or absent: everything `dpt` writes goes through here."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes `path`'s place when the block ends.

    The folder is made when it is missing. When the block fails, the temporary file is removed and
    what stood at `path` before stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers choose their format by it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".dpt-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp is private; outputs are ordinary files
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    """The process's umask. There is no call that only reads it before Python 3.14."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
