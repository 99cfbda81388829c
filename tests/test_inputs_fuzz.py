"""Damaged files: bytes flipped, cut, doubled and zeroed; an array or an ImageError comes out."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from dptcli.errors import ImageError
from dptcli.inputs import decode_image

SAMPLE = Path(__file__).parent.parent / "sample_images" / "courtyard.jpg"
CASES_PER_SEED = 150
MAX_PIXELS = 4_000_000  # a flipped bit in a size would else cost seconds, not correctness
MAX_SECONDS = 5.0  # a case takes milliseconds; this stands for "it does not hang" on any machine


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
        "gif, animated": (photo, "GIF", animation),
    }
    encoded = {}
    for name, (image, fmt, options) in variants.items():
        stream = io.BytesIO()
        image.save(stream, fmt, **options)
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


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_give_an_array_or_an_image_error(name, capfd):
    rng = np.random.default_rng(sorted(SEEDS).index(name))
    refusals = []
    for case in range(CASES_PER_SEED):
        data = damaged(SEEDS[name], rng)
        started_s = time.perf_counter()
        try:
            pixels = decode_image(data, max_pixels=MAX_PIXELS)
        except ImageError as error:
            refusals.append(str(error))
        else:
            assert pixels.dtype == np.uint8, case
            assert pixels.ndim == 3, case
            assert pixels.shape[2] == 3, case
            assert pixels.size > 0, case
        assert time.perf_counter() - started_s < MAX_SECONDS, case
    assert refusals  # the wounds are deep enough to matter
    for message in refusals:
        assert message.startswith("the image given as bytes ")
        assert message.isprintable()
    printed = capfd.readouterr()
    assert printed.out == ""
    # libtiff, in C, complains on standard error by itself, and there is no switch in Pillow.
    assert printed.err == "" or name.startswith("tiff")


@pytest.mark.parametrize("name", SEEDS)
def test_the_undamaged_file_decodes(name):
    assert sorted(decode_image(SEEDS[name]).shape) == [3, 60, 80]


@pytest.mark.parametrize("name", SEEDS)
def test_every_cut_of_the_header_is_refused_or_decoded(name):
    data = SEEDS[name]
    for length in [*range(64), *range(64, len(data), max(1, len(data) // 40))]:
        try:
            assert decode_image(data[:length], max_pixels=MAX_PIXELS).ndim == 3
        except ImageError:
            continue
