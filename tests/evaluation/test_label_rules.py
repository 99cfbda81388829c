"""Targets are read as the model's configuration says, and what is assumed of them is said."""

import json
import logging

import numpy as np
import pytest
from PIL import Image
from tiny import save_tiny

from dptcli.cli import main
from dptcli.errors import UsageError
from dptcli.evaluation.labelmaps import same_labels
from dptcli.evaluation.measure import evaluate_segments
from dptcli.evaluation.metrics import DepthProtocol, score_depth
from dptcli.evaluation.pairs import LabelRules, Pair, assumed_unit, read_labels, read_pair_sets
from dptcli.evaluation.predictions import StoredPredictions
from dptcli.training.data import IGNORE_LABEL, Example, load_sample


def save(folder, targets, *, kind="labels"):
    (folder / "images").mkdir(parents=True)
    (folder / kind).mkdir()
    for place, target in enumerate(targets):
        hw = target.shape
        rgb = np.random.default_rng(place).integers(0, 255, (*hw, 3), np.uint8)
        Image.fromarray(rgb).save(folder / "images" / f"{place}.png")
        Image.fromarray(target).save(folder / kind / f"{place}.png")
    return folder


def test_a_models_own_reduced_output_scores_one(tmp_path, capsys):
    model = save_tiny(tmp_path / "m", task="segment", processor={"do_reduce_labels": True})
    blank = np.zeros((64, 64), np.uint8)
    save(tmp_path / "set", [blank, blank])
    words = ["segment", str(tmp_path / "set/images"), "-o", str(tmp_path / "out"), "-m", str(model)]
    assert main([*words, "--target-size", "-q"]) == 0
    for place in range(2):
        with Image.open(tmp_path / f"out/{place}.png") as mask:
            own = np.array(mask) + 1
        own[:4] = 0
        Image.fromarray(own).save(tmp_path / f"set/labels/{place}.png")
    words = ["eval", "segment", str(tmp_path / "set"), "-m", str(model), "--no-plots", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["mean"]["miou"] == 1


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (LabelRules(), [0, 1, 2, 255]),
        (LabelRules(reduce=True), [255, 0, 1, 255]),
        (LabelRules(reduce=True, ignore_index=9), [9, 0, 1, 9]),
    ],
)
def test_labels_are_read_by_the_rules(rules, expected, tmp_path):
    Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8)).save(tmp_path / "t.png")
    pair = Pair(image=tmp_path / "i.png", target=tmp_path / "t.png", kind="labels", rules=rules)
    assert read_labels(pair).tolist() == [expected]


def sample(tmp_path, target, rules):
    save(tmp_path / "set", [target])
    pair = Pair(
        image=tmp_path / "set/images/0.png",
        target=tmp_path / "set/labels/0.png",
        kind="labels",
        rules=rules,
    )
    example = Example(pair.image, None, pair)
    return load_sample(example, target.shape, seed=0, index=0, variant=0, augment=False).labels


def test_training_ignores_what_the_configuration_ignores(tmp_path):
    target = np.repeat(np.array([[0, 1], [2, 1]], np.uint8), 8, axis=1)
    found = sample(tmp_path, target, LabelRules(ignore_index=0))
    assert np.unique(found).tolist() == [IGNORE_LABEL, 1, 2]


@pytest.mark.parametrize(("kind", "label"), [(np.uint16, 290), (np.uint8, 255)])
def test_training_keeps_classes_of_any_number_that_is_not_ignored(kind, label, tmp_path):
    target = np.full((8, 8), label, kind)
    assert np.unique(sample(tmp_path, target, LabelRules(ignore_index=0))).tolist() == [label]


def test_training_refuses_classes_that_it_has_no_room_for(tmp_path):
    target = np.full((8, 8), 40_000, np.uint16)
    with pytest.raises(UsageError, match="class 40000"):
        sample(tmp_path, target, LabelRules(ignore_index=0))


