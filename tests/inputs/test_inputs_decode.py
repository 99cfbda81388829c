"""Decoding: every format, mode and orientation to RGB uint8, from every kind of source."""

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from encoded import COLOUR, FORMATS, encoded, scene
from PIL import Image, ImageCms

from dptcli.errors import ImageError
from dptcli.inputs.decode import to_rgb
from dptcli.inputs.find import ImageSource, decode_image

# --- formats and modes ---------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_decodes_to_contiguous_writable_rgb(fmt):
    pixels = decode_image(encoded(scene(), fmt))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (24, 40, 3)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    # GIF keeps 256 colours, JPEG rounds; the others are exact.
    tolerance = {"JPEG": 4, "GIF": 60}.get(fmt, 0)
    assert np.abs(pixels.astype(int) - np.asarray(scene())).max() <= tolerance


@pytest.mark.parametrize(
    ("fmt", "mode"),
    [
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "1"),
        ("PNG", "L"),
        ("PNG", "LA"),
        ("PNG", "P"),
        ("PNG", "RGBA"),
        ("WEBP", "RGBA"),
        ("BMP", "1"),
        ("BMP", "L"),
        ("BMP", "P"),
        ("BMP", "RGBA"),
        ("GIF", "1"),
        ("GIF", "L"),
        ("GIF", "P"),
        ("TIFF", "1"),
        ("TIFF", "L"),
        ("TIFF", "LA"),
        ("TIFF", "P"),
        ("TIFF", "PA"),
        ("TIFF", "RGBA"),
        ("TIFF", "RGBX"),
        ("TIFF", "CMYK"),
        ("TIFF", "YCbCr"),
    ],
)
def test_a_file_of_any_mode_decodes_like_its_image(fmt, mode):
    image = scene("P").convert("PA") if mode == "PA" else scene(mode)
    expected = np.asarray(image.convert("RGB")).astype(int)
    pixels = decode_image(encoded(image, fmt))
    tolerance = 8 if fmt == "JPEG" else 0
    assert np.abs(pixels - expected).max() <= tolerance


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]
)
def test_compressed_tiffs_decode(compression):
    pixels = decode_image(encoded(scene(), "TIFF", compression=compression))
    tolerance = 40 if compression == "jpeg" else 0  # libtiff's JPEG halves the colours' resolution
    assert np.abs(pixels.astype(int) - np.asarray(scene())).max() <= tolerance


def test_the_cmyk_of_adobe_jpegs_is_inverted_once():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(decode_image(encoded(red, "JPEG")).astype(int) - (255, 0, 0)).max() <= 3
    assert np.abs(decode_image(encoded(red, "TIFF")).astype(int) - (255, 0, 0)).max() <= 3


