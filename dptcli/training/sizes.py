"""Teach the built-in model to see the whole at its own size: `python -m dptcli.training.sizes`.

    python -m dptcli.training.sizes TRAIN/segment --builtin B --work RUN

At a small size the network overlooks a photograph as in its training and gets the whole right; at
its own size it sees edges. What it sees at --sizes, laid under its map at its own size, is what
backbone and depth head learn to see there; the segmentation head stays, and the backbone keeps what
that says. Labels are not read. What is taught is kept in RUN; a run that is killed goes on.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dptcli.errors import DptError, UsageError
from dptcli.evaluation.pairs import read_pairs
from dptcli.inputs.find import decode_image
from dptcli.model.dpt import DensePredictor
from dptcli.model.layers import FeatureMap
from dptcli.pipeline import Pipeline, open_pipeline
from dptcli.processing.processor import DPTImageProcessor
from dptcli.results.files import atomic_path
from dptcli.training.batches import TrainOptions
from dptcli.training.builtin_model import (
    FOLDERS,
    PREFIX,
    processor_config,
    save_backbone,
    save_builtin,
    start_model,
    take_head,
)
from dptcli.training.data import IMAGENET_MEAN, IMAGENET_STD
from dptcli.training.loop import CHECKPOINT_NAME, learning_rate_at
from dptcli.training.losses import NUM_GRADIENT_SCALES, align, gradient_loss
from dptcli.training.teach import seen_depth

WINDOW = 1 / 6
"""The side of a window of the guided filter, as a share of the short side."""
_REGULAR = 1e-4  # of the guide's variance: a window of less has no edges to keep
_MOST_SLOPE = 3.0
# Keeping segmentation costs as much as a step of depth: every third step, for three.
_KEEP_EVERY = 3
_SAVE_EVERY = 50
_NORM = 1.0


def merge_sizes(
    fine: NDArray[np.float32], whole: NDArray[np.float32], *, network_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Inverse depth (H, W) with the whole of one map and the edges of another, never below 0.

    In every window the whole, aligned to the finer map, is a linear function of that (a guided
    filter, He et al. 2010). network_hw: what the network saw for `fine`; the grid of the fit.
    """
    guide = torch.from_numpy(np.ascontiguousarray(fine, np.float32))[None]
    below = torch.from_numpy(np.ascontiguousarray(whole, np.float32))[None]
    below = align(below, guide, torch.ones_like(guide, dtype=torch.bool))
    grid = min(guide.shape[1], network_hw[0]), min(guide.shape[2], network_hw[1])
    g, w = (F.interpolate(m[None], size=grid, mode="area").double() for m in (guide, below))
    radius = max(1, round(min(grid) * WINDOW / 2))

    def mean(x: Tensor) -> Tensor:
        side = 2 * radius + 1
        padded = F.pad(x, (radius,) * 4, mode="replicate")
        return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), stride=1), (1, side), stride=1)

    mean_g, mean_w = mean(g), mean(w)
    variance = mean(g * g) - mean_g.square() + _REGULAR * g.var()
    slope = ((mean(g * w) - mean_g * mean_w) / variance).clamp(0, _MOST_SLOPE)
    offset = mean_w - slope * mean_g
    slope, offset = (
        F.interpolate(mean(x).float(), size=guide.shape[1:], mode="bilinear", align_corners=False)
        for x in (slope, offset)
    )
    merged: NDArray[np.float32] = (slope[0, 0] * guide[0] + offset[0, 0]).clamp(min=0).numpy()
    return merged


def write_target(path: Path, image: Path, *, fine: Pipeline, coarse: Sequence[Pipeline]) -> None:
    """Write what is taught of a photograph, inverse depth float32 (H, W), where it is not there."""
    if path.exists():
        return
    rgb = decode_image(image)
    hw = fine.loaded.processor.network_hw((rgb.shape[0], rgb.shape[1]))
    target = merge_sizes(
        fine.predict_one(rgb).values, seen_depth(rgb, coarse, mirror=True), network_hw=hw
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, target)


@dataclass(frozen=True)
class Photograph:
    """A photograph as the network takes it, RGB uint8 (H, W, 3), and what is taught (H, W)."""

    rgb: NDArray[np.uint8]
    target: NDArray[np.float32]


