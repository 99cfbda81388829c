"""Photographs to learn from: a folder of sets of pairs, with labels, measured depth or both."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from dptcli.errors import UsageError
from dptcli.evaluation.pairs import PairTask
from dptcli.training import packs
from dptcli.training.classes import CLASSES, meanings_of, parts, raw_meanings
from dptcli.training.data import Example, read_examples


@dataclass(frozen=True, kw_only=True)
class Manner:
    """What a set is like.

    repeat: how often each photograph stands among the examples. absent: the kinds of which
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
    Labels that came with more classes than the eight kinds, in raw/ beside their folder, are read
    from there.
    """
    if (path / packs.INDEX).is_file():
        return packs.read(path, sky=CLASSES.index("sky"))
    examples: list[Example] = []
    for table in sorted(path.rglob("pairs.csv")):
        manner = MANNERS.get(table.parent.name, Manner())
        found, classes = read_examples(table.parent, task=_task_of(table))
        meanings = meanings_of(classes, table.parent / "classes.txt")
        absent = tuple(index for kind in manner.absent for index in parts(kind))
        examples += [
            _from_raw(replace(example, absent=absent, meanings=meanings))
            if example.labels
            else replace(example, absent=absent)
            for example in found
        ] * manner.repeat
    if not examples:
        raise UsageError(f"{path}: there is no pairs.csv in it or below it")
    return examples


def _from_raw(example: Example) -> Example:
    """The same photograph with the finer labels that its set came with, where it did."""
    assert example.labels is not None
    folder = example.labels.target.parent.parent
    if not (folder / "raw_classes.csv").is_file():
        return example
    finer = replace(example.labels, target=folder / "raw" / example.labels.target.name)
    return replace(example, labels=finer, meanings=raw_meanings(folder / "raw_classes.csv"))


def _task_of(table: Path) -> PairTask:
    """What a pairs.csv is about: depth says its kind, labels need not."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        return "depth" if "kind" in next(csv.reader(stream), []) else "segment"
