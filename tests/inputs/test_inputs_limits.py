"""Decoding at its limits: frames, extreme sizes, decompression bombs, and what is no image."""

import struct
import zlib

import numpy as np
import pytest
from encoded import COLOUR, FORMATS, encoded, scene
from PIL import Image

from dptcli.errors import ImageError
from dptcli.inputs.decode import DEFAULT_MAX_PIXELS
from dptcli.inputs.find import decode_image

# --- frames and sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_is_read(fmt):
    frames = [
        Image.new("RGB", (8, 6), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    ]
    data = encoded(frames[0], fmt, save_all=True, append_images=frames[1:])
    assert np.abs(decode_image(data).astype(int) - (255, 0, 0)).max() <= 2


SHAPES = [
    (fmt, size)
    for fmt in FORMATS
    for size in ((1, 1), (1, 16000), (1, 20000), (20000, 1), (60000, 3))
]


@pytest.mark.parametrize(
    ("fmt", "size"), [(f, s) for f, s in SHAPES if f != "WEBP" or max(s) <= 16383], ids=str
)
def test_extreme_shapes_decode(fmt, size):
    assert decode_image(encoded(Image.new("RGB", size, COLOUR), fmt)).shape == (size[1], size[0], 3)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nearly nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(scene(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def gif_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(scene(), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def bmp_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(scene(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def tiff_header(width: int, height: int) -> bytes:
    data = encoded(Image.new("RGB", (4321, 2)), "TIFF")
    return data.replace(struct.pack("<I", 4321), struct.pack("<I", width), 1).replace(
        b"\x01\x01\x04\x00\x01\x00\x00\x00\x02\x00\x00\x00",
        b"\x01\x01\x04\x00\x01\x00\x00\x00" + struct.pack("<I", height),
        1,
    )


def webp_header(width: int, height: int) -> bytes:
    data = bytearray(
        encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 4)), "WEBP", icc_profile=b"profile")
    )
    assert data[12:16] == b"VP8X"
    data[24:27] = (width - 1).to_bytes(3, "little")
    data[27:30] = (height - 1).to_bytes(3, "little")
    return bytes(data)


BOMBS = {
    "PNG": (png_header, 2**31 - 1, 2**31 - 1),
    "PNG, just above": (png_header, DEFAULT_MAX_PIXELS + 1, 1),
    "JPEG": (jpeg_header, 65500, 65500),
    "GIF": (gif_header, 65535, 65535),
    "BMP": (bmp_header, 2**31 - 1, 2**31 - 1),
    "BMP, upside down": (bmp_header, 60000, -60000),
    "TIFF": (tiff_header, 2**31 - 1, 65000),
    "WebP": (webp_header, 16383, 16383),
}


@pytest.mark.parametrize(("forge", "width", "height"), BOMBS.values(), ids=BOMBS.keys())
def test_decompression_bombs_are_refused_from_their_header(tmp_path, forge, width, height):
    path = tmp_path / "bomb.img"
    path.write_bytes(forge(width, height))
    with pytest.raises(ImageError, match=r"bomb\.img has .* above the limit .*--max-pixels"):
        decode_image(path)


def progressive_with(num_scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = encoded(scene("L"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (num_scans - data.count(b"\xff\xda")) + data[-2:]


def test_a_jpeg_of_endless_scans_is_refused():
    data = progressive_with(60)
    assert decode_image(data).shape == (24, 40, 3)  # slow only where there are many pixels
    assert decode_image(progressive_with(50), max_pixels=960).shape == (24, 40, 3)
    with pytest.raises(ImageError, match="40 × 24 pixels in 60 scans, above the limit"):
        decode_image(data, max_pixels=960)


def test_the_limit_on_pixels_can_be_moved():
    data = encoded(scene(), "PNG")
    with pytest.raises(ImageError, match=r"40 × 24 pixels, above the limit of 959;"):
        decode_image(data, max_pixels=959)
    assert decode_image(data, max_pixels=960).shape == (24, 40, 3)


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_raised_limit_passes_the_limit_of_pillow(monkeypatch, fmt):
    data = encoded(scene(), fmt)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode_image(data).shape == (24, 40, 3)


def test_the_default_limit_leaves_the_limit_of_pillow_alone():
    before = Image.MAX_IMAGE_PIXELS
    decode_image(encoded(scene(), "TIFF"))
    assert before == Image.MAX_IMAGE_PIXELS


# --- what is no image ----------------------------------------------------------------------------


NO_IMAGES = {
    "empty": (b"", "is empty"),
    "one byte": (b"\xff", "is not an image"),
    "text": (b"hello, world\n" * 50, "is not an image"),
    "zeros": (bytes(5000), "is not an image"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "heic brand only": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "damaged"),
    "avif brand only": (b"\0\0\0\x1cftypavif\0\0\0\0", "damaged"),
    "jpeg 2000 magic only": (b"\xff\x4f\xff\x51", "damaged"),
    "openexr magic only": (b"\x76\x2f\x31\x01", "damaged"),
    "radiance magic only": (b"#?RADIANCE\n", "damaged"),
    "jpeg xl": (b"\xff\x0a\0\0", "a JPEG XL image"),
    "video": (b"\0\0\0\x20ftypisom\0\0\0\0", "a video"),
    "pdf": (b"%PDF-1.7\n", "a PDF"),
    "photoshop": (b"8BPS\0\1", "Photoshop"),
    "archive": (b"PK\3\4\0\0", "an archive"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "jpeg magic only": (b"\xff\xd8\xff", "damaged"),
    "png magic only": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "gif magic only": (b"GIF89a", "damaged"),
    "bmp magic only": (b"BM", "damaged"),
    "tiff magic only": (b"II*\0", "damaged"),
    "webp magic only": (b"RIFF\0\0\0\0WEBP", "damaged"),
}


@pytest.mark.parametrize(("data", "reason"), NO_IMAGES.values(), ids=NO_IMAGES.keys())
def test_what_is_no_image_fails_with_its_name_and_the_reason(tmp_path, data, reason):
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"photo\.jpg .*{reason}.*; "):
        decode_image(path)


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_truncated_file_fails_by_name(tmp_path, fmt):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), fmt)
    path = tmp_path / "half"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="half is damaged, cut short"):
        decode_image(path)


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_content_decides_not_the_name(tmp_path, fmt):
    path = tmp_path / ("photo.png" if fmt == "JPEG" else "photo.jpg")
    path.write_bytes(encoded(scene(), fmt))
    assert decode_image(path).shape == (24, 40, 3)
