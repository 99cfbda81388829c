"""Names in legends: a font that has their letters, or the id and code points with a warning."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

from dptcli.depth.colormaps import palette
from dptcli.segments import lettering as fonts
from dptcli.segments.lettering import lettering
from dptcli.segments.maskfiles import Style, write_legend
from dptcli.segments.outputs import SegmentOutputs


def legend(*names):
    stream = io.BytesIO()
    shares = dict.fromkeys(range(len(names)), 1 / len(names))
    write_legend(stream, shares, dict(enumerate(names)), style=Style(palette(len(names))))
    return np.asarray(Image.open(stream))


@pytest.fixture
def no_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "_candidates", lambda _letters: iter(()))
    fonts._font_with.cache_clear()
    yield
    fonts._font_with.cache_clear()


def test_plain_names_are_in_pillows_own_font():
    shown = lettering(["sky", "tree, bush"], 20)
    assert [text for text, _ in shown.values()] == ["sky", "tree, bush"]
    assert {font.getname() for _, font in shown.values()} == {("Aileron", "Regular")}


@pytest.mark.parametrize("name", ["Bäume", "дерево", "سماء", "δέντρο"])
def test_letters_that_some_font_has_are_written_in_it(name, caplog):
    # DejaVu Sans, which matplotlib brings, has these.
    text, font = lettering([name], 20)[name]
    assert text == name
    box = bytes(font.getmask("\uffff"))
    assert all(bytes(font.getmask(letter)) != box for letter in name)
    assert not caplog.records


@pytest.mark.usefixtures("no_fonts")
def test_letters_that_no_font_has_are_spelled_with_the_id_and_told_of(caplog):
    with caplog.at_level(logging.WARNING):
        one, other = legend("天地", "sky"), legend("海山", "sky")
    assert not (one.shape == other.shape and (one == other).all())
    assert "'天地'" in caplog.text
    assert lettering(["天x"], 20)["天x"][0] == "[5929]x"


def test_classes_of_one_name_are_told_apart_by_their_ids():
    labels = np.zeros((4, 4), np.uint8)
    labels[0], labels[1] = 1, 2
    outputs = SegmentOutputs(Style(palette(3)), {0: "sky", 1: "car", 2: "car"}, "m")
    told = outputs._told({0: 0.5, 1: 0.25, 2: 0.25})
    assert told == {"sky": 0.5, "1": 0.25, "2": 0.25}
    assert legend("a", "car", "car").shape != legend("a", "car", "bar").shape
