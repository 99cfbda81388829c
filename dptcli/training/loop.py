"""The training loop: frozen or full backbone, cosine schedule, average weights, exact resumption.

What a step sees is drawn from (seed, step) alone and a checkpoint holds everything else, so a run
that is killed at any moment and started again ends with the same weights.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import UsageError
from dptcli.files import atomic_path
from dptcli.model.dpt import DensePredictor, DPTForDepthEstimation, DPTForSemanticSegmentation
from dptcli.model.losses import segmentation_loss, silog_loss
from dptcli.training.batches import Batch, FeatureCache, Source, TrainOptions, precision
from dptcli.training.data import IGNORE_LABEL, Pair
from dptcli.training.losses import relative_depth_loss

logger = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint.pt"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is reported after a step. validation: the loss on held-out pairs, where computed."""

    step: int
    loss: float
    seconds: float
    validation: float | None


def batch_loss(model: DensePredictor, batch: Batch) -> Tensor:
    """The training loss of either task on a batch."""
    maps = batch.maps
    if maps is None:
        assert batch.pixel_values is not None
        maps = model.features(batch.pixel_values).maps
    fused = model.neck(maps)
    if isinstance(model, DPTForSemanticSegmentation):
        auxiliary = None if model.auxiliary_head is None else model.auxiliary_head(fused)
        return segmentation_loss(
            model.head(fused),
            auxiliary,
            batch.labels,
            ignore_index=IGNORE_LABEL,
            auxiliary_weight=model.config.auxiliary_loss_weight,
        )
    assert isinstance(model, DPTForDepthEstimation)
    hw = batch.inverse_depth.shape[-2:]
    predicted = F.interpolate(
        model.head(fused).float()[:, None], size=hw, mode="bilinear", align_corners=False
    )[:, 0]
    if model.config.depth_estimation_type == "metric":
        measured = batch.valid & (batch.inverse_depth > 0)
        depth_m = 1 / batch.inverse_depth.clamp(min=1e-6)
        return silog_loss(predicted, depth_m, measured)
    return relative_depth_loss(predicted, batch.inverse_depth, batch.valid)


def learning_rate_at(step: int, options: TrainOptions) -> float:
    """The factor on the learning rate: a linear warm-up, then half a cosine down to 1 %."""
    if step < options.warmup:
        return (step + 1) / options.warmup
    part = (step - options.warmup) / max(1, options.steps - options.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))


def _groups(model: DensePredictor, options: TrainOptions) -> list[dict[str, Any]]:
    backbone = model.backbone if model.backbone is not None else model.dpt
    assert backbone is not None
    inside = {id(parameter) for parameter in backbone.parameters()}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    backbone.requires_grad_(not options.is_frozen)
    groups: list[dict[str, Any]] = [{"params": rest, "base": options.learning_rate}]
    if not options.is_frozen:
        groups.append({"params": list(backbone.parameters()), "base": options.backbone_rate})
    return groups


