"""The photographs that come with the project: there, decodable, upright, free."""

from pathlib import Path

import pytest
from PIL import Image
from places import SAMPLES

from dptcli.inputs.find import decode_image, find_images

FOLDER = SAMPLES
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix != ".md")


def test_there_are_six_to_eight_under_three_megabytes():
    assert 6 <= len(FILES) <= 8
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_000_000
    assert sorted(source.relative.name for source in find_images([FOLDER])) == [
        path.name for path in FILES
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_is_a_real_picture_with_a_source_and_free_terms(path):
    pixels = decode_image(path)
    assert min(pixels.shape[:2]) >= 384
    assert pixels.std() > 20
    (row,) = [
        line
        for line in (FOLDER / "SOURCES.md").read_text().splitlines()
        if f"`{path.name}`" in line
    ]
    assert any(terms in row for terms in ("public domain", "CC0", "CC BY 2.0"))


def test_landscape_and_portrait_rotated_and_grey_are_among_them():
    shapes = [decode_image(path).shape for path in FILES]
    assert any(height > width for height, width, _ in shapes)
    assert any(height < width for height, width, _ in shapes)
    images = [Image.open(path) for path in FILES]
    assert [Path(i.filename).name for i in images if i.mode == "L"] == ["photographer.jpg"]
    rotated = [Path(i.filename).name for i in images if i.getexif().get(0x0112, 1) != 1]
    assert rotated == ["courtyard.jpg"]
    for image in images:
        image.close()


def test_the_rotated_one_comes_out_upright():
    pixels = decode_image(FOLDER / "courtyard.jpg")
    assert pixels.shape == (640, 480, 3)
    # The sky is at the top, left of the house; the shaded paving is at the bottom.
    assert pixels[:60, :240].mean() > 230
    assert pixels[-60:, :240].mean() < 160
