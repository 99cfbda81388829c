"""Sets of photographs to learn from: which are taken how often, and what they do not show."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_training import tiny
from written_pairs import write_pairs

from dptcli.errors import UsageError
from dptcli.training.batches import Source, TrainOptions
from dptcli.training.classes import CLASSES, KINDS, parts
from dptcli.training.loop import batch_loss
from dptcli.training.photographs import MANNERS, read_material

PERSON = CLASSES.index("person")


def labelled(folder: Path, *, names: tuple[str, ...] = CLASSES, label: int = PERSON) -> None:
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
    (tmp_path / "depth" / "frames" / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    found = read_material(tmp_path)
    assert [example.depth is not None for example in found[:2]] == [True, True]
    labels = [example for example in found if example.depth is None]
    assert [example.absent for example in labels].count((PERSON,)) == 1
    assert [example.absent for example in labels].count(()) == MANNERS["coco_panoptic"].repeat


def test_a_batch_says_which_classes_the_unlabelled_pixels_are_not(tmp_path: Path) -> None:
    labelled(tmp_path / "coco_person")
    labelled(tmp_path / "elsewhere")
    options = TrainOptions(batch_size=2, shapes_hw=((28, 42),), variants=1)
    model = tiny("segment", num_labels=len(CLASSES))
    absent = Source(model, read_material(tmp_path), options).batch(0).absent
    assert absent is not None
    assert sorted(row.nonzero().flatten().tolist() for row in absent) == [[], [PERSON]]
    depth = Source(tiny(), read_material(tmp_path), options).batch(0)
    assert depth.absent is None


def test_other_classes_than_the_built_in_ones_are_refused(tmp_path: Path) -> None:
    labelled(tmp_path / "street", names=("road", "lamp", "car"))
    with pytest.raises(UsageError, match=r"street.*names lamp; the built-in model has sky"):
        read_material(tmp_path)


def test_a_label_by_kind_may_be_any_of_its_classes(tmp_path: Path) -> None:
    labelled(tmp_path / "kinds", names=KINDS, label=KINDS.index("vehicle"))
    options = TrainOptions(
        batch_size=1, shapes_hw=((28, 42),), variants=1,
        groups=tuple(parts(kind) for kind in KINDS),
    )  # fmt: skip
    batch = Source(
        tiny("segment", num_labels=len(CLASSES)), read_material(tmp_path), options
    ).batch(0)
    assert batch.groups is not None
    [group] = batch.labels[batch.labels >= len(CLASSES)].unique().tolist()
    allowed = batch.groups[group - len(CLASSES)].nonzero().flatten().tolist()
    assert [CLASSES[label] for label in allowed] == ["car", "truck", "bicycle", "other vehicle"]


def test_a_label_by_kind_tells_a_head_nothing_beside_its_teacher(tmp_path: Path) -> None:
    options = TrainOptions(
        batch_size=1, shapes_hw=((28, 42),), variants=1,
        groups=tuple(parts(kind) for kind in KINDS),
    )  # fmt: skip
    model, teacher = (tiny("segment", num_labels=len(CLASSES)).eval() for _ in range(2))

    def loss(name: str, names: tuple[str, ...]) -> float:
        labelled(tmp_path / name, names=names, label=names.index(name))
        batch = Source(model, read_material(tmp_path / name), options).batch(0)
        with torch.no_grad():
            return batch_loss(model, batch, teacher).item()

    vehicle, structure, car = loss("vehicle", KINDS), loss("structure", KINDS), loss("car", CLASSES)
    assert vehicle == structure < car - 1e-3


def test_a_set_that_came_with_finer_labels_is_read_from_them(tmp_path: Path) -> None:
    folder = tmp_path / "coco_stuff"
    labelled(folder / "labels", names=KINDS)
    (folder / "raw").mkdir()
    raw = np.array([[3, 6], [184, 92], [0, 250]], np.uint8).repeat(15, axis=1)
    Image.fromarray(raw).save(folder / "raw" / "a.labels.png")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "pairs.csv").write_text("image,target\nlabels/a.jpg,labels/a.labels.png\n")
    (folder / "labels" / "pairs.csv").unlink()
    (folder / "raw_classes.csv").write_text(
        "id,name,maps_to\n3,car,4\n6,bus,4\n92,banner,7\n133,mirror-stuff,255\n184,tree-merged,3\n"
    )
    [example] = set(read_material(tmp_path))
    means = example.meanings
    assert [CLASSES[means[raw_id]] for raw_id in (3, 6, 184, 92)] == [
        *("car", "truck", "vegetation", "other object")
    ]
    assert means[133] == means[0] == -1
    assert example.labels is not None
    assert example.labels.target == folder / "raw" / "a.labels.png"


def test_a_folder_without_pairs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no pairs\.csv in it"):
        read_material(tmp_path)
