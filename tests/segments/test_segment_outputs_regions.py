"""Regions and selections of label maps, checked by COCO's own tools where they are installed."""

import json
import math
import time

import numpy as np
import pytest

from dptcli.errors import UsageError
from dptcli.segments.masks import class_table, outlines, parse_classes, shares
from dptcli.segments.palettes import label_set
from dptcli.segments.polygons import meets_itself, regions_of, signed_area, simplify
from dptcli.segments.regions import coco, compress, from_run_lengths, run_lengths

# pycocotools 2.0.11 warns about its own arrays under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = {0: "sky", 1: "door, double door", 2: "traffic_light", 3: "sky"}


def random_masks(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        height, width = rng.integers(1, 14, 2)
        yield rng.random((height, width)) < rng.choice([0.0, 0.3, 0.5, 0.7, 0.9, 1.0])


def filled(rings, hw):
    """The pixels whose centres lie in any of the rings, by the parity of crossings."""
    y, x = np.mgrid[: hw[0], : hw[1]] + 0.5
    found = np.zeros(hw, bool)
    for ring in rings:
        inside = np.zeros(hw, bool)
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 != y1:
                inside ^= ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        found |= inside
    return found


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
    rng = np.random.default_rng(1)
    for _ in range(100):
        labels = rng.integers(0, 3, rng.integers(1, 14, 2))
        regions, lost = regions_of(labels, range(3), tolerance=0, min_area=0)
        assert lost.num_regions == 0
        for label in range(3):
            own = [region for region in regions if region.label == label]
            rings = [ring for region in own for ring in region.rings]
            assert sum(region.area for region in own) == (labels == label).sum()
            np.testing.assert_array_equal(filled(rings, labels.shape), labels == label)


def noisy(seed, hw=(40, 56)):
    """Smooth blobs of four classes with ragged borders, holes and specks."""
    rng = np.random.default_rng(seed)
    smooth = np.kron(rng.random((hw[0] // 8, hw[1] // 8)), np.ones((8, 8)))
    return np.digitize(smooth + rng.normal(0, 0.1, hw), [0.25, 0.5, 0.75])


@pytest.mark.parametrize("seed", range(12))
def test_no_ring_meets_itself_and_no_class_is_lost(seed):
    labels = noisy(seed)
    regions, _ = regions_of(labels, range(4))
    assert {region.label for region in regions} == set(np.unique(labels))
    for ring in (ring for region in regions for ring in region.rings):
        assert signed_area(ring) > 0
        assert not meets_itself(ring)


def test_geometry_libraries_call_the_rings_valid():
    shapely = pytest.importorskip("shapely")
    for seed in range(12):
        regions, _ = regions_of(noisy(seed), range(4))
        assert all(shapely.Polygon(ring).is_valid for region in regions for ring in region.rings)


@pytest.mark.parametrize(
    ("ring", "expected"),
    [
        ([(0, 0), (4, 0), (4, 4), (0, 4)], False),
        ([(0, 0), (4, 4), (4, 0), (0, 4)], True),
        ([(0, 0), (4, 0), (2, 2), (4, 4), (0, 4), (2, 2)], True),
        ([(0, 0), (8, 0), (8, 2), (4, 0), (0, 2)], True),
        ([(0, 0), (2, 0), (2, 1), (3, 1), (3, 0), (5, 0), (5, 4), (0, 4)], False),
    ],
    ids=["square", "bow tie", "pinched", "touching", "notched"],
)
@pytest.mark.parametrize("copies", [1, 20], ids=["few", "many"])
def test_a_ring_that_meets_itself_is_recognised(ring, expected, copies):
    # Corners between, on the same lines: many of them are swept, a few are paired.
    ring = np.array(ring, float)
    steps = np.arange(copies)[:, None, None] / copies
    dense = (ring + steps * (np.roll(ring, -1, axis=0) - ring)).transpose(1, 0, 2).reshape(-1, 2)
    assert meets_itself(dense) == expected


def test_a_ring_within_a_ring_keeps_its_hole_and_its_island():
    mask = np.zeros((30, 30), np.uint8)
    mask[2:28, 2:28] = 1
    mask[6:24, 6:24] = 0
    mask[10:20, 10:20] = 1
    regions, _ = regions_of(mask, [1])
    assert [region.area for region in regions] == [26**2 - 18**2, 100]
    np.testing.assert_array_equal(
        filled([ring for region in regions for ring in region.rings], mask.shape), mask == 1
    )


def test_specks_are_left_out_and_said_and_stairs_become_a_line():
    mask = np.tri(40, dtype=np.uint8)
    mask[2, 30:32] = 1
    regions, lost = regions_of(mask, [1])
    [ring] = regions[0].rings
    assert len(ring) < 8
    assert regions[0].area == pytest.approx(mask.sum(), rel=0.06)
    assert (lost.num_regions, lost.num_pixels) == (1, 2)
    info = coco(mask, {1: "x"}, file_name="", shape="polygons", info={"by": "us"})["info"]
    assert info == {"by": "us", "regions_left_out": 1, "pixels_left_out": 2}


def test_a_class_of_one_pixel_keeps_it():
    labels = np.zeros((32, 32), np.uint8)
    labels[4, 4], labels[9, 9:12] = 1, 1
    content = coco(labels, {0: "a", 1: "b"}, file_name="", shape="polygons")
    assert [one["category_id"] for one in content["annotations"]] == [0, 1]
    assert content["annotations"][1]["area"] == 3


def test_noise_takes_time_in_proportion_to_its_size():
    def seconds(side):
        noise = np.random.default_rng(0).integers(0, 2, (side, side))
        best = math.inf
        for _ in range(3):
            started = time.process_time()
            regions_of(noise, [0, 1])
            best = min(best, time.process_time() - started)
        return best

    assert seconds(160) < 16 * 2.5 * seconds(40)


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


def test_a_kind_names_all_its_classes():
    names = dict(enumerate(label_set("builtin").names))
    by_name = {name: label for label, name in names.items()}
    assert parse_classes("vehicle", names) == tuple(
        by_name[name] for name in ("car", "truck", "bicycle", "other vehicle")
    )
    assert parse_classes("car, sky", names) == (by_name["sky"], by_name["car"])


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
