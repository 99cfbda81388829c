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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
    save_backbone,
    save_builtin,
    start_model,
    take_head,
)
from dptcli.training.data import IMAGENET_MEAN, IMAGENET_STD
from dptcli.training.loop import CHECKPOINT_NAME, Run
from dptcli.training.losses import NUM_GRADIENT_SCALES, align, gradient_loss
from dptcli.training.teach import seen_depth
from dptcli.training.twins import feature_maps

WINDOW = 1 / 6
"""The side of a window of the guided filter, as a share of the short side."""
_REGULAR = 1e-4  # of the guide's variance: a window of less has no edges to keep
_MOST_SLOPE = 3.0
# Keeping segmentation costs as much as a step of depth: every third step, for three.
_KEEP_EVERY = 3


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
    photographs: Sequence[Photograph], options: TrainOptions, *, first: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels (B, 3, H, W) and what is taught (B, H, W) of one size, for the steps from `first` on.

    Mirrored half of the time, and in a little other light.
    """
    groups: dict[tuple[int, ...], list[Photograph]] = {}
    for one in photographs:
        groups.setdefault(one.rgb.shape, []).append(one)
    members = list(groups.values())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    for step in range(first, options.steps):
        chance = random.Random(f"{options.seed} {step}")
        [group] = chance.choices(members, [len(group) for group in members])
        chosen = chance.sample(group, min(options.batch_size, len(group)))
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
    """The depth model that learns, and the teacher's segmentation, which it is to keep."""

    def __init__(self, builtin: Path, teacher: Path) -> None:
        self.depth, self.segment = _model("depth", builtin), _model("segment", teacher)
        self.segment.requires_grad_(False)

    def loss(self, pixels: Tensor, target: Tensor, *, keeps: bool) -> Tensor:
        """The loss of a batch; keeps: with what segmentation loses by it, for `_KEEP_EVERY`."""
        maps = feature_maps(self.depth, pixels)
        predicted = self.depth.head(self.depth.neck(maps)).float()
        wanted = F.interpolate(
            target[:, None], size=predicted.shape[-2:], mode="bilinear", align_corners=False
        )
        loss = size_loss(predicted, wanted[:, 0])
        if not keeps:
            return loss
        with torch.no_grad():
            kept = self._classes(feature_maps(self.segment, pixels))
        divergence = F.kl_div(self._classes(maps), kept, log_target=True, reduction="none")
        return loss + _KEEP_EVERY * divergence.sum(dim=1).mean()

    def _classes(self, maps: list[FeatureMap]) -> Tensor:
        """Logarithms of the classes' probabilities at every other pixel."""
        logits = self.segment.head(self.segment.neck(maps)).float()
        return torch.log_softmax(logits[:, :, ::2, ::2], dim=1)


def _model(task: str, builtin: Path) -> DensePredictor:
    model = start_model(task, builtin, seed=0)
    take_head(model, builtin / FOLDERS[task])
    return model.eval()  # no layer of it behaves otherwise while it learns


def learn(
    pupil: Pupil,
    photographs: Sequence[Photograph],
    folder: Path,
    *,
    options: TrainOptions,
    about: Mapping[str, str],
) -> None:
    """Train, and leave the pupil with its averaged weights. folder and about as for `train`."""
    run = Run(pupil.depth, options, about=about)
    run.resume(folder / CHECKPOINT_NAME)
    for pixels, target in batches(photographs, options, first=run.step):
        keeps = run.step % _KEEP_EVERY == 0
        loss = run.take_step(partial(pupil.loss, pixels, target, keeps=keeps))
        if run.step % options.checkpoint_every == 0 or run.step == options.steps:
            print(f"step {run.step}  loss {loss:.4f}", flush=True)
            run.save(folder / CHECKPOINT_NAME)
    pupil.depth.load_state_dict(run.average.values, strict=False)


def _photographs(sets: Path) -> Iterator[tuple[Path, Path]]:
    """The photographs of all sets below a folder, and each one's place among what is taught."""
    for table in sorted(sets.rglob("pairs.csv")):
        pairs = read_pairs(table, task="segment").pairs
        for index, pair in enumerate(pairs):  # two may have one name, in folders of a set
            place = table.parent.relative_to(sets) / f"{index:05}-{pair.image.stem}.npy"
            yield pair.image, place


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
    parser.add_argument("--checkpoint-every", type=int, default=50)
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
    teacher, taught = given.teacher or given.builtin, given.taught or given.work / "taught"
    fine, *coarse = (
        open_pipeline(teacher / FOLDERS["depth"], task="depth", dtype=given.dtype, size=size)
        for size in (given.size, *given.sizes)
    )
    photographs = []
    for image, place in _photographs(given.sets):
        write_target(taught / place, image, fine=fine, coarse=coarse)
        photographs.append(read_photograph(image, taught / place, fine.loaded.processor))
    if not photographs:
        raise UsageError(f"{given.sets} holds no pairs.csv with photographs; give a folder of sets")
    print(f"{len(photographs)} photographs", flush=True)
    options = TrainOptions(
        steps=given.steps,
        batch_size=given.batch_size,
        learning_rate=given.learning_rate,
        backbone_rate=given.backbone_rate,
        weight_decay=0.0,
        warmup=10,
        average=given.average,
        seed=given.seed,
        checkpoint_every=given.checkpoint_every,
        dtype=given.dtype,
    )
    seen = " ".join(map(str, (given.size, *given.sizes)))
    about = {"sizes": seen, "number of photographs": str(len(photographs))}
    pupil = Pupil(given.builtin, teacher)
    learn(pupil, photographs, given.work, options=options, about=about)
    save_builtin(pupil.depth, "depth", given.builtin)
    save_backbone(pupil.depth, given.builtin)


if __name__ == "__main__":
    raise SystemExit(main())
