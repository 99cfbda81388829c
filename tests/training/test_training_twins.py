"""Both tasks learn on one backbone."""

import dataclasses
from pathlib import Path

import pytest
import torch
from test_training_photographs import labelled
from tiny_training import OPTIONS, KilledError, tiny
from written_pairs import write_pairs

from dptcli.model.dpt import DPTForDepthEstimation, DPTForSemanticSegmentation
from dptcli.training.batches import Batch
from dptcli.training.classes import CLASSES
from dptcli.training.data import IGNORE_LABEL, Example
from dptcli.training.loop import Progress, batch_loss, train
from dptcli.training.photographs import read_material
from dptcli.training.twins import Twins

LEARNING = dataclasses.replace(OPTIONS, backbone_rate=1e-3, variants=0, steps=24)


def twins() -> Twins:
    depth, segment = tiny(), tiny("segment", num_labels=len(CLASSES))
    assert isinstance(depth, DPTForDepthEstimation)
    assert isinstance(segment, DPTForSemanticSegmentation)
    return Twins(depth, segment)


@pytest.fixture
def material(tmp_path: Path) -> list[Example]:
    """Photographs with depth and labels, and one with labels alone."""
    labelled(tmp_path / "coco_person")
    (tmp_path / "frames").mkdir()
    write_pairs(tmp_path / "frames", count=3)
    (tmp_path / "frames" / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return read_material(tmp_path)


def test_both_heads_and_the_shared_backbone_learn(material: list[Example], tmp_path: Path) -> None:
    model = twins()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = train(model, material, tmp_path / "run", options=LEARNING).losses
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])
    after = model.state_dict()
    for part in ("depth.head", "segment.head", "depth.backbone"):
        assert any(
            name.startswith(part) and not value.equal(before[name]) for name, value in after.items()
        ), part
    for name, value in after.items():
        if name.startswith("segment.backbone"):
            assert value.equal(after[name.replace("segment", "depth", 1)])


def test_a_killed_run_of_both_ends_the_same(material: list[Example], tmp_path: Path) -> None:
    options = dataclasses.replace(LEARNING, steps=8)
    whole, cut, resumed = twins(), twins(), twins()
    train(whole, material, tmp_path / "whole", options=options)

    def kill(progress: Progress) -> None:
        if progress.step == 5:  # after the checkpoint of step 4
            raise KilledError

    with pytest.raises(KilledError):
        train(cut, material, tmp_path / "cut", options=options, report=kill)
    train(resumed, material, tmp_path / "cut", options=options)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_each_task_learns_from_the_images_that_tell_of_it() -> None:
    """One image has depth, the other labels: each task's loss is that of its image alone."""
    model = twins().eval()
    pixels = torch.randn(2, 3, 28, 42, generator=torch.Generator().manual_seed(1))
    inverse = torch.rand(2, 28, 42)
    valid = torch.zeros(2, 28, 42, dtype=torch.bool)
    valid[0] = True
    labels = torch.full((2, 28, 42), IGNORE_LABEL, dtype=torch.int16)
    labels[1, :14] = 3
    both = Batch(None, pixels, inverse, valid, labels)

    def only(kept: int) -> Batch:
        one = slice(kept, kept + 1)
        return Batch(None, pixels[one], inverse[one], valid[one], labels[one])

    torch.manual_seed(0)
    together = batch_loss(model, both)
    torch.manual_seed(0)
    apart = batch_loss(model.depth, only(0)) + batch_loss(model.segment, only(1))
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)
