"""The classes that the built-in model learns, and the eight kinds that they are parts of.

A set of photographs may be labelled with the classes, or with the kinds alone. Road is also
pavement and railway; water is sea, river, lake; a seat is a chair, a bench or a sofa; a truck is
also a bus; a bicycle also a motorcycle. Frames are labelled with a few classes more than the model
tells.
"""

import csv
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from dptcli.errors import UsageError
from dptcli.segments.palettes import BUILTIN, label_set
from dptcli.training.data import IGNORE_LABEL

_SET = label_set(BUILTIN)
CLASSES = _SET.names
KINDS = tuple(dict.fromkeys(_SET.kinds))

RENDERED = (
    *("sky", "road", "grass", "floor", "water", "snow", "earth", "building", "wall", "ceiling"),
    *("window", "door", "other structure", "vegetation", "car", "truck", "bicycle"),
    *("other vehicle", "person", "seat", "table", "bed", "cabinet", "other furniture", "animal"),
    *("food", "screen", "other object"),
)
"""What frames are labelled with, in the order of their ids."""

FOLDED: Mapping[str, str] = {
    "door": "other structure",
    "bed": "other furniture",
    "cabinet": "other furniture",  # and shelves, cookers, refrigerators
}
"""{what frames tell and the model does not: the class that it counts as}.

Too few photographs show it: of 32 kept aside, doors are in none, and beds and cabinets have an
intersection over union below a fifth.
"""

KIND_OF: Mapping[str, str] = {
    name: _SET.kinds[CLASSES.index(FOLDED.get(name, name))] for name in RENDERED
}
"""{what frames tell: its kind}."""

COCO_NAMES: Mapping[str, str] = {
    "road": "road, railroad, platform, pavement",
    "grass": "grass, playingfield",
    "floor": "floor, floor-wood, floor-marble, floor-stone, floor-tile, carpet, rug, mat",
    "water": "water, river, sea, waterdrops",
    "snow": "snow",
    "building": "building, house, roof, skyscraper",
    "wall": "wall, wall-brick, wall-stone, wall-tile, wall-wood, wall-concrete, wall-panel",
    "ceiling": "ceiling, ceiling-tile",
    "window": "window, window-blind",
    "car": "car",
    "truck": "truck, bus",
    "bicycle": "bicycle, motorcycle",
    "seat": "chair, bench, couch",
    "table": "dining table, table, desk-stuff",
    "animal": "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
    "food": "banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, "
    "fruit, food, vegetable, salad",
    "screen": "tv, laptop",
}
"""{class: COCO's names for it}, without -merged and -other."""


def parts(kind: str) -> tuple[int, ...]:
    """The class ids of a kind."""
    return tuple(index for index, name in enumerate(CLASSES) if KIND_OF[name] == kind)


def meanings_of(names: Sequence[str], where: Path) -> tuple[int, ...]:
    """What the label ids of a set with these class names mean (`Example.meanings`).

    Raises UsageError for a name that is neither a class nor a kind.
    """
    names = [FOLDED.get(name, name) for name in names]
    unknown = [name for name in names if name not in CLASSES and name not in KINDS]
    if unknown:
        raise UsageError(
            f"{where} names {', '.join(unknown)}; the built-in model has {', '.join(CLASSES)}, "
            f"and the kinds {', '.join(KINDS)}"
        )
    return tuple(CLASSES.index(name) if name in CLASSES else _meaning(name) for name in names)


@lru_cache
def raw_meanings(path: Path) -> tuple[int, ...]:
    """The same for ids of COCO's classes: a table id,name,maps_to, the last a kind's number.

    A name that stands in no list of `COCO_NAMES` is the rest of its kind.
    """
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    classes = {name: label for label, names in COCO_NAMES.items() for name in names.split(", ")}
    meanings = [IGNORE_LABEL] * (1 + max(int(row["id"]) for row in rows))
    for row in rows:
        kind = int(row["maps_to"])
        name = row["name"].removesuffix("-merged").removesuffix("-other")
        if kind < len(KINDS):
            rest = parts(KINDS[kind])[-1]
            label = classes.get(name)
            meanings[int(row["id"])] = rest if label is None else CLASSES.index(label)
    return tuple(meanings)


def _meaning(kind: str) -> int:
    found = parts(kind)
    return found[0] if len(found) == 1 else len(CLASSES) + KINDS.index(kind)
