"""The files of Depth-Anything (.pth): v1, V2 and V2 in metres."""

from pathlib import Path
from typing import Any

from dptcli.model.families.original import (
    IMAGENET,
    Kind,
    OriginalFormat,
    Table,
    Tensors,
    neck_config,
    shape_of,
    taps_of,
    vit_config,
)

_V1_TAPS = {12: (8, 9, 10, 11), 24: (20, 21, 22, 23), 40: (36, 37, 38, 39)}
V2_TAPS = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}
KINDS = (
    Kind(
        name="depth-anything-v2-indoor",
        network_hw=(518, 518),
        metric={"depth_estimation_type": "metric", "max_depth": 20},
        hint="metric_hypersim",
        taps=V2_TAPS,
    ),
    Kind(
        name="depth-anything-v2-outdoor",
        network_hw=(518, 518),
        metric={"depth_estimation_type": "metric", "max_depth": 80},
        hint="metric_vkitti",
        taps=V2_TAPS,
    ),
    Kind(
        name="depth-anything-v2",
        network_hw=(518, 518),
        metric={},
        hint="depth_anything_v2_vit",
        taps=V2_TAPS,
    ),
    Kind(
        name="depth-anything-ac",
        network_hw=(518, 518),
        metric={},
        hint="depth_anything_ac_vit",
        taps=V2_TAPS,
    ),
    Kind(
        name="depth-anything-v1",
        network_hw=(518, 518),
        metric={},
        hint="depth_anything_vit",
        taps=_V1_TAPS,
    ),
)
ENCODER, HEAD = "pretrained", "depth_head"
# A tensor that files of the same layout have where the model takes a prompt too.
PROMPT_MARK = "depth_head.scratch.refinenet1.resConfUnit_depth.0.weight"
# Depth-Anything v1 and V2. Its encoder is DINOv2's own code.
TABLE: Table = (
    ("pretrained.cls_token", "backbone.embeddings.cls_token"),
    ("pretrained.mask_token", "backbone.embeddings.mask_token"),
    ("pretrained.pos_embed", "backbone.embeddings.position_embeddings"),
    ("pretrained.patch_embed.proj.{q}", "backbone.embeddings.patch_embeddings.projection.{q}"),
    ("pretrained.blocks.{n}.norm{m}.{q}", "backbone.encoder.layer.{n}.norm{m}.{q}"),
    (
        "pretrained.blocks.{n}.attn.qkv.{q}",
        "backbone.encoder.layer.{n}.attention.attention.{qkv}.{q}",
    ),
    (
        "pretrained.blocks.{n}.attn.proj.{q}",
        "backbone.encoder.layer.{n}.attention.output.dense.{q}",
    ),
    ("pretrained.blocks.{n}.ls{m}.gamma", "backbone.encoder.layer.{n}.layer_scale{m}.lambda1"),
    ("pretrained.blocks.{n}.mlp.fc{m}.{q}", "backbone.encoder.layer.{n}.mlp.fc{m}.{q}"),
    ("pretrained.blocks.{n}.mlp.w12.{q}", "backbone.encoder.layer.{n}.mlp.weights_in.{q}"),
    ("pretrained.blocks.{n}.mlp.w3.{q}", "backbone.encoder.layer.{n}.mlp.weights_out.{q}"),
    ("pretrained.norm.{q}", "backbone.layernorm.{q}"),
    ("depth_head.projects.{n}.{q}", "neck.reassemble_stage.layers.{n}.projection.{q}"),
    ("depth_head.resize_layers.{n}.{q}", "neck.reassemble_stage.layers.{n}.resize.{q}"),
    ("depth_head.scratch.layer{s}_rn.{q}", "neck.convs.{s}.{q}"),
    ("depth_head.scratch.refinenet{r}.out_conv.{q}", "neck.fusion_stage.layers.{r}.projection.{q}"),
    (
        "depth_head.scratch.refinenet{r}.resConfUnit{n}.conv{m}.{q}",
        "neck.fusion_stage.layers.{r}.residual_layer{n}.convolution{m}.{q}",
    ),
    ("depth_head.scratch.output_conv1.{q}", "head.conv1.{q}"),
    ("depth_head.scratch.output_conv2.0.{q}", "head.conv2.{q}"),
    ("depth_head.scratch.output_conv2.2.{q}", "head.conv3.{q}"),
)


def table_of(*, encoder: str = ENCODER, head: str = HEAD) -> Table:
    """TABLE for files whose encoder's and head's names begin otherwise."""
    prefixes = {f"{ENCODER}.": f"{encoder}.", f"{HEAD}.": f"{head}."}
    return tuple(
        (prefixes[first] + theirs.removeprefix(first), ours)
        for theirs, ours in TABLE
        for first in prefixes
        if theirs.startswith(first)
    )


def config_of(
    tensors: Tensors, kind: Kind, path: Path, *, encoder: str = ENCODER, head: str = HEAD
) -> dict[str, Any]:
    """The config.json of a Depth-Anything. encoder, head: what their names begin with."""
    patch = shape_of(tensors, f"{encoder}.patch_embed.proj.weight", path, dims=4)[-1]
    backbone = vit_config(tensors, encoder, patch=patch, path=path)
    taps = taps_of(kind.taps, backbone["num_hidden_layers"], path)
    backbone |= {
        "model_type": "dinov2",
        "out_indices": [tap + 1 for tap in taps],  # stage 0 is the stem
        "reshape_hidden_states": False,
        "use_swiglu_ffn": f"{encoder}.blocks.0.mlp.w12.weight" in tensors,
        "use_mask_token": f"{encoder}.mask_token" in tensors,
        "position_offset": 0.1,  # as the authors' code resizes positions; the hub's copies do not
    }
    last = shape_of(tensors, f"{head}.scratch.output_conv2.0.weight", path, dims=4)
    return {
        **neck_config(tensors, f"{head}.scratch", path),
        **kind.metric,
        "model_type": "depth_anything",
        "architectures": ["DepthAnythingForDepthEstimation"],
        "backbone_config": backbone,
        "patch_size": patch,
        "reassemble_hidden_size": backbone["hidden_size"],
        "reassemble_factors": [4, 2, 1, 0.5],
        "head_hidden_size": last[0],
    }


FORMATS = (
    OriginalFormat(
        title="Depth-Anything v1 and V2",
        fits=lambda tensors: (
            "depth_head.projects.0.weight" in tensors and PROMPT_MARK not in tensors
        ),
        kinds=KINDS,
        config=config_of,
        table=lambda _: TABLE,
        processor={**IMAGENET, "ensure_multiple_of": 14},
    ),
)
