"""The built-in model while it learns: its architecture, where its weights begin, its files.

The backbone stands on disk once, as dpt-small-depth/backbone.safetensors; each task's index points
to it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dptcli.errors import DptError
from dptcli.model.config import DPTConfig
from dptcli.model.dpt import DensePredictor, DPTForDepthEstimation, DPTForSemanticSegmentation
from dptcli.results.files import atomic_path, write_text
from dptcli.training.classes import CLASSES, KIND_OF, KINDS, parts
from dptcli.training.data import IMAGENET_MEAN, IMAGENET_STD

LOGITS = "head.head.4."
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
        values["id2label"] = dict(enumerate(CLASSES))
        values["label2id"] = {name: index for index, name in enumerate(CLASSES)}
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
    found = model.load_state_dict(tell_parts(wanted), strict=False)
    if found.unexpected_keys:
        raise DptError(f"{folder / HEAD_FILE} does not fit: {found.unexpected_keys}")


def tell_parts(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make a head of the eight kinds one of their classes: each as likely, together as they were.

    Another head stays as it is.
    """
    wide = {name: value for name, value in state.items() if name.startswith(LOGITS)}
    if not wide or any(len(value) != len(KINDS) for value in wide.values()):
        return state
    rows = [KINDS.index(KIND_OF[name]) for name in CLASSES]
    shares = torch.tensor([float(len(parts(KIND_OF[name]))) for name in CLASSES]).log()
    wide = {name: value.float()[rows] for name, value in wide.items()}
    return {**state, **wide, f"{LOGITS}bias": wide[f"{LOGITS}bias"] - shares}


@torch.no_grad()
def blend_head(model: DensePredictor, path: Path, share: float = 0.5) -> None:
    """Make the model's tensors the mean of themselves and those of the file at `path`.

    share: how much of the mean the file's have.

    The mean of the ends of a run and of a longer one often sees more than either (Wortsman et al.
    2022, model soups), where the second began from the first.
    """
    own = model.state_dict()
    for name, value in tell_parts(load_file(path)).items():
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
