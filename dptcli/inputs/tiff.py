"""TIFF: which page, which reader, and what its samples mean.

Pillow reads what has up to 8 unsigned bits a sample. Deeper samples, signed ones and floats come as
arrays from tiffdata.py, pages packed as pictures (JPEG 2000, LERC, …) through tifffile (an extra).
A camera's raw data goes to raw.py.
"""

import contextlib
import io
import logging
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from dptcli.errors import ImageError
from dptcli.inputs import raw
from dptcli.inputs.colours import is_fourth_band, to_rgb, without_fourth_band
from dptcli.inputs.geotiff import read_place
from dptcli.inputs.levels import Meaning, Scaled, alpha_levels, poorly_used, to_levels
from dptcli.inputs.reading import TRANSPOSE, Reading
from dptcli.inputs.tiffdata import BYTE_PACKERS, UnknownLayout, read_samples, sample_type
from dptcli.inputs.tiffpages import (
    BLACK_IS_ZERO,
    CMYK,
    COMPRESSION,
    EXTRA_SAMPLES,
    ICC_LAB,
    LAB,
    LARGEST_SAMPLE,
    NO_DATA,
    ORIENTATION,
    PHOTOMETRIC,
    RGB,
    SAMPLES,
    WHITE_IS_ZERO,
    YCBCR,
    Directory,
    Tags,
    directories,
    pages,
    pointing_at,
    read_tags,
)

# Methods that pack pictures, in words; JPEG and fax are left to Pillow.
_PICTURE_PACKERS = {
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}

_JPEG = 7

_ALPHA = {1: "RGBa", 2: "RGBA"}  # ExtraSamples: colours times alpha, or as they are

_BYTES_PER_PIXEL = 64  # as much as a page may take in memory before its size is one of a mistake


def read_tiff(stream: BinaryIO, reading: Reading) -> Image.Image:
    """Read a page of a TIFF file as upright RGB. Raises ImageError, and what Pillow raises."""
    found = directories(stream)
    if any(item.is_raw for item in found) or _is_canon_raw(stream):
        return raw.read_raw(stream, reading, kind=raw.kind_of_tiff(found, stream))
    chosen = pages(found)
    page = chosen[reading.choose_page(len(chosen))]
    tags = read_tags(stream, page.offset)
    reading.check_size(page.hw[1], page.hw[0])
    if tags.get(ORIENTATION, 1) == 1:  # turned, its place would be another
        reading.place = read_place(tags, page.hw)
    if not _is_plain(tags) or not _pillow_counts_so(stream):
        return _read_deep(stream, page, tags, reading)
    if page is not found[0]:
        stream = pointing_at(_whole(stream), page.offset)
    stream.seek(0)
    try:
        image = TiffImagePlugin.TiffImageFile(stream)
    except SyntaxError:  # more bands than Pillow knows
        return _read_deep(stream, page, tags, reading)
    with image:
        reading.check_size(*image.size)
        image.load()  # turns it upright, too
        return to_rgb(without_fourth_band(image, reading), reading.background, reading=reading)


def _is_canon_raw(stream: BinaryIO) -> bool:
    stream.seek(8)
    return stream.read(2) == b"CR"


def _pillow_counts_so(stream: BinaryIO) -> bool:
    """Whether Pillow reads files of this byte order and size of offsets: not big-endian BigTIFF."""
    stream.seek(0)
    return stream.read(4) != b"MM\0+"


