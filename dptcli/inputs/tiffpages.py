"""The directories of a TIFF file: which of them are pages, which are smaller copies or raw data.

Source: TIFF 6.0 and its supplements, BigTIFF, DNG 1.7.
"""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

# Tags.
SUBFILE_TYPE, OLD_SUBFILE_TYPE = 254, 255
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
FILL_ORDER, ORIENTATION, SAMPLES, PLANAR, PREDICTOR = 266, 274, 277, 284, 317
LARGEST_SAMPLE, SUB_IFDS, EXTRA_SAMPLES, SAMPLE_FORMAT, NO_DATA = 281, 330, 338, 339, 42113
DNG_VERSION = 50706

# Photometric interpretations.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR = range(7)
LAB, ICC_LAB = 8, 9
CFA, LINEAR_RAW = 32803, 34892

_SMALLER, _MASK = 1, 4  # bits of SUBFILE_TYPE

# How values are stored, by TIFF's number of their type; two letters are a fraction.
_CODES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 10: "ii"}
_CODES |= {11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_TEXT, _BYTES = 2, (1, 7)
_MOST_TAG_BYTES = 64 << 20

_MOST_DIRECTORIES = 10_000  # a file of many pages; a chain may also be forged

Tags = Mapping[int, Any]


@dataclass(frozen=True)
class Directory:
    """One picture of a file. place: (page of the chain, number below it or None); offset: bytes."""

    offset: int
    place: tuple[int, int | None]
    kind: int
    hw: tuple[int, int]
    photometric: int

    @property
    def is_smaller(self) -> bool:
        return bool(self.kind & _SMALLER)

    @property
    def is_mask(self) -> bool:
        return bool(self.kind & _MASK) or self.photometric == MASK

    @property
    def is_raw(self) -> bool:
        return self.photometric in (CFA, LINEAR_RAW)


@dataclass(frozen=True)
class Layout:
    """How a file counts: byte order ("<" or ">"), 8-byte offsets of BigTIFF."""

    order: str
    is_big: bool

    @property
    def offset_format(self) -> str:
        return self.order + ("Q" if self.is_big else "I")

    @property
    def entry_size(self) -> int:
        return 20 if self.is_big else 12

    @property
    def offset_at(self) -> int:
        """Where the header holds the offset of the first directory."""
        return 8 if self.is_big else 4


def read_layout(head: bytes) -> Layout:
    """Read the header, the first 8 bytes."""
    order = "<" if head[:2] == b"II" else ">"
    return Layout(order, struct.unpack_from(order + "H", head, 2)[0] == 43)


def directories(stream: BinaryIO) -> list[Directory]:
    """All directories of a file: the chain's, each followed by those that it holds (SubIFDs).

    Raises struct.error and the like for a broken file; a chain that breaks off later ends there.
    """
    stream.seek(0)
    head = stream.read(16)
    layout = read_layout(head)
    (offset,) = struct.unpack_from(layout.offset_format, head, layout.offset_at)
    found: list[Directory] = []
    seen: set[int] = set()
    page = 0
    while offset and offset not in seen and len(found) < _MOST_DIRECTORIES:
        seen.add(offset)
        try:
            entry, following, below = _read_entry(stream, layout, offset, (page, None))
        except (struct.error, OSError):
            if not found:
                raise
            break
        found.append(entry)
        for index, place in enumerate(below[:32]):
            if place not in seen:
                seen.add(place)
                try:
                    found.append(_read_entry(stream, layout, place, (page, index))[0])
                except (struct.error, OSError):
                    continue
        offset, page = following, page + 1
    return found


def _read_entry(
    stream: BinaryIO, layout: Layout, offset: int, place: tuple[int, int | None]
) -> tuple[Directory, int, list[int]]:
    """A directory, the offset of the next one, and those of the ones that it holds."""
    order, size = layout.order, layout.entry_size
    body, count = _entries(stream, layout, offset)
    (following,) = struct.unpack_from(layout.offset_format, body, count * size)
    values: dict[int, int] = {}
    below: list[int] = []
    for at in range(0, count * size, size):
        tag, kind = struct.unpack_from(order + "HH", body, at)
        if tag in (SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, HEIGHT, PHOTOMETRIC):
            code = {1: "B", 3: "H", 16: "Q"}.get(kind, "I")
            value_at = at + (12 if layout.is_big else 8)
            (values[tag],) = struct.unpack_from(order + code, body, value_at)
        elif tag == SUB_IFDS:
            below = _sub_ifds(stream, layout, body, at)
    kind = values.get(SUBFILE_TYPE, 0) or int(values.get(OLD_SUBFILE_TYPE) == 2)
    hw = values.get(HEIGHT, 0), values.get(WIDTH, 0)
    return Directory(offset, place, kind, hw, values.get(PHOTOMETRIC, 0)), following, below


def _entries(stream: BinaryIO, layout: Layout, offset: int) -> tuple[bytes, int]:
    """A directory's entries with the offset of the next directory behind them, and their number."""
    stream.seek(offset)
    count_format = layout.order + ("Q" if layout.is_big else "H")
    (count,) = struct.unpack(count_format, stream.read(struct.calcsize(count_format)))
    if count > 4096:
        raise struct.error("a directory of more than 4096 entries")
    return stream.read(count * layout.entry_size + struct.calcsize(layout.offset_format)), count


def _sub_ifds(stream: BinaryIO, layout: Layout, body: bytes, at: int) -> list[int]:
    """The offsets that a SubIFDs entry holds, here or elsewhere."""
    (kind,) = struct.unpack_from(layout.order + "H", body, at + 2)
    (count,) = struct.unpack_from(layout.order + ("Q" if layout.is_big else "I"), body, at + 4)
    code = "Q" if kind in (16, 18) else "I"
    size, count = struct.calcsize(code), min(count, 32)
    value_at, room = (at + 12, 8) if layout.is_big else (at + 8, 4)
    if count * size <= room:
        return list(struct.unpack_from(f"{layout.order}{count}{code}", body, value_at))
    (offset,) = struct.unpack_from(layout.offset_format, body, value_at)
    stream.seek(offset)
    return list(struct.unpack(f"{layout.order}{count}{code}", stream.read(count * size)))


def pages(found: list[Directory]) -> list[Directory]:
    """The full pictures of a file; smaller copies and masks only where there is nothing else.

    A container (DNG and its kin) may have its picture below a smaller copy.
    """
    full = [item for item in found if not item.is_smaller and not item.is_mask]
    chain = [item for item in full if item.place[1] is None]
    if chain:
        return chain
    return [max(full or found, key=lambda item: item.hw[0] * item.hw[1])]


def read_tags(stream: BinaryIO, offset: int) -> Tags:
    """The tags of the directory at an offset; those that are broken or huge are left out.

    One number is an int or float, several a tuple; text a str, and bytes of no known meaning bytes.
    """
    stream.seek(0)
    layout = read_layout(stream.read(8))
    body, count = _entries(stream, layout, offset)
    word, room = ("Q", 8) if layout.is_big else ("I", 4)
    tags: dict[int, Any] = {}
    for at in range(0, count * layout.entry_size, layout.entry_size):
        tag, kind, number = struct.unpack_from(f"{layout.order}HH{word}", body, at)
        code = _CODES.get(kind)
        if code is None or number * struct.calcsize(code) > _MOST_TAG_BYTES:
            continue
        size = number * struct.calcsize(code)
        packed = body[at + layout.entry_size - room :][:size]
        if size > room:
            (place,) = struct.unpack_from(layout.offset_format, body, at + layout.entry_size - room)
            stream.seek(place)
            packed = stream.read(size)
        if len(packed) == size and number:
            tags[tag] = _value(packed, layout.order, code, kind)
    return tags


def _value(packed: bytes, order: str, code: str, kind: int) -> Any:
    if kind == _TEXT:
        return packed.rstrip(b"\0").decode("utf-8", errors="replace")
    if kind in _BYTES:
        return packed
    values = struct.unpack(f"{order}{len(packed) // struct.calcsize(code[-1])}{code[-1]}", packed)
    if len(code) == 2:  # a fraction
        pairs = zip(values[::2], values[1::2], strict=True)
        values = tuple(top / bottom if bottom else 0.0 for top, bottom in pairs)
    return values[0] if len(values) == 1 else values


def pointing_at(data: bytes, offset: int) -> io.BytesIO:
    """A file whose first directory is the one at an offset."""
    layout = read_layout(data[:8])
    patched = bytearray(data)
    struct.pack_into(layout.offset_format, patched, layout.offset_at, offset)
    return io.BytesIO(patched)
