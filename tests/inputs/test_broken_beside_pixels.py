"""Files whose pixels are whole though something beside them is broken; and others."""

import io
import struct
import zlib

import numpy as np
import pytest
from encoded import encoded, scene
from PIL import Image, PngImagePlugin

from dptcli.errors import ImageError
from dptcli.inputs.find import decode_image

SCENE = np.asarray(scene())
PHOTO = Image.fromarray(SCENE).resize((160, 96))


def chunk(kind: bytes, content: bytes, *, wrong: bool = False) -> bytes:
    checksum = zlib.crc32(kind + content) ^ wrong
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_with(extra: bytes, *, behind: bool = False) -> bytes:
    """A PNG with chunks put behind its header, or before its end."""
    data = encoded(scene(), "PNG")
    at = len(data) - 12 if behind else 33
    return data[:at] + extra + data[at:]


TWO_MB = bytes(2 << 20)
SIDE_DATA = {
    "2 MB of text": chunk(b"tEXt", b"note\0" + b"x" * (2 << 20)),
    "2 MB of packed text": chunk(b"zTXt", b"note\0\0" + zlib.compress(TWO_MB)),
    "2 MB of international text": chunk(b"iTXt", b"note\0\1\0\0\0" + zlib.compress(TWO_MB)),
    "a profile of 2 MB": chunk(b"iCCP", b"name\0\0" + zlib.compress(TWO_MB)),
    "a profile that is none": chunk(b"iCCP", b"name\0\0no deflate"),
    "text with a wrong checksum": chunk(b"tEXt", b"note\0text", wrong=True),
    "a date with a wrong checksum": chunk(b"tIME", bytes(7), wrong=True),
    "a short resolution": chunk(b"pHYs", b"\0"),
    "a short gamma": chunk(b"gAMA", b""),
    "a private chunk with a wrong checksum": chunk(b"prVt", b"anything", wrong=True),
    "sixty-five texts of 1 MB": chunk(b"tEXt", b"n\0" + b"x" * (1 << 20)) * 65,
}


@pytest.mark.parametrize("behind", [False, True], ids=["in front", "behind"])
@pytest.mark.parametrize("extra", SIDE_DATA.values(), ids=SIDE_DATA.keys())
def test_a_png_is_read_whatever_lies_beside_its_pixels(extra, behind):
    assert np.array_equal(decode_image(png_with(extra, behind=behind)), SCENE)


def test_a_pngs_orientation_survives_a_broken_text():
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encoded(scene(), "PNG", exif=exif)
    data = data[:33] + chunk(b"tEXt", b"note\0text", wrong=True) + data[33:]
    assert np.array_equal(decode_image(data), SCENE[::-1, ::-1])


def test_a_broken_orientation_or_transparency_is_left_out_and_said(caplog):
    data = encoded(Image.new("L", (4, 4), 7), "PNG", transparency=7)
    at = data.index(b"tRNS") + 6
    data = data[:at] + b"\x55" + data[at + 1 :]
    assert (decode_image(data) == 7).all()
    assert "has a broken tRNS chunk: left out" in caplog.text


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_wrong_checksum_of_what_the_pixels_need_is_damage(kind):
    data = bytearray(encoded(scene("P"), "PNG"))
    at = data.index(kind)
    (length,) = struct.unpack_from(">I", data, at - 4)
    data[at + 4 + length] ^= 1
    with pytest.raises(ImageError, match="damaged"):
        decode_image(bytes(data))


def test_a_png_without_its_end_is_read():
    assert np.array_equal(decode_image(encoded(scene(), "PNG")[:-12]), SCENE)


def test_a_png_of_megabytes_of_text_is_still_held_to_the_limit_of_pixels():
    with pytest.raises(ImageError, match="40 × 24 pixels, above the limit"):
        decode_image(png_with(SIDE_DATA["2 MB of text"]), max_pixels=100)


# --- JPEG ----------------------------------------------------------------------------------------

JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 1},
    "grey": {"mode": "L"},
}


def jpeg(*, mode: str = "RGB", **options) -> bytes:
    return encoded(PHOTO.convert(mode), "JPEG", **options)


