"""Whether a clip's file ends before it says that it does: a copy or a recording that broke off.

MP4 and MOV say it box by box, Matroska and WebM of their one segment, AVI of its one list.
Transport streams, FLV and bare streams don't say.
"""

import os
from pathlib import Path
from typing import BinaryIO

_CONTENT = {b"mdat", b"moof", b"moov"}  # of other boxes, a size may be junk behind the clip
_MATROSKA, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"


def ends_early(path: Path) -> bool:
    """Whether the file is shorter than it says; False where it says nothing, or can't be read."""
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(12)
            if head.startswith(_MATROSKA):
                return _segment_end(stream) > size
            if head.startswith(b"RIFF"):
                return 8 + int.from_bytes(head[4:8], "little") > size
            if head[4:8] in (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide"):
                return _boxes_end(stream, size) > size
    except OSError:
        pass
    return False


def _segment_end(stream: BinaryIO) -> int:
    """Where the segment ends; 0 where it does not say so, as in a recording under way."""
    stream.seek(4)
    header_size = _number(stream)
    if header_size is None:
        return 0
    stream.seek(header_size, os.SEEK_CUR)
    if stream.read(4) != _SEGMENT:
        return 0
    size = _number(stream)
    return 0 if size is None else stream.tell() + size


def _number(stream: BinaryIO) -> int | None:
    """EBML's number of 1 to 8 bytes (RFC 8794); None for "unknown"."""
    first = stream.read(1)
    length = 9 - first[0].bit_length() if first else 9
    if length > 8:
        return None
    value = int.from_bytes(first + stream.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else value


def _boxes_end(stream: BinaryIO, size: int) -> int:
    """Where the last box of a clip's own content ends."""
    at = end = 0
    while at + 8 <= size:
        stream.seek(at)
        head = stream.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: up to the file's end
            break
        at += length
        if kind in _CONTENT:
            end = at
    return end
