"""EXIF of photographs of every kind that is read: the camera's focal length."""

import io
import struct

import pillow_heif
import pytest
from PIL import Image

from dptcli.depth.camera import Camera, exif_focal_35mm
from dptcli.inputs.exif import read_exif


def exif_block() -> bytes:
    """An EXIF block, a small TIFF file: 50 mm of 35 mm film, 6000 × 4000 pixels."""
    exif = Image.Exif()
    exif.endian = "<"
    exif.get_ifd(0x8769).update({0xA405: 50, 0xA002: 6000, 0xA003: 4000})
    return exif.tobytes().removeprefix(b"Exif\0\0")


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12)).save(stream, "JPEG", exif=b"Exif\0\0" + exif_block())
    return stream.getvalue()


def heic() -> bytes:
    stream = io.BytesIO()
    picture = pillow_heif.from_pillow(Image.new("RGB", (64, 48)))
    picture.save(stream, exif=b"Exif\0\0" + exif_block())
    return stream.getvalue()


def tiff() -> bytes:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + exif_block())
    Image.new("RGB", (16, 12)).save(stream, "TIFF", exif=exif)
    return stream.getvalue()


def like_tiff(begin: bytes) -> bytes:
    return b"II" + begin + exif_block()[4:]


def raf() -> bytes:
    preview = jpeg()
    head = b"FUJIFILMCCD-RAW ".ljust(84, b"\0")
    return head + struct.pack(">II", 100, len(preview)) + bytes(8) + preview


def cr3() -> bytes:
    ifd = struct.pack("<HHHIIHHIII", 2, 0xA002, 4, 1, 6000, 0xA405, 3, 1, 50, 0)
    block = b"II*\0" + struct.pack("<I", 8) + ifd
    return struct.pack(">I", 24) + b"ftypcrx " + bytes(12) + struct.pack(">I", 60) + b"CMT2" + block


@pytest.mark.parametrize(
    "data",
    [jpeg(), heic(), tiff(), raf(), cr3(), like_tiff(b"RO"), like_tiff(b"U\0")],
    ids=["JPEG", "HEIC", "TIFF", "Fujifilm", "Canon", "Olympus", "Panasonic"],
)
def test_a_photograph_of_any_kind_knows_its_focal_length(data, tmp_path):
    assert exif_focal_35mm(io.BytesIO(data)) == 50
    path = tmp_path / "photo"
    path.write_bytes(data)
    assert Camera().focal_px((24, 36), path) == (pytest.approx(50), "EXIF")


def test_a_tiffs_small_first_picture_does_not_give_the_size():
    assert read_exif(io.BytesIO(tiff()))[1] == (6000, 4000)


@pytest.mark.parametrize("cut", [60, 90, 120])
def test_what_is_cut_short_has_no_focal_length_and_is_no_error(cut):
    for data in (heic(), raf(), cr3(), like_tiff(b"RO")):
        assert exif_focal_35mm(io.BytesIO(data[:cut])) in (None, 50)
