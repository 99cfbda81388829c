"""Sets of photographs and targets: pairs.csv, folders by names, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from places import SHARED_DATA

from dptcli.errors import ImageError, UsageError
from dptcli.evaluation.pairs import (
    Pair,
    PairSet,
    assumed_unit,
    read_depth,
    read_labels,
    read_pair_sets,
    read_pairs,
)

DATA = SHARED_DATA


def save_png(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def table(folder: Path, text: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_table_paths_are_relative_to_the_table(tmp_path):
    path = table(tmp_path, "image,target,kind,scale\na/x.jpg,b/x.png,depth_m,256\n")
    (pair,) = read_pairs(path, task="depth").pairs
    assert pair.image == tmp_path / "a/x.jpg"
    assert pair.target == tmp_path / "b/x.png"
    assert (pair.kind, pair.scale, pair.name) == ("depth_m", 256.0, "a/x.jpg")


def test_folder_with_a_table_is_the_table_and_gives_the_name(tmp_path):
    table(tmp_path, "image,target\nx.jpg,x.png\n")
    pairs = read_pairs(tmp_path, task="segment")
    assert (pairs.name, pairs.path) == (tmp_path.name, tmp_path / "pairs.csv")


def test_target_without_a_kind_is_a_label_map_and_no_depth(tmp_path):
    path = table(tmp_path, "image,target\nx.jpg,x.png\n")
    assert read_pairs(path, task="segment").pairs[0].kind == "labels"
    with pytest.raises(UsageError, match="only labels; `depth` needs rows of kind depth_m"):
        read_pairs(path, task="depth")


def test_depth_may_have_its_labels_in_the_same_row(tmp_path):
    text = "image,target,kind,scale,labels\nx.jpg,d.png,depth_m,10,l.png\ny.jpg,d.png,depth_m,10,\n"
    path = table(tmp_path, text)
    assert [p.name for p in read_pairs(path, task="depth").pairs] == ["x.jpg", "y.jpg"]
    (labels,) = read_pairs(path, task="segment").pairs
    assert (labels.target, labels.kind, labels.scale) == (tmp_path / "l.png", "labels", None)


def test_one_table_serves_both_tasks(tmp_path):
    text = "image,target,kind,scale\nx.jpg,d.png,depth_m,1000\nx.jpg,l.png,labels,\n"
    path = table(tmp_path, text)
    assert [p.target.name for p in read_pairs(path, task="depth").pairs] == ["d.png"]
    assert [p.target.name for p in read_pairs(path, task="segment").pairs] == ["l.png"]


def test_byte_order_mark_and_spaces_of_a_spreadsheet_do_no_harm(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes("\ufeffimage,target,kind,scale\r\n x.jpg , x.png ,depth_m, 1000 \r\n".encode())
    assert read_pairs(path, task="depth").pairs[0].name == "x.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photo,target\na,b\n", "lacks the column image"),
        ("", "lacks the column image and target"),
        ("image,target\n", "no rows"),
        ("image,target\n,b.png\n", "line 2: image is empty"),
        ("image,target\na.jpg\n", "line 2: target is empty"),
        ("image,target,kind\na,b,metres\n", "line 2: kind 'metres' must be depth_m"),
        ("image,target,kind\na,b,labels\n", "only labels"),
        ("image,target,kind,scale\na,b,depth_m,0\n", "scale '0' must be a number above 0"),
        ("image,target,kind,scale\na,b,depth_m,nan\n", "scale 'nan'"),
        ("image,target,kind,scale\na,b,depth_m,mm\n", "scale 'mm'"),
    ],
    ids=["column", "empty", "rows", "image", "target", "kind", "task", "zero", "nan", "text"],
)
def test_wrong_table_is_refused_by_line(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read_pairs(table(tmp_path, text), task="depth")


def test_table_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(UsageError, match="save it as CSV in UTF-8"):
        read_pairs(path, task="depth")


def test_missing_path_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder"):
        read_pairs(tmp_path / "none", task="depth")


def test_folders_of_images_and_targets_are_paired_in_natural_order(tmp_path, caplog):
    for name in ("10", "2", "sub/1", "unpaired"):
        save_png(tmp_path / "images" / f"{name}.png", np.zeros((2, 2), np.uint8))
    for name in ("10", "2", "sub/1"):
        save_png(tmp_path / "depth" / f"{name}.png", np.ones((2, 2), np.uint16))
    pairs = read_pairs(tmp_path, task="depth").pairs
    assert [pair.name for pair in pairs] == ["images/2.png", "images/10.png", "images/sub/1.png"]
    assert [pair.target.relative_to(tmp_path / "depth").as_posix() for pair in pairs] == [
        "2.png",
        "10.png",
        "sub/1.png",
    ]
    assert "1 of 4 photographs have no target of their name" in caplog.text
    assert caplog.text.rstrip().endswith(str(tmp_path / "images" / "unpaired.png"))


@pytest.mark.parametrize(("task", "ending"), [("depth", ".depth"), ("segment", ".labels")])
def test_targets_beside_their_images_are_found_by_their_ending(tmp_path, task, ending):
    for name in ("a.png", "a.depth.png", "a.labels.png", "b.png"):
        save_png(tmp_path / name, np.zeros((2, 2), np.uint8))
    (pair,) = read_pairs(tmp_path, task=task).pairs
    assert (pair.image.name, pair.target.name) == ("a.png", f"a{ending}.png")


def test_exact_floats_win_over_a_rounded_target(tmp_path):
    save_png(tmp_path / "a.jpg", np.zeros((2, 2), np.uint8))
    save_png(tmp_path / "a.depth.png", np.ones((2, 2), np.uint16))
    np.save(tmp_path / "a.depth.npy", np.ones((2, 2), np.float32))
    (pair,) = read_pairs(tmp_path, task="depth").pairs
    assert pair.target.suffix == ".npy"


def test_images_that_share_one_name_are_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        save_png(tmp_path / "images" / name, np.zeros((2, 2), np.uint8))
    with pytest.raises(UsageError, match="share one name"):
        read_pairs(tmp_path, task="depth")


def test_folder_without_pairs_says_what_it_needs(tmp_path):
    save_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(UsageError, match=r"a\.jpg with a\.depth\.png"):
        read_pairs(tmp_path, task="depth")


def test_sets_of_one_name_are_told_apart_by_their_parents(tmp_path):
    for parent in ("one", "two"):
        (tmp_path / parent / "set").mkdir(parents=True)
        table(tmp_path / parent / "set", "image,target,kind\na,b,depth_m\n")
    sets = read_pair_sets([tmp_path / "one/set", tmp_path / "two/set"], task="depth")
    assert [pairs.name for pairs in sets] == ["one/set", "two/set"]


def test_set_given_twice_is_refused(tmp_path):
    path = table(tmp_path, "image,target,kind\na,b,depth_m\n")
    with pytest.raises(UsageError, match="given twice"):
        read_pair_sets([path, tmp_path], task="depth")


def test_class_names_stand_one_a_line_from_id_0(tmp_path):
    table(tmp_path, "image,target\na,b\n")
    (tmp_path / "classes.txt").write_text("sky\r\nroad\n\n")
    assert read_pairs(tmp_path, task="segment").classes == ("sky", "road")


@pytest.mark.parametrize(
    ("kind", "scale", "stored", "metres"),
    [
        ("depth_m", 256.0, np.array([[0, 256, 512]], np.uint16), [[0, 1, 2]]),
        ("depth_m", None, np.array([[0, 500, 2000]], np.uint16), [[0, 0.5, 2]]),
        ("depth_m", None, np.array([[np.nan, -1, 2.5]], np.float32), [[0, 0, 2.5]]),
        ("depth_m", 1.0, np.array([[np.inf, 0, 3]], np.float32), [[0, 0, 3]]),
        ("inverse_depth", 10.0, np.array([[0, 5, 20]], np.uint16), [[0, 2, 0.5]]),
        ("disparity", None, np.array([[np.nan, -2, 4]], np.float32), [[0, 0, 0.25]]),
    ],
    ids=["kitti", "millimetres", "nan", "inf", "inverse", "disparity"],
)
def test_depth_target_is_metres_with_0_where_nothing_was_measured(
    tmp_path, kind, scale, stored, metres
):
    path = tmp_path / ("d.png" if stored.dtype == np.uint16 else "d.npy")
    if path.suffix == ".png":
        save_png(path, stored)
    else:
        np.save(path, stored)
    depth = read_depth(Pair(image=path, target=path, kind=kind, scale=scale))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, metres, rtol=1e-6)


def save_levels(path: Path, levels: list[list[int]], **facts: object) -> Path:
    """A 16-bit PNG that says itself, as those of `dpt depth` do, what its levels stand for."""
    text = PngInfo()
    text.add_text("dptcli", json.dumps({"dpt": "0", **facts}))
    Image.fromarray(np.array(levels, np.uint16)).save(path, pnginfo=text)
    return path


def test_a_target_that_dpt_wrote_is_taken_at_its_word(tmp_path):
    facts = {"kind": "depth_m", "first": 1.0, "last": 3.0}
    path = save_levels(tmp_path / "a.png", [[0, 65535, 32767]], **facts)
    pair = Pair(image=path, target=path)
    np.testing.assert_allclose(read_depth(pair), [[1, 3, 2]], rtol=1e-4)
    pairs = PairSet(name="a", path=tmp_path, pairs=(pair,))
    assert assumed_unit([pairs]) is None, "nothing is assumed of it"
    by_scale = read_depth(replace(pair, scale=65535.0))
    np.testing.assert_allclose(by_scale, [[0, 1, 0.5]], rtol=1e-4)
    quarters = {"kind": "depth_m", "first": 0.0, "last": 65535 / 256, "no_value": 0}
    path = save_levels(tmp_path / "b.png", [[0, 256, 640]], **quarters)
    np.testing.assert_allclose(read_depth(Pair(image=path, target=path)), [[0, 1, 2.5]])


@pytest.mark.parametrize(
    ("said", "kind"),
    [("inverse_depth", "depth_m"), ("labels", "depth_m"), ("depth_m", "inverse_depth")],
)
def test_a_target_that_says_it_is_of_another_kind_is_refused(tmp_path, said, kind):
    path = save_levels(tmp_path / "a.png", [[1, 2, 3]], kind=said)
    with pytest.raises(ImageError, match=rf"a\.png holds {said}, and its set takes it for {kind}"):
        read_depth(Pair(image=path, target=path, kind=kind))


def test_target_without_a_measured_pixel_is_an_error_by_name(tmp_path):
    path = save_png(tmp_path / "d.png", np.zeros((2, 2), np.uint16))
    with pytest.raises(ImageError, match=r"d\.png has no measured pixel"):
        read_depth(Pair(image=path, target=path))


def test_indexed_label_target_gives_its_ids_not_its_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 7, 255]], np.uint8))
    image.putpalette([200] * 768)
    image.save(tmp_path / "l.png")
    target = Pair(image=tmp_path, target=tmp_path / "l.png", kind="labels")
    np.testing.assert_array_equal(read_labels(target), [[0, 7, 255]])


def test_float_label_target_is_refused(tmp_path):
    np.save(tmp_path / "l.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(ImageError, match="labels must be integers"):
        read_labels(Pair(image=tmp_path, target=tmp_path / "l.npy", kind="labels"))


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured photographs are not here")
def test_measured_photographs_are_read_in_metres():
    sets = read_pair_sets(sorted(DATA.glob("depth_*")), task="depth")
    assert [(pairs.name, len(pairs.pairs)) for pairs in sets] == [
        ("depth_indoor", 10),
        ("depth_room", 5),
        ("depth_street", 6),
    ]
    street = read_depth(sets[2].pairs[0])
    assert street.shape == (375, 1242)
    assert 2 < street[street > 0].min() < street.max() < 90


def test_photographs_of_every_kind_that_is_read_are_paired(tmp_path):
    for name in ("a.ppm", "b.jp2", "c.avif", "d.png"):
        save_png(tmp_path / "images" / name, np.zeros((4, 6, 3), np.uint8))
        save_png(tmp_path / "labels" / f"{name[0]}.png", np.zeros((4, 6), np.uint8))
    Image.new("L", (4, 6)).save(tmp_path / "images" / "d.ppm")  # what an editor left beside it
    pairs = read_pairs(tmp_path, task="segment").pairs
    assert [pair.name[-5:] for pair in pairs] == ["a.ppm", "b.jp2", ".avif", "d.png"]
