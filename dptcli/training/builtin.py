"""Train the heads of the built-in model: `python -m dptcli.training.builtin`.

    python -m dptcli.training.builtin FRAMES --work RUN --builtin dptcli/weights/builtin
    python -m dptcli.training.builtin TRAIN/segment --tasks segment --go-on ...
    python -m dptcli.training.builtin TRAIN TAUGHT --together --go-on --backbone-rate 1e-5 ...

FRAMES are rendered ones, TRAIN a folder of sets of photographs with labels or depth, TAUGHT what
`python -m dptcli.training.teach` makes.
The converted backbone (`python -m dptcli.training.backbone`) must lie there as
dpt-small-depth/backbone.safetensors.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch

from dptcli.errors import DptError
from dptcli.model.dpt import DensePredictor, DPTForSemanticSegmentation
from dptcli.training.batches import Source, TrainOptions
from dptcli.training.builtin_model import (
    BACKBONE_FILE,
    FOLDERS,
    HEAD_FILE,
    begin_finer,
    blend_all,
    blend_head,
    save_backbone,
    save_builtin,
    start_model,
    take_head,
)
from dptcli.training.classes import KINDS, parts
from dptcli.training.data import split
from dptcli.training.features import FeatureCache
from dptcli.training.loop import Progress, train
from dptcli.training.photographs import read_material
from dptcli.training.probe import fit_last_layer
from dptcli.training.twins import Twins


def _begin(task: str, builtin: Path, *, go_on: bool, seed: int) -> DensePredictor:
    """The model that a run starts from."""
    model = start_model(task, builtin, seed=seed)
    if go_on:
        take_head(model, builtin / FOLDERS[task])
    elif task == "segment" and (builtin / FOLDERS["depth"] / HEAD_FILE).is_file():
        # What tells near from far tells one thing from another: a shorter way.
        take_head(model, builtin / FOLDERS["depth"], prefix="neck.")
    # Convolutions are faster so on a CPU.
    for part in (model.neck, model.head):
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _teacher(builtin: Path, *, seed: int) -> DPTForSemanticSegmentation:
    """The segmentation model of a folder, which learns no more."""
    model = _begin("segment", builtin, go_on=True, seed=seed)
    assert isinstance(model, DPTForSemanticSegmentation)
    return model.eval().requires_grad_(False)


def _print(progress: Progress) -> None:
    if progress.step % 20 == 0 or progress.validation is not None:
        known = "" if progress.validation is None else f"  validation {progress.validation:.4f}"
        print(
            f"step {progress.step}  loss {progress.loss:.4f}  {progress.seconds:.2f} s{known}",
            file=sys.stderr,
            flush=True,
        )


def _parse_hw(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m dptcli.training.builtin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sets", type=Path, nargs="+", help="a folder with pairs.csv, or of such folders"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--builtin", type=Path, required=True, help="dptcli/weights/builtin")
    parser.add_argument("-o", "--output", type=Path, help="where the result goes (--builtin)")
    parser.add_argument(
        "--together", action="store_true", help="both tasks at once, on the backbone they share"
    )
    parser.add_argument("--tasks", nargs="+", choices=sorted(FOLDERS), default=sorted(FOLDERS))
    parser.add_argument("--go-on", action="store_true", help="start from the heads that lie there")
    parser.add_argument("--segment-steps", type=int, help="steps of that task (--steps)")
    parser.add_argument(
        "--hold-out", type=int, default=20, help="one scene in so many; 0: none", metavar="N"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="where it is trained: cpu, cuda")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that prepare batches, for a GPU"
    )
    defaults = TrainOptions()
    parser.add_argument(
        "--shapes", nargs="+", default=["210x280", "280x210", "168x364"], help="HEIGHTxWIDTH"
    )
    parser.add_argument(
        "--levels", nargs="+", type=int, default=[-1], help="fused maps to train, -1 the finest"
    )
    parser.add_argument(
        "--finer-than", type=int, help="begin the maps finer than this one anew, as enlargements"
    )
    parser.add_argument(
        "--blend",
        type=Path,
        nargs="+",
        default=[],
        help="head files, with --together folders as --builtin; the mean with each is saved",
    )
    parser.add_argument(
        "--blend-share", type=float, nargs="+", help="how much of each mean they have (0.5)"
    )
    parser.add_argument(
        "--fit-classes",
        type=int,
        metavar="N",
        help="first fit the segmentation head's last layer to so many batches",
    )
    parser.add_argument(
        "--keep-kinds",
        type=Path,
        metavar="FOLDER",
        help="the segmentation head learns to tell classes of a kind apart, and keeps the kinds as "
        "those of this folder (as --builtin, on the same backbone) tell them",
    )
    parser.add_argument("--features", type=Path, help="folder in which features are kept")
    parser.add_argument(
        "--only-features", action="store_true", help="compute what the folder lacks, then stop"
    )
    for item in fields(TrainOptions):
        if isinstance(item.default, int | float | str):
            flag = f"--{item.name.replace('_', '-')}"
            parser.add_argument(flag, type=type(item.default), default=getattr(defaults, item.name))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        chosen = TrainOptions(
            **{
                item.name: getattr(options, item.name)
                for item in fields(TrainOptions)
                if hasattr(options, item.name) and item.name != "levels"
            },
            shapes_hw=tuple(_parse_hw(text) for text in options.shapes),
            groups=tuple(parts(kind) for kind in KINDS),
            levels=tuple(options.levels),
        )
        examples = [item for folder in options.sets for item in read_material(folder)]
        pairs, held_out = split(examples, every=options.hold_out, by_scene=True)
        held_out = list(dict.fromkeys(held_out))  # each once, however often it would be trained on
        print(f"{len(pairs)} frames, {len(held_out)} held out", file=sys.stderr)
        cache = FeatureCache(options.features)
        if options.only_features:
            model = start_model("depth", options.builtin, seed=chosen.seed)
            print(f"{Source(model, pairs, chosen, cache=cache).fill()} samples", flush=True)
            return 0
        learners = ["both"] if options.together else options.tasks
        for name in learners:
            steps = options.segment_steps if name == "segment" else None
            wanted = sorted(FOLDERS) if options.together else [name]
            models = {
                task: _begin(task, options.builtin, go_on=options.go_on, seed=chosen.seed)
                for task in wanted
            }
            for model in models.values():
                model.to(options.device)
            if options.finer_than is not None:
                for model in models.values():
                    begin_finer(model, options.finer_than)
            learner = Twins.of(models) if options.together else models[name]
            if options.fit_classes and "segment" in models:
                source = Source(learner, pairs, chosen, cache=cache)
                loss = fit_last_layer(source, batches=options.fit_classes)
                print(f"classes fitted, loss {loss:.4f}", file=sys.stderr, flush=True)
            teacher = None
            if options.keep_kinds is not None and name == "segment":
                teacher = _teacher(options.keep_kinds, seed=chosen.seed).to(options.device)
            train(
                learner,
                pairs,
                options.work / name,
                options=replace(chosen, steps=steps or chosen.steps),
                held_out=held_out,
                cache=cache,
                workers=options.workers,
                teacher=teacher,
                report=_print,
            )
            shares = options.blend_share or [0.5] * len(options.blend)
            for place, share in zip(options.blend, shares, strict=True):
                if options.together:
                    blend_all(models, place, share)
                else:
                    blend_head(models[name], place, share)
            output = options.output or options.builtin
            if not (chosen.is_frozen and (output / FOLDERS["depth"] / BACKBONE_FILE).is_file()):
                save_backbone(models[wanted[0]], output)
            for task, model in models.items():
                print(save_builtin(model, task, output), flush=True)
    except DptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
