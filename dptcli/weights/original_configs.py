"""What a file of the authors says about its network: configurations from names and shapes."""

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dptcli.errors import ModelError

HEAD_WIDTH = 64  # of every published ViT and DINOv2


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the tensors of a file cannot tell.

    network_hw: the size its authors ran it at. metric: configuration for metres.
    hint: how the public file's name says it. taps: {number of blocks: 0-based taps}.
    """

    name: str
    network_hw: tuple[int, int]
    metric: Mapping[str, Any]
    hint: str
    taps: Mapping[int, tuple[int, ...]]


_DPT_TAPS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23)}
_DPT_HYBRID_TAPS = {12: (0, 1, 8, 11)}  # the first two stand for the stem's maps
_V1_TAPS = {12: (8, 9, 10, 11), 24: (20, 21, 22, 23), 40: (36, 37, 38, 39)}
_V2_TAPS = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}


def _in_metres(scale: float, shift: float) -> dict[str, Any]:
    """The authors' calibration of a head's inverse depth (run_monodepth.py of isl-org/DPT)."""
    return {"depth_estimation_type": "metric", "metric_scale": scale, "metric_shift": shift}


# The first whose hint is in the file's name counts.
DPT_KINDS = (
    Kind(
        name="kitti",
        network_hw=(352, 1216),
        metric=_in_metres(0.00006016, 0.00579),
        hint="kitti",
        taps=_DPT_TAPS,
    ),
    Kind(
        name="nyu",
        network_hw=(480, 640),
        metric=_in_metres(0.000305, 0.1378),
        hint="nyu",
        taps=_DPT_TAPS,
    ),
    Kind(name="midas", network_hw=(384, 384), metric={}, hint="midas", taps=_DPT_TAPS),
)
ADE = Kind(name="ade", network_hw=(480, 480), metric={}, hint="ade", taps=_DPT_TAPS)
DEPTH_ANYTHING_KINDS = (
    Kind(
        name="depth-anything-v2-indoor",
        network_hw=(518, 518),
        metric={"depth_estimation_type": "metric", "max_depth": 20},
        hint="metric_hypersim",
        taps=_V2_TAPS,
    ),
    Kind(
        name="depth-anything-v2-outdoor",
        network_hw=(518, 518),
        metric={"depth_estimation_type": "metric", "max_depth": 80},
        hint="metric_vkitti",
        taps=_V2_TAPS,
    ),
    Kind(
        name="depth-anything-v2",
        network_hw=(518, 518),
        metric={},
        hint="depth_anything_v2_vit",
        taps=_V2_TAPS,
    ),
    Kind(
        name="depth-anything-v1",
        network_hw=(518, 518),
        metric={},
        hint="depth_anything_vit",
        taps=_V1_TAPS,
    ),
)


def dpt_config(tensors: Mapping[str, Tensor], kind: Kind, *, path: Path) -> dict[str, Any]:
    """The config.json of an isl-org DPT."""
    embed = "pretrained.model.patch_embed"
    hybrid = f"{embed}.backbone.stem.conv.weight" in tensors
    patch = 16 if hybrid else _shape(tensors, f"{embed}.proj.weight", path, dims=4)[-1]
    vit = _vit(tensors, "pretrained.model", patch=patch, path=path)
    hidden = _shape(tensors, "pretrained.model.blocks.0.mlp.fc1.weight", path, dims=2)[0]
    task = "SemanticSegmentation" if kind is ADE else "DepthEstimation"
    taps = _DPT_HYBRID_TAPS if hybrid else kind.taps
    normed = "scratch.refinenet1.resConfUnit1.bn1.weight" in tensors
    config = {
        **vit,
        **_neck(tensors, "scratch", path),
        **kind.metric,
        "model_type": "dpt",
        "architectures": [f"DPTFor{task}"],
        "intermediate_size": hidden,
        "layer_norm_eps": 1e-6,  # timm's; the hub's copies say 1e-12
        "is_hybrid": hybrid,
        "backbone_out_indices": list(_taps(taps, vit["num_hidden_layers"], path)),
        "reassemble_factors": [1, 1, 1, 0.5] if hybrid else [4, 2, 1, 0.5],
        "use_batch_norm_in_fusion_residual": normed,
        "readout_type": "project",
    }
    if hybrid:
        config |= _stem(tensors, f"{embed}.backbone", path)
        grid = vit["image_size"] // patch
        channels = config["backbone_config"]["hidden_sizes"][-1]
        config["backbone_featmap_shape"] = [1, channels, grid, grid]
    if kind is ADE:
        num_labels = _shape(tensors, "scratch.output_conv.4.weight", path, dims=4)[0]
        names = ade20k_names()
        if num_labels != len(names):
            names = [f"LABEL_{label}" for label in range(num_labels)]
        config["id2label"] = dict(enumerate(names))
        config["use_auxiliary_head"] = "auxlayer.0.weight" in tensors  # only training uses it
    return config


def depth_anything_config(
    tensors: Mapping[str, Tensor], kind: Kind, *, path: Path
) -> dict[str, Any]:
    """The config.json of a Depth-Anything."""
    patch = _shape(tensors, "pretrained.patch_embed.proj.weight", path, dims=4)[-1]
    backbone = _vit(tensors, "pretrained", patch=patch, path=path)
    taps = _taps(kind.taps, backbone["num_hidden_layers"], path)
    gated = "pretrained.blocks.0.mlp.w12.weight" in tensors
    backbone |= {
        "model_type": "dinov2",
        "out_indices": [tap + 1 for tap in taps],  # stage 0 is the stem
        "reshape_hidden_states": False,
        "use_swiglu_ffn": gated,
        "use_mask_token": "pretrained.mask_token" in tensors,
        "position_offset": 0.1,  # as the authors' code resizes positions; the hub's copies do not
    }
    head = _shape(tensors, "depth_head.scratch.output_conv2.0.weight", path, dims=4)
    return {
        **_neck(tensors, "depth_head.scratch", path),
        **kind.metric,
        "model_type": "depth_anything",
        "architectures": ["DepthAnythingForDepthEstimation"],
        "backbone_config": backbone,
        "patch_size": patch,
        "reassemble_hidden_size": backbone["hidden_size"],
        "reassemble_factors": [4, 2, 1, 0.5],
        "head_hidden_size": head[0],
    }


def ade20k_names() -> list[str]:
    """The 150 classes of ADE20K's scene parsing benchmark, in the order of their ids."""
    table = Path(__file__).parent.parent / "segments" / "label_sets" / "ade20k.csv"
    with table.open(encoding="utf-8", newline="") as stream:
        return [row["name"] for row in csv.DictReader(stream)]


