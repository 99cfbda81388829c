"""A small real photograph in every format, and its damaged copies."""

import io

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps
from places import SAMPLES

SAMPLE = SAMPLES / "courtyard.jpg"


def seeds() -> dict[str, bytes]:
    """A small real photograph in every format, and in the variants that take other decoders."""
    with Image.open(SAMPLE) as photograph:
        photo = ImageOps.exif_transpose(photograph).resize((60, 80))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    grey16 = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    animation = {"save_all": True, "append_images": [photo.rotate(90), photo.rotate(180)]}
    variants = {
        "jpeg": (photo, "JPEG", {"exif": exif}),
        "jpeg, progressive": (photo, "JPEG", {"progressive": True}),
        "jpeg, cmyk": (photo.convert("CMYK"), "JPEG", {}),
        "png": (photo.convert("RGBA"), "PNG", {"exif": exif}),
        "png, palette": (photo.convert("P"), "PNG", {"transparency": bytes(range(200))}),
        "png, 16 bits": (grey16, "PNG", {}),
        "png, animated": (photo, "PNG", animation),
        "webp": (photo, "WEBP", {"exif": exif}),
        "webp, lossless": (photo.convert("RGBA"), "WEBP", {"lossless": True}),
        "webp, animated": (photo, "WEBP", animation),
        "bmp": (photo, "BMP", {}),
        "bmp, palette": (photo.convert("P"), "BMP", {}),
        "tiff": (photo, "TIFF", {"exif": exif}),
        "tiff, lzw": (photo, "TIFF", {"compression": "tiff_lzw"}),
        "tiff, jpeg": (photo, "TIFF", {"compression": "jpeg"}),
        "tiff, fax": (photo.convert("1"), "TIFF", {"compression": "group4"}),
        "gif": (photo, "GIF", {}),
        "avif": (photo, "AVIF", {}),
        "jp2": (photo, "JPEG2000", {}),
        "ppm": (photo, "PPM", {}),
        "gif, animated": (photo, "GIF", animation),
    }
    encoded = {}
    for name, (image, fmt, options) in variants.items():
        stream = io.BytesIO()
        image.save(stream, fmt, **options)
        encoded[name] = stream.getvalue()
    pixels = np.asarray(photo)
    light = (pixels.astype(np.float32) / 255) ** 2.2
    encoded["hdr"] = cv2.imencode(".hdr", light[..., ::-1])[1].tobytes()
    encoded["png, 12 bits of 16"] = cv2.imencode(".png", pixels.astype(np.uint16) << 4)[1].tobytes()
    deep = {"photometric": "rgb", "metadata": None}
    for name, values, options in (
        ("tiff, planar 16 bits", np.moveaxis(pixels.astype(np.uint16) * 257, -1, 0), {}),
        ("tiff, float tiles", light, {"tile": (16, 16), "compression": "lzw", "predictor": True}),
    ):
        stream = io.BytesIO()
        tifffile.imwrite(stream, values, **deep, **options)
        encoded[name] = stream.getvalue()
    return encoded


SEEDS = seeds()


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One to eight wounds; half of them near the start, where the headers are."""
    wounded = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        reach = len(wounded) if rng.random() < 0.5 else min(len(wounded), 200)
        if reach < 2:
            break
        at = int(rng.integers(0, reach))
        length = int(rng.integers(1, 40))
        match rng.integers(0, 6):
            case 0:
                wounded[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                wounded[at] = int(rng.integers(0, 256))
            case 2:
                wounded[at : at + length] = bytes(rng.choice([0, 255], 1).astype(np.uint8)) * length
            case 3:
                del wounded[at : at + length]
            case 4:
                wounded[at:at] = wounded[at : at + length]
            case 5:
                del wounded[int(rng.integers(len(wounded) // 2, len(wounded))) :]
    return bytes(wounded)
