"""How far things are: regions of classes and a detector's boxes, against what numpy counts."""

import json
from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image
from shared_backbone import PHOTO, saved
from tiny import save_varied

from dptcli.cli import main
from dptcli.depth.boxes import read_boxes
from dptcli.depth.things import describe_boxes, describe_things, draw_things
from dptcli.errors import ImageError, UsageError

# Two cups of one class, 1 m and 3 m away, on a table that recedes from 2 m to 4 m.
DEPTH = np.linspace(4, 2, 60, dtype=np.float32)[:, None].repeat(80, 1)
LABELS = np.zeros((60, 80), np.int64)
DEPTH[10:20, 10:30], LABELS[10:20, 10:30] = 1.0, 1
DEPTH[30:50, 50:60], LABELS[30:50, 50:60] = 3.0, 1


def test_each_region_of_a_class_has_its_own_box_and_distance():
    found = describe_things(DEPTH, LABELS, {0: "table", 1: "cup"}, near_is_large=False)
    assert [thing["class"] for thing in found] == ["table", "cup", "cup"]
    table, *cups = found
    assert table["box"] == [0, 0, 80, 60]
    assert table["area"] == pytest.approx((LABELS == 0).mean(), abs=1e-6)
    own = DEPTH[LABELS == 0]
    assert table["median"] == pytest.approx(np.median(own))
    assert own.min() < table["nearest"] < table["median"] < table["farthest"] < own.max()
    assert {(tuple(cup["box"]), cup["median"]) for cup in cups} == {
        ((10, 10, 20, 10), 1.0),
        ((50, 30, 10, 20), 3.0),
    }


def test_near_is_the_large_value_of_inverse_depth():
    [table, *_] = describe_things(1 / DEPTH, LABELS, {}, near_is_large=True)
    assert table["nearest"] > table["median"] > table["farthest"]
    assert table["class"] == "0"


def test_specks_are_no_things_and_unknown_depth_does_not_count():
    labels, depth = LABELS.copy(), DEPTH.copy()
    labels[5, 5] = 7
    depth[LABELS == 0] = np.nan
    found = describe_things(depth, labels, {}, near_is_large=False)
    assert [thing["id"] for thing in found] == [0, 1, 1]
    assert found[0]["median"] is None


def coco(folder, **image):
    content = {
        "images": [{"id": 5, "file_name": "a.png", "width": 160, "height": 120, **image}],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": [
            {"image_id": 5, "category_id": 3, "bbox": [20, 20, 40, 20], "score": 0.5},
            {"image_id": 5, "category_id": 9, "bbox": [100, 60, 20, 40]},
        ],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return str(folder / "boxes.json")


def yolo(folder):
    (folder / "labels").mkdir()
    (folder / "labels" / "a.txt").write_text(
        "0 0.25 0.25 0.25 0.1666667 0.5\n9 .6875 .6666667 .125 .3333333\n"
    )
    (folder / "labels" / "classes.txt").write_text("cup\nsaucer\n")
    return str(folder / "labels")


@pytest.mark.parametrize("write", [coco, yolo], ids=["COCO", "YOLO"])
def test_boxes_of_both_kinds_come_to_the_same(write, tmp_path):
    boxes = read_boxes(write(tmp_path)).of(PurePath("in/a.png"), (240, 320))
    first, second = describe_boxes(DEPTH, boxes, near_is_large=False)
    assert first == {
        "class": "cup",
        "score": 0.5,
        "area": pytest.approx(200 / 4800, abs=1e-6),
        "box": [10, 10, 20, 10],
        "nearest": 1.0,
        "median": 1.0,
        "farthest": 1.0,
        "middle": 1.0,
    }
    assert (second["class"], second["box"], second["middle"]) == ("9", [50, 30, 10, 20], 3.0)
    assert (
        read_boxes(str(tmp_path / ("boxes.json" if write is coco else "labels"))).of(
            PurePath("b.png"), (240, 320)
        )
        == []
    )


def test_results_without_images_are_found_by_the_number_in_the_name(tmp_path):
    results = [{"image_id": 139, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}]
    (tmp_path / "found.json").write_text(json.dumps(results))
    [box] = read_boxes(str(tmp_path / "found.json")).of(PurePath("000000000139.jpg"), (10, 20))
    assert (box.name, box.left, box.bottom) == ("1", 1 / 20, 6 / 10)


def listing(folder, *names):
    """COCO's JSON of one box in each of the images of these names, its class the number."""
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [
            {"image_id": number, "category_id": number, "bbox": [0, 0, 5, 5]}
            for number in range(len(names))
        ],
    }
    (folder / "listing.json").write_text(json.dumps(content))
    return read_boxes(str(folder / "listing.json"))


def test_names_that_begin_above_the_runs_folder_are_found_by_their_ends(tmp_path):
    boxes = listing(tmp_path, "data/images/b/1.jpg", "data/images/a/1.jpg", "data/images/2.jpg")
    found = [boxes.of(PurePath(name), (10, 10)) for name in ("a/1.jpg", "b/1.jpg", "2.jpg")]
    assert [[box.name for box in one] for one in found] == [["1"], ["0"], ["2"]]
    with pytest.raises(ImageError, match=r"'data/images/a/1.jpg', and this '1.jpg' may be either"):
        boxes.of(PurePath("1.jpg"), (10, 10))


