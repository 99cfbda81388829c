"""Training losses for relative depth and for partly known classes.

Those of depth compare a prediction with inverse depths (B, H, W) that are known where `valid`
(bool, B, H, W); 0 is infinitely far (sky). None depends on the prediction's scale or shift, but for
the anchor.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_GRADIENT_SCALES = 4
GRADIENT_WEIGHT = 1.0
RELATIVE_WEIGHT = 0.75
ORDER_WEIGHT = 0.2
ANCHOR_WEIGHT = 0.2
KEEP_WEIGHT = 4.0
"""What a teacher's groups of classes count beside telling classes apart in each."""
NUM_ORDER_PAIRS = 4000
ORDER_MARGIN = 0.1
"""Two depths that differ by less than this share of their mean have no order."""
ENOUGH_LEAD = 0.25
"""By how much of their mean the nearer pixel must lead, if the truth differs by as much."""


def relative_depth_loss(predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The sum that a relative depth model is trained with.

    After least-squares alignment: absolute error and multi-scale gradients in units of the
    target's own spread (MiDaS, Ranftl et al. 2020, sections 5 and 6), the error relative to the
    pixel's inverse depth, and the order of pairs of pixels. A weak anchor keeps the output
    positive with sky at zero. Alignment bounds every term: a constant prediction costs 1, not
    infinity as under its own spread.
    """
    aligned = align(predicted, target, valid)
    error = (aligned - target) / _spread(target, valid)[:, None, None]
    return (
        _mean(error.abs(), valid)
        + GRADIENT_WEIGHT * gradient_loss(error, valid)
        + RELATIVE_WEIGHT * relative_loss(aligned, target, valid)
        + ORDER_WEIGHT * order_loss(aligned, target, valid)
        + ANCHOR_WEIGHT * anchor_loss(predicted, target, valid)
    )


def possible_label_loss(
    logits: Tensor,
    labels: Tensor,
    absent: Tensor | None = None,
    groups: Tensor | None = None,
    *,
    ignore_index: int,
) -> Tensor:
    """Minus the logarithm of the probability of what a pixel may be, as a mean over pixels.

    logits: (B, num_labels, h, w), resized to the labels; labels: class ids (B, H, W), or
    num_labels + k for any class of group k. groups: bool (G, num_labels). absent: bool
    (B, num_labels), the classes that pixels of `ignore_index` certainly are not. For a pixel whose
    class is known this is the cross entropy; one of which nothing is known does not count.
    """
    logits = F.interpolate(
        logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False
    )
    labels = labels.long()
    known = labels != ignore_index
    scores = torch.log_softmax(logits, dim=1)
    if groups is not None:
        scores = torch.cat([scores, group_scores(scores, groups)], dim=1)
    likely = scores.gather(1, torch.where(known, labels, 0)[:, None])[:, 0]
    if absent is not None:
        partly = ~known & absent.any(dim=1)[:, None, None]
        allowed = scores[:, : absent.shape[1]].masked_fill(absent[:, :, None, None], float("-inf"))
        likely = torch.where(known, likely, allowed.logsumexp(dim=1))
        known = known | partly
    # Rounding may leave a sum of probabilities just above one.
    return _mean(-likely.clamp(max=0), known)


def parting_loss(logits: Tensor, labels: Tensor, groups: Tensor, kept: Tensor) -> Tensor:
    """Learn to tell the classes of a group apart, and keep what a teacher says of the groups.

    logits: (B, num_labels, h, w), resized to the labels; labels: class ids (B, H, W), others say
    nothing. groups: bool (G, num_labels), every class in one. kept: the teacher's logarithms of the
    groups' probabilities (B, G, H, W). The cross entropy within the labelled class's group, and
    the divergence of the groups from the teacher's at every pixel (distillation, Hinton et al.
    2015): few labels tell classes apart without moving the borders of the groups. A group counts
    by its likeliest class, which is the one that is shown: by their sum, a group of many classes
    would lose to one of a single class that is half as likely. A class counts by the root of its
    pixels in the batch: by their number, chairs would be tables, of which there are more.
    """
    logits = F.interpolate(
        logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False
    )
    shown = torch.stack([logits[:, group].amax(dim=1) for group in groups], dim=1)
    divergence = F.kl_div(
        torch.log_softmax(shown, dim=1), kept, log_target=True, reduction="none"
    ).sum(dim=1)
    labels = labels.long()
    known = (labels >= 0) & (labels < logits.shape[1])
    label = torch.where(known, labels, 0)[:, None]
    group = groups.int().argmax(dim=0)[label]
    within = (logits.gather(1, label) - group_scores(logits, groups).gather(1, group))[:, 0]
    num_pixels = torch.bincount(label[known[:, None]], minlength=logits.shape[1])
    weights = known * num_pixels.clamp(min=1).rsqrt()[label[:, 0]]
    return KEEP_WEIGHT * divergence.mean() + _mean(-within.clamp(max=0), weights)


def group_scores(scores: Tensor, groups: Tensor) -> Tensor:
    """Logarithms of the sums (B, G, H, W) over each group's classes, from their own logarithms."""
    return torch.stack([scores[:, group].logsumexp(dim=1) for group in groups], dim=1)


