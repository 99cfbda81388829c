"""Score between label sets: which classes of the predictions and of the targets mean the same."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ImageError, UsageError
from dptcli.inputs.decode import printable

SIDES = ("target", "prediction")
ANY = "*"
NO_KINDS: Mapping[int, str] = {}


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """Groups, and the group of every id on both sides.

    targets: id -> group, IGNORED for what does not count. predictions: id -> group, NO_GROUP for
    what is wrong wherever it stands. other_targets, other_predictions: the group of every id that
    is not listed; a target without one (None) is an error.
    """

    IGNORED: ClassVar[int] = -1
    NO_GROUP: ClassVar[int] = -2

    groups: tuple[str, ...]
    targets: Mapping[int, int]
    predictions: Mapping[int, int]
    other_targets: int | None = None
    other_predictions: int = NO_GROUP

    def group_targets(self, labels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the group of every target pixel (H, W). Raises ImageError for an unknown id."""
        ids, places = np.unique(labels, return_inverse=True)
        found = [self.targets.get(int(label), self.other_targets) for label in ids]
        if None in found:
            raise ImageError(
                f"the target holds class {ids[found.index(None)]}, which has no name in "
                "classes.txt and is not the ignored one; see --ignore-index"
            )
        return np.array(found, np.int64)[places].reshape(labels.shape)

    def group_predictions(self, labels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the group of every predicted pixel (H, W), NO_GROUP where it has none."""
        ids, places = np.unique(labels, return_inverse=True)
        found = [self.predictions.get(int(label), self.other_predictions) for label in ids]
        return np.array(found, np.int64)[places].reshape(labels.shape)


def same_labels(
    targets: Sequence[str],
    predictions: Mapping[int, str],
    *,
    ignore_index: int,
    kinds: Mapping[int, str] = NO_KINDS,
) -> LabelMap:
    """Return the map for one label set on both sides: equal names, in whatever order.

    kinds: the coarser class of each predicted id, where they have one; targets that are named by
    these are compared by them. Where one side has no names, ids are equal. Raises UsageError where
    the names differ or neither side has any.
    """
    names = tuple(targets) or tuple(predictions[label] for label in sorted(predictions))
    if not names:
        raise UsageError(
            "how many classes are there? put classes.txt beside the pairs, one name a line from "
            "id 0"
        )
    places = {name.casefold(): place for place, name in enumerate(names)}
    if not targets:
        ids = {label: place for place, label in enumerate(sorted(predictions))}
        return _label_map(names, targets=ids, predictions=ids, ignore_index=ignore_index)
    ids = dict(enumerate(range(len(names))))
    if not predictions:
        return _label_map(names, targets=ids, predictions=ids, ignore_index=ignore_index)
    if kinds and {*places} <= {*kinds.values()}:
        predictions = {label: kind for label, kind in kinds.items() if kind in places}
    unknown = [name for name in predictions.values() if name.casefold() not in places]
    unpredicted = [name for name in names if name.casefold() not in _folded(predictions.values())]
    if unknown or unpredicted:
        raise UsageError(
            "the predictions and the targets have different classes "
            f"({', '.join((unknown + unpredicted)[:4])}, …); say what belongs together with "
            "--label-map FILE"
        )
    found = {label: places[name.casefold()] for label, name in predictions.items()}
    return _label_map(names, targets=ids, predictions=found, ignore_index=ignore_index)


def read_label_map(
    path: str | Path,
    *,
    targets: Sequence[str],
    predictions: Mapping[int, str],
    ignore_index: int,
    kinds: Mapping[int, str] = NO_KINDS,
) -> LabelMap:
    """Read a label map and apply it to the two label sets.

    JSON: {"target": {label: group}, "prediction": {label: group}} and, as wanted, "groups": the
    order. CSV: the columns side (target, prediction or both), label, group. A label is a name
    (capitals do not matter) or an id; "*" stands for the labels that are not listed. An empty group
    (null) means: a target is ignored, a prediction is wrong. kinds: the coarser class of each
    predicted id, where they have one; a prediction that is not listed counts as that. Raises
    UsageError for a broken file, and for labels about which it says nothing.
    """
    name = printable(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        order, sides = _from_json(text) if text.lstrip()[:1] == "{" else _from_csv(text)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot read the label map {name}: {reason}; it needs JSON "
            '{"target": {"road": "ground"}, "prediction": {…}} or CSV side,label,group'
        ) from error
    named = [group for side in SIDES for group in sides[side].values() if group]
    groups = tuple(dict.fromkeys([*order, *named]))
    if not groups:
        raise UsageError(f"the label map {name} names no group")
    target, prediction = sides["target"], sides["prediction"]
    ignored, nothing = LabelMap.IGNORED, LabelMap.NO_GROUP
    target_names = dict(enumerate(targets)) or _ids(target)
    prediction_names = dict(predictions) or _ids(prediction)
    return LabelMap(
        groups=groups,
        targets={
            **_places(target, target_names, groups, none=ignored, where=name),
            ignore_index: ignored,
        },
        predictions=_places(
            prediction, prediction_names, groups, kinds=kinds, none=nothing, where=name
        ),
        other_targets=_place(target[ANY], groups, none=ignored) if ANY in target else None,
        other_predictions=_place(prediction.get(ANY), groups, none=nothing),
    )


Sides = dict[str, dict[str, str | None]]


def _from_json(text: str) -> tuple[list[str], Sides]:
    content: Any = json.loads(text)
    unknown = set(content) - {*SIDES, "groups"}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
    sides: Sides = {}
    for side in SIDES:
        labels = content.get(side)
        if not isinstance(labels, dict) or not labels:
            raise ValueError(f"{side!r} must be an object of labels")
        if not all(group is None or isinstance(group, str) for group in labels.values()):
            raise ValueError(f"the groups of {side!r} must be names or null")
        sides[side] = {label.strip().casefold(): group for label, group in labels.items()}
    groups = content.get("groups", [])
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise ValueError("'groups' must be a list of names")
    return groups, sides


def _from_csv(text: str) -> tuple[list[str], Sides]:
    reader = csv.DictReader(text.splitlines())
    sides: Sides = {side: {} for side in SIDES}
    if not {"side", "label", "group"} <= set(reader.fieldnames or []):
        raise ValueError("its columns must be side,label,group")
    for row in reader:
        side, label = ((row[column] or "").strip() for column in ("side", "label"))
        if side not in (*SIDES, "both") or not label:
            raise ValueError(
                f"line {reader.line_num} needs target, prediction or both, and a label"
            )
        for one in SIDES if side == "both" else (side,):
            sides[one][label.casefold()] = (row["group"] or "").strip() or None
    return [], sides


def _ids(labels: Mapping[str, str | None]) -> dict[int, str]:
    """The ids that a map lists, for a label set without names."""
    return {int(label): label for label in labels if label.isdecimal()}


def _places(
    labels: Mapping[str, str | None],
    names: Mapping[int, str],
    groups: Sequence[str],
    *,
    kinds: Mapping[int, str] = NO_KINDS,
    none: int,
    where: str,
) -> dict[int, int]:
    """The group's place for every id of a label set, `none` where it has none."""
    places = {}
    silent = []
    for label, name in names.items():
        words = (name.casefold(), str(label), kinds.get(label), ANY)
        keys = (key for key in words if key in labels)
        key = next(keys, None)
        if key is None:
            silent.append(name)
            continue
        places[label] = _place(labels[key], groups, none=none)
    if silent or not (places or ANY in labels):
        side = "targets'" if none == LabelMap.IGNORED else "predictions'"
        more = f" and {len(silent) - 5} more" if len(silent) > 5 else ""
        raise UsageError(
            f"the label map {where} says nothing about the {side} "
            f"{', '.join(silent[:5]) or 'labels'}{more}; give each a group, or all with '*'"
        )
    return places


def _place(group: str | None, groups: Sequence[str], *, none: int) -> int:
    return groups.index(group) if group else none


def _label_map(
    groups: Sequence[str],
    *,
    targets: Mapping[int, int],
    predictions: Mapping[int, int],
    ignore_index: int,
) -> LabelMap:
    return LabelMap(
        groups=tuple(groups),
        targets={**targets, ignore_index: LabelMap.IGNORED},
        predictions=predictions,
    )


def _folded(names: Any) -> set[str]:
    return {name.casefold() for name in names}