def _whole(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read()


def _is_plain(tags: Tags) -> bool:
    """Whether Pillow reads the page rightly: up to 8 unsigned bits, packed as it knows."""
    try:
        kind, bits = sample_type(tags)
    except UnknownLayout:
        return False
    packing = tags.get(COMPRESSION, 1)
    if packing in BYTE_PACKERS and (_extra_samples(tags)[:1] == (1,) or tags.get(SAMPLES, 1) > 4):
        return False  # it would divide the colours by what may be no alpha; more bands it refuses
    return kind == 1 and bits <= 8 and packing not in _PICTURE_PACKERS


def _extra_samples(tags: Tags) -> tuple[int, ...]:
    extra = tags.get(EXTRA_SAMPLES, ())
    return extra if isinstance(extra, tuple) else (extra,)


def _read_deep(stream: BinaryIO, page: Directory, tags: Tags, reading: Reading) -> Image.Image:
    data = _whole(stream)
    most_bytes = _BYTES_PER_PIXEL * reading.wanted.max_pixels
    try:
        values = read_samples(data, tags, most_bytes=most_bytes)
    except UnknownLayout as reason:
        packed = _PICTURE_PACKERS.get(tags.get(COMPRESSION, 1))
        kind = f"a TIFF file packed as {packed}" if packed else f"a TIFF file of {reason}"
        values = _through_tifffile(data, page, reading, kind=kind)
        if tags.get(COMPRESSION) == _JPEG and tags.get(PHOTOMETRIC) == YCBCR:
            tags = {**tags, PHOTOMETRIC: RGB}  # tifffile's decoder makes it that
    picture = _picture(values, tags, reading)
    turn = TRANSPOSE.get(tags.get(ORIENTATION, 1))
    return picture if turn is None else picture.transpose(turn)


def _through_tifffile(data: bytes, page: Directory, reading: Reading, *, kind: str) -> NDArray[Any]:
    """Read a page with the tifffile library and its codecs, as (H, W, samples)."""
    tifffile = reading.extra("tifffile", extra="tiff", kind=kind)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is broken is said by name
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            first, below = page.place
            source = file.pages[first] if below is None else file.pages[first].pages[below]
            axes, values = source.axes, np.asarray(source.asarray())
    except Exception as error:  # the codecs raise types of their own
        raise ImageError(
            f"{reading.name} is {kind}, which is not read here ({error}); export it as PNG"
        ) from error
    if axes.startswith("S"):
        values, axes = np.moveaxis(values, 0, -1), axes[1:] + "S"
    if axes not in ("YX", "YXS"):
        raise ImageError(f"{reading.name} is {kind} with axes {axes}, no picture; export it as PNG")
    if values.shape[:2] != page.hw:
        raise ImageError(f"{reading.name} is {kind}, damaged; copy it again")
    return values if values.ndim == 3 else values[..., None]


def _picture(values: NDArray[Any], tags: Tags, reading: Reading) -> Image.Image:
    """Samples (H, W, samples) as RGB, by what the tags say that they are."""
    if values.dtype.kind not in "buif":
        raise ImageError(
            f"{reading.name} is a TIFF file of {values.dtype} samples, no picture; export it as PNG"
        )
    photometric = tags.get(PHOTOMETRIC, BLACK_IS_ZERO)
    samples = values.shape[-1]
    if photometric == CMYK and samples >= 4:
        inks = to_levels(values[..., :4], Meaning(bits=sample_type(tags)[1])).levels
        return Image.fromarray(inks, "CMYK").convert("RGB")
    if photometric in (LAB, ICC_LAB) and samples >= 3:
        return to_rgb(_lab(values[..., :3], is_signed=photometric == LAB, reading=reading))
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise ImageError(
            f"{reading.name} is a TIFF file of colours that are not read here (photometric "
            f"{photometric}, {values.dtype}); export it as PNG"
        )
    extra = _extra_samples(tags)
    colours = 3 if samples >= 3 else 1
    if photometric != RGB and colours == 3:
        reading.say(f"has {samples} bands: the first three are taken for red, green and blue")
    scaled = _scaled(values[..., :colours], tags, reading)
    picture = Image.fromarray(np.repeat(scaled.levels, 3 // colours, axis=-1))
    if samples > colours and extra and (mode := _ALPHA.get(extra[0])) is not None:
        alpha = Image.fromarray(alpha_levels(values[..., colours], scaled))
        if is_fourth_band(alpha):
            reading.say("has a fourth band that looks like no transparency: left out")
        else:
            picture = Image.merge(mode, (*picture.split(), alpha))
    return to_rgb(picture, reading.background, reading=reading)


def _scaled(values: NDArray[Any], tags: Tags, reading: Reading) -> Scaled:
    meaning = Meaning(
        bits=_bits(tags),
        no_data=_no_data(tags),
        inverted=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO,
    )
    scaled = to_levels(values, meaning, ends=reading.wanted.levels)
    if scaled.fill is not None:
        reading.say(f"holds {scaled.fill:g} far below its other values: taken for no data")
    if (note := poorly_used(scaled)) is not None:
        reading.say(note)
    return scaled


def _bits(tags: Tags) -> int | None:
    """The bits that count, where the file says fewer than the array's type has."""
    _, bits = sample_type(tags)
    if bits % 8:
        return bits
    largest = tags.get(LARGEST_SAMPLE)
    largest = max(largest) if isinstance(largest, tuple) and largest else largest
    if isinstance(largest, int) and 1 < largest < 2**bits:
        return largest.bit_length()
    return None


def _no_data(tags: Tags) -> float | None:
    with contextlib.suppress(ValueError):
        return float(str(tags.get(NO_DATA, "")).strip(" \0"))
    return None


def _lab(values: NDArray[Any], *, is_signed: bool, reading: Reading) -> Image.Image:
    """CIE L*a*b* of 16 bits (H, W, 3) as Pillow's LAB of 8 bits."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize != 2:
        raise ImageError(f"{reading.name} is a Lab TIFF of {values.dtype}; export it as PNG")
    high = (values.view(np.uint16) >> 8).astype(np.uint8)
    if is_signed:  # a* and b* around 0; Pillow holds them around 128
        high[..., 1:] ^= 128
    return Image.merge("LAB", [Image.fromarray(high[..., band]) for band in range(3)])
