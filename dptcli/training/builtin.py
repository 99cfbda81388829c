"""Train the heads of the built-in model: `python -m dptcli.training.builtin`.

    python -m dptcli.training.builtin FRAMES --work RUN --builtin dptcli/weights/builtin
    python -m dptcli.training.builtin TRAIN/segment --tasks segment --go-on ...
    python -m dptcli.training.builtin TRAIN TAUGHT --together --go-on --backbone-rate 1e-5 ...

FRAMES are rendered ones, TRAIN a folder of sets of photographs with labels or depth, TAUGHT what
`python -m dptcli.training.teach` makes.
The converted backbone (`python -m dptcli.training.backbone`) must lie there as
dpt-small-depth/backbone.safetensors. It stands on disk once; each task's index points to it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from dptcli.errors import DptError
from dptcli.model.config import DPTConfig
from dptcli.model.dpt import DensePredictor, DPTForDepthEstimation, DPTForSemanticSegmentation
from dptcli.results.files import atomic_path, write_text
from dptcli.training.batches import Source, TrainOptions
from dptcli.training.classes import KINDS
from dptcli.training.data import IMAGENET_MEAN, IMAGENET_STD, split
from dptcli.training.features import FeatureCache
from dptcli.training.loop import Progress, train
from dptcli.training.photographs import read_material
from dptcli.training.twins import Twins

BACKBONE_FILE = "backbone.safetensors"
HEAD_FILE = "head.safetensors"
FOLDERS = {"depth": "dpt-small-depth", "segment": "dpt-small-segment"}
DEFAULT_SIZE = 308
PREFIX = "backbone."


def builtin_config(task: str) -> DPTConfig:
    """The architecture: DPT over DINOv2 ViT-S/14, neck 48–384, fusion 64."""
    values: dict[str, Any] = {
        "backbone_config": {
            "model_type": "dinov2",
            "hidden_size": 384,
            "num_hidden_layers": 12,
            "num_attention_heads": 6,
            "mlp_ratio": 4,
            "image_size": 518,
            "patch_size": 14,
            "layer_norm_eps": 1e-6,
            "out_features": ["stage3", "stage6", "stage9", "stage12"],
            "reshape_hidden_states": False,
            "apply_layernorm": True,
        },
        "neck_hidden_sizes": [48, 96, 192, 384],
        "reassemble_factors": [4, 2, 1, 0.5],
        "fusion_hidden_size": 64,
        "readout_type": "ignore",
        "head_in_index": -1,
        "use_batch_norm_in_fusion_residual": False,
        "add_projection": False,
        "use_auxiliary_head": False,
        "dtype": "float32",
    }
    if task == "segment":
        values["id2label"] = dict(enumerate(KINDS))
        values["label2id"] = {name: index for index, name in enumerate(KINDS)}
    return DPTConfig(**values)


def processor_config() -> dict[str, Any]:
    """preprocessor_config.json: about 308 on the short side, sides multiples of 14."""
    return {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "size": {"height": DEFAULT_SIZE, "width": DEFAULT_SIZE},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 14,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
        "do_pad": False,
        "size_divisor": None,
    }


def start_model(task: str, builtin: Path, *, seed: int) -> DensePredictor:
    """An untrained neck and head on the converted backbone."""
    torch.manual_seed(seed)
    kind = DPTForDepthEstimation if task == "depth" else DPTForSemanticSegmentation
    model = kind(builtin_config(task))
    state = load_file(builtin / FOLDERS["depth"] / BACKBONE_FILE)
    found = model.load_state_dict(
        {name: value.float() for name, value in state.items()}, strict=False
    )
    absent = [name for name in found.missing_keys if name.startswith(PREFIX)]
    if found.unexpected_keys or [name for name in absent if "mask_token" not in name]:
        raise DptError(f"the backbone does not fit: {found.unexpected_keys} {absent}")
    _initialize(model)
    return model


def take_head(model: DensePredictor, folder: Path, *, prefix: str = "") -> None:
    """Start from the tensors of a folder's head file whose names begin with `prefix`."""
    state = load_file(folder / HEAD_FILE)
    wanted = {name: value.float() for name, value in state.items() if name.startswith(prefix)}
    found = model.load_state_dict(wanted, strict=False)
    if found.unexpected_keys:
        raise DptError(f"{folder / HEAD_FILE} does not fit: {found.unexpected_keys}")


@torch.no_grad()
def blend_head(model: DensePredictor, path: Path, share: float = 0.5) -> None:
    """Make the model's tensors the mean of themselves and those of the file at `path`.

    share: how much of the mean the file's have.

    The mean of the ends of a run and of a longer one often sees more than either (Wortsman et al.
    2022, model soups), where the second began from the first.
    """
    own = model.state_dict()
    for name, value in load_file(path).items():
        if own[name].is_floating_point():
            own[name].lerp_(value.to(own[name]), share)


