"""Decode image bytes to RGB uint8 (H, W, 3): formats, modes, orientation, limits, broken files."""

from __future__ import annotations

import importlib
import io
import logging
import re
import warnings
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin

from dptcli.errors import ImageError
from dptcli.inputs import jpeg, linear, png, pnm, raw, tiff
from dptcli.inputs.colours import to_rgb as to_rgb
from dptcli.inputs.formats import BASE_FORMATS, Kind, kind_of
from dptcli.inputs.gpano import read_gpano
from dptcli.inputs.levels import Meaning
from dptcli.inputs.reading import DEFAULT_MAX_PIXELS as DEFAULT_MAX_PIXELS
from dptcli.inputs.reading import TRANSPOSE, WHITE, Colour, Reading, Wanted
from dptcli.inputs.text import printable as printable

logger = logging.getLogger(__name__)

RGBArray = npt.NDArray[np.uint8]

# Cameras and editors write about ten scans. Every scan costs a pass over all pixels and may be
# a few bytes long, so a small file could ask for hours.
MAX_SCANS = 50

_ON_ITS_SIDE = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
)

# Formats whose samples Pillow scales to 16 bits by what the file says.
_WHOLE_16_BITS = Meaning(bits=16)


def decode(
    stream: BinaryIO,
    *,
    name: str,
    wanted: Wanted | None = None,
    background: Colour = WHITE,
) -> RGBArray:
    """Decode a seekable stream to upright RGB uint8 (H, W, 3), contiguous and writable.

    See decode_picture, which it copies from.
    """
    picture = decode_picture(stream, name=name, wanted=wanted, background=background)
    try:
        return np.array(picture)
    except MemoryError as error:
        raise _too_much_memory(name) from error


def decode_picture(
    stream: BinaryIO,
    *,
    name: str,
    wanted: Wanted | None = None,
    background: Colour = WHITE,
) -> Image.Image:
    """Decode a seekable stream to an upright Pillow image of mode RGB.

    The content decides the format, not the name. EXIF orientation is applied, transparency is laid
    over `background`, of an animation or a multi-page file one frame is read, values of more than 8
    bits are scaled as levels.py says, light as linear.py does. Colours are taken as sRGB: embedded
    profiles are ignored, as they were for the pictures that the models learned from. What was
    noticed about the picture is logged, and is found by `about_of`.

    The limit of pixels is compared with the header before any pixel is decoded; a progressive JPEG
    may ask for MAX_SCANS passes over that many. A limit above Pillow's own
    raises PIL.Image.MAX_IMAGE_PIXELS for the whole process. Threads may decode at the same time.

    Raises ImageError, with `name`, the reason and the remedy, for everything that is no image.
    """
    _quiet_pillow()
    reading = Reading(name, wanted or Wanted(), background)
    try:
        picture = _read(stream, reading)
    except ImageError:
        raise
    except MemoryError as error:
        raise _too_much_memory(name) from error
    except Image.DecompressionBombError as error:
        raise reading.too_large("too many pixels") from error
    except Exception as error:  # decoders raise nearly every type for broken data
        reason = printable(str(error) or type(error).__name__)
        raise ImageError(
            f"{name} is damaged, cut short or of an unsupported kind ({reason}); "
            "copy it again or export it as PNG"
        ) from error
    reading.keep_about(picture)
    return picture


