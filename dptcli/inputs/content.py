"""What a file holds, as a hash that names it; its size and dates, which are quicker to compare."""

import hashlib
import io
import os
from dataclasses import dataclass
from typing import BinaryIO

from dptcli.errors import ImageError

# Files up to this size are hashed and decoded from one copy in memory, larger ones are read twice.
_HELD_BYTES = 64 << 20


@dataclass(frozen=True)
class InputFacts:
    """The state of a file: its size in bytes, its dates in ns, a hash of its content.

    What came from an address has no dates: they are 0.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str


def content_hash(stream: BinaryIO) -> str:
    """Hash what a stream still holds: 32 hex digits of BLAKE2b."""
    digest = hashlib.blake2b(digest_size=16)
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def noted(name: str, stream: BinaryIO) -> tuple[InputFacts, BinaryIO]:
    """Return the state of an open file and a stream of the very bytes that it is the state of.

    Raises ImageError.
    """
    try:
        try:
            status = os.fstat(stream.fileno())
            size, dates = status.st_size, (status.st_mtime_ns, status.st_ctime_ns)
        except io.UnsupportedOperation:  # downloaded
            size, dates = _HELD_BYTES + 1, (0, 0)
        if size <= _HELD_BYTES:
            stream = io.BytesIO(stream.read())
        digest = content_hash(stream)
        size = stream.tell()
        stream.seek(0)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(f"{name} cannot be read: {reason}; check the disk") from error
    return InputFacts(size, *dates, digest), stream
