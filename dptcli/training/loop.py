"""The training loop: frozen or full backbone, cosine schedule, average weights, exact resumption.

What a step sees is drawn from (seed, step) alone and a checkpoint holds everything else, so a run
that is killed at any moment and started again ends with the same weights.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dptcli.errors import UsageError
from dptcli.kinds import kind_of
from dptcli.model.dpt import DPTForDepthEstimation, DPTForSemanticSegmentation
from dptcli.model.layers import FeatureMap
from dptcli.model.losses import depth_loss, segmentation_loss
from dptcli.results.files import atomic_path
from dptcli.training.batches import Batch, Source, TrainOptions, precision
from dptcli.training.data import IGNORE_LABEL, Example
from dptcli.training.features import FeatureCache
from dptcli.training.feed import feed
from dptcli.training.losses import (
    group_scores,
    parting_loss,
    possible_label_loss,
    relative_depth_loss,
)
from dptcli.training.optimizers import make_optimizers
from dptcli.training.twins import Learner, Twins, backbone_of, feature_maps, select

logger = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint.pt"
Teacher = DPTForSemanticSegmentation
LABEL_WEIGHT = 1.0
"""What the loss of classes counts beside that of depth, where both are trained."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is reported after a step. validation: the loss on held-out examples, where computed."""

    step: int
    loss: float
    seconds: float
    validation: float | None


def batch_loss(model: Learner, batch: Batch, teacher: Teacher | None = None) -> Tensor:
    """The training loss of either task, or of both, on a batch; `teacher` as for `train`."""
    maps = batch.maps
    if maps is None:
        assert batch.pixel_values is not None
        maps = feature_maps(model, batch.pixel_values)
    if isinstance(model, Twins):
        return _both_losses(model, maps, batch)
    if isinstance(model, DPTForSemanticSegmentation):
        return _label_loss(model, maps, batch, teacher)
    assert isinstance(model, DPTForDepthEstimation)
    return _depth_loss(model, maps, batch)


def _both_losses(model: Twins, maps: list[FeatureMap], batch: Batch) -> Tensor:
    """The sum over both tasks, each on the images that tell something of it."""
    has_depth = batch.valid.flatten(1).any(dim=1)
    has_labels = (batch.labels != IGNORE_LABEL).flatten(1).any(dim=1)
    if batch.absent is not None:
        has_labels = has_labels | batch.absent.any(dim=1)
    # A sum of nothing has no gradient; this one has that of zero.
    total = 0.0 * maps[-1].map.mean()
    if has_depth.any():
        total = total + _depth_loss(model.depth, select(maps, has_depth), batch.where(has_depth))
    if has_labels.any():
        part = _label_loss(model.segment, select(maps, has_labels), batch.where(has_labels))
        total = total + LABEL_WEIGHT * part
    return total


def _label_loss(
    model: DPTForSemanticSegmentation,
    maps: list[FeatureMap],
    batch: Batch,
    teacher: Teacher | None = None,
) -> Tensor:
    fused = model.neck(maps, num_fused=None if batch.level < 0 else batch.level + 1)
    logits = model.head(fused)
    labels = batch.labels
    if batch.level >= 0:
        # As for depth: a coarse map is judged at its own size.
        labels = _nearest(labels, (logits.shape[-2], logits.shape[-1]))
    if teacher is not None:
        assert batch.groups is not None
        kept = _kept(teacher, maps, batch.groups, (labels.shape[-2], labels.shape[-1]))
        return parting_loss(logits, labels, batch.groups, kept)
    if batch.absent is not None or batch.groups is not None:
        return possible_label_loss(
            logits, labels, batch.absent, batch.groups, ignore_index=IGNORE_LABEL
        )
    return segmentation_loss(
        logits,
        None if model.auxiliary_head is None else model.auxiliary_head(fused),
        labels,
        ignore_index=IGNORE_LABEL,
        auxiliary_weight=model.config.auxiliary_loss_weight,
    )


@torch.no_grad()
def _kept(teacher: Teacher, maps: list[FeatureMap], groups: Tensor, hw: tuple[int, int]) -> Tensor:
    """What the teacher says of groups of classes at its finest map: (B, G, H, W), logarithms."""
    logits = F.interpolate(
        teacher.head(teacher.neck(maps)).float(), size=hw, mode="bilinear", align_corners=False
    )
    return group_scores(torch.log_softmax(logits, dim=1), groups)


