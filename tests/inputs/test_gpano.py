"""XMP says of a photograph that it is a panorama, and of which part of the sphere."""

import io

import pytest
from gpano import part, xmp
from PIL import Image, PngImagePlugin

from dptcli.inputs.decode import decode_picture
from dptcli.inputs.gpano import Gpano, read_gpano
from dptcli.inputs.reading import about_of


def stored(kind, packet):
    """A small picture of a kind with XMP, as bytes."""
    stream, picture = io.BytesIO(), Image.new("RGB", (32, 16), "navy")
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", packet.decode())
        picture.save(stream, kind, pnginfo=text)
    else:
        picture.save(stream, kind, xmp=packet)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("as_elements", [False, True], ids=["attributes", "elements"])
def test_xmp_of_a_panorama_is_read_from_each_kind_of_file(kind, as_elements):
    packet = xmp(as_elements=as_elements, **part((160, 320), (80, 200), top=30, left=40))
    data = stored(kind, packet)
    with Image.open(io.BytesIO(data)) as picture:  # Pillow finds what was written there
        assert picture.info.get("xmp", picture.info.get("XML:com.adobe.xmp")) is not None
    found = about_of(decode_picture(io.BytesIO(data), name="pano")).gpano
    assert found == Gpano(whole_hw=(160, 320), part_hw=(80, 200), left=40, top=30)
    assert not found.is_whole


@pytest.mark.parametrize(
    "values",
    [{}, part((160, 320), (160, 320)), {"FullPanoWidthPixels": "wide"}],
    ids=["no sizes", "the whole", "no number"],
)
def test_a_panorama_that_names_no_part_is_whole(values):
    assert read_gpano({"xmp": xmp(**values)}).is_whole


def test_another_prefix_of_the_same_namespace_is_understood():
    assert read_gpano({"xmp": xmp(prefix="pano.1")}) == Gpano()


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"xmp": b""},
        {"xmp": xmp(ProjectionType="cylindrical")},
        {"xmp": xmp().replace(b"ns.google.com", b"example.com")},
        {"xmp": b"\xff\xfe" + xmp().replace(b"xmlns:GPano", b"xmlns:other")},
    ],
    ids=["none", "empty", "a cylinder", "another namespace", "undeclared"],
)
def test_other_photographs_are_no_panoramas(info):
    assert read_gpano(info) is None


def test_a_photograph_that_is_turned_keeps_what_it_says():
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (32, 16)).save(stream, "JPEG", xmp=xmp(), exif=exif)
    stream.seek(0)
    assert about_of(decode_picture(stream, name="pano")).gpano == Gpano()
