"""Decode image bytes to RGB uint8 (H, W, 3): formats, modes, orientation, limits, broken files."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from dptcli.errors import ImageError

logger = logging.getLogger(__name__)

RGBArray = npt.NDArray[np.uint8]

SUPPORTED_FORMATS = "JPEG, PNG, WebP, BMP, TIFF or GIF"

# Where Pillow itself refuses (twice its MAX_IMAGE_PIXELS): up to here its global stays untouched.
DEFAULT_MAX_PIXELS = 178_956_970

# Cameras and editors write about ten scans. Every scan costs a pass over all pixels and may be
# a few bytes long, so a small file could ask for hours.
MAX_SCANS = 50

_PLUGINS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (rb"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (rb"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (rb"RIFF.{4}WEBP", WebPImagePlugin.WebPImageFile),
    (rb"GIF8[79]a", GifImagePlugin.GifImageFile),
    (rb"BM", BmpImagePlugin.BmpImageFile),
    (rb"II[*+]\x00|MM\x00[*+]", TiffImagePlugin.TiffImageFile),
)

# What people hand in by mistake, so that the message can say what the file really is.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (rb".{4}ftyp(heic|heix|heim|hevc|mif1|msf1)", "a HEIC photograph"),
    (rb".{4}ftypavif", "an AVIF image"),
    (rb".{4}ftyp", "a video (MP4 or MOV)"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (rb"%PDF", "a PDF document"),
    (rb"8BPS", "a Photoshop document"),
    (rb"\s*<svg|\s*<\?xml", "an SVG or XML file"),
    (rb"(?i)\s*<(!doctype )?html", "a web page"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive"),
    (rb"P[1-7]\s", "a PNM image"),
)

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    stream: BinaryIO,
    *,
    name: str,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    background: tuple[int, int, int] = (255, 255, 255),
) -> RGBArray:
    """Decode a seekable stream to upright RGB uint8 (H, W, 3), contiguous and writable.

    See decode_picture, which it copies from.
    """
    picture = decode_picture(stream, name=name, max_pixels=max_pixels, background=background)
    try:
        return np.array(picture)
    except MemoryError as error:
        raise _too_much_memory(name) from error


def decode_picture(
    stream: BinaryIO,
    *,
    name: str,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Image.Image:
    """Decode a seekable stream to an upright Pillow image of mode RGB.

    The content decides the format, not the name. EXIF orientation is applied, transparency is laid
    over `background`, of an animation or a multi-page file the first frame is read, and values of
    more than 8 bits are scaled as in `to_rgb`. Colours are taken as sRGB: embedded profiles are
    ignored, as they were for the pictures that the models learned from.

    `max_pixels` is compared with the header before any pixel is decoded; a progressive JPEG may ask
    for MAX_SCANS passes over that many. A limit above Pillow's own
    raises PIL.Image.MAX_IMAGE_PIXELS for the whole process. Threads may decode at the same time.

    Raises ImageError, with `name`, the reason and the remedy, for everything that is no image.
    """
    _quiet_pillow()
    try:
        image = _identify(name, stream, max_pixels=max_pixels)
        _check_size(name, image, stream, max_pixels)
        image.load()
        return _upright_rgb(image, background)
    except ImageError:
        raise
    except MemoryError as error:
        raise _too_much_memory(name) from error
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(name, "too many pixels", max_pixels)) from error
    except Exception as error:  # Pillow's decoders raise nearly every type for broken data
        reason = printable(str(error) or type(error).__name__)
        raise ImageError(
            f"{name} is damaged, cut short or of an unsupported kind ({reason}); "
            "copy it again or export it as PNG"
        ) from error


def to_rgb(image: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """A Pillow image of any mode as mode RGB, transparency laid over `background`.

    Greyscale of more than 8 bits (I;16, I, F) is scaled by the smallest of 8, 10, 12, 14 and 16
    bits that holds its largest value, floats up to 1 by 1; other ranges, with negative or larger
    values, from smallest to largest. Non-finite values become black.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_grey_to_uint8(np.asarray(image))).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if image.mode == "La":  # Pillow knows no direct way from here to RGBA
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, (*background, 255)), rgba)
        return rgba.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_uint8(values: npt.NDArray[np.generic]) -> RGBArray:
    """Grey values (H, W) of any range and type as uint8, scaled as `to_rgb` says."""
    grey = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(grey.min()), float(grey.max())
    tops = [2**bits - 1 for bits in (8, 10, 12, 14, 16)]
    if np.issubdtype(values.dtype, np.floating):
        tops.insert(0, 1)
    fitting = [top for top in tops if high <= top]
    if low >= 0 and fitting:
        low, high = 0.0, float(fitting[0])
    # Halved so that the range of two huge floats of opposite sign stays finite.
    scaled = (grey / 2 - low / 2) * np.float32(255 / max(high / 2 - low / 2, 1e-30))
    return np.clip(scaled + 0.5, 0, 255).astype(np.uint8)


