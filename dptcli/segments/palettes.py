"""Names and colours of the label sets that segmentation models are trained on.

The tables in label_sets/ hold the data sets' own names and colours, with one exception: of the 150
published ADE20K colours two are equal and 149 pairs are too alike to tell apart (CIEDE2000 below
2.3). There, in the order of the ids, a colour closer than 9 to an earlier one moved to the nearest
colour that is not; 22 classes, the most frequent among them, kept theirs.
"""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.colormaps import palette
from dptcli.errors import UsageError
from dptcli.inputs.decode import printable

AUTO = "auto"
PLAIN = "plain"
BUILTIN = "builtin"
LABEL_SETS = ("ade20k", "cityscapes", "voc", "camvid", BUILTIN)

_FOLDER = Path(__file__).parent / "label_sets"
# What converters write where nobody knew the names.
_NAMELESS = re.compile(r"(label|class|category)?[_ -]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class LabelSet:
    """A data set's classes in the order of their ids; colors: RGB uint8 (num_labels, 3).

    kinds: the coarser class that each is a part of, such as "ground" of "road"; empty where the set
    has none.
    """

    names: tuple[str, ...]
    colors: NDArray[np.uint8]
    kinds: tuple[str, ...] = ()


@lru_cache(maxsize=len(LABEL_SETS))
def label_set(name: str) -> LabelSet:
    """Return one of LABEL_SETS; its colours are read-only."""
    with (_FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    colors = np.array([_from_hex(row["color"]) for row in rows], np.uint8)
    colors.flags.writeable = False
    kinds = tuple(row["kind"] for row in rows if "kind" in row)
    return LabelSet(tuple(row["name"] for row in rows), colors, kinds)


def kinds_of(names: Mapping[int, str]) -> dict[int, str]:
    """Return the coarser class of each of a model's classes, by id; {} where they have none.

    The built-in model's classes are parts of eight kinds: those that it knew alone before.
    """
    known = label_set(BUILTIN)
    own = tuple(names.get(label, "").strip().casefold() for label in range(len(names)))
    return dict(enumerate(known.kinds)) if own == known.names else {}


def choose_palette(
    choice: str, names: Mapping[int, str]
) -> tuple[dict[int, str], NDArray[np.uint8]]:
    """Return the names and colours of a model's classes, no two colours alike.

    choice: "auto" takes the label set that the names, or without names their number, point to, and
    the plain palette where there is none; the name of a label set, whose names then replace ones
    like LABEL_0; "plain"; or a JSON file {"colors": {"0": "#78bef0", …}}, such as an edited
    labels.json. names: class id -> name, ids from 0. Raises UsageError for an unknown choice and
    for a label set of another size.
    """
    num_labels = len(names)
    if choice == PLAIN:
        return dict(names), palette(num_labels, names)
    if choice == AUTO:
        found = _recognise(names)
        colors = label_set(found).colors if found else palette(num_labels, names)
        return dict(names), colors
    if choice.endswith(".json"):
        return dict(names), _read_colors(Path(choice), num_labels)
    if choice not in LABEL_SETS:
        known = ", ".join((AUTO, PLAIN, *LABEL_SETS))
        raise UsageError(f"unknown palette {choice!r}; there are {known}, and FILE.json")
    chosen = label_set(choice)
    if len(chosen.names) != num_labels:
        raise UsageError(
            f"--palette {choice} has {len(chosen.names)} classes and the model {num_labels}; "
            "--palette auto always fits"
        )
    own = dict(enumerate(chosen.names)) if is_nameless(names) else dict(names)
    return own, chosen.colors


def is_nameless(names: Mapping[int, str]) -> bool:
    """Tell whether the classes have numbers for names (LABEL_0, class 7, 12)."""
    return all(_NAMELESS.fullmatch(name.strip()) for name in names.values())


def synonyms(name: str) -> list[str]:
    """Return a class's names in plain form: "Door;double_door" -> ["door", "double door"]."""
    words = re.split(r"[,;/]", name)
    return [re.sub(r"[\W_]+", " ", word).strip().casefold() for word in words if word.strip()]


def _recognise(names: Mapping[int, str]) -> str | None:
    for candidate in LABEL_SETS:
        known = label_set(candidate).names
        if len(known) != len(names):
            continue
        hits = sum(
            bool({*synonyms(names.get(label, "")), *_joined(names.get(label, ""))} & {*both})
            for label, both in enumerate([*synonyms(one), *_joined(one)] for one in known)
        )
        if (is_nameless(names) and candidate != BUILTIN) or 2 * hits >= len(known):
            return candidate
    return None


def _joined(name: str) -> list[str]:
    """The same without spaces: "tv monitor" and "tvmonitor" are one class."""
    return [word.replace(" ", "") for word in synonyms(name)]


def _read_colors(path: Path, num_labels: int) -> NDArray[np.uint8]:
    try:
        colors = json.loads(path.read_text(encoding="utf-8"))["colors"]
        return np.array([_from_hex(colors[str(label)]) for label in range(num_labels)], np.uint8)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise UsageError(
            f"cannot take colours from {printable(path)} ({reason}); it needs "
            f'{{"colors": {{"0": "#78bef0", …}}}} for ids 0 to {num_labels - 1}'
        ) from error


def _from_hex(color: str) -> tuple[int, ...]:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        raise ValueError(f"{color!r} is no colour like #78bef0")
    return tuple(bytes.fromhex(color[1:]))
