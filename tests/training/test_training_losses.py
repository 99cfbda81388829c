"""The training losses against cases worked by hand."""

import math

import pytest
import torch

from dptcli.training.losses import (
    ANCHOR_WEIGHT,
    KEEP_WEIGHT,
    align,
    anchor_loss,
    gradient_loss,
    order_loss,
    parting_loss,
    possible_label_loss,
    relative_depth_loss,
    relative_loss,
)

TARGET = torch.tensor([[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]])
ALL = torch.ones(1, 2, 3, dtype=torch.bool)


def test_alignment_recovers_scale_and_shift() -> None:
    torch.testing.assert_close(align(TARGET / 3 - 7, TARGET, ALL), TARGET, rtol=0, atol=1e-4)


def test_alignment_uses_valid_pixels_only() -> None:
    predicted = 2 * TARGET + 1
    predicted[0, 0, 0] = 1e3
    valid = ALL.clone()
    valid[0, 0, 0] = False
    aligned = align(predicted, TARGET, valid)
    torch.testing.assert_close(aligned[valid], TARGET[valid], rtol=0, atol=1e-4)


def test_alignment_of_a_constant_prediction_is_the_mean() -> None:
    torch.testing.assert_close(
        align(torch.full_like(TARGET, 9.0), TARGET, ALL), torch.full_like(TARGET, 2.5)
    )


def test_scale_and_shift_count_for_the_anchor_alone() -> None:
    anchored = TARGET / 2.5
    assert relative_depth_loss(anchored, TARGET, ALL).item() == pytest.approx(0, abs=1e-5)
    moved = relative_depth_loss(5 * anchored + 3, TARGET, ALL)
    rest = ANCHOR_WEIGHT * anchor_loss(5 * anchored + 3, TARGET, ALL)
    torch.testing.assert_close(moved, rest, rtol=1e-4, atol=1e-4)
    assert relative_depth_loss(anchored.flip(-1), TARGET, ALL) > 0.1


def test_gradient_loss_equals_the_hand_worked_value() -> None:
    # Full size: horizontal steps of 2, vertical of 0. Half size and below: one pixel is left.
    error = torch.tensor([[[0.0, 2.0], [0.0, 2.0]]])
    loss = gradient_loss(error, torch.ones(1, 2, 2, dtype=torch.bool))
    assert loss.item() == pytest.approx(2 / 4)


def test_gradients_across_unknown_pixels_do_not_count() -> None:
    error = torch.tensor([[[0.0, 50.0, 1.0], [0.0, 50.0, 1.0]]])
    valid = torch.tensor([[[True, False, True], [True, False, True]]])
    # At half size the first and the third column are neighbours, 1 apart.
    assert gradient_loss(error, valid).item() == pytest.approx(1 / 4)


def test_relative_loss_equals_the_hand_worked_value() -> None:
    # Errors 1 and 1; divisors 1 + 0.1 and 3 + 0.1.
    target = torch.tensor([[[1.0, 3.0]]])
    loss = relative_loss(target + 1, target, torch.ones(1, 1, 2, dtype=torch.bool))
    expected = (torch.tanh(torch.tensor(1 / 1.1)) + torch.tanh(torch.tensor(1 / 3.1))) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_order_costs_nothing_where_it_is_right() -> None:
    torch.manual_seed(0)
    assert order_loss(TARGET, TARGET, ALL).item() == 0
    # Farther apart than in truth is in order too.
    assert order_loss(3 * TARGET, TARGET, ALL).item() == 0


def test_order_of_far_pixels_counts_as_that_of_near_ones() -> None:
    near, far = torch.tensor([[[4.0, 5.0]]]), torch.tensor([[[0.4, 0.5]]])
    both = torch.ones(1, 1, 2, dtype=torch.bool)
    costs = [order_loss(target.flip(-1), target, both) for target in (near, far)]
    # Every pair leads by −1 / 4.5 of the mean where it should by 1 / 4.5, with the floor's 2 %.
    expected = 2 * (1 / (4.5 * 1.02)) / 0.5
    for cost in costs:
        assert cost.item() == pytest.approx(expected, rel=1e-4)


def test_pixels_without_order_or_measurement_do_not_count() -> None:
    target = torch.tensor([[[1.0, 1.05, 3.0]]])
    valid = torch.tensor([[[True, True, False]]])
    assert order_loss(target.flip(-1), target, valid).item() == 0


def test_near_must_not_become_far() -> None:
    inverted = (2 - TARGET / 2.5).requires_grad_()
    constant = torch.ones_like(TARGET)
    loss = relative_depth_loss(inverted, TARGET, ALL)
    assert loss > relative_depth_loss(constant, TARGET, ALL)
    loss.backward()
    assert inverted.grad is not None
    # A step against the gradient turns the order round: near pixels rise, far ones fall.
    assert inverted.grad[0, 1, 2] < inverted.grad[0, 0, 0]