def _identify(name: str, stream: BinaryIO, *, max_pixels: int) -> ImageFile.ImageFile:
    """Parse the header with the decoder that the first bytes ask for; no pixel is decoded.

    The decoders are called directly: PIL.Image.open would hold every image against its own global
    limit and warn.
    """
    head = stream.read(64)
    stream.seek(0)
    if not head:
        raise ImageError(f"{name} is empty (0 bytes); copy or download it again")
    for pattern, plugin in _PLUGINS:
        if re.match(pattern, head, re.DOTALL):
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and max_pixels > 2 * limit:
                # Some decoders check this global as well. It is only ever raised, so that threads
                # cannot undo each other's.
                Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
            return plugin(stream)
    for pattern, kind in _OTHERS:
        if re.match(pattern, head, re.DOTALL):
            raise ImageError(f"{name} is {kind}; export it as {SUPPORTED_FORMATS}")
    raise ImageError(f"{name} is not an image; its content must be {SUPPORTED_FORMATS}")


def _upright_rgb(image: ImageFile.ImageFile, background: tuple[int, int, int]) -> Image.Image:
    try:
        # After loading, because PNG may keep its EXIF behind the pixels.
        turn = _TRANSPOSE.get(image.getexif().get(0x0112, 1))
    except Exception as error:  # a broken EXIF block must not cost the picture
        logger.debug("ignored the EXIF block: %s", error)
        turn = None
    rgb = to_rgb(image, background)
    if turn is not None:
        rgb = rgb.transpose(turn)
    return rgb


def _check_size(name: str, image: ImageFile.ImageFile, stream: BinaryIO, max_pixels: int) -> None:
    """Refuse what would take too much memory, or a progressive JPEG that would take hours."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(_too_large(name, f"{width} × {height} pixels", max_pixels))
    if image.info.get("progressive"):
        at = stream.tell()
        stream.seek(0)
        num_scans = stream.read().count(b"\xff\xda")  # pixel data never holds these two bytes
        stream.seek(at)
        if width * height * num_scans > MAX_SCANS * max_pixels:
            size = f"{width} × {height} pixels in {num_scans} scans"
            raise ImageError(_too_large(name, size, max_pixels))


def _too_much_memory(name: str) -> ImageError:
    return ImageError(f"{name} does not fit into memory; make it smaller")


def _too_large(name: str, size: str, max_pixels: int) -> str:
    return (
        f"{name} has {size}, above the limit of {max_pixels:,}; "
        "raise it with --max-pixels (max_pixels= in Python) if you trust the file"
    )


_PILLOW_MODULES = re.compile(r"PIL\.")


def _quiet_pillow() -> None:
    """Keep Pillow's warnings about broken metadata out of the user's run: we report by name.

    warnings.catch_warnings is not safe in threads, so a filter for Pillow's modules alone is put
    in front of the others, and again if somebody's own filters came before it.
    """
    first = next(iter(warnings.filters), None)
    if first is None or _PILLOW_MODULES not in first:
        warnings.filterwarnings("ignore", module=_PILLOW_MODULES.pattern)


def printable(text: str | Path) -> str:
    r"""A path or message as one printable line; bytes beyond UTF-8 as \xNN, controls escaped."""
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
