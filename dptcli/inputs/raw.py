"""Camera raw files, developed by LibRaw (the extra `raw`).

The rule: the camera's white balance, sRGB, and LibRaw's own brightness, which makes 1 % of the
pixels white.
"""

from typing import BinaryIO

import numpy as np
from PIL import Image

from dptcli.errors import ImageError
from dptcli.inputs.reading import Reading
from dptcli.inputs.tiffpages import DNG_VERSION, Directory, read_tags

ANY = "a camera's raw file"


def kind_of_tiff(found: list[Directory], stream: BinaryIO) -> str:
    """What a TIFF file with raw data is, in words."""
    tags = read_tags(stream, found[0].offset)
    return "a camera's raw file (DNG)" if DNG_VERSION in tags else ANY


def read_raw(stream: BinaryIO, reading: Reading, *, kind: str = ANY) -> Image.Image:
    """Develop a raw file to upright RGB. Raises ImageError without rawpy, and for damaged files."""
    rawpy = reading.extra("rawpy", extra="raw", kind=kind)
    reading.choose_page(1)
    stream.seek(0)
    try:
        with rawpy.imread(stream) as file:
            reading.check_size(file.sizes.width, file.sizes.height)
            rgb = file.postprocess(use_camera_wb=True, output_bps=8)
    except rawpy.LibRawError as error:
        raise ImageError(
            f"{reading.name} is {kind}, damaged or of a camera that LibRaw does not know "
            f"({_words(error)}); export it as DNG or PNG"
        ) from error
    return Image.fromarray(np.ascontiguousarray(rgb))


def _words(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
