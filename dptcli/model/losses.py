"""The losses that the models compute when they are given labels.

B batch, H×W pixels. Depth labels are depths: pixels that are zero, negative or not finite were
not measured and do not count.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dptcli.errors import ConfigError, ShapeError
from dptcli.kinds import Kind


def depth_loss(predicted: Tensor, depth: Tensor, *, kind: Kind) -> Tensor:
    """The loss of a depth model for measured depths.

    predicted: (B, h, w), of the kind, resized bilinearly to the labels. depth: (B, H, W), in
    metres where the kind is, else in any unit. Heights are compared as they are, in metres.
    Returns a scalar; 0 where nothing was measured.
    """
    if depth.dim() != 3 or len(depth) != len(predicted):
        raise ShapeError(
            f"labels: shape {tuple(depth.shape)} must be ({len(predicted)}, height, width)"
        )
    depth = depth.to(torch.float32)
    valid = depth.isfinite() & (depth > 0)
    predicted = F.interpolate(
        predicted.float().unsqueeze(1), size=depth.shape[-2:], mode="bilinear", align_corners=False
    ).squeeze(1)
    safe_depth = torch.where(valid, depth, torch.ones_like(depth))
    if kind == "depth_m":
        return silog_loss(predicted, safe_depth, valid)
    if kind == "height_m":
        return ((predicted - safe_depth).abs() * valid).sum() / valid.sum().clamp(min=1)
    if kind == "depth":
        return scale_shift_invariant_loss(predicted, safe_depth, valid)
    return scale_shift_invariant_loss(predicted, 1.0 / safe_depth, valid)


def scale_shift_invariant_loss(predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error after aligning each image (Ranftl et al. 2020, equations 4–6).

    predicted, target: both inverse depths or both depths (B, H, W); valid: bool (B, H,
    W). Both are shifted to a zero median and scaled to a mean absolute deviation of one over the
    valid pixels, so neither scale nor shift counts. Returns the mean over all images' valid pixels.
    """
    difference = (_standardized(predicted, valid) - _standardized(target, valid)).abs()
    return (difference * valid).sum() / valid.sum().clamp(min=1)


def _standardized(values: Tensor, valid: Tensor) -> Tensor:
    blank = values.new_tensor(float("nan"))
    shift = torch.where(valid, values, blank).flatten(1).nanmedian(dim=1).values
    shift = torch.nan_to_num(shift)[:, None, None]  # an image without valid pixels
    count = valid.sum(dim=(1, 2)).clamp(min=1)
    scale = ((values - shift).abs() * valid).sum(dim=(1, 2)) / count
    # A constant map has no scale; the floor keeps its gradient finite.
    return (values - shift) / scale.clamp(min=1e-6)[:, None, None]


def silog_loss(
    predicted: Tensor, target: Tensor, valid: Tensor, *, variance_focus: float = 0.5
) -> Tensor:
    """Scale-invariant log error (Eigen et al. 2014), as the root of its mean over the images.

    predicted, target: depths in metres (B, H, W); valid: bool (B, H, W). variance_focus: how much
    of a common factor is forgiven, 0 none and 1 all.
    """
    log_ratio = torch.log(predicted.clamp(min=1e-3)) - torch.log(target)
    log_ratio = log_ratio * valid
    count = valid.sum(dim=(1, 2)).clamp(min=1)
    mean = log_ratio.sum(dim=(1, 2)) / count
    mean_square = log_ratio.square().sum(dim=(1, 2)) / count
    # The floor keeps the root's gradient finite where the prediction is perfect.
    per_image = (mean_square - variance_focus * mean.square()).clamp(min=1e-12).sqrt()
    measured = valid.any(dim=2).any(dim=1)
    return (per_image * measured).sum() / measured.sum().clamp(min=1)


def segmentation_loss(
    logits: Tensor,
    auxiliary_logits: Tensor | None,
    labels: Tensor,
    *,
    ignore_index: int,
    auxiliary_weight: float,
) -> Tensor:
    """Cross entropy on logits resized to the labels, plus the weighted auxiliary one.

    logits: (B, num_labels, h, w); labels: class ids (B, H, W), `ignore_index` does not count.
    Raises ShapeError, and ConfigError for ids that are no classes.
    """
    if labels.dim() != 3 or len(labels) != len(logits):
        raise ShapeError(
            f"labels: shape {tuple(labels.shape)} must be ({len(logits)}, height, width)"
        )
    loss = _cross_entropy(logits, labels, ignore_index)
    if auxiliary_logits is not None:
        loss = loss + auxiliary_weight * _cross_entropy(auxiliary_logits, labels, ignore_index)
    return loss


def _cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    resized = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    try:
        return F.cross_entropy(resized, labels.long(), ignore_index=ignore_index)
    except IndexError as error:  # as a CPU tells it; a GPU stops
        raise ConfigError(
            f"labels: {int(labels.min())} to {int(labels.max())} must be class ids from 0 to "
            f"{logits.shape[1] - 1}, or {ignore_index} where there is none "
            "(semantic_loss_ignore_index)"
        ) from error
