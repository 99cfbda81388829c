"""The fast PNG writer: any size and kind comes back bit for bit, in readers that are not ours."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dptcli.depth.colormaps import apply_palette, depth_lut
from dptcli.results import png
from dptcli.results.writers import save_png, write_picture

pytestmark = pytest.mark.usefixtures("packer")
SAMPLES = Path(__file__).parents[2] / "sample_images"
SIZES = [(1, 1), (1, 3000), (3000, 1), (37, 53), (700, 900)]


@pytest.fixture(params=["isal", "zlib"])
def packer(request, monkeypatch):
    """Each library that packs the rows: the faster one is optional."""
    if request.param == "zlib":
        monkeypatch.setattr(png, "isal_zlib", None)
    elif png.isal_zlib is None:
        pytest.skip("isal is not installed")


def smooth(hw, top):
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    wave = 0.5 + 0.4 * np.sin(rows / 40) * np.cos(columns / 60)
    noise = np.random.default_rng(0).uniform(0, 0.02, hw)
    return ((wave + noise) * top).astype(np.uint16 if top > 255 else np.uint8)


def read_with_opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("hw", SIZES, ids=str)
@pytest.mark.parametrize("top", [255, 65535], ids=["8 bits", "16 bits"])
def test_grey_comes_back_as_it_was(hw, top):
    levels = smooth(hw, top)
    stream = io.BytesIO()
    save_png(stream, Image.fromarray(levels), {"kind": "test"}, smooth=True)
    np.testing.assert_array_equal(np.asarray(Image.open(stream)), levels)
    np.testing.assert_array_equal(read_with_opencv(stream.getvalue()), levels)


@pytest.mark.parametrize("hw", SIZES, ids=str)
def test_indexed_colours_are_written_as_rgb(hw):
    indices = smooth(hw, 255)
    image = Image.fromarray(indices)
    image.putpalette(depth_lut().tobytes())
    stream = io.BytesIO()
    write_picture(stream, image, facts={"kind": "ünïcode"})
    written = Image.open(stream)
    assert written.mode == "RGB"
    assert "kind" in written.text["dptcli"]
    np.testing.assert_array_equal(np.asarray(written), apply_palette(indices, depth_lut()))
    bgr = read_with_opencv(stream.getvalue())
    np.testing.assert_array_equal(bgr[..., ::-1], apply_palette(indices, depth_lut()))


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("hw", SIZES, ids=str)
@pytest.mark.parametrize("channels", [2, 3, 4], ids=["LA", "RGB", "RGBA"])
def test_colours_come_back_as_they_were(hw, channels, smooth):
    pixels = np.random.default_rng(0).integers(0, 256, (*hw, channels), np.uint8)
    stream = io.BytesIO()
    save_png(stream, Image.fromarray(pixels), {"kind": "test"}, smooth=smooth)
    written = Image.open(stream)
    assert written.mode == {2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    assert "kind" in written.text["dptcli"]
    np.testing.assert_array_equal(np.asarray(written), pixels)
    if channels > 2:
        bgr = read_with_opencv(stream.getvalue())
        np.testing.assert_array_equal(bgr[..., [2, 1, 0, 3][:channels]], pixels)


def test_a_mask_of_classes_stays_indexed():
    mask = Image.fromarray(np.random.default_rng(0).integers(0, 5, (40, 30), np.uint8))
    mask.putpalette(depth_lut().tobytes())
    stream = io.BytesIO()
    save_png(stream, mask, {})
    assert Image.open(stream).mode == "P"


@pytest.mark.parametrize("name", ["garden.jpg", "room.jpg", "city.jpg"])
def test_a_photograph_stays_about_as_small_as_pillow_makes_it(name):
    photo = Image.open(SAMPLES / name)
    ours, pillows = io.BytesIO(), io.BytesIO()
    save_png(ours, photo, {})
    photo.save(pillows, "PNG", compress_level=1, compress_type=3)
    assert ours.tell() < 1.3 * pillows.tell()


def test_a_smooth_map_stays_about_as_small_as_pillow_makes_it():
    levels = smooth((700, 900), 65535) & 0xFF00
    ours, pillows = io.BytesIO(), io.BytesIO()
    save_png(ours, Image.fromarray(levels), {}, smooth=True)
    Image.fromarray(levels).save(pillows, "PNG")
    assert ours.tell() < 1.5 * pillows.tell()
