"""Object stores through fsspec: s3fs and gcsfs, with their own credentials, retries and settings.

Paths go to the file system of their scheme directly and never through fsspec.open, which would
follow chains and other schemes.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from dptcli.errors import UsageError
from dptcli.remote import scrub, shown

_BLOCK = 8 << 20  # of one request for a large object; from two such blocks on, uploads have parts
_HELD = 32 << 20  # larger objects wait on disk and not in memory

_LIBRARY = {"s3": "s3fs", "gs": "gcsfs"}
_SOURCES = {
    "s3": "AWS_PROFILE, AWS_ACCESS_KEY_ID, ~/.aws or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, gcloud or the machine's account",
}


def require(scheme: str) -> None:
    """Raise UsageError when the library for a scheme is not installed."""
    if importlib.util.find_spec(_LIBRARY[scheme]) is None:
        raise UsageError(
            f"{scheme}:// needs {_LIBRARY[scheme]}; install it with pip install 'dptcli[cloud]'"
        )


def exists(url: str) -> bool:
    """Whether an object stands at an address. Raises OSError when the store does not say."""
    try:
        return bool(_ask(url, "info")["type"] == "file")
    except FileNotFoundError:
        return False


def read(url: str) -> bytes:
    """A small object's content. Raises OSError."""
    with fetch(url) as stream:
        return stream.read()


@contextlib.contextmanager
def fetch(url: str) -> Iterator[IO[bytes]]:
    """An object's content as a seekable stream, read block by block. Raises OSError."""
    with tempfile.SpooledTemporaryFile(max_size=_HELD) as spool:
        before = _ask(url, "info")
        size = int(before["size"])
        if before["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, "no such object")
        for start in range(0, size, _BLOCK):
            end = min(start + _BLOCK, size)
            block = _ask(url, "cat_file", start=start, end=end)
            if len(block) != end - start:
                raise OSError(errno.EIO, "the object changed while it was read")
            spool.write(block)
        if size > _BLOCK:
            after = _ask(url, "info")
            if any(before.get(key) != after.get(key) for key in ("ETag", "etag", "size")):
                raise OSError(errno.EIO, "the object changed while it was read")
        spool.seek(0)
        yield spool


def write(source: Path, url: str) -> None:
    """Put a file's content at an address, whole or not at all. Raises OSError."""
    _ask(url, "put_file", str(source), chunksize=_BLOCK)


def create(source: Path, url: str) -> None:
    """Put a file's content at an address where nothing is, whatever others do meanwhile.

    Stores that know no such condition, and older libraries, are asked before. Raises OSError,
    FileExistsError where an object has come.
    """
    if not _knows_create(url):
        if exists(url):
            raise FileExistsError(errno.EEXIST, "it has come meanwhile")
        write(source, url)
        return
    try:
        _ask(url, "put_file", str(source), chunksize=_BLOCK, mode="create")
    except OSError as error:
        # S3 answers "a condition does not hold" (412), which has no error of its own here.
        if error.errno in (errno.EEXIST, errno.EINVAL, errno.EIO) and exists(url):
            raise FileExistsError(errno.EEXIST, "it has come meanwhile") from None
        if error.errno != errno.ENOSYS:
            raise
        write(source, url)


def _knows_create(url: str) -> bool:
    import fsspec

    method = getattr(fsspec.get_filesystem_class(url.partition("://")[0]), "_put_file", None)
    return method is not None and "mode" in inspect.signature(method).parameters


def remove(url: str, *, missing_ok: bool) -> None:
    """Remove an object. Raises OSError."""
    if exists(url):
        _ask(url, "rm_file")
    elif not missing_ok:
        raise FileNotFoundError(errno.ENOENT, "no such object")


def find(url: str) -> dict[str, dict[str, Any]]:
    """The objects whose keys start with a prefix and a slash, or the one object: {address: facts}.

    Raises OSError, FileNotFoundError where the bucket does not exist.
    """
    scheme = url.partition("://")[0]
    found = _ask(url, "find", detail=True)
    return {f"{scheme}://{name}": facts for name, facts in found.items() if facts["type"] == "file"}


def match(url: str) -> list[str]:
    """The objects that a glob matches. Raises OSError."""
    scheme = url.partition("://")[0]
    found = _ask(url, "glob", detail=True)
    return [f"{scheme}://{name}" for name, facts in found.items() if facts["type"] == "file"]


def try_upload(url: str) -> None:
    """Raise OSError where an object of this name may not be put into a store; nothing stays of it.

    S3 alone is asked, by an upload in parts that is given up before there is one. Google's store
    has no such question that everyone may ask.
    """
    scheme, _, path = url.partition("://")
    if scheme != "s3":
        return
    bucket, _, key = path.partition("/")

    def begin(system: Any) -> None:
        begun = system.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
        with contextlib.suppress(OSError):  # who may put may not always take back
            system.call_s3(
                "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=begun["UploadId"]
            )

    _with_system(scheme, begin)


def _ask(url: str, method: str, *before: object, **options: object) -> Any:
    """Call a file system's method with the path; before: arguments that stand in front of it."""
    scheme, _, path = url.partition("://")
    return _with_system(
        scheme, lambda system: getattr(system, method)(*before, path.rstrip("/"), **options)
    )


def _with_system(scheme: str, call: Callable[[Any], Any]) -> Any:
    """Call with a scheme's file system; what goes wrong is an OSError without secrets.

    The libraries retry what may pass (cut connections, 429, 5xx, slow answers) with back-off, as
    AWS_MAX_ATTEMPTS, AWS_RETRY_MODE and FSSPEC_S3_… say.
    """
    try:
        import fsspec

        return call(fsspec.filesystem(scheme, use_listings_cache=False))
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "no such object or bucket") from None
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "it has come meanwhile") from None
    except OSError as error:
        # gcsfs says it in words alone.
        if isinstance(error, PermissionError) or str(error).startswith("Forbidden"):
            reason = f"access denied; credentials come from {_SOURCES[scheme]}"
            raise PermissionError(errno.EACCES, reason) from None
        raise OSError(error.errno or errno.EIO, _words(error, scheme)) from None
    except Exception as error:  # botocore's and aiohttp's own families
        raise OSError(errno.EIO, _words(error, scheme)) from None


def _words(error: Exception, scheme: str) -> str:
    name = type(error).__name__
    if "Credential" in name or "RefreshError" in name:
        return f"no credentials; they come from {_SOURCES[scheme]}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return scrub(text) or name


def refusal(url: str, error: OSError) -> str:
    """One line about an address that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return f"{shown(url)} does not exist; was it moved or removed?"
    reason = error.strerror or os.strerror(error.errno or 0)
    return f"{shown(url)} cannot be opened: {reason}"