def test_a_file_with_other_names_is_told_of_once(tmp_path, caplog):
    boxes = listing(tmp_path, "frame_1.jpg")
    assert boxes.of(PurePath("1.jpg"), (10, 10)) == boxes.of(PurePath("2.jpg"), (10, 10)) == []
    [line] = caplog.messages
    assert "has no boxes of 1.jpg; its images are called frame_1.jpg" in line


def test_boxes_of_the_photograph_before_it_was_turned_are_refused(tmp_path):
    with pytest.raises(ImageError, match="detect on the upright picture"):
        read_boxes(coco(tmp_path)).of(PurePath("a.png"), (320, 240))


@pytest.mark.parametrize(
    "text",
    ["{", "{}", "[1]", '{"annotations": [{"image_id": 1, "bbox": [1, 2]}]}', '"x"', "[[]]"],
)
def test_a_file_of_another_kind_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match="COCO's JSON, or YOLO's"):
        read_boxes(str(tmp_path / "a.json"))


@pytest.mark.parametrize("line", ["0 1 2", "0 100 200 30 40", "0 a b c d"])
def test_a_text_that_is_no_yolo_is_named(line, tmp_path):
    (tmp_path / "a.txt").write_text(line)
    with pytest.raises(ImageError, match=r"a\.txt.*shares of the photograph"):
        read_boxes(str(tmp_path / "a.txt")).of(PurePath("a.png"), (10, 10))


def test_a_photograph_without_a_text_takes_no_other_ones(tmp_path):
    (tmp_path / "labels" / "a").mkdir(parents=True)
    (tmp_path / "labels" / "1.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    boxes = read_boxes(str(tmp_path / "labels"))
    found = [len(boxes.of(PurePath(name), (10, 10))) for name in ("1.png", "a/1.png", "b/1.png")]
    assert found == [1, 0, 1], "b/ is not mirrored: the texts lie in one folder"


def test_one_text_is_one_photographs(tmp_path):
    boxes = read_boxes(yolo(tmp_path) + "/a.txt")
    assert len(boxes.of(PurePath("a.png"), (10, 10))) == 2
    with pytest.raises(ImageError, match="give the folder"):
        boxes.of(PurePath("b.png"), (10, 10))


def darkness(*things):
    """How many pixels of labels' ground can be seen: frames and letters are white."""
    drawn = draw_things(Image.new("RGB", (200, 120), "grey"), things, unit="m")
    return int((np.asarray(drawn) == 0).all(axis=2).sum())


@pytest.mark.parametrize("corner", [(0, 0), (10, 30), (10, 106), (170, 110)], ids=str)
def test_labels_of_things_in_one_corner_are_all_whole(corner):
    things = [
        {"class": name, "median": 2.0, "box": [10, 10, 40, 40]}
        for name in ("chair", "refrigerator", "table", "chair")
    ]
    alone = [darkness(thing) for thing in things]
    assert min(alone) > 100
    assert darkness(*(thing | {"box": [*corner, 30, 10]} for thing in things)) == sum(alone)


def test_where_labels_have_no_room_they_are_drawn_all_the_same():
    thing = {"class": "chair", "median": 2.0, "box": [10, 10, 40, 40]}
    assert darkness(*[thing] * 50) >= 10 * darkness(thing)


def test_the_command_tells_and_draws_them(tmp_path, capsys):
    saved(tmp_path / "depth", "depth")
    saved(tmp_path / "segment", "segment")
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    models = ["-m", str(tmp_path / "depth"), "--segment-model", str(tmp_path / "segment")]
    words = ["depth", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), *models]
    words += ["-f", "npy,color", "--with-segments", "--show-things", "--masks", "--json"]
    assert main(words) == 0
    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    depth, mask = (
        np.load(tmp_path / "out/a.npy"),
        np.asarray(Image.open(tmp_path / "out/a.mask.png")),
    )
    assert line["things"]
    for thing in line["things"]:
        x, y, width, height = thing["box"]
        inside = mask[y : y + height, x : x + width] == thing["id"]
        assert inside.any(0).all() or inside.any(1).all()
        assert depth.min() <= thing["farthest"] <= thing["nearest"] <= depth.max()
    picture = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert (picture == 255).all(-1).any()


def test_other_boxes_are_done_again(tmp_path, capsys):
    model = str(save_varied(tmp_path / "model"))
    Image.fromarray(np.full((120, 160, 3), 90, np.uint8)).save(tmp_path / "a.png")
    words = ["depth", str(tmp_path / "a.png"), "-o", str(tmp_path / "out/"), "-m", model]
    words += ["--boxes", yolo(tmp_path), "--json"]
    told = []
    for text in (None, None, "0 .5 .5 1 1"):
        if text:
            (tmp_path / "labels/a.txt").write_text(text)
        assert main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        told.append([len(json.loads(line).get("boxes", [])) for line in lines])
    assert told == [[2], [0], [1]]  # in between it was done already


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--show-things"], "--boxes or --with-segments"),
        (["--boxes", "nothing.json"], "--boxes 'nothing.json' cannot be read"),
        (["--boxes", "nothing.txt"], "no such file"),
    ],
)
def test_what_makes_no_sense_is_refused(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("a.png")
    assert main(["depth", "a.png", "-o", "out.png", *words]) == 2
    assert said in capsys.readouterr().err
