"""Formats beyond the common ones: by Pillow, by our own readers, through extras."""

import importlib.util
import io
import tempfile
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pillow_heif
import pytest
from encoded import encoded, scene
from PIL import Image

from dptcli.errors import ImageError
from dptcli.inputs.find import decode_image
from dptcli.inputs.linear import tone_map

SCENE = np.asarray(scene())
BIG = np.asarray(scene().resize((160, 96)))
# What sRGB's curve makes SCENE of.
LIGHT = np.where(SCENE <= 10, SCENE / 255 / 12.92, ((SCENE / 255 + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)


def heic(image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=95, **options)
    return stream.getvalue()


def exr(**channels) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.exr"
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, channels).write(str(path))
        return path.read_bytes()


def hdr(light) -> bytes:
    return cv2.imencode(".hdr", light[..., ::-1])[1].tobytes()


# --- by Pillow -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (encoded(Image.fromarray(BIG), "AVIF", quality=95), 3),
        (encoded(Image.fromarray(BIG), "JPEG2000"), 0),
        (encoded(Image.fromarray(BIG), "JPEG2000", no_jp2=True), 0),
        (encoded(Image.fromarray(BIG), "PPM"), 0),
        (b"P3 160 96 255 " + " ".join(map(str, BIG.ravel())).encode(), 0),
        (b"P6\n160 96\n4095\n" + (BIG.astype(np.uint16) * 16).astype(">u2").tobytes(), 1),
    ],
    ids=["AVIF", "JPEG 2000", "its bare stream", "PPM", "PPM in words", "PPM of 12 bits"],
)
def test_colour_formats_that_pillow_reads_are_read(data, tolerance):
    assert np.abs(decode_image(data).astype(int) - BIG).mean() <= tolerance


def test_deep_grey_whose_format_knows_its_bits_is_not_guessed():
    dark = (np.asarray(scene("L")) // 4).astype(np.uint16)
    pgm = b"P5\n40 24\n255\n" + dark.astype(np.uint8).tobytes()
    deep = b"P5\n40 24\n65535\n" + (dark * 257).astype(">u2").tobytes()
    assert np.array_equal(decode_image(deep), decode_image(pgm))
    packed = encoded(Image.fromarray(dark * 257), "JPEG2000")
    assert np.array_equal(decode_image(packed), decode_image(pgm))


# --- HEIC ----------------------------------------------------------------------------------------


def test_heic_is_read_and_turned_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.fromarray(BIG)
    assert np.abs(decode_image(heic(photo)).astype(int) - BIG).mean() < 4
    turned = decode_image(heic(photo, exif=exif.tobytes()))
    assert np.abs(turned.astype(int) - np.rot90(BIG, -1)).mean() < 4


@pytest.mark.parametrize(
    ("brand", "words"),
    [
        (b"heic", "a HEIC photograph"),
        (b"heix", "a HEIC photograph"),
        (b"hevc", "a HEIC photograph"),  # a sequence
        (b"msf1", "a HEIC photograph"),
        (b"mif1", "a HEIC photograph"),
        (b"crx ", "a Canon raw file"),
        (b"isom", "a video"),
        (b"qt  ", "a video"),
    ],
)
def test_a_container_is_called_what_its_brand_says(monkeypatch, brand, words):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    data = b"\0\0\0\x18ftyp" + brand + bytes(4) + brand + b"isom" + b"0" * 400
    with pytest.raises(ImageError, match=words) as caught:
        decode_image(data)
    assert ("video" in str(caught.value)) == (words == "a video")


@pytest.mark.parametrize("brand", [b"avis", b"mif1\0\0\0\0mif1avif", b"msf1\0\0\0\0msf1avis"])
def test_an_avif_sequence_is_no_video(brand):
    data = b"\0\0\0\x18ftyp" + brand + bytes(400)
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert "video" not in str(caught.value)
    assert "HEIC" not in str(caught.value)


# --- light ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_an_openexr_of_a_displays_range_is_shown_as_it_is(kind):
    assert np.abs(decode_image(exr(RGB=LIGHT.astype(kind))).astype(int) - SCENE).max() <= 1
    with_alpha = np.dstack([LIGHT, np.ones_like(LIGHT[..., :1])]).astype(kind)
    assert np.abs(decode_image(exr(RGBA=with_alpha)).astype(int) - SCENE).max() <= 1
    grey = decode_image(exr(Y=LIGHT[..., 1].astype(kind)))
    assert np.abs(grey.astype(int) - SCENE[..., 1:2]).max() <= 1


def test_a_layer_of_an_openexr_is_found_and_depth_is_no_picture():
    bands = {f"view.{name}": np.ascontiguousarray(LIGHT[..., i]) for i, name in enumerate("RGB")}
    assert np.abs(decode_image(exr(**bands)).astype(int) - SCENE).max() <= 1
    with pytest.raises(ImageError, match=r"without a picture \(channels Z\)"):
        decode_image(exr(Z=np.ascontiguousarray(LIGHT[..., 0])))


def test_radiance_pictures_are_read_packed_and_plain():
    assert np.abs(decode_image(hdr(LIGHT)).astype(int) - SCENE).mean() <= 1.5
    plain = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 2\n" + bytes([128, 64, 32, 128] * 2)
    half, quarter = tone_map(np.array([[[0.50195, 0.25195, 0.127]]], np.float32))[0, 0, :2]
    assert np.abs(decode_image(plain)[0, 0, :2].astype(int) - (half, quarter)).max() <= 1
    up = plain.replace(b"-Y 1 +X 2", b"+Y 2 +X 1")
    assert decode_image(up).shape == (2, 1, 3)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_radiance_picture_that_was_cut_is_refused(share):
    data = hdr(LIGHT)
    with pytest.raises(ImageError, match="cut short"):
        decode_image(data[: int(len(data) * share)])


def test_light_beyond_a_display_is_exposed_and_bent():
    scene_light = np.geomspace(0.01, 100, 3000, dtype=np.float32).reshape(30, 100, 1).repeat(3, 2)
    for exposure in (1e-4, 1.0, 1e4):  # whatever the unit of light is
        seen = tone_map(scene_light * np.float32(exposure))
        assert 90 < seen.mean() < 150
        assert (np.diff(seen.reshape(-1, 3)[:, 0].astype(int)) >= 0).all()  # the order stays
        assert seen.max() == 255
        assert seen.min() < 20


def test_broken_light_is_black():
    light = np.full((4, 4, 3), 0.5, np.float32)
    light[0, 0], light[1, 1], light[2, 2] = np.nan, np.inf, -1
    seen = tone_map(light)
    assert (seen[[0, 1, 2], [0, 1, 2]] == 0).all()
    assert (seen[3] == 188).all()


# --- without extras ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "extra"),
    [
        (heic(scene()), "heif"),
        (exr(RGB=LIGHT), "exr"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(400), "raw"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(100), "raw"),
        (b"IIU\0\x18\0\0\0" + bytes(100), "raw"),
    ],
    ids=["HEIC", "OpenEXR", "CR3", "RAF", "RW2"],
)
def test_a_missing_extra_is_named(monkeypatch, data, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(ImageError, match=rf"needs .*; pip install 'dptcli\[{extra}\]'"):
        decode_image(data)


@pytest.mark.parametrize(("kind", "said"), [("TGA", "a TGA image"), ("ICO", "an icon")])
def test_a_tga_image_is_not_taken_for_a_cursor(kind, said):
    with pytest.raises(ImageError, match=said):
        decode_image(encoded(scene(), kind))