def _depth_loss(model: DPTForDepthEstimation, maps: list[FeatureMap], batch: Batch) -> Tensor:
    fused = model.neck(maps, num_fused=None if batch.level < 0 else batch.level + 1)
    if batch.level >= 0:
        return _coarse_depth_loss(model.head(fused).float(), batch)
    hw = batch.inverse_depth.shape[-2:]
    predicted = F.interpolate(
        model.head(fused).float()[:, None], size=hw, mode="bilinear", align_corners=False
    )[:, 0]
    kind = kind_of(model.config)
    if kind != "inverse_depth":
        # Sky is known to be far, and has no depth.
        depth = torch.where(batch.valid, 1 / batch.inverse_depth.clamp(min=1e-6), 0)
        return depth_loss(predicted, torch.where(batch.inverse_depth > 0, depth, 0), kind=kind)
    return relative_depth_loss(predicted, batch.inverse_depth, batch.valid)


def _coarse_depth_loss(predicted: Tensor, batch: Batch) -> Tensor:
    """The loss of relative depth at the size of a coarse prediction (B, h, w).

    A target pixel is the one nearest to the prediction's: a mean across an edge is no depth.
    """
    hw = (predicted.shape[-2], predicted.shape[-1])
    target, valid = _nearest(batch.inverse_depth, hw), _nearest(batch.valid, hw)
    return relative_depth_loss(predicted, target, valid > 0)


def _nearest(values: Tensor, hw: tuple[int, int]) -> Tensor:
    """Values (B, H, W) at the pixels (B, h, w) of a coarser map."""
    return F.interpolate(values[:, None].float(), size=hw, mode="nearest-exact")[:, 0]


def learning_rate_at(step: int, options: TrainOptions) -> float:
    """The factor on the learning rate: a linear warm-up, then half a cosine down to 1 %."""
    if step < options.warmup:
        return (step + 1) / options.warmup
    part = (step - options.warmup) / max(1, options.steps - options.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))


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
def validation_loss(model: Learner, source: Source, teacher: Teacher | None = None) -> float:
    """The mean loss on whole, undistorted images."""
    was_training = model.training
    model.eval()
    with precision(model, source.options):
        losses = [
            float(batch_loss(model, batch.to(model.device), teacher)) for batch in source.batches()
        ]
    model.train(was_training)
    return sum(losses) / len(losses)


