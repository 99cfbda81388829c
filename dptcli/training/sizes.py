"""Teach the built-in model what it sees at other sizes: `python -m dptcli.training.sizes`.

    python -m dptcli.training.sizes TRAIN/segment --builtin B --work RUN

At --sizes, which are smaller, the network gets the whole of depth right; at its own size it sees
edges; at --class-sizes, which are larger, it tells small people and things. All of this both heads
and the backbone learn to see at --size. Labels are not read. What is taught is kept in RUN; a run
that is killed goes on.
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
from dptcli.training.losses import NUM_GRADIENT_SCALES, gradient_loss
from dptcli.training.size_targets import claim, classes_path, open_teachers, write_targets
from dptcli.training.twins import Twins, feature_maps
from dptcli.weights.fingerprint import weights_hash


@dataclass(frozen=True)
class Photograph:
    """A photograph as the network takes it, RGB uint8 (H, W, 3), and what is taught of it.

    depth: inverse depth (H, W). classes: their probabilities (C, h, w), coarser.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    classes: NDArray[np.float16]


def read_photograph(rgb: NDArray[np.uint8], path: Path, hw: tuple[int, int]) -> Photograph:
    """Bring a photograph, and what `path` tells of it, to the network's size `hw`."""
    height, width = hw
    small = Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)
    depth = torch.from_numpy(np.load(path))[None, None]
    depth = F.interpolate(depth, size=hw, mode="area")[0, 0]
    return Photograph(np.asarray(small), depth.numpy(), np.load(classes_path(path)))


Taught = tuple[Tensor, Tensor, Tensor]
"""Pixels (B, 3, H, W), inverse depth (B, H, W) and probabilities of classes (B, C, h, w)."""


def batches(
    photographs: Sequence[Photograph], options: TrainOptions, *, first: int
) -> Iterator[Taught]:
    """What is taught of photographs of one size, for the steps from `first` on.

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
        pixels, depths, classes = zip(*(_varied(one, chance) for one in chosen), strict=True)
        yield (torch.stack(pixels) - mean) / std, torch.stack(depths), torch.stack(classes)


def _varied(one: Photograph, chance: random.Random) -> Taught:
    pixels = torch.from_numpy(one.rgb.copy()).permute(2, 0, 1).float() / 255
    depth, classes = torch.from_numpy(one.depth), torch.from_numpy(one.classes).float()
    if chance.random() < 0.5:
        pixels, depth, classes = pixels.flip(-1), depth.flip(-1), classes.flip(-1)
    pixels = (pixels * chance.uniform(0.9, 1.1)).clamp(0, 1) ** chance.uniform(0.9, 1.1)
    middle = pixels.mean()
    pixels = (middle + (pixels - middle) * chance.uniform(0.9, 1.1)).clamp(0, 1)
    grey = pixels.mean(dim=0, keepdim=True)
    pixels = (grey + (pixels - grey) * chance.uniform(0.85, 1.15)).clamp(0, 1)
    return pixels, depth, classes


def depth_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Absolute and gradient error of inverse depth (B, H, W) in units of the target's spread."""
    middle = target.flatten(1).median(dim=1).values[:, None, None]
    spread = (target - middle).abs().mean(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    error = (predicted - target) / spread
    all_valid = torch.ones_like(error, dtype=torch.bool)
    return error.abs().mean() + NUM_GRADIENT_SCALES * gradient_loss(error, all_valid)


def class_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean divergence of the classes of logits (B, C, H, W) from probabilities (B, C, h, w)."""
    logits = F.avg_pool2d(logits, 2)  # the head has enlarged them by that
    target = F.interpolate(target, size=logits.shape[-2:], mode="bilinear", align_corners=False)
    divergence = F.kl_div(torch.log_softmax(logits, dim=1), target, reduction="none")
    return divergence.sum(dim=1).mean()


def taught_loss(model: Twins, taught: Taught) -> Tensor:
    """The sum over both tasks."""
    pixels, depth, classes = taught
    maps = feature_maps(model, pixels)
    predicted = model.depth.head(model.depth.neck(maps)).float()
    depth = F.interpolate(
        depth[:, None], size=predicted.shape[-2:], mode="bilinear", align_corners=False
    )
    logits = model.segment.head(model.segment.neck(maps)).float()
    return depth_loss(predicted, depth[:, 0]) + class_loss(logits, classes)


def open_pupil(builtin: Path) -> Twins:
    """Both models of a folder, on one backbone, to learn on from where they are."""
    models = {task: start_model(task, builtin, seed=0) for task in FOLDERS}
    for task, model in models.items():
        take_head(model, builtin / FOLDERS[task])
    return Twins.of(models).eval()  # no layer behaves otherwise while it learns


def learn(
    model: Twins,
    photographs: Sequence[Photograph],
    folder: Path,
    *,
    options: TrainOptions,
    about: Mapping[str, str],
) -> None:
    """Train, and leave the model with its averaged weights. folder and about as for `train`."""
    run = Run(model, options, about=about)
    run.resume(folder / CHECKPOINT_NAME)
    for taught in batches(photographs, options, first=run.step):
        loss = run.take_step(partial(taught_loss, model, taught))
        if run.step % options.checkpoint_every == 0 or run.step == options.steps:
            print(f"step {run.step}  loss {loss:.4f}", flush=True)
            run.save(folder / CHECKPOINT_NAME)
    model.load_state_dict(run.average.values, strict=False)


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
    parser.add_argument(
        "--teacher",
        type=Path,
        nargs="+",
        help="models that teach, --builtin's if none; the last one's edges and classes",
    )
    parser.add_argument("--work", type=Path, required=True, help="what is taught, the checkpoint")
    parser.add_argument("--taught", type=Path, help="of another run, in place of WORK/taught")
    parser.add_argument("--size", type=int, default=308, help="the short side to learn at")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[182, 238], help="to learn depth from"
    )
    parser.add_argument(
        "--class-sizes", type=int, nargs="+", default=[364, 420, 476], help="and classes"
    )
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
    found = [*_photographs(given.sets)]
    if not found:
        raise UsageError(f"{given.sets} holds no pairs.csv with photographs; give a folder of sets")
    taught, folders = given.taught or given.work / "taught", given.teacher or [given.builtin]
    sizes = {
        "sizes": " ".join(map(str, (given.size, *given.sizes))),
        "class sizes": " ".join(map(str, given.class_sizes)),
    }
    teaching = [
        *(folder / FOLDERS["depth"] for folder in folders),
        folders[-1] / FOLDERS["segment"],
    ]
    hashes = " ".join(map(weights_hash, teaching))
    claim(taught, {**sizes, "teacher": hashes, "dtype": given.dtype})
    teachers = open_teachers(
        folders,
        size=given.size,
        sizes=given.sizes,
        class_sizes=given.class_sizes,
        dtype=given.dtype,
    )
    photographs = []
    for image, place in found:
        rgb = decode_image(image)
        write_targets(taught / place, rgb, teachers)
        photographs.append(read_photograph(rgb, taught / place, teachers.network_hw(rgb)))
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
    about = {**sizes, "number of photographs": str(len(photographs))}
    pupil = open_pupil(given.builtin)
    learn(pupil, photographs, given.work, options=options, about=about)
    for task, model in zip(FOLDERS, (pupil.depth, pupil.segment), strict=True):
        save_builtin(model, task, given.builtin)
    save_backbone(pupil.depth, given.builtin)


if __name__ == "__main__":
    raise SystemExit(main())