class _Average:
    """An exponential moving average of the trained tensors."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: tensor.clone() for name, tensor in _trained(model).items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step; early steps count more, so that the start is left."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in _trained(model).items():
            if tensor.is_floating_point():
                self.values[name].lerp_(tensor, 1 - decay)
            else:
                self.values[name].copy_(tensor)


def _trained(model: nn.Module) -> dict[str, Tensor]:
    """Trained tensors and the statistics of the layers that hold any."""
    learned = {name for name, value in model.named_parameters() if value.requires_grad}
    owners = {name.rpartition(".")[0] for name in learned}
    return {
        name: tensor.detach()
        for name, tensor in model.state_dict().items()
        if name in learned or name.rpartition(".")[0] in owners
    }


@torch.no_grad()
def validation_loss(model: DensePredictor, source: Source) -> float:
    """The mean loss on whole, undistorted images."""
    was_training = model.training
    model.eval()
    with precision(model, source.options):
        losses = [float(batch_loss(model, batch)) for batch in source.batches()]
    model.train(was_training)
    return sum(losses) / len(losses)


def train(
    model: DensePredictor,
    pairs: Sequence[Pair],
    folder: Path,
    *,
    options: TrainOptions,
    held_out: Sequence[Pair] = (),
    cache: FeatureCache | None = None,
    report: Callable[[Progress], None] | None = None,
) -> DensePredictor:
    """Train `model` in place; the model with its averaged weights, ready to save.

    `folder` holds the checkpoint, from which a run with the same options goes on. Raises
    UsageError where there is nothing to learn from, or the checkpoint is of other options. A
    `cache` of another run on the same pairs, frozen backbone, seed and shapes saves its work.
    """
    if not pairs:
        raise UsageError("nothing to train on: the list of pairs is empty")
    groups = _groups(model, options)
    optimizer = torch.optim.AdamW(
        groups, lr=options.learning_rate, weight_decay=options.weight_decay
    )
    average = _Average(model, options.average)
    first = _resume(folder / CHECKPOINT_NAME, model, optimizer, average, options)
    source = Source(model, pairs, options, cache=cache or FeatureCache())
    check = Source(model, held_out, options, augment=False)
    model.train()
    for step in range(first, options.steps):
        began = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * learning_rate_at(step, options)
        loss = _step(model, source, optimizer, step, options)
        average.update(model, step)
        done = step + 1
        validation = None
        if held_out and (done % options.validate_every == 0 or done == options.steps):
            validation = _validate(model, average, check)
        if done % options.checkpoint_every == 0 or done == options.steps:
            _save(folder / CHECKPOINT_NAME, model, optimizer, average, options, done)
        if report is not None:
            report(
                Progress(
                    step=done, loss=loss, seconds=time.monotonic() - began, validation=validation
                )
            )
    model.load_state_dict(average.values, strict=False)
    return model.eval()


def _step(
    model: DensePredictor,
    source: Source,
    optimizer: torch.optim.Optimizer,
    step: int,
    options: TrainOptions,
) -> float:
    torch.manual_seed(options.seed * 1_000_003 + step)  # dropout
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for part in range(options.accumulate):
        batch = source.batch(step * options.accumulate + part)
        with precision(model, options):
            loss = batch_loss(model, batch) / options.accumulate
        if not torch.isfinite(loss):
            logger.warning("step %d: the loss is not finite; the batch is left out", step)
            continue
        loss.backward()
        total += float(loss.detach())
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return total


def _validate(model: DensePredictor, average: _Average, check: Source) -> float:
    """The validation loss with the averaged weights."""
    current = {name: tensor.clone() for name, tensor in _trained(model).items()}
    model.load_state_dict(average.values, strict=False)
    loss = validation_loss(model, check)
    model.load_state_dict(current, strict=False)
    return loss


def _save(
    path: Path,
    model: DensePredictor,
    optimizer: torch.optim.Optimizer,
    average: _Average,
    options: TrainOptions,
    step: int,
) -> None:
    with atomic_path(path) as temporary:
        torch.save(
            {
                "step": step,
                "options": asdict(options),
                "weights": _trained(model),
                "average": average.values,
                "optimizer": optimizer.state_dict(),
            },
            temporary,
        )


def _resume(
    path: Path,
    model: DensePredictor,
    optimizer: torch.optim.Optimizer,
    average: _Average,
    options: TrainOptions,
) -> int:
    """Take up the checkpoint where there is one; the number of steps done."""
    if not path.is_file():
        return 0
    state = torch.load(path, map_location=model.device, weights_only=True)
    if state["options"] != asdict(options):
        changed = [
            key for key, value in asdict(options).items() if state["options"].get(key) != value
        ]
        raise UsageError(
            f"{path} is of a run with other options ({', '.join(changed)}); "
            "use the same, or another folder"
        )
    model.load_state_dict(state["weights"], strict=False)
    average.values = dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
