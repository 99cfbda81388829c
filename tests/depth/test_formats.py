"""Depth in every format of values, read back by other people's readers."""

import io
import json

import cv2
import numpy as np
import pytest
from depth_maps import INVERSE, METRES, depth_map, write

from dptcli.depth.formats import FORMATS, parse_formats
from dptcli.depth.rawfiles import RAW_WRITERS
from dptcli.depth.shapes import SHAPE_WRITERS
from dptcli.depth.stereo import LAYOUTS
from dptcli.errors import UsageError
from dptcli.evaluation.maps import read_map
from dptcli.results.restore import restore


@pytest.mark.parametrize(
    ("name", "ending"), [("tiff", ".tiff"), ("pfm", ".pfm"), ("png16", ".png")]
)
def test_opencv_reads_the_values_back(tmp_path, name, ending):
    path = tmp_path / f"a{ending}"
    facts = write(path, RAW_WRITERS[name], depth_map(INVERSE, kind="inverse_depth"))
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found.dtype == facts["dtype"]
    if name == "png16":
        assert (found.min(), found.max()) == (0, 65535)
        found = facts["first"] + (facts["last"] - facts["first"]) * (found / 65535)
        # Half a level, and the rounding of float32.
        assert np.abs(found - INVERSE).max() <= facts["max_error"] * 1.01 + 1e-5
    else:
        np.testing.assert_array_equal(found, INVERSE)


@pytest.mark.parametrize(("name", "scale", "far"), [("mm", 1000, 70.0), ("x256", 256, 300.0)])
def test_metres_as_integers_say_where_there_is_no_value(tmp_path, name, scale, far):
    values = METRES.copy()
    values[0, :5] = [np.nan, np.inf, -1.0, 0.0, far]
    facts = write(tmp_path / "a.png", RAW_WRITERS[name], depth_map(values))
    found = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    assert not found[0, :5].any()
    assert facts["num_without_value"] == 5
    assert facts["levels_per_metre"] == scale
    assert np.abs(found[1:] / scale - METRES[1:]).max() <= facts["max_error"] * 1.01


def test_pfm_has_the_header_that_midas_writes():
    stream = io.BytesIO()
    RAW_WRITERS["pfm"](stream, depth_map())
    header = b"Pf\n37 23\n-1.000000\n"
    assert stream.getvalue().startswith(header)
    lowest_row = np.frombuffer(stream.getvalue()[len(header) :][: 37 * 4], "<f4")
    np.testing.assert_array_equal(lowest_row, METRES[-1])


def test_npz_names_the_array_by_its_kind(tmp_path):
    depth = depth_map(INVERSE, kind="inverse_depth", lens=None)
    write(tmp_path / "a.npz", RAW_WRITERS["npz"], depth)
    with np.load(tmp_path / "a.npz") as loaded:
        assert loaded.files == ["inverse_depth"]
        np.testing.assert_array_equal(loaded["inverse_depth"], INVERSE)


@pytest.mark.parametrize(("kind", "channel"), [("depth_m", "Z"), ("inverse_depth", "Y")])
def test_openexr_reads_its_own_format(tmp_path, kind, channel):
    openexr = pytest.importorskip("OpenEXR", reason="the extra `exr` is not installed")
    depth = depth_map(METRES, kind=kind, facts={"model": "m"})
    write(tmp_path / "a.exr", RAW_WRITERS["exr"], depth)
    found = openexr.File(str(tmp_path / "a.exr"))
    np.testing.assert_array_equal(found.channels()[channel].pixels, METRES)
    assert json.loads(found.header()["comments"]) == {"model": "m"}


@pytest.mark.parametrize("values", [np.nan, np.inf, 0.0, -2.0, 1e30])
@pytest.mark.parametrize("kind", ["depth_m", "inverse_depth"])
@pytest.mark.parametrize("name", [*RAW_WRITERS, *SHAPE_WRITERS])
def test_a_flat_or_hopeless_map_is_written_in_every_format(name, kind, values):
    if name == "exr":
        pytest.importorskip("OpenEXR", reason="the extra `exr` is not installed")
    stream = io.BytesIO()
    flat = np.full((4, 5), values, np.float32)
    {**RAW_WRITERS, **SHAPE_WRITERS}[name](stream, depth_map(flat, kind=kind, confidence=flat))
    assert stream.tell() > 0


@pytest.mark.parametrize("kind", ["inverse_depth", "depth", "depth_m"])
@pytest.mark.parametrize("values", [METRES, np.full_like(METRES, 3)], ids=["map", "constant"])
def test_a_hole_in_16_bits_comes_back_as_a_hole(tmp_path, kind, values):
    values = values.copy()
    values[3:5, 4:9] = np.nan
    path = tmp_path / "a.png"
    facts = write(path, RAW_WRITERS["png16"], depth_map(values, kind=kind))
    back = restore(path)
    np.testing.assert_array_equal(np.isnan(back.values), np.isnan(values))
    known = ~np.isnan(values)
    np.testing.assert_allclose(
        back.values[known], values[known], atol=facts["max_error"] * 1.01 + 1e-6
    )
    np.testing.assert_array_equal(np.isnan(read_map(path).decoded()), ~known)


@pytest.mark.parametrize(
    ("text", "out", "expected"),
    [
        (None, "out/", ["color"]),
        (None, "a.png", ["color"]),
        (None, "a.JPEG", ["jpg"]),
        (None, "a.tif", ["tiff"]),
        (None, "a.npy", ["npy"]),
        (None, "-", ["color"]),
        ("png16, NPY,png16", "out/", ["png16", "npy"]),
        ("mesh,png", "out/", ["glb", "color"]),
    ],
)
def test_formats_are_read_from_the_list_or_the_ending(text, out, expected):
    assert [item.name for item in parse_formats(text, out=out)] == expected


@pytest.mark.parametrize("text", ["", ",", "heic", "color,nyp"])
def test_unknown_formats_are_refused_with_the_nearest(text):
    with pytest.raises(UsageError, match="format"):
        parse_formats(text, out="out")
    with pytest.raises(UsageError, match="did you mean 'normals'"):
        parse_formats("normls", out="out")


def test_a_format_whose_library_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"pip install 'dptcli\[exr\]'"):
        parse_formats("exr", out="out")


def test_every_format_has_a_suffix_of_its_own_and_a_writer():
    assert len({item.suffix for item in FORMATS.values()}) == len(FORMATS) - 1
    with pytest.raises(UsageError, match=r"splat and color are both NAME\.png"):
        parse_formats("splat,color", out="x/")
    assert parse_formats(None, out="x.png") == (FORMATS["color"],)
    for item in FORMATS.values():
        writers = {
            "map": RAW_WRITERS,
            "shape": SHAPE_WRITERS,
            "picture": FORMATS,
            "stereo": LAYOUTS,
        }
        assert item.name in writers[item.group]
