"""PNG beyond Pillow: what lies beside the pixels may be broken; colours of 16 bits are whole.

Source: https://www.w3.org/TR/png-3/.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from dptcli.inputs.colours import to_rgb
from dptcli.inputs.levels import Meaning, alpha_levels, poorly_used, to_levels
from dptcli.inputs.reading import Reading

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# What is needed for the pixels, and what changes how they are shown.
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_SHOWN = {b"tRNS", b"eXIf", b"sBIT"}


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """The chunks as (kind, content, whether the checksum is right), as far as they are whole."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            return
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        yield kind, content, zlib.crc32(data[at + 4 : at + 8 + length]) == checksum
        at += 12 + length
        if kind == b"IEND":
            return


def without_side_data(data: bytes) -> tuple[bytes, list[str]]:
    """A PNG with its pixels alone, and the names of the broken chunks that would change them.

    Texts, profiles and the like are left out, whatever is wrong with them.
    """
    kept, lost = [_SIGNATURE], []
    for kind, content, is_right in chunks(data):
        if kind in _SHOWN and not is_right:
            lost.append(kind.decode())
        elif kind in _CRITICAL | _SHOWN:
            stored = zlib.crc32(kind + content) ^ (not is_right)
            kept.append(struct.pack(">I", len(content)) + kind + content)
            kept.append(struct.pack(">I", stored))
    return b"".join(kept), lost


def significant_bits(stream: BinaryIO) -> int | None:
    """The bits of a sample that count (sBIT), where the file says so; the stream stays in place."""
    at = stream.tell()
    stream.seek(len(_SIGNATURE))
    try:
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"sBIT" and length <= 4:
                bits = max(stream.read(length), default=0)
                return bits if 1 <= bits <= 16 else None
            if kind in (b"IDAT", b"IEND"):
                return None
            stream.seek(length + 4, io.SEEK_CUR)
        return None
    finally:
        stream.seek(at)


def deep_to_rgb(
    image: PngImagePlugin.PngImageFile, stream: BinaryIO, reading: Reading
) -> Image.Image:
    """A loaded PNG of 16 bits a sample as RGB by the rule of levels.py.

    Pillow gives grey whole, and of colours the high byte. Where those high bytes are small, the low
    ones are read as well, by telling the decoder that the samples begin with their low byte.
    """
    bits = significant_bits(stream)
    meaning = Meaning(bits=bits)
    if image.mode.startswith("I"):
        return to_rgb(image, reading.background, reading=reading, meaning=meaning)
    num_colours = 1 if _is_grey(stream) else 3
    if reading.wanted.levels is None and not _may_be_dark(image, num_colours):
        return to_rgb(image, reading.background, reading=reading)
    values = np.asarray(image).astype(np.uint16) << 8 | _low_bytes(image, stream)
    scaled = to_levels(values[..., :num_colours], meaning, ends=reading.wanted.levels)
    if (note := poorly_used(scaled)) is not None:
        reading.say(note)
    levels = np.repeat(scaled.levels, 3 // num_colours, axis=-1)
    rgb = Image.fromarray(levels)
    if image.mode == "RGBA":
        rgb.putalpha(Image.fromarray(alpha_levels(values[..., 3], scaled)))
    return to_rgb(rgb, reading.background, reading=reading)


def _may_be_dark(image: Image.Image, num_colours: int) -> bool:
    """Whether nearly all colours lie in the lower quarter, so that fewer than 16 bits may do."""
    counts = np.array(image.histogram()[: 256 * num_colours]).reshape(num_colours, 256).sum(0)
    return bool(counts[64:].sum() <= 0.001 * counts.sum())


def _is_grey(stream: BinaryIO) -> bool:
    """Whether the header's colour type is grey with alpha, which Pillow gives as RGBA."""
    at = stream.tell()
    stream.seek(25)
    kind = stream.read(1)
    stream.seek(at)
    return kind == b"\x04"


def _low_bytes(image: Image.Image, stream: BinaryIO) -> NDArray[np.uint8]:
    """The low byte of each sample, in the shape of the picture's own array."""
    at = stream.tell()
    stream.seek(0)
    data = stream.read()
    stream.seek(at)
    if _is_grey(stream):
        # Two samples of two bytes are filtered like four of one byte: RGBA of 8 bits.
        head = bytearray(data[8:33])
        head[16], head[17] = 8, 6
        head[21:25] = struct.pack(">I", zlib.crc32(head[4:21]))
        with PngImagePlugin.PngImageFile(io.BytesIO(data[:8] + head + data[33:])) as quads:
            grey = np.asarray(quads)
        return grey[..., [1, 1, 1, 3]]
    with PngImagePlugin.PngImageFile(io.BytesIO(data)) as again:
        again.tile = [tile._replace(args=f"{image.mode};16L") for tile in again.tile]
        return np.asarray(again)
