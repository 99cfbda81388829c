"""The losses against cases worked by hand."""

import math

import pytest
import torch

from dptcli.errors import ConfigError, ShapeError
from dptcli.kinds import Kind
from dptcli.model.losses import (
    depth_loss,
    scale_shift_invariant_loss,
    segmentation_loss,
    silog_loss,
)

KINDS: list[Kind] = ["inverse_depth", "depth", "depth_m"]


def test_relative_loss_ignores_scale_and_shift() -> None:
    depth = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    predicted = 7.0 / depth + 3.0
    assert depth_loss(predicted, depth, kind="inverse_depth") < 1e-5
    assert depth_loss(depth, depth, kind="inverse_depth") > 0.5  # depth is not inverse depth


def test_the_loss_of_depth_without_scale_ignores_scale_and_shift_of_depth() -> None:
    depth = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    assert depth_loss(7 * depth + 3, depth, kind="depth") < 1e-5
    assert depth_loss(1 / depth, depth, kind="depth") > 0.5  # nor is inverse depth depth


def test_relative_loss_of_a_case_by_hand() -> None:
    """Prediction 0, 1, 2 has median 1 and mean deviation 2/3; target 0, 0, 3 has 0 and 1."""
    predicted, target = torch.tensor([[[0.0, 1.0, 2.0]]]), torch.tensor([[[0.0, 0.0, 3.0]]])
    loss = scale_shift_invariant_loss(predicted, target, torch.ones(1, 1, 3, dtype=torch.bool))
    assert loss.item() == pytest.approx((1.5 + 0.0 + 1.5) / 3)


def test_metric_loss_of_a_case_by_hand() -> None:
    """Log ratios ln 2 and 0: mean square ln²2 / 2, square of the mean ln²2 / 4."""
    predicted, target = torch.tensor([[[2.0, 5.0]]]), torch.tensor([[[1.0, 5.0]]])
    valid = torch.ones(1, 1, 2, dtype=torch.bool)
    expected = math.log(2) * math.sqrt(1 / 2 - 0.5 / 4)
    assert silog_loss(predicted, target, valid).item() == pytest.approx(expected, rel=1e-6)
    twice = silog_loss(2 * target, target, valid, variance_focus=1.0)
    assert twice.item() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hole", [0.0, -1.0, float("nan"), float("inf")])
def test_pixels_that_were_not_measured_do_not_count(hole: float, kind: Kind) -> None:
    generator = torch.Generator().manual_seed(1)
    depth = torch.rand(1, 4, 6, generator=generator) + 1.0
    predicted = torch.rand(1, 4, 6, generator=generator) + 1.0
    depth[0, :2] = hole
    changed = predicted.clone()
    changed[0, :2] += 100.0
    assert depth_loss(predicted, depth, kind=kind) == depth_loss(changed, depth, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_stay_finite_in_degenerate_batches(kind: Kind) -> None:
    """One image without any measurement, one predicted perfectly, one predicted constant."""
    depth = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 2.0), torch.rand(4, 4) + 1.0])
    predicted = torch.stack([torch.rand(4, 4), depth[1], torch.zeros(4, 4)]).requires_grad_()
    loss = depth_loss(predicted, depth, kind=kind)
    loss.backward()
    assert loss.isfinite()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


def test_auxiliary_loss_is_weighted_in() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(1, 3, 4, 4, generator=generator)
    labels = torch.randint(0, 3, (1, 4, 4), generator=generator)
    options = {"ignore_index": 255, "auxiliary_weight": 0.4}
    alone = segmentation_loss(logits, None, labels, **options)
    both = segmentation_loss(logits, logits, labels, **options)
    assert both.item() == pytest.approx(1.4 * alone.item())


def test_wrong_label_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"must be \(2, height, width\)"):
        depth_loss(torch.ones(2, 4, 4), torch.ones(1, 4, 4), kind="inverse_depth")
    with pytest.raises(ShapeError, match=r"must be \(1, height, width\)"):
        segmentation_loss(
            torch.ones(1, 2, 4, 4),
            None,
            torch.ones(1, 1, 4, 4),
            ignore_index=255,
            auxiliary_weight=0.4,
        )


@pytest.mark.parametrize("label", [3, -1])
def test_labels_that_are_no_classes_are_refused_by_their_range(label: int) -> None:
    labels = torch.full((1, 4, 4), 255)
    labels[0, 0, :2] = torch.tensor([min(label, 0), max(label, 0)])
    with pytest.raises(ConfigError, match=r"must be class ids from 0 to 2, or 255"):
        segmentation_loss(
            torch.ones(1, 3, 4, 4), None, labels, ignore_index=255, auxiliary_weight=0.4
        )