def blend_all(models: dict[str, DensePredictor], folder: Path, share: float = 0.5) -> None:
    """Make both heads and their backbone the mean of themselves and a built-in folder's."""
    for task, model in models.items():
        blend_head(model, folder / FOLDERS[task] / HEAD_FILE, share)
    # One backbone: the other model has the same tensors.
    blend_head(models["depth"], folder / FOLDERS["depth"] / BACKBONE_FILE, share)


@torch.no_grad()
def begin_finer(model: DensePredictor, level: int) -> None:
    """Make every fused map finer than that of `level` its enlargement, whatever was learnt there.

    Training on coarse maps alone is cheap and leaves the finer blocks behind: they add what meant
    something once. From here on they begin by adding nothing.
    """
    neck = model.neck
    blocks = list(neck.fusion_stage.layers)
    for index in range(level + 1, len(blocks)):
        block: Any = blocks[index]
        skip: Any = neck.convs[len(blocks) - 1 - index]
        skip.weight.zero_()
        for unit in (block.residual_layer1, block.residual_layer2):
            unit.convolution2.weight.zero_()
            unit.convolution2.bias.zero_()
        block.projection.weight.copy_(torch.eye(len(block.projection.weight))[..., None, None])
        block.projection.bias.zero_()


@torch.no_grad()
def _initialize(model: DensePredictor) -> None:
    """First weights that keep the maps' spread near one, so that no step overshoots."""
    parts: tuple[Any, ...] = (model.neck, model.head)
    for module in parts:
        for name, value in module.named_parameters():
            if value.dim() == 4:
                torch.nn.init.kaiming_normal_(value, mode="fan_in", nonlinearity="linear")
                if name.startswith("reassemble_stage") and "projection" in name:
                    value.mul_(0.25)  # the backbone's maps have a spread of four
                elif "residual_layer" in name:
                    value.mul_(0.5)  # each residual unit begins close to the identity
            elif name.endswith("bias"):
                value.zero_()
    if isinstance(model, DPTForDepthEstimation):
        # Outputs begin close to one everywhere, or the last ReLU might never open.
        last = [part for part in model.head.head if isinstance(part, torch.nn.Conv2d)][-1]
        last.weight.mul_(0.2)
        assert last.bias is not None
        last.bias.fill_(1.0)


def save_builtin(model: DensePredictor, task: str, builtin: Path) -> Path:
    """Write a task's folder: configurations, head and the index that points to the backbone."""
    folder = builtin / FOLDERS[task]
    head = {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
        if not name.startswith(PREFIX)
    }
    # float16 holds weights to three digits, far below what one training run decides; running
    # statistics may lie beyond its range.
    head = {
        name: value if "running" in name or not value.is_floating_point() else value.half()
        for name, value in head.items()
    }
    if any(not value.isfinite().all() for value in head.values()):
        raise DptError(f"{folder / HEAD_FILE}: a weight is not finite in float16; nothing is saved")
    with atomic_path(folder / HEAD_FILE) as temporary:
        save_file(head, temporary, metadata={"format": "pt"})
    shared = load_file(builtin / FOLDERS["depth"] / BACKBONE_FILE)
    where = BACKBONE_FILE if task == "depth" else f"../{FOLDERS['depth']}/{BACKBONE_FILE}"
    weight_map = {**dict.fromkeys(shared, where), **dict.fromkeys(head, HEAD_FILE)}
    total = sum(
        value.numel() * value.element_size() for value in (*shared.values(), *head.values())
    )
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_text(
        folder / "model.safetensors.index.json", json.dumps(index, indent=2, sort_keys=True) + "\n"
    )
    values = {**model.config.to_dict(), "architectures": [type(model).__name__], "dtype": "float32"}
    write_text(folder / "config.json", type(model.config).from_dict(values).to_json_string())
    write_text(folder / "preprocessor_config.json", json.dumps(processor_config(), indent=2) + "\n")
    return folder


def save_backbone(model: DensePredictor, builtin: Path) -> Path:
    """Write the backbone that both tasks share, in float16; without the mask that nothing reads."""
    path = builtin / FOLDERS["depth"] / BACKBONE_FILE
    tensors = {
        name: value.detach().cpu().half().contiguous()
        for name, value in model.state_dict().items()
        if name.startswith(PREFIX) and "mask_token" not in name
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    return path


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


def _twins(models: dict[str, DensePredictor]) -> Twins:
    depth, segment = models["depth"], models["segment"]
    assert isinstance(depth, DPTForDepthEstimation)
    assert isinstance(segment, DPTForSemanticSegmentation)
    return Twins(depth, segment)


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
            train(
                _twins(models) if options.together else models[name],
                pairs,
                options.work / name,
                options=replace(chosen, steps=steps or chosen.steps),
                held_out=held_out,
                cache=cache,
                workers=options.workers,
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