def test_a_constant_prediction_costs_one_spread() -> None:
    constant = torch.ones_like(TARGET)
    floor = ANCHOR_WEIGHT * anchor_loss(constant, TARGET, ALL)
    assert 1 < (relative_depth_loss(constant, TARGET, ALL) - floor).item() < 2.5


def test_anchor_rests_at_the_target_over_its_mean() -> None:
    assert anchor_loss(TARGET / 2.5, TARGET, ALL).item() == pytest.approx(0, abs=1e-6)
    assert anchor_loss(TARGET / 2.5 + 0.25, TARGET, ALL).item() == pytest.approx(0.25, rel=1e-5)


def test_an_image_without_valid_pixels_gives_finite_gradients() -> None:
    predicted = torch.rand(2, 8, 8, requires_grad=True)
    valid = torch.zeros(2, 8, 8, dtype=torch.bool)
    valid[1] = True
    loss = relative_depth_loss(predicted, torch.rand(2, 8, 8), valid)
    loss.backward()
    assert torch.isfinite(loss)
    assert predicted.grad is not None
    assert torch.isfinite(predicted.grad).all()
    assert (predicted.grad[0] == 0).all()


LABELS = torch.tensor([[[0, 2], [1, 255]]])
NONE = torch.zeros(1, 3, dtype=torch.bool)


def test_a_labelled_pixel_costs_its_cross_entropy_and_an_unknown_one_nothing() -> None:
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    loss = possible_label_loss(logits, LABELS, NONE, ignore_index=255)
    expected = torch.nn.functional.cross_entropy(logits, LABELS, ignore_index=255)
    torch.testing.assert_close(loss, expected)


def test_a_pixel_that_is_not_of_a_class_costs_what_that_class_is_likely() -> None:
    labels = torch.full((1, 1, 1), 255)
    absent = torch.tensor([[False, True, False]])
    logits = torch.tensor([0.2, 0.5, 0.3]).log()[None, :, None, None].requires_grad_()
    loss = possible_label_loss(logits, labels, absent, ignore_index=255)
    assert float(loss.detach()) == pytest.approx(-math.log(0.5), abs=1e-6)
    loss.backward()
    assert logits.grad is not None
    # Away from what it is not, and among the others nothing changes but in proportion.
    push = logits.grad.flatten()
    assert push[1] > 0
    assert float(push[0] / push[2]) == pytest.approx(0.2 / 0.3, rel=1e-4)


def test_classes_that_are_absent_from_one_image_may_be_in_another() -> None:
    labels = torch.full((2, 1, 1), 255)
    absent = torch.tensor([[True, False], [False, False]])
    loss = possible_label_loss(torch.zeros(2, 2, 1, 1), labels, absent, ignore_index=255)
    assert float(loss) == pytest.approx(math.log(2), abs=1e-6)


def test_classes_are_told_apart_within_groups_and_the_teachers_groups_stay() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 5, 4, 6, generator=generator, requires_grad=True)
    groups = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]], dtype=torch.bool)
    likeliest = [logits.detach()[:, group].amax(dim=1) for group in groups]
    kept = torch.log_softmax(torch.stack(likeliest, dim=1), dim=1)
    labels = torch.full((2, 4, 6), -1)
    labels[0, 0, :3] = torch.tensor([3, 7, 4])  # a class; any of group 2; a group's only class
    loss = parting_loss(logits, labels, groups, kept)
    odds = logits[0, 2:4, 0, 0].detach()
    # The two that say no more than the group cost nothing: of three known, one counts for a half.
    torch.testing.assert_close(loss, -torch.log_softmax(odds, dim=0)[1] / 2)
    [gradient] = torch.autograd.grad(loss, logits)
    assert gradient[0, 3, 0, 0] < 0 < gradient[0, 2, 0, 0]
    assert gradient[0, 2:4, 0, 0].sum().abs() < 1e-6
    gradient[0, 2:4, 0, 0] = 0
    assert gradient.abs().max() < 1e-6


def test_a_rare_class_counts_by_the_root_of_its_pixels() -> None:
    groups = torch.ones(1, 2, dtype=torch.bool)
    logits = torch.zeros(1, 2, 1, 10, requires_grad=True)
    labels = torch.zeros(1, 1, 10, dtype=torch.long)
    labels[..., 9] = 1  # nine pixels of one class, one of the other
    parting_loss(logits, labels, groups, torch.zeros(1, 1, 1, 10)).backward()
    pull = logits.grad[0, 0, 0]
    assert float(pull[9] / -pull[:9].sum()) == pytest.approx(1 / 3)


def test_groups_count_by_their_likeliest_class_and_pay_for_leaving_the_teachers() -> None:
    groups = torch.tensor([[1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    kept = torch.tensor([0.75, 0.25]).log()[None, :, None, None]
    logits = torch.tensor([0.3, 0.2, 0.6]).log()[None, :, None, None]  # a third, two thirds
    loss = parting_loss(logits, torch.full((1, 1, 1), -1), groups, kept)
    divergence = 0.75 * math.log(0.75 * 3) + 0.25 * math.log(0.25 * 3 / 2)
    assert float(loss) == pytest.approx(KEEP_WEIGHT * divergence)
