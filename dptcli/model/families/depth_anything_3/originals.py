"""The folders of Depth-Anything-3's authors: config.json with model_name, model.safetensors."""

from pathlib import Path
from typing import Any

from dptcli.model.families.depth_anything.originals import TABLE as DEPTH_ANYTHING
from dptcli.model.families.depth_anything_3 import ARCHITECTURE, MODEL_NAMES
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

_TAPS = {24: (4, 11, 17, 23)}
_GIVES: tuple[dict[str, Any], ...] = (
    {"depth_estimation_type": "depth"},
    {"depth_estimation_type": "metric", "reference_focal_px": 300.0},
)
KINDS = tuple(
    Kind(name=name, network_hw=(504, 504), metric=gives, hint=name.replace("-", "_"), taps=_TAPS)
    for name, gives in zip(MODEL_NAMES, _GIVES, strict=True)
)
_ENCODER, _HEAD = "model.backbone.pretrained", "model.head"
# As in Depth-Anything, one level deeper; the sky's convolutions stand beside those of depth.
TABLE: Table = (
    *(
        (
            theirs.replace("pretrained.", f"{_ENCODER}.").replace("depth_head.", f"{_HEAD}."),
            ours,
        )
        for theirs, ours in DEPTH_ANYTHING
    ),
    (f"{_HEAD}.scratch.sky_output_conv2.0.{{q}}", "head.sky_conv2.{q}"),
    (f"{_HEAD}.scratch.sky_output_conv2.2.{{q}}", "head.sky_conv3.{q}"),
)


def _config(tensors: Tensors, kind: Kind, path: Path) -> dict[str, Any]:
    """The config.json of a Depth Anything 3."""
    patch = shape_of(tensors, f"{_ENCODER}.patch_embed.proj.weight", path, dims=4)[-1]
    backbone = vit_config(tensors, _ENCODER, patch=patch, path=path)
    taps = taps_of(kind.taps, backbone["num_hidden_layers"], path)
    backbone |= {
        "model_type": "dinov2",
        "out_indices": [tap + 1 for tap in taps],  # stage 0 is the stem
        "reshape_hidden_states": False,
        "use_mask_token": False,
        "position_offset": 0.1,
        "layer_norm_eps": 1e-6,
        "final_layer_norm_eps": 1e-5,  # their last norm keeps PyTorch's own
    }
    head = shape_of(tensors, f"{_HEAD}.scratch.output_conv2.0.weight", path, dims=4)
    return {
        **neck_config(tensors, f"{_HEAD}.scratch", path),
        **kind.metric,
        "model_type": "depth_anything_3",
        "architectures": [ARCHITECTURE],
        "backbone_config": backbone,
        "patch_size": patch,
        "reassemble_hidden_size": backbone["hidden_size"],
        "reassemble_factors": [4, 2, 1, 0.5],
        "head_hidden_size": head[0],
    }


FORMATS = (
    OriginalFormat(
        title="Depth-Anything-3 mono and metric",
        fits=lambda tensors: f"{_HEAD}.scratch.sky_output_conv2.0.weight" in tensors,
        kinds=KINDS,
        config=_config,
        table=lambda _: TABLE,
        processor={"image_processor_type": "DepthAnything3ImageProcessor", "size": 504},
    ),
)
