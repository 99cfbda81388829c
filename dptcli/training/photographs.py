"""Photographs to learn from: a folder of sets of pairs, with labels, measured depth or both."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from dptcli.errors import UsageError
from dptcli.evaluation.pairs import PairTask
from dptcli.training import packs
from dptcli.training.classes import KINDS, meanings_of
from dptcli.training.data import Example, read_examples


@dataclass(frozen=True, kw_only=True)
class Manner:
    """What a set is like.

    repeat: how often each photograph stands among the examples. absent: the classes of which
    everything is labelled, so that pixels without a label are none of them.
    """

    repeat: int = 1
    absent: tuple[str, ...] = ()


MANNERS = {
    # Labelled everywhere, and few.
    "coco_panoptic": Manner(repeat=4),
    "coco_stuff": Manner(repeat=4),
    # Things alone; what is labelled of people and vehicles is complete, of objects it is not.
    "coco_things": Manner(repeat=2, absent=("person", "vehicle")),
    "coco_person": Manner(absent=("person",)),
    # Sensors and structured light: the only depths that are measured.
    "middlebury_2003_2005": Manner(repeat=6),
    "felixchenfy_room": Manner(repeat=8),
    "pcl_openni": Manner(repeat=8),
    "princeton_arc_apc": Manner(repeat=4),
    "bins_misc": Manner(repeat=4),
    "sfm_stereo": Manner(repeat=8),
    "sidmini_stereo": Manner(repeat=24),
}
"""By the name of the folder; of other sets nothing is known, and they are taken once."""


def read_material(path: Path) -> list[Example]:
    """The examples of one set, such as rendered frames, of all sets below a folder, or of a pack.

    Raises UsageError where there is none, or where one has other classes than the built-in model.
    """
    if (path / packs.INDEX).is_file():
        return packs.read(path, sky=KINDS.index("sky"))
    examples: list[Example] = []
    for table in sorted(path.rglob("pairs.csv")):
        manner = MANNERS.get(table.parent.name, Manner())
        found, classes = read_examples(table.parent, task=_task_of(table))
        meanings = meanings_of(classes, table.parent / "classes.txt")
        absent = tuple(KINDS.index(name) for name in manner.absent)
        examples += [
            replace(example, absent=absent, meanings=meanings) for example in found
        ] * manner.repeat
    if not examples:
        raise UsageError(f"{path}: there is no pairs.csv in it or below it")
    return examples


def _task_of(table: Path) -> PairTask:
    """What a pairs.csv is about: depth says its kind, labels need not."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        return "depth" if "kind" in next(csv.reader(stream), []) else "segment"