def read_photograph(image: Path, target: Path, processor: DPTImageProcessor) -> Photograph:
    """Read a photograph at the network's size."""
    picture = Image.fromarray(decode_image(image))
    height, width = processor.network_hw((picture.height, picture.width))
    small = picture.resize((width, height), Image.Resampling.BICUBIC)
    taught = torch.from_numpy(np.load(target))[None, None]
    taught = F.interpolate(taught, size=(height, width), mode="area")[0, 0]
    return Photograph(np.asarray(small), taught.numpy())


def batches(
    photographs: Sequence[Photograph], *, batch_size: int, seed: int, first: int, end: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels (B, 3, H, W) and what is taught (B, H, W) of one size, for the steps from `first` on.

    Mirrored half of the time, and in a little other light.
    """
    groups: dict[tuple[int, ...], list[Photograph]] = {}
    for one in photographs:
        groups.setdefault(one.rgb.shape, []).append(one)
    members = list(groups.values())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    for step in range(first, end):
        chance = random.Random(f"{seed} {step}")
        [group] = chance.choices(members, [len(group) for group in members])
        chosen = chance.sample(group, min(batch_size, len(group)))
        pixels, targets = zip(*(_varied(one, chance) for one in chosen), strict=True)
        yield (torch.stack(pixels) - mean) / std, torch.stack(targets)


def _varied(one: Photograph, chance: random.Random) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(one.rgb.copy()).permute(2, 0, 1).float() / 255
    target = torch.from_numpy(one.target)
    if chance.random() < 0.5:
        pixels, target = pixels.flip(-1), target.flip(-1)
    pixels = (pixels * chance.uniform(0.9, 1.1)).clamp(0, 1) ** chance.uniform(0.9, 1.1)
    middle = pixels.mean()
    pixels = (middle + (pixels - middle) * chance.uniform(0.9, 1.1)).clamp(0, 1)
    grey = pixels.mean(dim=0, keepdim=True)
    return (grey + (pixels - grey) * chance.uniform(0.85, 1.15)).clamp(0, 1), target


def size_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Absolute and gradient error of inverse depth (B, H, W) in units of the target's spread."""
    middle = target.flatten(1).median(dim=1).values[:, None, None]
    spread = (target - middle).abs().mean(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    error = (predicted - target) / spread
    all_valid = torch.ones_like(error, dtype=torch.bool)
    return error.abs().mean() + NUM_GRADIENT_SCALES * gradient_loss(error, all_valid)


class Pupil:
    """The depth model that learns, and both heads of the teacher, whose backbone it begins with."""

    def __init__(self, builtin: Path, teacher: Path, *, bfloat16: bool) -> None:
        self.depth, self.segment = _model("depth", builtin), _model("segment", teacher)
        self.segment.requires_grad_(False)
        self.bfloat16 = bfloat16

    def loss(self, pixels: Tensor, target: Tensor, *, keeps: bool) -> Tensor:
        """The loss of a batch; keeps: with what segmentation loses by it, for `_KEEP_EVERY`."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            maps = _maps(self.depth, pixels)
            fused = self.depth.neck(maps)
            predicted = self.depth.head(fused).float()
            said = self._logits(maps) if keeps else None
        wanted = F.interpolate(
            target[:, None], size=predicted.shape[-2:], mode="bilinear", align_corners=False
        )
        loss = size_loss(predicted, wanted[:, 0])
        if said is None:
            return loss
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            kept = self._logits(_maps(self.segment, pixels))
        divergence = F.kl_div(said, kept, log_target=True, reduction="none").sum(dim=1)
        return loss + _KEEP_EVERY * divergence.mean()

    def _logits(self, maps: list[FeatureMap]) -> Tensor:
        """Logarithms of the classes' probabilities at every other pixel."""
        logits = self.segment.head(self.segment.neck(maps)).float()
        return torch.log_softmax(logits[:, :, ::2, ::2], dim=1)


def _maps(model: DensePredictor, pixels: Tensor) -> list[FeatureMap]:
    assert model.backbone is not None
    return model.backbone.features(pixels).maps


def _model(task: str, builtin: Path) -> DensePredictor:
    model = start_model(task, builtin, seed=0)
    take_head(model, builtin / FOLDERS[task])
    return model.eval()  # no layer of it behaves otherwise while it learns


def _parameters(model: DensePredictor) -> dict[bool, list[torch.nn.Parameter]]:
    """{whether they are the backbone's: parameters}."""
    found: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        found[name.startswith(PREFIX)].append(parameter)
    return found


def learn(
    pupil: Pupil, photographs: Sequence[Photograph], options: TrainOptions, *, work: Path, seed: int
) -> None:
    """Train, and leave the pupil with its averaged weights. Goes on from work's checkpoint."""
    model = pupil.depth
    groups = [
        {
            "params": parameters,
            "rate": options.backbone_rate if of_backbone else options.learning_rate,
        }
        for of_backbone, parameters in _parameters(model).items()
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.999))
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    first, path = 0, work / CHECKPOINT_NAME
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, average = state["step"], state["average"]
    stream = batches(
        photographs, batch_size=options.batch_size, seed=seed, first=first, end=options.steps
    )
    for step, (pixels, target) in enumerate(stream, start=first):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * learning_rate_at(step, options)
        optimizer.zero_grad(set_to_none=True)
        loss = pupil.loss(pixels, target, keeps=step % _KEEP_EVERY == 0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _NORM)
        optimizer.step()
        decay = min(options.average, (1 + step) / (10 + step))
        for name, value in model.named_parameters():
            average[name].lerp_(value.detach(), 1 - decay)
        done = step + 1
        if done % _SAVE_EVERY == 0 or done == options.steps:
            print(f"step {done}  loss {loss.item():.4f}", flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            with atomic_path(path) as temporary:
                torch.save({**state, "step": done, "average": average}, temporary)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(average[name])


def _photographs(sets: Path) -> list[Path]:
    """The photographs of all sets below a folder."""
    tables = sorted(sets.rglob("pairs.csv"))
    found = [pair.image for table in tables for pair in read_pairs(table, task="segment").pairs]
    if not found:
        raise UsageError(f"{sets} holds no pairs.csv with photographs; give a folder of sets")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m dptcli.training.sizes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sets", type=Path, help="a folder of sets of photographs")
    parser.add_argument("--builtin", type=Path, required=True, help="the models, which learn")
    parser.add_argument("--teacher", type=Path, help="the models that teach, --builtin's if none")
    parser.add_argument("--work", type=Path, required=True, help="what is taught, the checkpoint")
    parser.add_argument("--taught", type=Path, help="of another run, in place of WORK/taught")
    parser.add_argument("--size", type=int, default=308, help="the short side to learn at")
    parser.add_argument("--sizes", type=int, nargs="+", default=[182, 238], help="to learn from")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--backbone-rate", type=float, default=2e-6)
    parser.add_argument("--average", type=float, default=0.98)
    parser.add_argument("--seed", type=int, default=71)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        _run(given)
    except DptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(given: argparse.Namespace) -> None:
    images = _photographs(given.sets)
    teacher, taught = given.teacher or given.builtin, given.taught or given.work / "taught"
    pupil = Pupil(given.builtin, teacher, bfloat16=given.dtype == "bfloat16")
    fine, *coarse = (
        open_pipeline(teacher / FOLDERS["depth"], task="depth", dtype=given.dtype, size=size)
        for size in (given.size, *given.sizes)
    )
    processor = DPTImageProcessor(
        **{**processor_config(), "size": {"height": given.size, "width": given.size}}
    )
    photographs = []
    for image in images:
        target = taught / image.relative_to(given.sets).with_suffix(".npy")
        write_target(target, image, fine=fine, coarse=coarse)
        photographs.append(read_photograph(image, target, processor))
    print(f"{len(photographs)} photographs", flush=True)
    options = TrainOptions(
        steps=given.steps,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        backbone_rate=given.backbone_rate,
        average=given.average,
        warmup=10,
    )
    learn(pupil, photographs, options, work=given.work, seed=given.seed)
    save_builtin(pupil.depth, "depth", given.builtin)
    save_backbone(pupil.depth, given.builtin)


if __name__ == "__main__":
    raise SystemExit(main())
