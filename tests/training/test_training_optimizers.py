"""Muon: orthogonal steps, as PyTorch's own on matrices, for the filters of neck and head alone."""

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_training import OPTIONS, KilledError, run, tiny
from written_pairs import write_pairs

from dptcli.training.batches import TrainOptions
from dptcli.training.data import Example, read_examples
from dptcli.training.loop import Progress, train
from dptcli.training.optimizers import Muon, make_optimizers, orthogonalized

MUON = dataclasses.replace(OPTIONS, optimizer="muon")


@pytest.fixture
def pairs(tmp_path: Path) -> list[Example]:
    return read_examples(write_pairs(tmp_path, count=4), task="depth")[0]


@pytest.mark.parametrize("shape", [(8, 72), (64, 16), (20, 20)])
def test_every_direction_becomes_about_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    found = orthogonalized(matrix)
    values = torch.linalg.svdvals(found)
    assert found.shape == matrix.shape
    assert values.max() < 1.3
    # Coefficients that grow fast end near one, not at it, and a tiny value may stay below.
    assert values.median() > 0.6


@pytest.mark.parametrize("shape", [(8, 72), (64, 16)])
def test_on_matrices_it_is_pytorchs(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(6)
    start = torch.randn(shape, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = (
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(4):
        gradient = torch.randn(shape, generator=generator)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert moved > 0.1
    assert (ours - theirs).norm() < 0.02 * moved  # theirs computes in bfloat16


def test_filters_move_by_it_and_the_rest_by_adamw() -> None:
    model = tiny()
    muon, adamw = make_optimizers(model, MUON)
    filters = {id(value) for group in muon.param_groups for value in group["params"]}
    rest = {id(value) for group in adamw.param_groups for value in group["params"]}
    assert not filters & rest
    for name, value in model.named_parameters():
        if name.startswith(("neck.", "head.")):
            is_filter = value.dim() == 4 and value.shape[0] > 1
            assert (id(value) in filters) == is_filter, name
            assert (id(value) in rest) != is_filter, name
        else:
            assert not value.requires_grad
    [alone] = make_optimizers(model, TrainOptions())
    assert type(alone) is torch.optim.AdamW


def test_the_loss_falls_and_a_killed_run_resumes_to_the_same_weights(
    pairs: list[Example], tmp_path: Path
) -> None:
    whole = tiny()
    losses = [progress.loss for progress in run(whole, pairs, tmp_path / "whole", MUON)]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])

    def kill(progress: Progress) -> None:
        if progress.step == 14:  # after the checkpoint of step 12
            raise KilledError

    with pytest.raises(KilledError):
        train(tiny(), pairs[:3], tmp_path / "cut", options=MUON, report=kill)
    resumed = tiny()
    assert run(resumed, pairs, tmp_path / "cut", MUON)[0].step == 13
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)
