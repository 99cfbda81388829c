"""What the camera wrote beside the pixels (EXIF), for every kind of photograph that is read."""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from dptcli.inputs.formats import kind_of

_EXIF_IFD = 0x8769
_ORIENTATION = 0x0112
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003

_TIFF_LIKE = (b"II", b"MM")
_CR3_EXIF = b"CMT2"
_CR3_HEAD = 1 << 20
_RAF_PREVIEW_AT = 84


def read_exif(photo: Path | BinaryIO) -> tuple[Mapping[int, Any], tuple[int, int]]:
    """Return a photograph's EXIF values by tag, and the (width, height) that they are about.

    Raises whatever a broken file or a missing reader makes.
    """
    if isinstance(photo, Path):
        with photo.open("rb") as stream:
            return read_exif(stream)
    head = photo.read(64)
    photo.seek(0)
    kind = kind_of(head)
    if kind is not None and kind.how == "heif":
        from pillow_heif import HeifImageFile

        with HeifImageFile(photo) as image:
            return image.getexif().get_ifd(_EXIF_IFD), image.size
    if kind is not None and kind.how == "raw":
        return _of_raw(photo, head)
    with Image.open(photo) as image:
        found, size = image.getexif().get_ifd(_EXIF_IFD), image.size
    if kind is not None and kind.how == "tiff":  # the first picture may be a small one
        size = _stated_size(found) or size
    return found, size


def orientation_of(photo: Path | BinaryIO) -> int:
    """How a photograph's EXIF says that the camera was held, 1 to 8; 1 where it says nothing."""
    try:
        with Image.open(photo) as image:
            stated = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # other readers turn what they read by themselves
        return 1
    return stated if 1 <= stated <= 8 else 1


def _of_raw(photo: BinaryIO, head: bytes) -> tuple[Mapping[int, Any], tuple[int, int]]:
    if head.startswith(b"FUJIFILM"):  # a JPEG with all that the camera knew
        photo.seek(_RAF_PREVIEW_AT)
        start, length = struct.unpack(">II", photo.read(8))
        photo.seek(start)
        return read_exif(io.BytesIO(photo.read(length)))
    exif = Image.Exif()
    if head[:2] in _TIFF_LIKE:  # TIFF but for the number of the kind
        magic = b"*\0" if head[:2] == b"II" else b"\0*"
        exif.load(b"Exif\0\0" + head[:2] + magic + photo.read()[4:])
        found: Mapping[int, Any] = exif.get_ifd(_EXIF_IFD)
    else:
        data = photo.read(_CR3_HEAD)
        at = data.find(_CR3_EXIF)
        if at < 0:
            return {}, (0, 0)
        exif.load(b"Exif\0\0" + data[at + len(_CR3_EXIF) :])
        found = dict(exif)
    return found, _stated_size(found) or (3, 2)


def _stated_size(exif: Mapping[int, Any]) -> tuple[int, int] | None:
    width, height = int(exif.get(_PIXEL_X, 0)), int(exif.get(_PIXEL_Y, 0))
    return (width, height) if width > 0 and height > 0 else None