def _read(stream: BinaryIO, reading: Reading) -> Image.Image:
    """Read the header, choose the decoder that the first bytes ask for, and decode."""
    head = stream.read(64)
    stream.seek(0)
    if not head:
        raise ImageError(f"{reading.name} is empty (0 bytes); copy or download it again")
    kind = kind_of(head)
    if kind is None:
        raise ImageError(f"{reading.name} is not an image; its content must be {BASE_FORMATS}")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and reading.wanted.max_pixels > 2 * limit:
        # Some decoders check this global as well. It is only ever raised, so that threads
        # cannot undo each other's.
        Image.MAX_IMAGE_PIXELS = (reading.wanted.max_pixels + 1) // 2
    match kind.how:
        case "jpeg":
            return _read_jpeg(stream, reading)
        case "png":
            return _read_png(stream, reading)
        case "pillow":
            return _read_by_pillow(stream, _plugin(kind), reading)
        case "pnm":
            return _read_pnm(stream, _plugin(kind), reading)
        case "tiff":
            return tiff.read_tiff(stream, reading)
        case "heif":
            heif = reading.extra("pillow_heif", extra="heif", kind=kind.title)
            return _read_by_pillow(stream, heif.HeifImageFile, reading)
        case "exr":
            return linear.read_exr(stream, reading)
        case "hdr":
            return linear.read_hdr(stream, reading)
        case "raw":
            return raw.read_raw(stream, reading, kind=kind.title)
        case "none":
            raise ImageError(f"{reading.name} is {kind.title}; export it as {BASE_FORMATS}")


def _plugin(kind: Kind) -> type[ImageFile.ImageFile]:
    """The decoder of a kind.

    Decoders are called directly: PIL.Image.open would hold every image against its own global limit
    and warn.
    """
    module, name = kind.plugin.split(".")
    return cast(type[ImageFile.ImageFile], getattr(importlib.import_module(f"PIL.{module}"), name))


def _read_by_pillow(
    stream: BinaryIO, plugin: type[ImageFile.ImageFile], reading: Reading
) -> Image.Image:
    image = plugin(stream)
    reading.check_size(*image.size)
    if reading.wanted.page is not None or getattr(image, "is_animated", False):
        frame = reading.choose_page(getattr(image, "n_frames", 1), "frame")
        if frame:
            image.seek(frame)
            reading.check_size(*image.size)
    image.load()
    return _upright_rgb(image, reading)


def _read_pnm(stream: BinaryIO, plugin: type[ImageFile.ImageFile], reading: Reading) -> Image.Image:
    data = stream.read()
    starts = pnm.pictures(data)
    image = plugin(io.BytesIO(data[starts[reading.choose_page(len(starts), "picture")] :]))
    reading.check_size(*image.size)
    image.load()
    return _upright_rgb(image, reading)


def _read_jpeg(stream: BinaryIO, reading: Reading) -> Image.Image:
    try:
        image: Image.Image = JpegImagePlugin.JpegImageFile(stream)
        reading.check_size(*image.size)
        number = 0
        if reading.wanted.page is not None or "mp" in image.info:
            views = jpeg.views(stream) if "mp" in image.info else [0]
            number = views[reading.choose_page(len(views), "picture")]
        if number:
            image = jpeg.view(stream, number)
            reading.check_size(*image.size)
        _check_scans(image, stream, reading)
        _leave_detail_out(image, reading)
        image.load()
    except (ImageError, MemoryError):
        raise
    except Exception:
        reading.whole_hw = None
        repaired = _read_broken_jpeg(stream, reading)
        if repaired is None:
            raise
        image = repaired
    return _upright_rgb(image, reading)