@pytest.mark.parametrize(
    "tail", [b"", bytes(512), b"\xff", b"garbage"], ids=["", "zeros", "half a mark", "garbage"]
)
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS.keys())
def test_a_jpeg_without_end_mark_is_read_with_a_word(caplog, options, tail):
    data = jpeg(**options)
    assert data.endswith(b"\xff\xd9")
    assert np.array_equal(decode_image(data[:-2] + tail), decode_image(data))
    # Where more follows, Pillow has all of the rows before it misses the end.
    assert tail or "has no end mark, but all of its pixels are there" in caplog.text


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS.keys())
def test_a_jpeg_that_lacks_pixels_is_refused(options):
    data = jpeg(**options)
    for share in (0.5, 0.9, 0.99):
        with pytest.raises(ImageError, match="damaged, cut short"):
            decode_image(data[: int(len(data) * share)])


def test_a_progressive_jpeg_that_lacks_its_last_scan_is_refused():
    data = jpeg(progressive=True)
    with pytest.raises(ImageError, match="damaged, cut short"):
        decode_image(data[: data.rindex(b"\xff\xda")])


def test_a_jpegs_orientation_survives_a_missing_end():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(exif=exif)
    assert np.array_equal(decode_image(data[:-2]), decode_image(data))
    assert decode_image(data).shape == (160, 96, 3)


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


@pytest.mark.parametrize(
    "extra",
    [
        segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\xff"),
        segment(0xE2, b"ICC_PROFILE\0\3\2junk"),
        segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
        segment(0xE0, b"JFIF"),
        segment(0xFE, b""),
    ],
    ids=["Photoshop", "profile", "MPF", "JFIF", "comment"],
)
def test_a_jpeg_is_read_whatever_lies_beside_its_pixels(extra):
    data = jpeg()
    assert np.array_equal(decode_image(data[:2] + extra + data[2:]), decode_image(data))


@pytest.mark.parametrize(
    ("marker", "bits", "words"), [(0xC1, 12, "JPEG of 12 bits"), (0xC3, 8, "a lossless JPEG")]
)
def test_a_jpeg_of_a_rare_kind_is_called_that(marker, bits, words):
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    with pytest.raises(ImageError, match=words):
        decode_image(bytes(data))


# --- alpha that is none --------------------------------------------------------------------------


def bmp_with_alpha(level: int) -> bytes:
    """A BMP whose header (version 4) says where red, green, blue and alpha lie."""
    pixels = np.dstack([SCENE[::-1, :, ::-1], np.full((24, 40), level, np.uint8)]).tobytes()
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 40, 24, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    head += struct.pack("<4I", *masks) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + head + pixels


def test_alpha_that_is_0_everywhere_is_no_transparency(caplog):
    empty = Image.new("L", (40, 24), 0)
    files = {
        "bmp": bmp_with_alpha(0),
        "png": encoded(Image.merge("RGBA", (*scene().split(), empty)), "PNG"),
        "webp": encoded(Image.merge("RGBA", (*scene().split(), empty)), "WEBP", exact=True),
        "tiff": encoded(Image.merge("RGBA", (*scene().split(), empty)), "TIFF"),
    }
    for name, data in files.items():
        caplog.clear()
        assert np.array_equal(decode_image(data), SCENE), name
        assert "is transparent everywhere" in caplog.text
    grey = Image.merge("LA", (scene("L"), empty))
    assert np.array_equal(decode_image(encoded(grey, "PNG")), np.asarray(scene("L").convert("RGB")))
    palette = encoded(scene("P"), "PNG", transparency=bytes(256))
    assert np.array_equal(decode_image(palette), np.asarray(scene("P").convert("RGB")))
    assert np.array_equal(decode_image(bmp_with_alpha(255)), SCENE)


def test_one_pixel_that_shows_makes_alpha_transparency():
    alpha = Image.new("L", (40, 24), 0)
    alpha.putpixel((3, 3), 255)
    seen = decode_image(encoded(Image.merge("RGBA", (*scene().split(), alpha)), "PNG"))
    assert (seen[3, 3] == SCENE[3, 3]).all()
    assert (seen[10] == 255).all()


def test_pillows_own_limits_on_text_are_what_they_were():
    decode_image(png_with(SIDE_DATA["2 MB of text"]))
    assert PngImagePlugin.MAX_TEXT_CHUNK == 1 << 20
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(png_with(SIDE_DATA["2 MB of packed text"]))).load()
