"""Label maps: scoring between label sets, and what is refused."""

import json

import numpy as np
import pytest

from dptcli.errors import ImageError, UsageError
from dptcli.evaluation.labelmaps import LabelMap, read_label_map, same_labels
from dptcli.segments.palettes import kinds_of, label_set

TARGETS = ("sky", "road", "tree", "car")
PREDICTIONS = {0: "floor", 1: "Sky", 2: "plant", 7: "thing"}
GROUPS = {
    "groups": ["sky", "ground", "rest"],
    "target": {"sky": "sky", "road": "ground", "tree": "rest", "car": None},
    "prediction": {"sky": "sky", "floor": "ground", "PLANT": "rest", "thing": None},
}


def read(path, *, targets=TARGETS, predictions=PREDICTIONS, ignore_index=255) -> LabelMap:
    return read_label_map(
        path,
        targets=targets,
        predictions=predictions,
        ignore_index=ignore_index,
        kinds=kinds_of(predictions),
    )


def write(tmp_path, content) -> str:
    path = tmp_path / "map"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


CSV = """side,label,group
target,sky,sky
target,road,ground
target,tree,rest
target,car,
prediction,sky,sky
prediction,floor,ground
prediction,plant,rest
prediction,thing,
"""


@pytest.mark.parametrize("content", [GROUPS, CSV], ids=["json", "csv"])
def test_labels_of_both_sides_meet_in_the_groups(tmp_path, content):
    labels = read(write(tmp_path, content))
    assert labels.groups == ("sky", "ground", "rest")
    target = np.array([[0, 1, 2, 3, 255]])
    assert labels.group_targets(target).tolist() == [[0, 1, 2, LabelMap.IGNORED, LabelMap.IGNORED]]
    prediction = np.array([[1, 0, 2, 7, 99]])
    nothing = LabelMap.NO_GROUP
    assert labels.group_predictions(prediction).tolist() == [[0, 1, 2, nothing, nothing]]


def test_star_stands_for_what_is_not_listed(tmp_path):
    content = {"target": {"sky": "sky", "*": "rest"}, "prediction": {"1": "sky", "*": "rest"}}
    labels = read(write(tmp_path, content))
    assert labels.group_targets(np.array([[0, 1, 2, 3]])).tolist() == [[0, 1, 1, 1]]
    assert labels.group_predictions(np.array([[0, 1, 2, 7]])).tolist() == [[1, 0, 1, 1]]


def test_both_sides_of_a_csv_may_share_a_line(tmp_path):
    labels = read(write(tmp_path, "side,label,group\nboth,sky,sky\nboth,*,rest\n"))
    assert labels.group_targets(np.array([[0, 3]])).tolist() == [[0, 1]]
    assert labels.group_predictions(np.array([[1, 0]])).tolist() == [[0, 1]]


def test_label_sets_without_names_are_mapped_by_id(tmp_path):
    content = {"target": {"0": "a", "3": "b"}, "prediction": {"5": "a", "6": "b"}}
    labels = read(write(tmp_path, content), targets=(), predictions={})
    assert labels.group_targets(np.array([[0, 3]])).tolist() == [[0, 1]]
    assert labels.group_predictions(np.array([[5, 6]])).tolist() == [[0, 1]]