def _leave_detail_out(image: Image.Image, reading: Reading) -> None:
    """Have libjpeg decode a half, a quarter or an eighth of each side, where that is enough.

    Only where the sides can be divided so: what is left over would stretch the picture.
    """
    if reading.wanted.enough is None or read_gpano(image.info) is not None:
        return
    width, height = image.size
    hw = (width, height) if _turn(image) in _ON_ITS_SIDE else (height, width)
    least = reading.wanted.enough(hw)
    most = min(hw[0] // least[0], hw[1] // least[1])
    for share in (8, 4, 2):
        if share <= most and width % share == height % share == 0:
            image.draft(None, (width // share, height // share))
            reading.whole_hw = hw
            return


def _read_broken_jpeg(stream: BinaryIO, reading: Reading) -> Image.Image | None:
    """Read a JPEG that Pillow refuses for what is not its pixels; None where they are missing."""
    stream.seek(0)
    data = stream.read()
    if (kind := jpeg.unsupported(data)) is not None:
        raise ImageError(f"{reading.name} is {kind}, which is not read here; export it as PNG")
    for whole in (data, jpeg.without_side_data(data), jpeg.without_side_data(data, exif=False)):
        try:
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(whole))
        except Exception:
            logger.debug("%s: cannot be opened with all of its side data", reading.name)
            continue
        reading.check_size(*image.size)
        _check_scans(image, io.BytesIO(whole), reading)
        picture = jpeg.without_end(whole)
        if picture is not None and not jpeg.has_end(data):
            reading.say("has no end mark, but all of its pixels are there")
        return picture
    return None


def _read_png(stream: BinaryIO, reading: Reading) -> Image.Image:
    try:
        return _read_whole_png(stream, reading)
    except (ImageError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception:
        stream.seek(0)
        data, lost = png.without_side_data(stream.read())
        picture = _read_whole_png(io.BytesIO(data), reading)
        for name in lost:
            reading.say(f"has a broken {name} chunk: left out")
        return picture


def _read_whole_png(stream: BinaryIO, reading: Reading) -> Image.Image:
    image = PngImagePlugin.PngImageFile(stream)
    reading.check_size(*image.size)
    is_deep = any(";16" in str(tile.args) for tile in image.tile)
    frame = 0
    if reading.wanted.page is not None or image.is_animated:
        frame = reading.choose_page(image.n_frames, "frame")
        image.seek(frame)
    image.load()
    if is_deep and not frame:
        return _turned(image, png.deep_to_rgb(image, stream, reading), reading)
    return _upright_rgb(image, reading)


def _upright_rgb(image: Image.Image, reading: Reading) -> Image.Image:
    whole = _WHOLE_16_BITS if image.format in ("PPM", "JPEG2000") else None
    rgb = to_rgb(image, reading.background, reading=reading, meaning=whole)
    return _turned(image, rgb, reading)


def _turned(image: Image.Image, rgb: Image.Image, reading: Reading) -> Image.Image:
    """The picture as EXIF says that the camera was held; notes what it says as a panorama."""
    reading.gpano = read_gpano(image.info)
    turn = _turn(image)  # after loading, because PNG may keep its EXIF behind the pixels
    return rgb if turn is None else rgb.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings a picture upright, by its EXIF."""
    try:
        return TRANSPOSE.get(image.getexif().get(0x0112, 1))
    except Exception as error:  # a broken EXIF block must not cost the picture
        logger.debug("ignored the EXIF block: %s", error)
        return None


def _check_scans(image: Image.Image, stream: BinaryIO, reading: Reading) -> None:
    """Refuse a progressive JPEG that would take hours."""
    if image.info.get("progressive"):
        width, height = image.size
        at = stream.tell()
        stream.seek(0)
        num_scans = stream.read().count(b"\xff\xda")  # pixel data never holds these two bytes
        stream.seek(at)
        if width * height * num_scans > MAX_SCANS * reading.wanted.max_pixels:
            raise reading.too_large(f"{width} × {height} pixels in {num_scans} scans")


def _too_much_memory(name: str) -> ImageError:
    return ImageError(f"{name} does not fit into memory; make it smaller")


_PILLOW_MODULES = re.compile(r"PIL\.")


def _quiet_pillow() -> None:
    """Keep Pillow's warnings about broken metadata out of the user's run: we report by name.

    warnings.catch_warnings is not safe in threads, so a filter for Pillow's modules alone is put
    in front of the others, and again if somebody's own filters came before it.
    """
    first = next(iter(warnings.filters), None)
    if first is None or _PILLOW_MODULES not in first:
        warnings.filterwarnings("ignore", module=_PILLOW_MODULES.pattern)