def align(predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The prediction with each image's least-squares scale and shift to the target (B, H, W).

    The scale stays positive, since near must not become far: where the fit's is not, the
    prediction keeps a tenth of the target's spread and so pays for its direction. An image whose
    prediction is constant gets the target's mean.
    """
    mean_predicted = _means(predicted, valid)[:, None, None]
    mean_target = _means(target, valid)[:, None, None]
    centred = predicted - mean_predicted
    variance = _means(centred.square(), valid)
    covariance = _means(centred * (target - mean_target), valid)
    spread = _means((target - mean_target).square(), valid).sqrt()
    least = 0.1 * spread / variance.clamp(min=1e-8).sqrt()
    scale = torch.maximum(covariance / variance.clamp(min=1e-8), least.detach())
    return centred * scale[:, None, None] + mean_target


def relative_loss(aligned: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean |aligned − target| ÷ target, bounded at 1, so that far pixels count as near ones do.

    The floor of the divisor is a twentieth of the image's mean inverse depth: beyond it, and in
    the sky, errors count absolutely.
    """
    floor = 0.05 * _means(target, valid)[:, None, None]
    # tanh keeps outliers, such as a thin pole missed, from ruling the step.
    return _mean(torch.tanh((aligned - target).abs() / (target + floor).clamp(min=1e-6)), valid)


def order_loss(aligned: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """How often, and by how much, the farther of two pixels is predicted nearer.

    Pairs that are drawn at random and differ by more than ORDER_MARGIN; each is worth the same
    near and far: a hinge on the difference relative to the pair's mean inverse depth, 0 where it is
    at least ENOUGH_LEAD or the true one. Draws from torch's random state.
    """
    target, aligned = target.flatten(1), aligned.flatten(1)
    known = valid.flatten(1) > 0
    first, second = torch.randint(
        target.shape[1], (2, NUM_ORDER_PAIRS), device=target.device
    ).unbind()
    floor = 0.02 * _means(target, known, dim=1)[:, None]
    mean = (target[:, first] + target[:, second]) / 2 + floor
    apart = target[:, first] - target[:, second]
    counts = known[:, first] & known[:, second] & (apart.abs() > ORDER_MARGIN * mean)
    lead = (aligned[:, first] - aligned[:, second]) * apart.sign() / mean
    wanted = (apart.abs() / mean).clamp(max=ENOUGH_LEAD)
    return _mean(F.relu(wanted - lead.clamp(min=-2)), counts) / (2 * ENOUGH_LEAD)


def gradient_loss(error: Tensor, valid: Tensor) -> Tensor:
    """Differences of the error (B, H, W) between neighbours, at four scales: crisp edges."""
    total = error.new_zeros(())
    for scale in range(NUM_GRADIENT_SCALES):
        step = 2**scale
        part, known = error[:, ::step, ::step], valid[:, ::step, ::step]
        for dim in (1, 2):
            length = part.shape[dim] - 1
            if length > 0:
                both = known.narrow(dim, 0, length) & known.narrow(dim, 1, length)
                change = part.narrow(dim, 1, length) - part.narrow(dim, 0, length)
                total = total + _mean(change.abs(), both)
    return total / NUM_GRADIENT_SCALES


def anchor_loss(predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean |prediction − target ÷ its mean|: gives the free scale and shift a value to rest at."""
    mean = _means(target, valid).clamp(min=1e-8)[:, None, None]
    return _mean((predicted - target / mean).abs(), valid)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """The mean over the valid pixels of all images, or by their weights; 0 without any."""
    return (values * valid).sum() / valid.sum().clamp(min=1e-6)


def _means(values: Tensor, valid: Tensor, *, dim: int | tuple[int, ...] = (1, 2)) -> Tensor:
    """The mean over each image's valid pixels (B,)."""
    return (values * valid).sum(dim=dim) / valid.sum(dim=dim).clamp(min=1)


def _spread(values: Tensor, valid: Tensor) -> Tensor:
    """The mean absolute deviation over each image's valid pixels (B,), never 0."""
    centred = values - _means(values, valid)[:, None, None]
    return _means(centred.abs(), valid).clamp(min=1e-6)
