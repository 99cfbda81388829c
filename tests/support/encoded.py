"""Small pictures as files of every format, for tests of what reads them."""

import io

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
COLOUR = (200, 100, 50)
LOSSLESS = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}


def encoded(image: Image.Image, fmt: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **LOSSLESS.get(fmt, {}), **options)
    return stream.getvalue()


def scene(mode: str = "RGB") -> Image.Image:
    """40 wide, 24 high, every corner another colour: no two orientations look the same."""
    y, x = np.mgrid[0:24, 0:40]
    rgb = np.stack([x * 6, y * 10, 255 - x * 3 - y * 3], axis=-1).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)
