"""TIFF: every layout decodes to its own pixels or is refused by name; which page is read."""

import importlib.util
import io
import itertools

import numpy as np
import pytest
import tifffile
from encoded import encoded, scene
from PIL import Image, ImageCms

from dptcli.errors import ImageError
from dptcli.inputs.find import decode_image
from dptcli.inputs.reading import Wanted

COLOUR = np.asarray(scene())
GREY = np.asarray(scene("L"))

TYPES = {
    "uint8": lambda a: a,
    "uint16": lambda a: a.astype(np.uint16) * 257,
    "uint32": lambda a: a.astype(np.uint32) * 16_843_009,
    "float16": lambda a: (a / 255).astype(np.float16),
    "float32": lambda a: (a / 255).astype(np.float32),
    "float64": lambda a: a / 255,
}
PACKINGS = [(None, False), ("zlib", True), ("lzw", False), ("lzw", True), ("packbits", False)]


def tiff(values, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, metadata=None, **options)
    return stream.getvalue()


def without(monkeypatch, *modules):
    """An installation without some optional libraries."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in modules else real(name, *a)
    )


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (16, 32)], ids=["strips", "tiles"])
def test_colours_of_every_layout_are_their_own_pixels(monkeypatch, kind, planar, tile):
    without(monkeypatch, "tifffile")
    values = TYPES[kind](COLOUR)
    values = values if planar == "contig" else np.moveaxis(values, -1, 0)
    for (packing, predictor), order in itertools.product(PACKINGS, "<>"):
        data = tiff(
            values,
            photometric="rgb",
            planarconfig=planar,
            tile=tile,
            rowsperstrip=None if tile else 7,
            compression=packing,
            predictor=predictor,
            byteorder=order,
            bigtiff=packing == "zlib",
        )
        seen = decode_image(data).astype(int)
        assert np.abs(seen - COLOUR).max() <= 1, (packing, predictor, order)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_samples_without_gaps_between_them_are_read(monkeypatch, bits):
    without(monkeypatch, "tifffile")
    data = tiff(GREY.astype(np.uint16) << (bits - 8), photometric="minisblack", bitspersample=bits)
    assert np.abs(decode_image(data).astype(int) - GREY[..., None]).max() <= 1


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_cmyk_of_sixteen_bits_is_read(planar):
    inks = np.dstack([255 - COLOUR, GREY * 0]).astype(np.uint16) * 257
    inks = inks if planar == "contig" else np.moveaxis(inks, -1, 0)
    data = tiff(inks, photometric="separated", planarconfig=planar)
    assert np.abs(decode_image(data).astype(int) - COLOUR).max() <= 1


def test_lab_of_sixteen_bits_is_that_of_eight():
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    image = ImageCms.profileToProfile(scene(), srgb, lab, outputMode="LAB")
    # Pillow packs a* and b* around 0, as TIFF does.
    data = tiff(np.asarray(image).astype(np.uint16) << 8, photometric="cielab")
    assert np.array_equal(decode_image(data), decode_image(encoded(image, "TIFF")))


def test_deep_grey_with_alpha_shows_the_background():
    alpha = np.where(np.arange(40) < 20, 65535, 0).astype(np.uint16)
    values = np.dstack([GREY.astype(np.uint16) * 257, np.broadcast_to(alpha, GREY.shape)])
    data = tiff(values, photometric="minisblack", planarconfig="contig", extrasamples=[2])
    seen = decode_image(data)
    assert np.abs(seen[:, :20].astype(int) - GREY[:, :20, None]).max() <= 1
    assert (seen[:, 20:] == 255).all()


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", ["unspecified", "assocalpha", "unassalpha"])
def test_near_infrared_is_no_transparency(caplog, kind, deep):
    infrared = (COLOUR[..., 1] // 2 + COLOUR[..., 0] // 3 + 20).astype(np.uint8)
    values = np.dstack([COLOUR, infrared])
    values = values.astype(np.uint16) * 257 if deep else values
    seen = decode_image(tiff(values, photometric="rgb", extrasamples=[kind]))
    assert np.array_equal(seen, COLOUR)
    assert kind == "unspecified" or "fourth band" in caplog.text


@pytest.mark.parametrize("deep", [False, True])
def test_true_alpha_of_a_tiff_is_transparency(deep):
    alpha = np.where(np.arange(40) < 20, 255, 0).astype(np.uint8)
    straight = np.dstack([COLOUR, np.broadcast_to(alpha, GREY.shape)])
    times_alpha = straight * (straight[..., 3:] // 255)
    for kind, values in (("unassalpha", straight), ("assocalpha", times_alpha)):
        values = values.astype(np.uint16) * 257 if deep else values
        seen = decode_image(tiff(values, photometric="rgb", extrasamples=[kind]))
        assert np.array_equal(seen[:, :20], COLOUR[:, :20])
        assert (seen[:, 20:] == 255).all()


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_of_many_bands_the_first_three_are_colours_and_that_is_said(caplog, kind, planar):
    bands = TYPES[kind](np.dstack([COLOUR, GREY, GREY, GREY, GREY]))
    bands = bands if planar == "contig" else np.moveaxis(bands, -1, 0)
    seen = decode_image(tiff(bands, photometric="minisblack", planarconfig=planar))
    assert np.abs(seen.astype(int) - COLOUR).max() <= 1
    assert "has 7 bands" in caplog.text


def test_an_oriented_deep_tiff_comes_out_upright():
    stored = np.rot90(COLOUR).astype(np.uint16) * 257
    data = tiff(stored, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(decode_image(data), COLOUR)


@pytest.mark.parametrize("packing", ["jpeg2000", "lerc", "jpegxl"])
def test_pages_packed_as_pictures_come_through_an_extra_or_name_it(monkeypatch, packing):
    data = tiff(COLOUR.astype(np.uint16) * 257, photometric="rgb", compression=packing)
    assert np.abs(decode_image(data).astype(int) - COLOUR).max() <= 1
    without(monkeypatch, "tifffile")
    with pytest.raises(ImageError, match=r"packed as .*pip install 'dptcli\[tiff\]'"):
        decode_image(data)


def test_what_no_reader_knows_is_refused_by_name():
    data = tiff(COLOUR.astype(np.uint16), photometric=32844)
    with pytest.raises(ImageError, match=r"colours that are not read here \(photometric 32844"):
        decode_image(data)


# --- pages ---------------------------------------------------------------------------------------


def pages(*pictures, **options) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, **options) as writer:
        for values, kind in pictures:
            writer.write(values, photometric="rgb", subfiletype=kind, metadata=None)
    return stream.getvalue()


SMALL = np.full((6, 10, 3), 99, np.uint8)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("big", [False, True])
def test_a_smaller_copy_in_front_is_not_the_picture(caplog, kind, big):
    data = pages((SMALL, 1), (TYPES[kind](COLOUR), 0), bigtiff=big)
    assert np.array_equal(decode_image(data), COLOUR)
    assert "pages" not in caplog.text


def test_smaller_copies_behind_are_no_pages(caplog):
    assert np.array_equal(decode_image(pages((COLOUR, 0), (SMALL, 1), (SMALL, 1))), COLOUR)
    assert not caplog.text


def test_a_picture_below_its_smaller_copy_is_found():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(SMALL, photometric="rgb", subfiletype=1, subifds=2, metadata=None)
        writer.write(SMALL, photometric="rgb", subfiletype=1, metadata=None)
        writer.write(COLOUR, photometric="rgb", subfiletype=0, metadata=None)
    assert np.array_equal(decode_image(stream.getvalue()), COLOUR)


def test_pages_that_are_left_out_are_said_and_another_can_be_read(caplog):
    three = [np.full((24, 40, 3), level, np.uint8) for level in (10, 20, 30)]
    data = pages(*((page, 0) for page in three))
    assert (decode_image(data) == 10).all()
    assert "has 3 pages: the first page is read, 2 are left out" in caplog.text
    assert (decode_image(data, wanted=Wanted(page=3)) == 30).all()
    with pytest.raises(ImageError, match="has 3 pages, no page 4"):
        decode_image(data, wanted=Wanted(page=4))


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG", "AVIF"])
def test_frames_that_are_left_out_are_said_and_another_can_be_read(caplog, fmt):
    frames = [Image.new("RGB", (16, 16), (0, level, 0)) for level in (0, 100, 200)]
    options = {"lossless": True} if fmt == "WEBP" else {}
    stream = io.BytesIO()
    frames[0].save(stream, fmt, save_all=True, append_images=frames[1:], **options)
    assert decode_image(stream.getvalue())[..., 1].max() <= 3
    assert "has 3 frames: the first frame is read, 2 are left out" in caplog.text
    third = decode_image(stream.getvalue(), wanted=Wanted(page=3))
    assert np.abs(third.astype(int) - (0, 200, 0)).max() <= 6


PICTURES = [np.full((6, 10, 3), level, np.uint8) for level in (0, 100, 200)]


def netpbm(kind, values, largest=255):
    height, width = values.shape[:2]
    head = f"{kind}\n# made here\n{width} {height}\n"
    return (head + ("" if kind == "P4" else f"{largest}\n")).encode() + values.tobytes()


def pnm_of(fmt):
    if fmt == "P4":
        bits = [np.packbits(np.full((6, 10), level == 0), axis=1) for level in (1, 1, 0)]
        return b"".join(netpbm("P4", row).replace(b"\n2 6\n", b"\n10 6\n") for row in bits)
    if fmt == "P5":
        return b"".join(netpbm("P5", rgb[..., 0].astype(">u2") * 257, 65535) for rgb in PICTURES)
    if fmt == "P6":
        return b"".join(netpbm("P6", rgb) for rgb in PICTURES)
    stream = io.BytesIO()
    first, *others = map(Image.fromarray, PICTURES)
    first.save(stream, "MPO", save_all=True, append_images=others)
    return stream.getvalue()


@pytest.mark.parametrize("fmt", ["P4", "P5", "P6", "MPO"])
def test_pictures_that_are_left_out_are_said_and_another_can_be_read(caplog, fmt):
    data = pnm_of(fmt)
    first, third = decode_image(data), decode_image(data, wanted=Wanted(page=3))
    assert "has 3 pictures: the first picture is read, 2 are left out" in caplog.text
    assert first.shape == third.shape == (6, 10, 3)
    expected = (255, 0) if fmt == "P4" else (0, 200)
    assert (int(first.mean()), int(third.mean())) == expected
    with pytest.raises(ImageError, match="has 3 pictures, no picture 4"):
        decode_image(data, wanted=Wanted(page=4))


def test_what_follows_a_picture_is_not_always_another(caplog):
    whole = netpbm("P6", PICTURES[1])
    for more in (b"\n", b"P6\n10 6\n255\nshort", b"P5 0 0 255\n"):
        assert (decode_image(whole + more) == 100).all()
    stream = io.BytesIO()  # a preview behind the photograph
    preview = Image.new("RGB", (5, 3))
    Image.fromarray(PICTURES[1]).save(stream, "MPO", save_all=True, append_images=[preview])
    decode_image(stream.getvalue())
    assert not caplog.text


@pytest.mark.parametrize("fmt", ["JPEG", "BMP", "PPM", "PNG", "TIFF"])
def test_a_page_that_a_file_of_one_picture_has_not_is_refused(fmt):
    stream = io.BytesIO()
    Image.fromarray(PICTURES[1]).save(stream, fmt)
    with pytest.raises(ImageError, match="has one"):
        decode_image(stream.getvalue(), wanted=Wanted(page=2))


def test_a_chain_of_pages_that_bites_its_tail_ends():
    data = bytearray(pages((COLOUR, 0), (COLOUR, 0)))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        first, second = (page.offset for page in file.pages)
        count = int.from_bytes(data[second : second + 2], "little")
    at = second + 2 + 12 * count
    data[at : at + 4] = first.to_bytes(4, "little")
    assert np.array_equal(decode_image(bytes(data)), COLOUR)


# --- camera raw ----------------------------------------------------------------------------------


def mosaic(**options) -> bytes:
    """A DNG-like container: a small preview, and below it the sensor's mosaic of 16 bits."""
    y, x = np.mgrid[0:48, 0:64]
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        version = (50706, "B", 4, b"\1\4\0\0", True)
        writer.write(
            SMALL, photometric="rgb", subfiletype=1, subifds=1, extratags=[version], metadata=None
        )
        pattern = [(33421, "H", 2, (2, 2), True), (33422, "B", 4, b"\0\1\1\2", True)]
        values = ((x * 600 + y * 200) % 65536).astype(np.uint16)
        writer.write(values, photometric="cfa", extratags=pattern, metadata=None, **options)
    return stream.getvalue()


def test_a_raw_container_gives_its_photograph_not_its_preview():
    assert decode_image(mosaic()).shape == (48, 64, 3)


def test_raw_without_its_extra_is_refused_by_name(monkeypatch):
    without(monkeypatch, "rawpy")
    with pytest.raises(ImageError, match=r"raw file \(DNG\), .*pip install 'dptcli\[raw\]'"):
        decode_image(mosaic())


def test_a_raw_photograph_above_the_limit_is_refused():
    with pytest.raises(ImageError, match="64 × 48 pixels, above the limit"):
        decode_image(mosaic(), max_pixels=1000)


def test_complex_samples_are_refused_by_name():
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.ones((8, 8), np.complex64), photometric="minisblack")
    with pytest.raises(ImageError, match="complex64"):
        decode_image(stream.getvalue())