def test_unlabelled_pictures_cost_no_loss(tmp_path):
    model = save_tiny(tmp_path / "m", task="segment", semantic_loss_ignore_index=0)
    save(tmp_path / "set", [np.zeros((64, 64), np.uint8)] * 2)
    words = ["train", "segment", str(tmp_path / "set"), "--from", str(model), "-o"]
    words += [str(tmp_path / "t"), "--steps", "2", "--batch-size", "1", "--hold-out", "0"]
    assert main(words) == 0
    lines = (tmp_path / "t/history.csv").read_text().splitlines()
    place = lines[0].split(",").index("loss")
    assert {float(line.split(",")[place]) for line in lines[1:]} == {0.0}


def test_classes_that_no_target_has_are_named(tmp_path, caplog):
    save(tmp_path / "set", [np.where(np.tri(8) > 0, 255, 0).astype(np.uint8)])
    sets = read_pair_sets([tmp_path / "set"], task="segment")
    labels = same_labels(["background", "lesion"], {}, ignore_index=255)
    with caplog.at_level(logging.WARNING):
        evaluate_segments(sets, lambda _pair: np.zeros((8, 8), int), labels=labels)
    assert "no target has a pixel of lesion" in caplog.text


def test_integers_without_a_scale_are_said_to_be_millimetres(tmp_path):
    save(tmp_path / "set", [np.full((8, 8), 2000, np.uint16)], kind="depth")
    assert "millimetres" in assumed_unit(read_pair_sets([tmp_path / "set"], task="depth"))
    table = tmp_path / "set/pairs.csv"
    table.write_text("image,target,kind,scale\nimages/0.png,depth/0.png,depth_m,256\n")
    assert assumed_unit(read_pair_sets([tmp_path / "set"], task="depth")) is None


@pytest.mark.parametrize("align", ["none", "median", "scale-shift"])
@pytest.mark.parametrize("space", ["disparity", "depth"])
def test_scores_do_not_depend_on_the_unit(align, space):
    metres = np.random.default_rng(0).uniform(1.5, 70, (24, 32))
    rows = []
    for unit in (1, 1000, 1e6):
        scores, _ = score_depth(
            1 / (metres * unit * 1.05),
            metres * unit,
            protocol=DepthProtocol(align=align, space=space),
        )
        rows.append(scores.abs_rel)
    assert rows == pytest.approx([rows[0]] * 3, abs=1e-6)
    assert rows[0] == pytest.approx(0.05 if align == "none" else 0, abs=1e-6)


@pytest.mark.parametrize("form", ["png16", "mm", "x256"])
def test_dpts_own_16_bit_maps_are_found(form, tmp_path):
    from dptcli.depth.depthmap import DepthMap
    from dptcli.depth.formats import FORMATS
    from dptcli.depth.rawfiles import RAW_WRITERS

    save(tmp_path / "set", [np.full((8, 8), 2000, np.uint16)], kind="depth")
    values = np.random.default_rng(0).uniform(1, 9, (8, 8)).astype(np.float32)
    depth = DepthMap(values, "depth_m", (1.0, 9.0), facts={"dpt": "1", "kind": "depth_m"})
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / f"0{FORMATS[form].suffix}").open("wb") as stream:
        RAW_WRITERS[form](stream, depth)
    sets = read_pair_sets([tmp_path / "set"], task="depth")
    found = StoredPredictions(tmp_path / "out", sets).depth(sets[0].pairs[0])
    np.testing.assert_allclose(found.values, values, atol=0.003)


@pytest.mark.parametrize("reduce", [False, True])
def test_what_16_bits_leave_out_counts_for_evaluation_as_for_training(tmp_path, reduce):
    Image.fromarray(np.array([[1, 65_535, 300]], np.uint16)).save(tmp_path / "a.png")
    rules = LabelRules(reduce=reduce, ignore_index=7)
    pair = Pair(image=tmp_path / "x.png", target=tmp_path / "a.png", kind="labels", rules=rules)
    assert read_labels(pair).tolist() == [[1 - reduce, 7, 300 - reduce]]
