"""Sets of photographs to learn from: which are taken how often, and what they do not show."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_training import tiny
from written_pairs import write_pairs

from dptcli.errors import UsageError
from dptcli.training.batches import Source, TrainOptions
from dptcli.training.classes import CLASSES, KINDS
from dptcli.training.photographs import MANNERS, read_material

PERSON = KINDS.index("person")


def labelled(folder: Path, *, names: tuple[str, ...] = KINDS, label: int = PERSON) -> None:
    """One photograph with a label, a person's, in its left half and nothing known of the other."""
    folder.mkdir(parents=True)
    labels = np.full((20, 30), 255, np.uint8)
    labels[:, :15] = label
    Image.fromarray(labels).save(folder / "a.labels.png")
    Image.new("RGB", (30, 20), (90, 120, 60)).save(folder / "a.jpg")
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    (folder / "pairs.csv").write_text("image,target\na.jpg,a.labels.png\n")


def test_labels_and_depths_of_all_sets_below_a_folder_are_taken(tmp_path: Path) -> None:
    labelled(tmp_path / "labels" / "coco_person")
    labelled(tmp_path / "labels" / "coco_panoptic")
    (tmp_path / "depth" / "frames").mkdir(parents=True)
    write_pairs(tmp_path / "depth" / "frames", count=2)
    (tmp_path / "depth" / "frames" / "classes.txt").write_text("\n".join(KINDS) + "\n")
    found = read_material(tmp_path)
    assert [example.depth is not None for example in found[:2]] == [True, True]
    labels = [example for example in found if example.depth is None]
    assert [example.absent for example in labels].count((PERSON,)) == 1
    assert [example.absent for example in labels].count(()) == MANNERS["coco_panoptic"].repeat


def test_a_batch_says_which_classes_the_unlabelled_pixels_are_not(tmp_path: Path) -> None:
    labelled(tmp_path / "coco_person")
    labelled(tmp_path / "elsewhere")
    options = TrainOptions(batch_size=2, shapes_hw=((28, 42),), variants=1)
    model = tiny("segment", num_labels=len(KINDS))
    absent = Source(model, read_material(tmp_path), options).batch(0).absent
    assert absent is not None
    assert sorted(row.nonzero().flatten().tolist() for row in absent) == [[], [PERSON]]
    depth = Source(tiny(), read_material(tmp_path), options).batch(0)
    assert depth.absent is None


def test_other_classes_than_the_built_in_ones_are_refused(tmp_path: Path) -> None:
    labelled(tmp_path / "street", names=("road", "lamp", "car"))
    with pytest.raises(UsageError, match=r"street.*names lamp; the built-in model has sky"):
        read_material(tmp_path)


def test_labels_of_rendered_classes_become_those_of_the_model(tmp_path: Path) -> None:
    labelled(tmp_path / "frames", names=CLASSES, label=CLASSES.index("truck"))
    options = TrainOptions(batch_size=1, shapes_hw=((28, 42),), variants=1)
    model = tiny("segment", num_labels=len(KINDS))
    labels = Source(model, read_material(tmp_path), options).batch(0).labels
    assert set(labels.unique().tolist()) <= {KINDS.index("vehicle"), -1}
    assert (labels == KINDS.index("vehicle")).any()


def test_a_folder_without_pairs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no pairs\.csv in it"):
        read_material(tmp_path)
