"""A place in an object store with the manners of a Path, so that results need no second way."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dptcli.errors import UsageError
from dptcli.remote import is_address, parse_address, store

if sys.platform == "win32":
    from pathlib import WindowsPath as _NativePath
else:
    from pathlib import PosixPath as _NativePath


class RemotePath(_NativePath):
    """A file or folder in a store. Its parts are ("s3:", "bucket", …); as text it is the address.

    It answers what the run asks of a result's path, through requests to the store. It is never a
    name for this machine's files: os.fspath and all that builds on it is refused.
    """

    def __str__(self) -> str:
        scheme, *rest = self.parts or (".",)
        return f"{scheme}//{'/'.join(rest)}" if rest else scheme

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is not a file of this machine")

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def exists(self, **_unused: Any) -> bool:
        return store.exists(str(self))

    is_file = exists

    def is_dir(self, **_unused: Any) -> bool:
        return False  # a store has objects alone

    def is_symlink(self) -> bool:
        return False

    def absolute(self) -> RemotePath:
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        del strict
        return self

    def mkdir(self, *_unused: Any, **_more: Any) -> None:
        """Do nothing: a store has no folders."""

    def unlink(self, missing_ok: bool = False) -> None:
        store.remove(str(self), missing_ok=missing_ok)

    def open(self, mode: str = "r", *_unused: Any, **options: Any) -> IO[Any]:  # type: ignore[override]
        if mode not in {"r", "rb"}:
            raise TypeError(f"{self} is written whole, through files.atomic_path")
        data = io.BytesIO(store.read(str(self)))
        encoding, errors = options.get("encoding"), options.get("errors")
        return data if mode == "rb" else io.TextIOWrapper(data, encoding, errors)

    def read_bytes(self) -> bytes:
        return store.read(str(self))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")


def place(text: str | Path) -> Path:
    """A path on this machine or, for an address, in a store. Raises UsageError.

    The web cannot be written to.
    """
    if isinstance(text, Path) or not is_address(text):
        return Path(text) if isinstance(text, str) else text
    address = parse_address(text)
    if not address.in_store:
        raise UsageError(
            f"results cannot be written to {address.scheme}://; name a folder, s3:// or gs://"
        )
    if any(part in {"", ".", ".."} for part in address.key.rstrip("/").split("/")[:-1]):
        raise UsageError(f"{text!r} has an empty name or dots between two slashes; leave them out")
    store.require(address.scheme)
    return RemotePath(address.url)


@contextlib.contextmanager
def spooled(target: RemotePath) -> Iterator[Path]:
    """A temporary file of this machine for the content of an object, until the block ends.

    Nothing is to be seen of an object before it is whole; what stood there stays until then.
    """
    with tempfile.TemporaryDirectory(prefix="dpt-upload-") as folder:
        # The suffix tells the store the type of the content.
        temporary = Path(folder) / f"whole{target.suffix}"
        temporary.touch()
        yield temporary
