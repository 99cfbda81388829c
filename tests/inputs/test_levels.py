"""Values of more than 8 bits to 256 levels, by one rule for grey and colour."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from encoded import encoded, scene
from PIL import Image

from dptcli.inputs.find import decode_image
from dptcli.inputs.levels import Meaning, poorly_used, to_levels
from dptcli.inputs.reading import Wanted

GREY = np.asarray(scene("L"))
COLOUR = np.asarray(scene())


def difference(one, other) -> float:
    return float(np.abs(np.asarray(one).astype(int) - other).mean())


def tiff(values, **options) -> bytes:
    stream = io.BytesIO()
    options.setdefault("photometric", "rgb" if values.shape[-1:] == (3,) else "minisblack")
    tifffile.imwrite(stream, values, metadata=None, **options)
    return stream.getvalue()


def png16(values) -> bytes:
    return cv2.imencode(".png", values[..., ::-1] if values.ndim == 3 else values)[1].tobytes()


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(content)) + kind + content
    return png[:33] + chunk + struct.pack(">I", zlib.crc32(kind + content)) + png[33:]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("make", [tiff, png16])
@pytest.mark.parametrize("picture", [GREY, COLOUR], ids=["grey", "colour"])
def test_grey_and_colour_of_fewer_bits_in_sixteen_are_scaled_alike(picture, make, bits):
    values = (picture.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    seen = decode_image(make(values))
    expected = picture if picture.ndim == 3 else picture[..., None]
    assert difference(seen, expected) <= 1


def test_a_grey_png_with_alpha_of_sixteen_bits_keeps_its_low_bytes():
    grey = GREY.astype(np.uint16) << 4
    quads = np.stack([grey >> 8, grey & 255, grey * 0 + 15, grey * 0 + 255], -1).astype(np.uint8)
    data = bytearray(encoded(Image.fromarray(quads), "PNG"))
    data[24:26] = b"\x10\x04"  # 16 bits, grey with alpha: the same bytes a pixel
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert difference(decode_image(bytes(data)), GREY[..., None]) <= 1


def test_one_hot_pixel_does_not_darken_a_frame():
    values = (GREY.astype(np.uint16) << 4).repeat(3, 0).repeat(3, 1)
    before = decode_image(tiff(values))
    values[5, 5] = 4097
    assert difference(decode_image(tiff(values)), before) < 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_one_hot_pixel_does_not_blacken_floats(dtype):
    values = (GREY / 255).astype(dtype).repeat(3, 0).repeat(3, 1)
    before = decode_image(tiff(values))
    values[5, 5] = 6e4
    assert difference(decode_image(tiff(values)), before) < 1


@pytest.mark.parametrize(
    ("dtype", "no_data"),
    [(np.float32, -9999), (np.float32, -3.4028234663852886e38), (np.int16, -32768), (np.uint16, 0)],
)
def test_no_data_counts_for_nothing_and_is_black(dtype, no_data):
    values = (100 + GREY * 0.2).astype(dtype) if dtype != np.uint16 else 900 + GREY.astype(dtype)
    whole = to_levels(values, Meaning(no_data=no_data)).levels
    holed = values.copy()
    holed[:3, :7] = no_data
    data = tiff(holed, extratags=[(42113, "s", 0, str(no_data), True)])
    seen = decode_image(data)[..., 0]
    assert (seen[:3, :7] == 0).all()
    assert np.abs(seen.astype(int) - whole)[3:].mean() <= 3
    # Between the darkest and the brightest nothing saturates, though nobody gave a range.
    assert seen[3:].std() > 30


def test_a_usual_fill_that_the_file_does_not_name_is_found_and_said(caplog):
    values = (250 + GREY * 0.2).astype(np.float32)
    values[0, :9] = -9999
    assert decode_image(tiff(values))[1:].std() > 30
    assert "taken for no data" in caplog.text


def test_bits_that_a_file_states_count_more_than_its_largest_value(caplog):
    dark = (GREY.astype(np.uint16) // 2).astype(np.uint16)
    stated = tiff(dark, extratags=[(281, "H", 1, 4095, True)])
    assert difference(decode_image(stated), (dark * (255 / 4095))[..., None]) <= 1
    bright = GREY.astype(np.uint16) << 4
    data = with_chunk(png16(bright), b"sBIT", bytes([16]))
    assert difference(decode_image(data), (GREY / 16)[..., None]) <= 1
    assert "uses" in caplog.text  # a sixteenth of the range: said


def test_a_picture_in_a_corner_of_its_range_is_said():
    values = np.linspace(0, 3000, 500).astype(np.uint16)
    assert poorly_used(to_levels(values, Meaning(bits=16))) is not None
    assert poorly_used(to_levels(values)) is None


def test_levels_that_are_given_hold_for_every_file():
    wanted = Wanted(levels=(0.0, 4095.0))
    for dtype in (np.uint16, np.float32, np.uint32):
        for factor in (1, 4, 16):
            data = tiff((GREY.astype(np.uint16) * factor).astype(dtype))
            expected = (GREY * (factor * 255 / 4095))[..., None]
            assert difference(decode_image(data, wanted=wanted), expected) <= 1
    bright = COLOUR.astype(np.uint16) << 4
    assert difference(decode_image(png16(bright), wanted=wanted), COLOUR) <= 1
    half = decode_image(png16(COLOUR.astype(np.uint16) << 3), wanted=wanted)
    assert difference(half, COLOUR / 2) <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (GREY.astype(np.uint32) * 16_843_009, GREY),
        (GREY.astype(np.uint32) * 65_793, GREY),
        ((GREY.astype(np.int16) - 128).astype(np.int8), GREY),
        ((GREY.astype(np.int32) - 128) * 256, GREY),
        (GREY.astype(np.int16) * 128, GREY),
        ((GREY >> 1).astype(np.int8), GREY),
    ],
    ids=["uint32", "24 bits", "int8", "int16 in 32", "int16", "int8 from 0"],
)
def test_wide_and_signed_integers_keep_their_meaning(values, expected):
    if values.dtype == np.int32:
        values = values.astype(np.int16)
    assert difference(decode_image(tiff(values)), expected[..., None]) <= 1.5


def test_small_is_white_where_the_file_says_so():
    for values in (GREY.astype(np.uint16) * 257, (GREY / 255).astype(np.float32), GREY):
        data = tiff(values, photometric="miniswhite")
        assert difference(decode_image(data), 255 - GREY[..., None].astype(int)) <= 1


def test_floats_of_an_unknown_range_look_like_a_photograph():
    seen = decode_image(tiff((273 + GREY * 0.05).astype(np.float32)))
    assert abs(seen.mean() / 255 - 0.449) < 0.02
    assert abs(seen.std() / 255 - 0.226) < 0.03


@pytest.mark.parametrize(
    "values",
    [np.full((4, 6), np.nan, np.float32), np.full((4, 6), -9999, np.int16)],
    ids=["not a number", "GDAL's no data"],
)
def test_a_picture_without_any_value_is_black_and_that_is_said(values, caplog):
    data = tiff(values, extratags=[(42113, "s", 0, "-9999", True)])
    assert not decode_image(data).any()
    assert "no value anywhere" in caplog.text