MODES = {
    "1": (1, (255, 255, 255)),
    "L": (100, (100, 100, 100)),
    "LA": ((100, 255), (100, 100, 100)),
    "La": ((100, 255), (100, 100, 100)),
    "RGB": (COLOUR, COLOUR),
    "RGBA": ((*COLOUR, 255), COLOUR),
    "RGBa": ((*COLOUR, 255), COLOUR),
    "RGBX": ((*COLOUR, 7), COLOUR),
    "CMYK": ((55, 155, 205, 0), COLOUR),
    "YCbCr": ((124, 86, 182), (200, 100, 50)),
    "HSV": ((14, 191, 200), (200, 100, 50)),
    "I;16": (0x6464, (100, 100, 100)),
    "I;16L": (0x6464, (100, 100, 100)),
    "I;16B": (0x6464, (100, 100, 100)),
    "I;16N": (0x6464, (100, 100, 100)),
    "I": (0x6464, (100, 100, 100)),
    "F": (100.0, (100, 100, 100)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_pillow_mode_becomes_rgb(mode):
    value, expected = MODES[mode]
    rgb = to_rgb(Image.new(mode, (3, 2), value))
    assert rgb.mode == "RGB"
    assert rgb.size == (3, 2)
    assert np.abs(np.asarray(rgb).astype(int) - expected).max() <= 2


def test_lab_goes_through_the_colour_profile():
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    image = ImageCms.profileToProfile(Image.new("RGB", (3, 2), COLOUR), srgb, lab, outputMode="LAB")
    assert np.abs(decode_image(encoded(image, "TIFF")).astype(int) - COLOUR).max() <= 3


# --- transparency --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_what_is_transparent_shows_the_background(mode):
    image = Image.new("RGBA", (2, 1), (200, 200, 200, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    if mode == "PA":
        palette = Image.new("PA", (2, 1))
        palette.putpalette([0, 0, 0, 200, 200, 200])
        palette.putpixel((0, 0), (0, 0))
        palette.putpixel((1, 0), (1, 255))
        image = palette
    else:
        image = image.convert("LA") if mode == "La" else image
        image = image.convert(mode)
    assert np.asarray(to_rgb(image)).tolist() == [[[255] * 3, [200] * 3]]
    over_blue = np.asarray(to_rgb(image, background=(0, 0, 255)))
    assert over_blue.tolist() == [[[0, 0, 255], [200, 200, 200]]]


def test_half_transparent_pixels_are_mixed():
    data = encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 128)), "PNG")
    mixed = decode_image(data, background=(0, 0, 255))
    assert np.abs(mixed.astype(int) - (128, 0, 127)).max() <= 1


@pytest.mark.parametrize("fmt", ["PNG", "GIF"])
def test_a_transparent_palette_entry_shows_the_background(fmt):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    data = encoded(image, fmt, transparency=0)
    assert decode_image(data, background=(1, 2, 3)).tolist() == [[[1, 2, 3], [0, 255, 0]]]


def test_a_palette_with_an_alpha_for_each_entry_is_mixed():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    data = encoded(image, "PNG", transparency=bytes([0, 255]))
    assert decode_image(data, background=(9, 9, 9)).tolist() == [[[9, 9, 9], [0, 255, 0]]]


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (7, 7, 7))])
def test_a_transparent_colour_key_shows_the_background(mode, colour):
    data = encoded(Image.new(mode, (2, 2), colour), "PNG", transparency=colour)
    assert (decode_image(data) == 255).all()


# --- more than 8 bits ----------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_grey_is_scaled_by_its_bit_depth_not_clipped(fmt, bits):
    ramp = np.linspace(0, 2**bits - 1, 256).round().astype(np.uint16)[None]
    pixels = decode_image(encoded(Image.fromarray(ramp), fmt))
    assert np.abs(pixels[0, :, 0] - np.arange(256)).max() <= 1
    assert pixels[0, -1].tolist() == [255, 255, 255]


def test_big_endian_deep_grey_decodes():
    image = Image.frombytes("I;16B", (256, 1), np.arange(0, 65536, 257).astype(">u2").tobytes())
    assert decode_image(encoded(image, "TIFF"))[0, :, 1].tolist() == list(range(256))


FLOATS = {
    "unit range": ([0.0, 0.5, 1.0], [0, 128, 255]),
    "byte range": ([0.0, 128.0, 255.0], [0, 128, 255]),
    # A photograph's mean, 0.449, and spread, 0.226, of 255.
    "negative": ([-1.0, 0.0, 1.0], [44, 114, 185]),
    "large": ([0.0, 5e5, 1e6], [44, 114, 185]),
    "constant": ([7.0, 7.0, 7.0], [7, 7, 7]),
    "constant negative": ([-7.0, -7.0, -7.0], [0, 0, 0]),
    "not finite": ([np.nan, np.inf, 1.0], [0, 0, 255]),
    "nothing finite": ([np.nan, -np.inf, np.inf], [0, 0, 0]),
    "extremes": ([-3e38, 0.0, 3e38], [44, 114, 185]),
}


@pytest.mark.parametrize(("values", "expected"), FLOATS.values(), ids=FLOATS.keys())
def test_float_images_are_scaled_by_their_range(values, expected):
    image = Image.fromarray(np.array([values], np.float32))
    pixels = decode_image(encoded(image, "TIFF"))[0, :, 0]
    assert np.abs(pixels.astype(int) - expected).max() <= 1  # one half may round either way


