"""A photograph's place on the ground is its depth map's, whatever the map's size."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from tiny import save_varied

from dptcli.cli import main
from dptcli.inputs.geotiff import Place, read_place

UTM = (1, 1, 0, 2, 1025, 0, 1, 1, 3072, 0, 1, 32633)
POINT = (1, 1, 0, 2, 1025, 0, 1, 2, 3072, 0, 1, 32633)
TIES = (0.0, 0.0, 0.0, 500000.0, 4600000.0, 0.0)
SCALE = (0.5, 0.25, 0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_varied(tmp_path_factory.mktemp("model") / "depth"))


def ground(tags, column, row) -> tuple[float, float]:
    """East and north of a point, in columns and rows from the picture's corner."""
    keys = tags[34735]
    middle = (
        0.5 if (1025, 0, 1, 2) in [tuple(keys[i : i + 4]) for i in range(4, len(keys), 4)] else 0
    )
    column, row = column - middle, row - middle
    if 34264 in tags:
        m = np.reshape(tags[34264], (4, 4))
        return tuple(m[:2, 0] * column + m[:2, 1] * row + m[:2, 3])
    i, j, _, x, y, _ = tags[33922][:6]
    return x + (column - i) * tags[33550][0], y - (row - j) * tags[33550][1]


TAGS = {
    "ties": {33550: SCALE, 33922: TIES, 34735: UTM},
    "ties within": {33550: SCALE, 33922: (10.0, 7.0, 0.0, *TIES[3:]), 34735: UTM},
    "points": {33550: SCALE, 33922: TIES, 34735: POINT},
    "matrix": {34264: (0.5, 0.1, 0, 5e5, 0.1, -0.5, 0, 4e6, *[0] * 7, 1), 34735: UTM},
    "matrix of points": {34264: (0.5, 0.1, 0, 5e5, 0.1, -0.5, 0, 4e6, *[0] * 7, 1), 34735: POINT},
}


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS.keys())
@pytest.mark.parametrize("hw", [(48, 64), (24, 32), (30, 50), (96, 64)])
def test_every_corner_of_a_scaled_map_lies_where_the_photographs_does(tags, hw):
    place = read_place(tags, (48, 64))
    assert place is not None
    scaled = place.scaled(hw)
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1), (0.3, 0.7)):
        before = ground(tags, across * 64, down * 48)
        after = ground(scaled, across * hw[1], down * hw[0])
        assert np.allclose(after, before, rtol=0, atol=1e-6)


def test_a_file_without_a_place_has_none():
    assert read_place({}, (4, 4)) is None
    assert read_place({33550: SCALE}, (4, 4)) is None
    assert read_place({33550: "text", 33922: TIES}, (4, 4)) is None
    assert isinstance(read_place({33550: SCALE, 33922: TIES}, (4, 4)), Place)


def test_control_points_stay_on_their_pixels():
    points = [(0, 0, 5e5, 4.6e6), (64, 0, 5.1e5, 4.6e6), (64, 48, 5.1e5, 4.5e6)]
    ties = tuple(float(value) for i, j, x, y in points for value in (i, j, 0, x, y, 0))
    place = read_place({33922: ties, 34735: UTM}, (48, 64))
    assert place is not None
    moved = np.reshape(place.scaled((24, 16))[33922], (3, 6))
    assert moved[:, :2].tolist() == [[0, 0], [16, 0], [16, 24]]
    assert (moved[:, 3:] == np.reshape(ties, (3, 6))[:, 3:]).all()
    assert read_place({33922: ties[:12], 34735: UTM}, (48, 64)) is None


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_depth_tiff_carries_the_photographs_place(tmp_path, monkeypatch, model, kind):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(kind)
    extra = [
        (33550, "d", 3, SCALE, True),
        (33922, "d", 6, TIES, True),
        (34735, "H", len(UTM), UTM, True),
        (34737, "s", 0, "WGS 84 / UTM zone 33N|", True),
    ]
    tifffile.imwrite("photo.tif", pixels, photometric="rgb", extratags=extra)
    assert main(["depth", "photo.tif", "-o", "same.tiff", "-m", model, "-q"]) == 0
    words = ["depth", "photo.tif", "-o", "half.tiff", "-m", model, "-q", "--target-size", "24x32"]
    assert main(words) == 0
    found = {}
    for name in ("same", "half"):
        with tifffile.TiffFile(f"{name}.tiff") as file:
            found[name] = {tag.code: tag.value for tag in file.pages[0].tags}
    assert found["same"][33550] == SCALE
    assert found["same"][33922] == TIES
    assert found["same"][34735] == UTM
    assert found["same"][34737] == "WGS 84 / UTM zone 33N|"
    assert found["half"][33550] == (1.0, 0.5, 0.0)
    assert found["half"][33922] == TIES
    assert Path("same.tiff").stat().st_size > 48 * 64 * 4
