"""The files of isl-org/DPT (.pt): large and hybrid; inverse depth, metres, ADE20K's classes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dptcli.model.families.original import (
    Kind,
    OriginalFormat,
    Table,
    Tensors,
    neck_config,
    shape_of,
    taps_of,
    vit_config,
)

ADE20K_CLASSES = 150
_DPT_TAPS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23)}
_DPT_HYBRID_TAPS = {12: (0, 1, 8, 11)}  # the first two stand for the stem's maps


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
# isl-org/DPT: what both of its networks share. Its encoder is timm's.
_DPT: Table = (
    ("pretrained.model.cls_token", "dpt.embeddings.cls_token"),
    ("pretrained.model.pos_embed", "dpt.embeddings.position_embeddings"),
    ("pretrained.model.blocks.{n}.norm1.{q}", "dpt.encoder.layer.{n}.layernorm_before.{q}"),
    ("pretrained.model.blocks.{n}.norm2.{q}", "dpt.encoder.layer.{n}.layernorm_after.{q}"),
    (
        "pretrained.model.blocks.{n}.attn.qkv.{q}",
        "dpt.encoder.layer.{n}.attention.attention.{qkv}.{q}",
    ),
    (
        "pretrained.model.blocks.{n}.attn.proj.{q}",
        "dpt.encoder.layer.{n}.attention.output.dense.{q}",
    ),
    ("pretrained.model.blocks.{n}.mlp.fc1.{q}", "dpt.encoder.layer.{n}.intermediate.dense.{q}"),
    ("pretrained.model.blocks.{n}.mlp.fc2.{q}", "dpt.encoder.layer.{n}.output.dense.{q}"),
    ("pretrained.model.norm.{q}", "dpt.layernorm.{q}"),
    ("pretrained.model.head.{q}", ""),  # the classifier of ImageNet
    (
        "pretrained.act_postprocess{s}.0.project.0.{q}",
        "neck.reassemble_stage.readout_projects.{s}.0.{q}",
    ),
    ("pretrained.act_postprocess{s}.3.{q}", "neck.reassemble_stage.layers.{s}.projection.{q}"),
    ("pretrained.act_postprocess{s}.4.{q}", "neck.reassemble_stage.layers.{s}.resize.{q}"),
    ("scratch.layer{s}_rn.{q}", "neck.convs.{s}.{q}"),
    ("scratch.refinenet{r}.out_conv.{q}", "neck.fusion_stage.layers.{r}.projection.{q}"),
    (
        "scratch.refinenet{r}.resConfUnit{n}.conv{m}.{q}",
        "neck.fusion_stage.layers.{r}.residual_layer{n}.convolution{m}.{q}",
    ),
    (
        "scratch.refinenet{r}.resConfUnit{n}.bn{m}.{q}",
        "neck.fusion_stage.layers.{r}.residual_layer{n}.batch_norm{m}.{q}",
    ),
    ("scratch.output_conv.{n}.{q}", "head.head.{n}.{q}"),
    ("auxlayer.{n}.{q}", "auxiliary_head.head.{n}.{q}"),
)
DPT_VIT: Table = (
    *_DPT,
    (
        "pretrained.model.patch_embed.proj.{q}",
        "dpt.embeddings.patch_embeddings.projection.{q}",
    ),
)
DPT_HYBRID: Table = (
    *_DPT,
    ("pretrained.model.patch_embed.proj.{q}", "dpt.embeddings.projection.{q}"),
    (
        "pretrained.model.patch_embed.backbone.stem.conv.{q}",
        "dpt.embeddings.backbone.bit.embedder.convolution.{q}",
    ),
    (
        "pretrained.model.patch_embed.backbone.stem.norm.{q}",
        "dpt.embeddings.backbone.bit.embedder.norm.{q}",
    ),
    (
        "pretrained.model.patch_embed.backbone.stages.{n}.blocks.{m}.{q}",
        "dpt.embeddings.backbone.bit.encoder.stages.{n}.layers.{m}.{q}",
    ),
)


def _config(tensors: Tensors, kind: Kind, path: Path) -> dict[str, Any]:
    """The config.json of an isl-org DPT."""
    embed = "pretrained.model.patch_embed"
    hybrid = f"{embed}.backbone.stem.conv.weight" in tensors
    patch = 16 if hybrid else shape_of(tensors, f"{embed}.proj.weight", path, dims=4)[-1]
    vit = vit_config(tensors, "pretrained.model", patch=patch, path=path)
    hidden = shape_of(tensors, "pretrained.model.blocks.0.mlp.fc1.weight", path, dims=2)[0]
    task = "SemanticSegmentation" if kind is ADE else "DepthEstimation"
    taps = _DPT_HYBRID_TAPS if hybrid else kind.taps
    normed = "scratch.refinenet1.resConfUnit1.bn1.weight" in tensors
    config = {
        **vit,
        **neck_config(tensors, "scratch", path),
        **kind.metric,
        "model_type": "dpt",
        "architectures": [f"DPTFor{task}"],
        "intermediate_size": hidden,
        "layer_norm_eps": 1e-6,  # timm's; the hub's copies say 1e-12
        "is_hybrid": hybrid,
        "backbone_out_indices": list(taps_of(taps, vit["num_hidden_layers"], path)),
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
        num_labels = shape_of(tensors, "scratch.output_conv.4.weight", path, dims=4)[0]
        config["num_labels"] = num_labels
        if num_labels == ADE20K_CLASSES:
            config["label_set"] = "ade20k"  # the names are filled in from that table
        config["use_auxiliary_head"] = "auxlayer.0.weight" in tensors  # only training uses it
    return config


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
        "embedding_size": shape_of(tensors, f"{prefix}.stem.conv.weight", path, dims=4)[0],
        "depths": [sum(int(match[1]) == stage for match in found) for stage in stages],
        "hidden_sizes": [shape_of(tensors, last, path, dims=4)[0] for last in lasts],
        "out_features": [f"stage{stage + 1}" for stage in stages],
    }
    return {"backbone_config": stem}


def _is_dpt(tensors: Tensors) -> bool:
    return "pretrained.model.blocks.0.attn.qkv.weight" in tensors


def _segments(tensors: Tensors) -> bool:
    return "scratch.output_conv.1.weight" in tensors  # its batch norm


def _is_hybrid(tensors: Tensors) -> bool:
    return "pretrained.model.patch_embed.backbone.stem.conv.weight" in tensors


def _table(tensors: Tensors) -> Table:
    return DPT_HYBRID if _is_hybrid(tensors) else DPT_VIT


_TITLE = "isl-org's DPT large and hybrid"
_HALF = [0.5, 0.5, 0.5]
_PROCESSOR = {"image_mean": _HALF, "image_std": _HALF, "ensure_multiple_of": 32}
FORMATS = (
    OriginalFormat(
        title=_TITLE,
        fits=lambda tensors: _is_dpt(tensors) and not _segments(tensors),
        kinds=DPT_KINDS,
        fallback=DPT_KINDS[-1],
        config=_config,
        table=_table,
        processor=_PROCESSOR,
    ),
    OriginalFormat(
        title=_TITLE,
        fits=lambda tensors: _is_dpt(tensors) and _segments(tensors),
        kinds=(ADE,),
        fallback=ADE,
        config=_config,
        table=_table,
        processor=_PROCESSOR,
    ),
)