def _vit(tensors: Mapping[str, Tensor], prefix: str, *, patch: int, path: Path) -> dict[str, Any]:
    """The transformer's sizes, from the shapes of its tensors."""
    num_positions, width = _shape(tensors, f"{prefix}.pos_embed", path, dims=3)[1:]
    blocks = re.compile(rf"{re.escape(prefix)}\.blocks\.(\d+)\.norm1\.weight")
    if width % HEAD_WIDTH:
        raise ModelError(f"{path}: a width of {width} is not a multiple of {HEAD_WIDTH}")
    return {
        "hidden_size": width,
        "num_hidden_layers": sum(1 for name in tensors if blocks.fullmatch(name)),
        "num_attention_heads": width // HEAD_WIDTH,
        "image_size": math.isqrt(num_positions - 1) * patch,
        "patch_size": patch,
        "qkv_bias": f"{prefix}.blocks.0.attn.qkv.bias" in tensors,
    }


def _neck(tensors: Mapping[str, Tensor], prefix: str, path: Path) -> dict[str, Any]:
    """The widths of the neck."""
    shapes = [
        _shape(tensors, f"{prefix}.layer{stage}_rn.weight", path, dims=4) for stage in range(1, 5)
    ]
    return {
        "neck_hidden_sizes": [shape[1] for shape in shapes],
        "fusion_hidden_size": shapes[0][0],
    }


def _stem(tensors: Mapping[str, Tensor], prefix: str, path: Path) -> dict[str, Any]:
    """The stem of a hybrid: timm's ResNetV2 with post-activation blocks and "SAME" padding."""
    block = re.compile(rf"{re.escape(prefix)}\.stages\.(\d+)\.blocks\.(\d+)\.conv3\.weight")
    found = [match for name in tensors if (match := block.fullmatch(name))]
    stages = sorted({int(match[1]) for match in found})
    lasts = [f"{prefix}.stages.{stage}.blocks.0.conv3.weight" for stage in stages]
    stem = {
        "model_type": "bit",
        "layer_type": "bottleneck",
        "global_padding": "SAME",
        "embedding_dynamic_padding": True,
        "num_groups": 32,
        "deviation_offset": 1e-5,  # as the authors' code standardises; the hub's copies do not
        "embedding_size": _shape(tensors, f"{prefix}.stem.conv.weight", path, dims=4)[0],
        "depths": [sum(int(match[1]) == stage for match in found) for stage in stages],
        "hidden_sizes": [_shape(tensors, last, path, dims=4)[0] for last in lasts],
        "out_features": [f"stage{stage + 1}" for stage in stages],
    }
    return {"backbone_config": stem}


def _taps(taps: Mapping[int, tuple[int, ...]], num_layers: int, path: Path) -> tuple[int, ...]:
    if num_layers not in taps:
        raise ModelError(
            f"{path}: has {num_layers} blocks; files with {', '.join(map(str, taps))} are known"
        )
    return taps[num_layers]


def _shape(tensors: Mapping[str, Tensor], name: str, path: Path, *, dims: int) -> tuple[int, ...]:
    if name not in tensors:
        raise ModelError(f"{path}: lacks the tensor {name!r}; fetch it again")
    shape = tuple(tensors[name].shape)
    if len(shape) != dims or 0 in shape:
        raise ModelError(f"{path}: {name!r} has the shape {shape}, which no model has")
    return shape
