"""One small writer per format, each into a stream that is open for binary writing."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dptcli import __version__
from dptcli.errors import ImageError
from dptcli.results import png
from dptcli.results.files import atomic_write
from dptcli.results.sidecar import TEXT_KEY

# Run-length matching at level 1: for a 12-megapixel overlay a third of level 6's time.
_PNG_SPEED = {"compress_level": 1, "compress_type": 3}

_MAX_SIDE = {"jpg": 65_500, "webp": 16_383}


def write_whole(path: Path | None, write: Callable[[BinaryIO], object]) -> None:
    """Give a writer the file that is whole or absent, or standard output. Raises ImageError."""
    try:
        if path is None:
            write(sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            with atomic_write(path) as stream:
                write(stream)
    except OSError as error:
        raise describe_write_error(path, error) from error


def write_picture(
    stream: BinaryIO,
    image: Image.Image,
    *,
    kind: str = "color",
    facts: Mapping[str, object] | None = None,
    is_photo: bool = False,
) -> None:
    """Write a finished picture of a smooth map, kind "color" (PNG), "jpg" or "webp".

    is_photo: a JPEG keeps the finest colours, which red and cyan glasses would miss. An indexed
    image is written in full colours. Only PNG carries the facts.
    Raises ImageError for a picture that the format has no room for.
    """
    most = _MAX_SIDE.get(kind)
    if most is not None and max(image.size) > most:
        raise ImageError(
            f"{image.width} × {image.height} pixels do not fit into {kind}, which ends at {most}; "
            "write --format color, or less with --target-size"
        )
    if kind in _MAX_SIDE and image.mode == "P":
        image = image.convert("RGB")
    if kind == "jpg":
        fine = {"quality": 95, "subsampling": 0} if is_photo else {"quality": 92}
        image.save(stream, "JPEG", **fine)
    elif kind == "webp":
        image.save(stream, "WEBP", quality=90)
    else:
        save_png(stream, image, facts or {}, smooth=True)


def write_array(stream: BinaryIO, values: NDArray[Any]) -> None:
    """Write a NumPy array as NPY.

    Not by np.save, which hands a file to C's stdio and says of a full disk only that too little was
    written. Raises OSError.
    """
    values = np.ascontiguousarray(values)
    header = np.lib.format.header_data_from_array_1_0(values)
    np.lib.format.write_array_header_1_0(stream, header)
    stream.write(values.tobytes())


def describe_write_error(path: Path | None, error: OSError) -> ImageError:
    """Turn a failed write into the error that names the file and the reason."""
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    return ImageError(f"cannot write {str(path or 'standard output')!r}: {reason}")


def save_png(
    stream: BinaryIO, image: Image.Image, facts: Mapping[str, object], *, smooth: bool = False
) -> None:
    """Write a PNG, fast, with facts in its text. smooth: a smooth map; it makes "P" RGB."""
    text = PngInfo()
    text.add_text("Software", f"dptcli {__version__}")
    text.add_text(TEXT_KEY, json.dumps(facts, default=str))
    if png.is_for(image, smooth=smooth):
        png.write(stream, image, text)
    else:
        image.save(stream, "PNG", pnginfo=text, **_PNG_SPEED)