class Run:
    """Everything that a checkpoint holds: optimizers, averaged weights, the best ones, history.

    teacher, about: as for `train`.
    """

    def __init__(
        self,
        model: Learner,
        options: TrainOptions,
        *,
        teacher: Teacher | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self.options = options
        self.about = dict(about or {})
        self.teacher = teacher
        self.optimizers = make_optimizers(model, options)
        # float16 has too few exponents for small gradients; a no-op for the other types.
        is_half = options.dtype == "float16"
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=is_half)
        self.average = _Average(model, options.average)
        self.best: dict[str, Tensor] | None = None
        self.step = 0
        self.losses: list[float] = []
        self.validations: list[tuple[int, float]] = []

    @property
    def is_exhausted(self) -> bool:
        """Whether the last `patience` validations brought nothing better."""
        losses = [loss for _, loss in self.validations]
        patience = self.options.patience
        return bool(losses) and 0 < patience <= len(losses) - 1 - losses.index(min(losses))

    def validate(self, check: Source) -> float:
        """The validation loss with the averaged weights; they are kept where it is the best."""
        current = {name: tensor.clone() for name, tensor in _trained(self.model).items()}
        self.model.load_state_dict(self.average.values, strict=False)
        loss = validation_loss(self.model, check, self.teacher)
        self.model.load_state_dict(current, strict=False)
        if all(loss < other for _, other in self.validations):
            self.best = {name: value.clone() for name, value in self.average.values.items()}
        self.validations.append((self.step, loss))
        return loss

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "options": asdict(self.options),
            "about": self.about,
            "step": self.step,
            "losses": self.losses,
            "validations": self.validations,
            "weights": _trained(self.model),
            "average": self.average.values,
            "best": self.best,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path) -> None:
        """Take up the checkpoint where there is one. UsageError if it is of other options."""
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.model.device, weights_only=True)
        wanted = asdict(self.options) | self.about
        before = state["options"] | state.get("about", {})
        if before != wanted:
            changed = [name for name in before | wanted if before.get(name) != wanted.get(name)]
            raise UsageError(
                f"{path} is of a run that was begun with another {', another '.join(changed)}; go "
                "on with the same, remove that file, or name another folder"
            )
        self.model.load_state_dict(state["weights"], strict=False)
        self.average.values = dict(state["average"])
        self.best = state["best"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.losses = state["step"], state["losses"]
        self.validations = [tuple(pair) for pair in state["validations"]]

    def take_step(self, next_loss: Callable[[], Tensor]) -> float:
        """Move the weights by `accumulate` losses, each computed when asked for; their sum."""
        model, options, step = self.model, self.options, self.step
        torch.manual_seed(options.seed * 1_000_003 + step)  # dropout
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group in groups:
            group["lr"] = group["base"] * learning_rate_at(step, options)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        total, num_good = 0.0, 0
        for _ in range(options.accumulate):
            with precision(model, options):
                loss = next_loss() / options.accumulate
            if not torch.isfinite(loss):
                logger.warning("step %d: the loss is not finite; the batch is left out", step + 1)
                continue
            self.scaler.scale(loss).backward()
            total += float(loss.detach())
            num_good += 1
        if num_good > 0:
            parameters = [value for group in groups for value in group["params"]]
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
            self.scaler.update()
        self.average.update(model, step)
        self.step += 1
        self.losses.append(total)
        return total


@dataclass(frozen=True, kw_only=True)
class History:
    """The training loss of every step, and (step, loss) of every validation."""

    losses: tuple[float, ...]
    validations: tuple[tuple[int, float], ...]


def train(
    model: Learner,
    examples: Sequence[Example],
    folder: Path,
    *,
    options: TrainOptions,
    held_out: Sequence[Example] = (),
    cache: FeatureCache | None = None,
    workers: int = 0,
    teacher: Teacher | None = None,
    report: Callable[[Progress], None] | None = None,
    about: Mapping[str, str] | None = None,
) -> History:
    """Train `model` in place; it ends with its averaged weights, the best validated ones.

    `folder` holds the checkpoint, from which a run with the same options goes on. about: what else
    must be the same then, by name: the checkpoint holds neither a frozen backbone nor the examples.
    Raises UsageError where there is nothing to learn from, or the checkpoint is of another run. A
    `cache` of another run on the same examples, frozen backbone, seed and shapes saves its work.
    workers: processes that prepare batches ahead, see `feed`. teacher: a model on the same frozen
    backbone, whose groups of classes a segmentation model keeps, see `parting_loss`.
    """
    if not examples:
        raise UsageError("nothing to train on: the set of pairs is empty")
    if teacher is not None and not options.is_frozen:
        raise UsageError("backbone_rate: a teacher of groups needs the backbone that it learnt on")
    run = Run(model, options, teacher=teacher, about=about)
    run.resume(folder / CHECKPOINT_NAME)
    source = Source(model, examples, options, cache=cache or FeatureCache())
    check = Source(model, held_out, options, augment=False)
    batches = feed(
        source,
        first=run.step * options.accumulate,
        end=options.steps * options.accumulate,
        workers=workers,
    )
    while run.step < options.steps and not run.is_exhausted:
        began = time.monotonic()
        _set_training(model, options)
        loss = run.take_step(lambda: batch_loss(model, next(batches), teacher))
        validation = None
        at_end = run.step == options.steps
        if held_out and (at_end or run.step % options.validate_every == 0):
            validation = run.validate(check)
        if at_end or run.is_exhausted or run.step % options.checkpoint_every == 0:
            run.save(folder / CHECKPOINT_NAME)
        if report is not None:
            seconds = time.monotonic() - began
            report(Progress(step=run.step, loss=loss, seconds=seconds, validation=validation))
    model.load_state_dict(run.best or run.average.values, strict=False)
    model.eval()
    return History(losses=tuple(run.losses), validations=tuple(run.validations))


def _set_training(model: Learner, options: TrainOptions) -> None:
    """Training mode, but for a frozen backbone, whose dropout would blur what is cached."""
    model.train()
    if options.is_frozen:
        backbone_of(model).eval()
