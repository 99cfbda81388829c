"""JPEG beyond Pillow: a file without its end, one whose side data is broken, one of several views.

Source: ITU-T T.81, annex B; CIPA DC-007 (Multi-Picture Format).
"""

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image, ImageChops, JpegImagePlugin, MpoImagePlugin

_END = b"\xff\xd9"

# Two ways to go on behind what is there. Where all pixels are there, nothing reads them.
_MORE = (bytes(range(1, 64, 3)) * 4, b"\xaa\x55" * 40)

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The segments as (marker, start, end), data[start:end] with its marker; scans' pixels last."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xD9:
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:  # behind its header the pixels, up to the next marker
            found = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]").search(data, end)
            end = found.start() if found else len(data)
        yield marker, at, end
        at = end


def views(stream: BinaryIO) -> list[int]:
    """The numbers of a multi-picture file's pictures of the first one's size, which comes first.

    Smaller ones are previews, and maps that brighten the first. Only the first where others are
    broken. The stream is left at its start.
    """
    stream.seek(0)
    same = [0]
    try:
        image = MpoImagePlugin.MpoImageFile(stream)
        size = image.size
        for number in range(1, image.n_frames):
            image.seek(number)
            same += [number] if image.size == size else []
    except Exception:  # the first is whole all the same
        return [0]
    finally:
        stream.seek(0)
    return same


def view(stream: BinaryIO, number: int) -> Image.Image:
    """A picture of a multi-picture file, by its number from 0."""
    image = MpoImagePlugin.MpoImageFile(stream)
    image.seek(number)
    return image


def unsupported(data: bytes) -> str | None:
    """What a JPEG is that this reader has no decoder for: 12 bits, lossless; None for others."""
    for marker, start, _ in segments(data):
        if marker in _FRAMES:
            if marker in (0xC3, 0xC7, 0xCB, 0xCF):
                return "a lossless JPEG"
            bits = data[start + 4] if start + 4 < len(data) else 8
            return f"a JPEG of {bits} bits a sample" if bits != 8 else None
    return None


def without_side_data(data: bytes, *, exif: bool = True) -> bytes:
    """A JPEG with what its pixels need, without end mark: texts and profiles are left out."""
    # Adobe's APP14 says how the colours are stored.
    beside = {*range(0xE2, 0xEE), 0xEF, 0xFE} | (set() if exif else {0xE0, 0xE1})
    kept = (data[start:end] for marker, start, end in segments(data) if marker not in beside)
    return b"".join([data[:2], *kept])


def has_end(data: bytes) -> bool:
    """Whether the end mark is there, behind the last scan."""
    *_, (_, _, end) = [*segments(data)] or [(0, 0, 0)]
    return data[end : end + 2] == _END


def without_end(data: bytes) -> Image.Image | None:
    """The picture of a JPEG that lacks its end mark though all pixels are there; else None.

    Decoders fill what is missing from what follows, so the same pixels behind different ends mean
    that nothing was missing. Of a progressive file every scan must have been there too.
    """
    data = data.rstrip(b"\xff")  # half of a mark; as data it would be followed by 0
    if _lacks_scans(data):
        return None
    first, *others = (_decoded(data + more + _END) for more in (b"", *_MORE))
    same = all(ImageChops.difference(first, other).getbbox() is None for other in others)
    return first if same else None


def _decoded(data: bytes) -> Image.Image:
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    image.load()
    return image


def _lacks_scans(data: bytes) -> bool:
    """Whether a progressive file's scans leave some coefficient without its last bit."""
    missing: set[tuple[int, int]] = set()
    for marker, start, end in segments(data):
        head = data[start + 4 : end]
        if marker in (0xC2, 0xC6, 0xCA, 0xCE):
            parts = head[6 : 6 + 3 * head[5] : 3]
            missing = {(part, place) for part in parts for place in range(64)}
        elif marker == 0xDA:
            num_parts = head[0]
            parts = head[1 : 1 + 2 * num_parts : 2]
            first, last, approximation = head[1 + 2 * num_parts : 4 + 2 * num_parts]
            if approximation & 15 == 0:
                missing -= {(part, place) for part in parts for place in range(first, last + 1)}
    return bool(missing)
