"""What an MP4 or Matroska file says of its frames that hold two views, as players read it.

Source: Google's Spherical Video V2 (st3d, sv3d), boxes of a video's sample entry in MP4. Matroska
has a field of its own, which FFmpeg writes.
"""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from dptcli import __version__
from dptcli.errors import ImageError

_STEREO_MODES = {"top-bottom": 1, "left-right": 2}
MATROSKA_MODES: Mapping[str, str] = {"top-bottom": "top_bottom", "left-right": "left_right"}

# The way from the file to the entry that says how its video is coded.
_WAY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_STSD_HEAD = 8  # bytes before its entries
_QUARTER = 1 << 30  # of 2**32: what is cut from each side of a whole sphere


@dataclass(frozen=True)
class Views:
    """How frames hold two views. half_sphere: each is 180° across and down (VR180)."""

    layout: Literal["left-right", "top-bottom"]
    half_sphere: bool = False


def mark_views(path: Path, views: Views) -> None:
    """Write into a finished MP4, whose index stands in front, how its frames hold two views.

    Raises ImageError for a file without a video's index.
    """
    added = _box(b"st3d", struct.pack(">IB", 0, _STEREO_MODES[views.layout]))
    if views.half_sphere:
        added += _half_sphere()
    marked = path.with_name(f"{path.name}.marked")
    try:
        with path.open("rb") as source, marked.open("wb") as target:
            for kind, content in _top_boxes(source):
                if kind != b"moov":
                    source.seek(content.start)
                    _copy(source, target, content.stop - content.start)
                    continue
                source.seek(content.start)
                moov = bytearray(source.read(content.stop - content.start))
                _insert(moov, added, path)
                if not _has_passed(source, content):
                    _move_chunks(moov, len(added))
                target.write(moov)
        marked.replace(path)
    finally:
        marked.unlink(missing_ok=True)


def _half_sphere() -> bytes:
    source = _box(b"svhd", struct.pack(">I", 0) + f"dptcli {__version__}".encode() + b"\0")
    pose = _box(b"prhd", struct.pack(">I3i", 0, 0, 0, 0))
    # top, bottom, left, right: the picture is the middle half of the sphere's width.
    bounds = _box(b"equi", struct.pack(">I4I", 0, 0, 0, _QUARTER, _QUARTER))
    return _box(b"sv3d", source + _box(b"proj", pose + bounds))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _top_boxes(stream: BinaryIO) -> Iterator[tuple[bytes, range]]:
    """The boxes of a file: kind and the bytes from its head to its end."""
    end, start = stream.seek(0, os.SEEK_END), 0
    while start + 8 <= end:
        stream.seek(start)
        size, kind = struct.unpack(">I4s", stream.read(8))
        if size == 1:
            size = struct.unpack(">Q", stream.read(8))[0]
        stop = end if size == 0 else start + size
        yield kind, range(start, min(stop, end))
        start = max(stop, start + 8)


def _boxes(data: bytearray, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    while start + 8 <= stop:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8:
            return
        yield kind, start, start + size
        start += size


def _find(data: bytearray) -> list[int]:
    """Where the boxes on the way to the video's sample description begin; empty for none."""

    def inside(start: int, stop: int, rest: Sequence[bytes]) -> list[int] | None:
        if not rest:
            entry = next(_boxes(data, start + _STSD_HEAD, stop), None)
            return [] if entry and entry[0] in {b"avc1", b"hvc1", b"hev1", b"vp09"} else None
        for kind, begin, end in _boxes(data, start, stop):
            if kind == rest[0]:
                found = inside(begin + 8, end, rest[1:])
                if found is not None:
                    return [begin, *found]
        return None

    return inside(0, len(data), _WAY) or []


def _insert(moov: bytearray, added: bytes, path: Path) -> None:
    """Put boxes at the end of the video's sample entry; every box around it grows."""
    around = _find(moov)
    if not around:
        raise ImageError(f"{str(path)!r} has no video whose views could be described")
    entry = around[-1] + 8 + _STSD_HEAD
    for start in [*around, entry]:
        size = struct.unpack_from(">I", moov, start)[0]
        struct.pack_into(">I", moov, start, size + len(added))
    end = entry + struct.unpack_from(">I", moov, entry)[0] - len(added)
    moov[end:end] = added


def _has_passed(stream: BinaryIO, moov: range) -> bool:
    """Whether the frames stand before the index, whose growth moves them not."""
    return any(kind == b"mdat" and box.start < moov.start for kind, box in _top_boxes(stream))


def _move_chunks(moov: bytearray, distance: int) -> None:
    """Frames begin so much farther back: every track's list of places says it."""
    inner = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}

    def visit(start: int, stop: int) -> None:
        for kind, begin, end in _boxes(moov, start, stop):
            if kind in inner:
                visit(begin + 8, end)
            elif kind in {b"stco", b"co64"}:
                item = ">I" if kind == b"stco" else ">Q"
                count = struct.unpack_from(">I", moov, begin + 12)[0]
                for index in range(count):
                    place = begin + 16 + index * struct.calcsize(item)
                    offset = struct.unpack_from(item, moov, place)[0]
                    struct.pack_into(item, moov, place, offset + distance)

    visit(0, len(moov))


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size > 0:
        piece = source.read(min(size, 1 << 20))
        if not piece:
            return
        target.write(piece)
        size -= len(piece)