def test_star_holds_for_ids_of_label_sets_without_names(tmp_path):
    content = {"target": {"0": "a", "*": None}, "prediction": {"5": "a", "*": "b"}}
    labels = read(write(tmp_path, content), targets=(), predictions={})
    assert labels.group_targets(np.array([[0, 3]])).tolist() == [[0, LabelMap.IGNORED]]
    assert labels.group_predictions(np.array([[5, 6, 99]])).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "columns must be side,label,group"),
        ("{", "cannot read the label map"),
        ("[]", "columns must be side,label,group"),
        ({"target": {"sky": "sky"}}, "'prediction' must be an object"),
        ({**GROUPS, "targets": {}}, "unknown key 'targets'"),
        ({**GROUPS, "groups": "sky"}, "'groups' must be a list"),
        ({**GROUPS, "target": {"sky": 3}}, "must be names or null"),
        ({**GROUPS, "target": {"sky": "sky"}}, "nothing about the targets' road, tree, car;"),
        ({**GROUPS, "prediction": {"sky": "sky"}}, "the predictions' floor, plant, thing;"),
        ({"target": {"*": None}, "prediction": {"*": None}}, "names no group"),
        ("side,label,group\nleft,sky,sky\n", "line 2 needs target, prediction or both"),
        ("side,label,group\ntarget,,sky\n", "line 2 needs target, prediction or both"),
        (f"side,label,group\ntarget,{'x' * 200_000},sky\n", "cannot read the label map"),
    ],
)
def test_broken_map_is_refused(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        read(write(tmp_path, content))


def test_missing_map_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "none.json")


def test_equal_names_meet_in_whatever_order_they_have_ids():
    predictions = {0: "Road", 1: "sky"}
    labels = same_labels(("sky", "road"), predictions, ignore_index=255)
    assert labels.group_predictions(np.array([[0, 1]])).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("targets", "predictions"),
    [(("a", "b"), {}), ((), {0: "a", 1: "b"})],
    ids=["predictions", "targets"],
)
def test_one_side_without_names_has_the_other_ones_ids(targets, predictions):
    labels = same_labels(targets, predictions, ignore_index=255)
    assert labels.groups == ("a", "b")
    assert labels.group_targets(np.array([[0, 1, 255]])).tolist() == [[0, 1, LabelMap.IGNORED]]
    assert labels.group_predictions(np.array([[0, 1]])).tolist() == [[0, 1]]


def test_different_label_sets_ask_for_a_map():
    with pytest.raises(UsageError, match=r"floor, plant, thing, road.*--label-map"):
        same_labels(TARGETS, PREDICTIONS, ignore_index=255)


def test_no_names_anywhere_asks_for_them():
    with pytest.raises(UsageError, match=r"classes\.txt"):
        same_labels((), {}, ignore_index=255)


def test_ignored_id_may_be_a_class():
    labels = same_labels(("void", "sky"), {}, ignore_index=0)
    assert labels.group_targets(np.array([[0, 1]])).tolist() == [[LabelMap.IGNORED, 1]]


def test_target_class_without_a_name_is_an_error():
    labels = same_labels(("sky",), {}, ignore_index=255)
    with pytest.raises(ImageError, match="holds class 4, which has no name"):
        labels.group_targets(np.array([[0, 4]]))


BUILTIN = dict(enumerate(label_set("builtin").names))


def test_targets_labelled_by_kind_meet_the_built_in_classes():
    targets = ("ground", "Sky", "vehicle")
    labels = same_labels(targets, BUILTIN, ignore_index=255, kinds=kinds_of(BUILTIN))
    found = labels.group_predictions(np.array([ids_of("road", "floor", "sky", "truck", "person")]))
    assert found.tolist() == [[0, 0, 1, 2, LabelMap.NO_GROUP]]


def test_a_label_map_may_name_kinds_and_classes(tmp_path):
    kinds = ("ground", "structure", "vegetation", "person", "furniture", "object")
    content = {
        "target": dict.fromkeys(TARGETS, "rest"),
        "prediction": {"sky": "sky", "car": "car", "vehicle": "rest", **dict.fromkeys(kinds)},
    }
    labels = read(write(tmp_path, content), predictions=BUILTIN)
    found = labels.group_predictions(np.array([ids_of("sky", "car", "truck", "road")]))
    assert [labels.groups[group] for group in found[0, :3]] == ["sky", "car", "rest"]
    assert found[0, 3] == LabelMap.NO_GROUP


def ids_of(*names: str) -> list[int]:
    return [label for name in names for label, own in BUILTIN.items() if own == name]
