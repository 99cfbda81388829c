"""The samples of a TIFF page as an array, whatever their type, order and arrangement.

libtiff, through Pillow, only unpacks bytes: it is shown the page as 8-bit grey, as wide as a row
has bytes. What the bytes mean is read here: byte order, differences (predictor), planes, tiles.
Source: TIFF 6.0, Adobe Photoshop TIFF technical note 3 (floating point predictor).
"""

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from dptcli.inputs.tiffpages import (
    BITS,
    COMPRESSION,
    FILL_ORDER,
    HEIGHT,
    PLANAR,
    PREDICTOR,
    SAMPLE_FORMAT,
    SAMPLES,
    WIDTH,
    Tags,
    read_layout,
)

STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_BYTES = 273, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325

# None, LZW, Deflate (two numbers), PackBits, LZMA, Zstandard: they pack bytes, not pictures.
BYTE_PACKERS = {1, 5, 8, 32946, 32773, 34925, 50000}

_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3

_TYPES = {
    (_UNSIGNED, 8): "u1",
    (_UNSIGNED, 16): "u2",
    (_UNSIGNED, 32): "u4",
    (_UNSIGNED, 64): "u8",
    (_SIGNED, 8): "i1",
    (_SIGNED, 16): "i2",
    (_SIGNED, 32): "i4",
    (_SIGNED, 64): "i8",
    (_FLOAT, 16): "f2",
    (_FLOAT, 32): "f4",
    (_FLOAT, 64): "f8",
}
_PACKED_BITS = {9, 10, 11, 12, 13, 14, 15}


class UnknownLayout(Exception):  # noqa: N818 - it says what the file is, not what went wrong
    """A page that this reader does not know; the message says what it is."""


