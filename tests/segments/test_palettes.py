"""Label sets: their names, and colours that can be told apart."""

import json

import numpy as np
import pytest

from dptcli.depth.colormaps import palette
from dptcli.errors import UsageError
from dptcli.segments.palettes import LABEL_SETS, choose_palette, kinds_of, label_set

SIZES = {"ade20k": 150, "cityscapes": 19, "voc": 21, "camvid": 11, "builtin": 25}


def named(*names):
    return dict(enumerate(names))


def nameless(count):
    return {label: f"LABEL_{label}" for label in range(count)}


@pytest.mark.parametrize("name", LABEL_SETS)
def test_a_label_set_has_its_size_and_no_name_or_colour_twice(name):
    found = label_set(name)
    assert len(found.names) == len(set(found.names)) == SIZES[name]
    assert found.colors.shape == (SIZES[name], 3)
    assert len(np.unique(found.colors, axis=0)) == SIZES[name]


@pytest.mark.parametrize(
    ("name", "label", "meaning", "color"),
    [
        ("ade20k", 0, "wall", (120, 120, 120)),
        ("ade20k", 12, "person", (150, 5, 61)),
        ("ade20k", 149, "flag", None),
        ("cityscapes", 0, "road", (128, 64, 128)),
        ("cityscapes", 18, "bicycle", (119, 11, 32)),
        ("voc", 0, "background", (0, 0, 0)),
        ("voc", 15, "person", (192, 128, 128)),
        ("voc", 20, "tv monitor", (0, 64, 128)),
        ("camvid", 0, "sky", (128, 128, 128)),
    ],
)
def test_the_published_ids_names_and_colours(name, label, meaning, color):
    found = label_set(name)
    assert found.names[label] == meaning
    if color is not None:
        assert tuple(found.colors[label]) == color


def lab(colors):
    """CIE L*a*b* of sRGB uint8 (N, 3), D65."""
    linear = colors / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.transpose(matrix) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack((116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])), 1)


def test_no_two_of_ade20ks_colours_look_alike():
    points = lab(label_set("ade20k").colors)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1000 * np.eye(150)
    assert distance.min() > 7.5  # 2.3 is just noticeable


def test_the_built_in_classes_are_parts_of_eight_kinds():
    builtin = label_set("builtin")
    kinds = kinds_of(dict(enumerate(builtin.names)))
    assert kinds[builtin.names.index("car")] == "vehicle"
    assert kinds[builtin.names.index("wall")] == "structure"
    assert list(dict.fromkeys(kinds.values())) == [
        *("sky", "ground", "structure", "vegetation"),
        *("vehicle", "person", "furniture", "object"),
    ]
    assert kinds_of(dict(enumerate(label_set("ade20k").names))) == {}


def test_a_number_of_classes_alone_is_not_taken_for_the_built_in_ones():
    own, colors = choose_palette("auto", nameless(28))
    assert own == nameless(28)
    np.testing.assert_array_equal(colors, palette(28, nameless(28)))


def test_auto_goes_by_the_names():
    ade = label_set("ade20k")
    names = {label: f"{name}, something else" for label, name in enumerate(ade.names)}
    own, colors = choose_palette("auto", names)
    assert own == names
    np.testing.assert_array_equal(colors, ade.colors)
    voc = dict(enumerate(label_set("voc").names))
    voc[20], voc[16] = "tvmonitor", "potted_plant"
    np.testing.assert_array_equal(choose_palette("auto", voc)[1], label_set("voc").colors)


def test_auto_does_not_take_a_number_for_a_label_set():
    names = named(*(f"part {chr(97 + i)}" for i in range(19)))
    np.testing.assert_array_equal(choose_palette("auto", names)[1], palette(19, names))


def test_without_names_auto_goes_by_the_number_and_invents_no_names():
    names, colors = choose_palette("auto", nameless(19))
    assert names == nameless(19)
    np.testing.assert_array_equal(colors, label_set("cityscapes").colors)


def test_a_label_set_that_is_named_brings_its_names():
    names, _ = choose_palette("ade20k", nameless(150))
    assert names[2] == "sky"
    own = named("road", *(f"thing {i}" for i in range(18)))
    assert choose_palette("cityscapes", own)[0] == own


def test_plain_is_the_palette_for_any_classes():
    names = named("sky", "gizmo")
    np.testing.assert_array_equal(choose_palette("plain", names)[1], palette(2, names))


def test_colours_come_from_an_edited_labels_json(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"colors": {"0": "#010203", "1": "#FFfe00"}}))
    _, colors = choose_palette(str(path), named("a", "b"))
    assert colors.tolist() == [[1, 2, 3], [255, 254, 0]]
    with pytest.raises(UsageError, match=r"mine.json.*ids 0 to 2"):
        choose_palette(str(path), named("a", "b", "c"))
    path.write_text(json.dumps({"colors": {"0": "red", "1": "blue"}}))
    with pytest.raises(UsageError, match="'red' is no colour"):
        choose_palette(str(path), named("a", "b"))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("ade", "unknown palette 'ade'; there are auto, plain, ade20k"),
        ("voc", "--palette voc has 21 classes and the model 2"),
        ("nowhere.json", "cannot take colours from nowhere.json"),
    ],
)
def test_a_palette_that_does_not_fit_is_refused(choice, words):
    with pytest.raises(UsageError, match=words):
        choose_palette(choice, named("a", "b"))