def test_signed_integers_get_a_photographs_mean_and_spread():
    image = Image.fromarray(np.array([[-100_000, 0, 100_000]], np.int32))
    assert decode_image(encoded(image, "TIFF"))[0, :, 0].tolist() == [44, 114, 185]


# --- orientation ---------------------------------------------------------------------------------

# What a camera stored, as a function of the upright picture (H, W, 3).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


ORIENTED = [
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("PNG", mode) for mode in ("L", "RGB", "RGBA", "P", "I;16")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("TIFF", mode) for mode in ("L", "RGB", "RGBA", "P", "I;16", "CMYK")),
]


@pytest.mark.parametrize(("fmt", "mode"), ORIENTED)
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_comes_out_upright(orientation, fmt, mode):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(scene()))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = stored.convert("L").convert("I;16") if mode == "I;16" else stored.convert(mode)
    pixels = decode_image(encoded(image, fmt, exif=exif))
    upright = scene("L" if mode == "I;16" else mode).convert("RGB")
    assert pixels.shape == (24, 40, 3)
    tolerance = {"P": 90}.get(mode, 8 if fmt == "JPEG" else 0)
    assert np.abs(pixels - np.asarray(upright).astype(int)).max() <= tolerance


@pytest.mark.parametrize(
    "exif",
    [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 40, b"junk" * 9],
    ids=["empty", "header only", "wild offset", "all ones", "junk"],
)
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_does_not_cost_the_picture(fmt, exif):
    pixels = decode_image(encoded(scene(), fmt, exif=exif))
    assert pixels.shape == (24, 40, 3)


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_impossible_orientation_is_ignored(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert decode_image(encoded(scene(), "PNG", exif=exif)).tolist() == np.asarray(scene()).tolist()


# --- where it comes from -------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_pixels(tmp_path, monkeypatch):
    data = encoded(scene(), "TIFF")
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    with path.open("rb") as stream:
        sources = [
            path,
            str(path),
            ImageSource(path, Path("a.tif")),
            data,
            io.BytesIO(data),
            stream,
        ]
        sources.append(ImageSource(None, Path("stdin")))
        for source in sources:
            assert decode_image(source).tolist() == np.asarray(scene()).tolist()


def test_a_stream_is_read_from_where_it_stands():
    stream = io.BytesIO(b"header" + encoded(scene(), "TIFF"))
    stream.seek(6)
    assert decode_image(stream).tolist() == np.asarray(scene()).tolist()


def test_an_image_comes_through_a_real_pipe():
    code = (
        "from pathlib import Path; from dptcli.inputs.find import *;"
        "print(decode_image(find_images(['-'])[0]).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=encoded(scene(), "PNG"),
        capture_output=True,
        check=True,
    )
    assert done.stdout.strip() == b"(24, 40, 3)"
    assert done.stderr == b""


def test_a_terminal_as_standard_input_does_not_wait(monkeypatch):
    leader, follower = os.openpty()
    with os.fdopen(leader), os.fdopen(follower) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        with pytest.raises(ImageError, match="terminal"):
            decode_image(ImageSource(None, Path("stdin")))


# --- threads and warnings ------------------------------------------------------------------------


def noisy_tiff() -> bytes:
    """A TIFF with a tag that points behind the end of the file, for which Pillow warns."""
    data = bytearray(encoded(scene(), "TIFF", tiffinfo={65000: "x" * 100}))
    at = data.index(struct.pack("<HHI", 65000, 2, 101))
    data[at + 8 : at + 12] = struct.pack("<I", 2**31)
    return bytes(data)


def test_warnings_of_pillow_do_not_escape():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(noisy_tiff())) as image:
            image.load()
    assert caught  # or this test would prove nothing
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode_image(noisy_tiff())
    assert not caught


def test_threads_decode_at_the_same_time():
    data = {fmt: encoded(scene(), fmt) for fmt in FORMATS} | {"noisy": noisy_tiff()}
    expected = {key: decode_image(value) for key, value in data.items()}
    wrong = []

    def work() -> None:
        for _ in range(20):
            for key, value in data.items():
                if not np.array_equal(decode_image(value), expected[key]):
                    wrong.append(key)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
