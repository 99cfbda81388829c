"""Files that are whole or absent: everything `dpt` writes goes through here."""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from dptcli.remote import store
from dptcli.remote.places import RemotePath, spooled

# In the names of a run's temporary files, so that what a killed run left can be told from
# what a living one is writing.
RUN_TOKEN = secrets.token_hex(4)
TEMPORARY_SUFFIX = ".dpt-tmp"
SPOOL_PREFIX = ".dpt-spool-"

# The run that this process's files belong to: in a cluster's worker, the driver's.
_run_token = RUN_TOKEN

# Files begun and not yet complete, so that an exit in a hurry can remove them.
_unfinished: set[Path] = set()
_watcher: ContextVar[Callable[[Path, Path], None] | None] = ContextVar("watcher", default=None)


def place_over(temporary: Path, path: Path) -> None:
    """Give a whole file its name, in place of what stands there. Raises OSError."""
    if isinstance(path, RemotePath):
        store.write(temporary, str(path))
        return
    if path.exists() and not os.access(path, os.W_OK):  # the folder alone would let it be replaced
        raise PermissionError(errno.EACCES, "the file there is read-only", str(path))
    temporary.replace(path)


_placer: ContextVar[Callable[[Path, Path], object]] = ContextVar("placer", default=place_over)


def write_for(token: str) -> None:
    """Let this process's temporary files carry another run's token: they end with that run."""
    global _run_token
    _run_token = token


@contextlib.contextmanager
def watching(watcher: Callable[[Path, Path], None]) -> Iterator[None]:
    """Call watcher(path, temporary) for each file that this thread completes in the block.

    It is called when the content is whole and before it takes its place at `path`; what it raises
    keeps the file from being put there.
    """
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


@contextlib.contextmanager
def placing(placer: Callable[[Path, Path], object]) -> Iterator[None]:
    """Let placer(temporary, path) put each file that this thread completes in the block in place.

    What it raises keeps the file from being put there.
    """
    before = _placer.set(placer)
    try:
        yield
    finally:
        _placer.reset(before)


def place_new(temporary: Path, path: Path) -> None:
    """Give a whole file its name, whatever other processes do. Raises FileExistsError."""
    if isinstance(path, RemotePath):
        store.create(temporary, str(path))
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links: the name is taken first, by an empty file
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        temporary.replace(path)
    else:
        temporary.unlink()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes `path`'s place when the block ends.

    The folder is made when it is missing. When the block fails, the temporary file is removed and
    what stood at `path` before stays as it was. A place in a store is uploaded to when the block
    ends. Raises OSError.
    """
    if isinstance(path, RemotePath):
        with spooled(path) as temporary:
            yield temporary
            _placer.get()(temporary, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: NAME plus a suffix could pass the file system's 255 bytes, and an image's
    # suffix would let a later run take what a killed one left behind for a picture.
    temporary = path.with_name(f".{_run_token}{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    _unfinished.add(temporary)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some libraries write files that only their owner may read
        if (watcher := _watcher.get()) is not None:
            watcher(path, temporary)
        _placer.get()(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        _unfinished.discard(temporary)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary stream whose content takes `path`'s place when the block ends; see atomic_path."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        yield stream


def discard_unfinished() -> None:
    """Remove what other threads have half written, for an exit that does not wait for them."""
    for temporary in list(_unfinished):
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8; what is none in names of files as its bytes."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
