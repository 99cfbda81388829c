"""The classes that rendered frames are labelled with, and the eight that the built-in model knows.

Each class is of one of the eight kinds. Frames and photographs may be labelled with either.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dptcli.errors import UsageError

KIND_OF: Mapping[str, str] = {
    "sky": "sky",
    "road": "ground",  # and pavements
    "grass": "ground",
    "floor": "ground",  # and rugs
    "water": "ground",
    "snow": "ground",
    "earth": "ground",  # and sand, gravel, rock
    "building": "structure",
    "wall": "structure",  # and pictures on it
    "ceiling": "structure",
    "window": "structure",
    "door": "structure",
    "other structure": "structure",  # fences, poles, bridges, tents
    "vegetation": "vegetation",
    "car": "vehicle",
    "truck": "vehicle",  # and buses, vans
    "bicycle": "vehicle",  # and motorcycles
    "other vehicle": "vehicle",
    "person": "person",
    "seat": "furniture",  # chairs, benches, sofas
    "table": "furniture",
    "bed": "furniture",
    "cabinet": "furniture",  # and shelves, cookers, refrigerators
    "other furniture": "furniture",
    "animal": "object",
    "food": "object",
    "screen": "object",
    "other object": "object",
}
"""{class: its kind}, in the order of the ids in rendered label maps."""

CLASSES = tuple(KIND_OF)
KINDS = tuple(dict.fromkeys(KIND_OF.values()))
"""The built-in model's classes, in the order of its ids."""


def meanings_of(names: Sequence[str], where: Path) -> tuple[int, ...]:
    """The kind's id for each id of a set with these class names (`Example.meanings`).

    Raises UsageError for a name that is neither a kind nor a class.
    """
    unknown = [name for name in names if name not in KIND_OF and name not in KINDS]
    if unknown:
        raise UsageError(
            f"{where} names {', '.join(unknown)}; the built-in model has {', '.join(KINDS)}"
        )
    return tuple(KINDS.index(KIND_OF.get(name, name)) for name in names)
