"""Regions and selections of label maps, checked by COCO's own tools where they are installed."""

import json

import numpy as np
import pytest

from dptcli.errors import UsageError
from dptcli.segments.masks import class_table, outlines, parse_classes, shares
from dptcli.segments.regions import (
    coco,
    compress,
    from_run_lengths,
    polygons,
    run_lengths,
    simplify,
)

# pycocotools 2.0.11 warns about its own arrays under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = {0: "sky", 1: "door, double door", 2: "traffic_light", 3: "sky"}


def random_masks(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        height, width = rng.integers(1, 14, 2)
        yield rng.random((height, width)) < rng.choice([0.0, 0.3, 0.5, 0.7, 0.9, 1.0])


def area(ring):
    x, y = ring.T
    return abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def test_run_lengths_give_the_mask_back():
    for mask in random_masks(100):
        counts = run_lengths(mask)
        assert sum(counts) == mask.size
        np.testing.assert_array_equal(from_run_lengths(counts, mask.shape), mask)


def test_run_lengths_and_their_text_are_cocos_own():
    tools = pytest.importorskip("pycocotools.mask")
    for mask in [*random_masks(100), np.ones((300, 400), bool)]:
        expected = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert compress(run_lengths(mask)) == expected["counts"].decode()


def test_polygons_without_tolerance_hold_exactly_the_masks_pixels():
    tools = pytest.importorskip("pycocotools.mask")
    for mask in random_masks(150):
        rings = polygons(mask, tolerance=0, min_area=0)
        assert sum(area(ring) for ring in rings) == pytest.approx(mask.sum())
        if not rings:
            continue
        encoded = tools.frPyObjects([ring.ravel().tolist() for ring in rings], *mask.shape)
        np.testing.assert_array_equal(tools.decode(tools.merge(encoded)) > 0, mask)


def test_a_ring_within_a_ring_keeps_its_hole_and_its_island():
    mask = np.zeros((30, 30), bool)
    mask[2:28, 2:28] = True
    mask[6:24, 6:24] = False
    mask[10:20, 10:20] = True
    assert [area(ring) for ring in polygons(mask)] == [26**2 - 18**2, 100]


def test_specks_are_left_out_and_stairs_become_a_line():
    mask = np.tri(40, dtype=bool)
    mask[2, 30:32] = True
    [ring] = polygons(mask)
    assert len(ring) < 8
    assert area(ring) == pytest.approx(mask.sum(), rel=0.06)


def test_simplifying_keeps_every_corner_that_matters():
    square = np.array([[0, 0], [5, 0.2], [10, 0], [10, 10], [0, 10]], float)
    assert len(simplify(square, 0.5)) == 4
    assert len(simplify(square, 0.1)) == 5


@pytest.mark.parametrize("shape", ["rle", "polygons"])
def test_coco_reads_the_data_set(tmp_path, shape, capsys):
    reader = pytest.importorskip("pycocotools.coco")
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:] = 1
    labels[10:20, 5:15] = 2
    path = tmp_path / "x.coco.json"
    content = coco(labels, NAMES, file_name="../x.jpg", shape=shape, first_id=1)
    path.write_text(json.dumps(content))
    data = reader.COCO(str(path))
    capsys.readouterr()
    [image] = data.loadImgs(data.getImgIds())
    assert (image["height"], image["width"], image["file_name"]) == (40, 60, "../x.jpg")
    for label in range(3):
        found = data.loadAnns(data.getAnnIds(catIds=[label + 1]))
        mask = np.any([data.annToMask(one) for one in found], axis=0)
        np.testing.assert_array_equal(mask, labels == label)
        assert sum(one["area"] for one in found) == (labels == label).sum()
    assert data.loadCats([2])[0]["name"] == "door, double door"
    box = data.loadAnns(data.getAnnIds(catIds=[3]))[0]["bbox"]
    assert box == [5, 10, 10, 10]


def test_classes_are_named_by_any_synonym_or_id():
    assert parse_classes("Double-Door, 2", NAMES) == (1, 2)
    assert parse_classes("traffic light", NAMES) == (2,)
    assert parse_classes("SKY", NAMES) == (0, 3)  # two classes of one name are both meant
    assert parse_classes("door, double door", NAMES) == (1,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("skye", "no class 'skye'; did you mean 'sky'"),
        ("9", "no class '9'; its 4 classes are sky"),
        (" , ", "names no class"),
    ],
)
def test_a_class_that_the_model_lacks_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        parse_classes(text, NAMES)


@pytest.mark.parametrize(
    ("num_labels", "kept", "first_id", "expected", "left_out", "dtype"),
    [
        (3, None, 0, [0, 1, 2], None, np.uint8),
        (3, (1,), 0, [255, 1, 255], 255, np.uint8),
        (3, (1,), 1, [0, 2, 0], 0, np.uint8),
        (256, None, 0, None, None, np.uint8),
        (256, (0,), 0, None, 65535, np.uint16),
        (256, None, 1, None, None, np.uint16),
    ],
)
def test_pixel_values_leave_room_for_what_is_left_out(
    num_labels, kept, first_id, expected, left_out, dtype
):
    table, none = class_table(num_labels, kept, first_id=first_id)
    assert (none, table.dtype) == (left_out, dtype)
    if expected is not None:
        assert table.tolist() == expected


def test_shares_sum_to_one_with_the_largest_first():
    labels = np.array([[2, 2, 0], [2, 0, 5]])
    found = shares(labels)
    assert list(found) == [2, 0, 5]
    assert sum(found.values()) == pytest.approx(1)


def test_outlines_mark_both_sides_of_a_border_and_not_the_rim():
    labels = np.zeros((6, 8), int)
    labels[:, 4:] = 1
    found = outlines(labels, width=1)
    assert found.any(0).tolist() == [False] * 3 + [True] * 2 + [False] * 3
    assert outlines(labels, width=2).any(0).sum() == 4
    assert not outlines(np.zeros((5, 5), int)).any()
    assert not outlines(np.zeros((1, 1), int)).any()


@pytest.mark.parametrize("width", [1, 2, 3])
def test_outlines_are_what_a_search_of_the_neighbours_finds(width):
    labels = np.random.default_rng(3).integers(0, 2, (12, 9)).repeat(2, 0).repeat(3, 1)
    expected = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        row = labels[y, max(0, x - width) : x + width + 1]
        column = labels[max(0, y - width) : y + width + 1, x]
        expected[y, x] = (row != labels[y, x]).any() or (column != labels[y, x]).any()
    np.testing.assert_array_equal(outlines(labels, width=width), expected)
