"""The README's pictures: each is there, with its commands, and the commands make it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pictures import FOLDER, MAX_SIZE, PICTURES, make, workplace
from PIL import Image

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"\| !\[[^]]+\]\(tests/pictures/(\w+)\.webp\) \| (.*) \|", README))


def test_the_readme_shows_every_picture_with_the_commands_that_make_it():
    assert {path.stem for path in FOLDER.iterdir()} == set(PICTURES)
    for name, picture in PICTURES.items():
        assert re.findall(r"`(dpt [^`]+)`", ROWS[name]) == list(picture.commands)


def test_the_pictures_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2**20
    for path in FOLDER.iterdir():
        with Image.open(path) as picture:
            assert picture.width <= MAX_SIZE[0]
            assert picture.height <= MAX_SIZE[1]


@pytest.mark.parametrize("name", PICTURES)
def test_the_commands_make_the_picture(name, tmp_path):
    needs = PICTURES[name].needs
    if needs and not shutil.which(needs):
        pytest.skip(f"needs {needs}")
    with workplace(tmp_path):
        made = make(name)
    with Image.open(FOLDER / f"{name}.webp") as stored:
        # The same size, and not one colour; the built-in model may have other weights by now.
        assert made.size == stored.size
    assert np.asarray(made).std() > 10