@dataclass(frozen=True)
class Grid:
    """How a plane lies in the file: tiles (or strips, as wide as the page), rows by columns."""

    hw: tuple[int, int]
    tile_hw: tuple[int, int]
    is_tiled: bool

    @property
    def shape(self) -> tuple[int, int]:
        return -(-self.hw[0] // self.tile_hw[0]), -(-self.hw[1] // self.tile_hw[1])


def sample_type(tags: Tags) -> tuple[int, int]:
    """(format, bits) of a page's samples. Raises UnknownLayout where they differ."""
    bits = set(_many(tags.get(BITS, 1)))
    formats = set(_many(tags.get(SAMPLE_FORMAT, _UNSIGNED))) or {_UNSIGNED}
    if len(bits) != 1 or len(formats) != 1:
        raise UnknownLayout("samples of different types")
    kind, size = formats.pop(), bits.pop()
    return (_UNSIGNED if kind == 4 else kind), size  # 4: undefined


def read_samples(data: bytes, tags: Tags, *, most_bytes: int) -> NDArray[Any]:
    """Read a page's samples, (H, W, samples), in the machine's byte order.

    data: the whole file. Raises UnknownLayout for what is not read here, and what Pillow raises for
    what is broken.
    """
    kind, bits = sample_type(tags)
    height, width, samples = int(tags[HEIGHT]), int(tags[WIDTH]), int(tags.get(SAMPLES, 1))
    packing = tags.get(COMPRESSION, 1)
    predictor = int(tags.get(PREDICTOR, 1)) if packing != 1 else 1
    is_packed = kind == _UNSIGNED and bits in _PACKED_BITS
    if packing not in BYTE_PACKERS:
        raise UnknownLayout(f"packed by method {packing}")
    if not is_packed and (kind, bits) not in _TYPES:
        raise UnknownLayout(f"samples of {bits} bits, format {kind}")
    if predictor not in (1, 2, 3) or (predictor == 3 and kind != _FLOAT):
        raise UnknownLayout(f"predictor {predictor}")
    if is_packed and predictor != 1:
        raise UnknownLayout(f"differences of {bits} bits")
    if height * width * samples * max(bits, 16) // 8 > most_bytes:
        raise MemoryError
    planes = samples if tags.get(PLANAR, 1) == 2 and samples > 1 else 1
    grid = _grid(tags, (height, width))
    layout = read_layout(data[:8])
    shown = []
    for plane in range(planes):
        inner = samples // planes
        row_bytes = -(-grid.tile_hw[1] * inner * bits // 8)
        packed = _unpacked(data, tags, grid, plane, row_bytes)
        tiles = packed.reshape(packed.shape[0], -1, row_bytes)  # (rows, tiles across, bytes)
        if is_packed:
            values = _from_bits(tiles, bits)[..., : grid.tile_hw[1] * inner]
        else:
            dtype = np.dtype(layout.order + _TYPES[kind, bits])
            values = _without_predictor(tiles, dtype, predictor, inner)
        values = values.reshape(values.shape[0], -1, inner)[:height, :width]
        shown.append(values)
    return np.ascontiguousarray(shown[0] if planes == 1 else np.concatenate(shown, axis=-1))


def _grid(tags: Tags, hw: tuple[int, int]) -> Grid:
    if TILE_OFFSETS in tags:
        return Grid(hw, (int(tags[TILE_HEIGHT]), int(tags[TILE_WIDTH])), is_tiled=True)
    rows = min(int(tags.get(ROWS_PER_STRIP, hw[0])), hw[0])
    return Grid(hw, (rows, hw[1]), is_tiled=False)


def _unpacked(data: bytes, tags: Tags, grid: Grid, plane: int, row_bytes: int) -> NDArray[np.uint8]:
    """A plane's bytes, uint8 (rows, bytes of a row); of tiled pages whole tiles."""
    down, across = grid.shape
    per_plane = down * across
    named = (TILE_OFFSETS, TILE_BYTES) if grid.is_tiled else (STRIP_OFFSETS, STRIP_BYTES)
    mine = slice(plane * per_plane, (plane + 1) * per_plane)
    offsets = _many(tags[named[0]])[mine]
    if tags.get(COMPRESSION, 1) == 1:  # what the file says of sizes is often wrong, or not there
        rows = [
            min(grid.tile_hw[0], grid.hw[0] - row) for row in range(0, grid.hw[0], grid.tile_hw[0])
        ]
        sizes = tuple(
            [
                row_bytes * (grid.tile_hw[0] if grid.is_tiled else n)
                for n in rows
                for _ in range(across)
            ]
        )
    else:
        sizes = _many(tags[named[1]])[mine]
    if len(offsets) != per_plane or len(sizes) != per_plane:
        raise UnknownLayout(f"{len(offsets)} strips or tiles of {per_plane}")
    entries: dict[int, Sequence[int]] = {
        WIDTH: [across * row_bytes],
        HEIGHT: [down * grid.tile_hw[0] if grid.is_tiled else grid.hw[0]],
        BITS: [8],
        COMPRESSION: [tags.get(COMPRESSION, 1)],
        262: [1],  # photometric: black is zero
        FILL_ORDER: [tags.get(FILL_ORDER, 1)],
        named[0]: offsets,
        SAMPLES: [1],
        named[1]: sizes,
    }
    if grid.is_tiled:
        entries |= {TILE_WIDTH: [row_bytes], TILE_HEIGHT: [grid.tile_hw[0]]}
    else:
        entries[ROWS_PER_STRIP] = [grid.tile_hw[0]]
    with TiffImagePlugin.TiffImageFile(_with_directory(data, entries)) as image:
        return np.asarray(image)


def _with_directory(data: bytes, entries: Mapping[int, Sequence[int]]) -> io.BytesIO:
    """The file with one more directory of whole numbers behind its end, which is made the first.

    The directory and the header are little-endian, whatever the file was: bytes have no order.
    """
    is_big = read_layout(data[:8]).is_big
    start = len(data) + len(data) % 2
    word, kind, room = ("Q", 16, 8) if is_big else ("I", 4, 4)
    count = struct.pack("<Q" if is_big else "<H", len(entries))
    tail_at = start + len(count) + len(entries) * (12 + 2 * (room - 4)) + room
    body, tail = [count], b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}{word}", *values)
        body.append(struct.pack(f"<HH{word}", tag, kind, len(values)))
        if len(packed) <= room:
            body.append(packed.ljust(room, b"\0"))
        else:
            body.append(struct.pack(f"<{word}", tail_at + len(tail)))
            tail += packed
    body.append(bytes(room))
    stream = io.BytesIO()
    stream.write(data)
    stream.seek(0)
    stream.write(b"II+\0\x08\0\0\0" if is_big else b"II*\0")
    stream.write(struct.pack(f"<{word}", start))
    stream.seek(start)
    stream.write(b"".join(body) + tail)
    stream.seek(0)
    return stream


def _from_bits(tiles: NDArray[np.uint8], bits: int) -> NDArray[np.uint16]:
    """Samples of 9 … 15 bits, packed without gaps in a row, the highest bit first."""
    flags = np.unpackbits(tiles, axis=-1)
    count = flags.shape[-1] // bits
    grouped = flags[..., : count * bits].reshape(*tiles.shape[:-1], count, bits)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    return np.asarray(grouped @ weights, np.uint16)


def _without_predictor(
    tiles: NDArray[np.uint8], dtype: np.dtype[Any], predictor: int, samples: int
) -> NDArray[Any]:
    """Bytes of rows, (rows, tiles, bytes), as samples of a type, each from its left neighbour."""
    rows, across, _ = tiles.shape
    if predictor == 3:
        # The rows' bytes were sorted by weight, the highest first, and then differenced.
        tiles = tiles.copy()
        wide = tiles.reshape(rows, across, -1, samples)
        np.cumsum(wide, axis=2, dtype=np.uint8, out=wide)
        sorted_bytes = tiles.reshape(rows, across, dtype.itemsize, -1)
        values = np.ascontiguousarray(np.moveaxis(sorted_bytes, 2, 3))
        return (
            values.view(dtype.newbyteorder(">"))
            .reshape(rows, across, -1)
            .astype(dtype.newbyteorder("="))
        )
    values = np.ascontiguousarray(tiles).view(dtype).astype(dtype.newbyteorder("="))
    if predictor == 2:
        # Differences wrap around, as whole numbers do; floats are differenced by their bits.
        whole = values.view(f"u{dtype.itemsize}").reshape(rows, across, -1, samples)
        np.cumsum(whole, axis=2, dtype=whole.dtype, out=whole)
    return values


def _many(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)
