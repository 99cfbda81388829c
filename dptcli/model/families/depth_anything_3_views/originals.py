"""The folders of Depth-Anything-3's authors for any views: config.json with model_name, weights.

What only serves cameras that are given, rays or Gaussian splats is left out: depth, confidence and
the estimated cameras pass through none of it.
"""

import re
from pathlib import Path
from typing import Any

from dptcli.model.families.depth_anything.originals import TABLE as DEPTH_ANYTHING
from dptcli.model.families.depth_anything_3_views import ARCHITECTURE
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

KINDS = (
    Kind(
        name="da3-any-view",
        network_hw=(504, 504),
        metric={},
        hint="da3_",
        taps={12: (5, 7, 9, 11), 24: (11, 15, 19, 23), 40: (19, 27, 33, 39)},
    ),
)
_ENCODER, _HEAD, _CAMERA = "model.backbone.pretrained", "model.head", "model.cam_dec"
_QUERY_NORM = re.compile(rf"{re.escape(_ENCODER)}\.blocks\.(\d+)\.attn\.q_norm\.weight")
# As in Depth-Anything, one level deeper, between what is left out and what is new.
TABLE: Table = (
    (f"{_HEAD}.scratch.refinenet{{r}}_aux.{{q}}", ""),
    (f"{_HEAD}.scratch.output_conv1_aux.{{q}}", ""),
    (f"{_HEAD}.scratch.output_conv2_aux.{{q}}", ""),
    ("model.cam_enc.{q}", ""),
    ("model.gs_head.{q}", ""),
    ("model.gs_adapter.{q}", ""),
    *(
        (
            theirs.replace("pretrained.", f"{_ENCODER}.").replace("depth_head.", f"{_HEAD}."),
            ours,
        )
        for theirs, ours in DEPTH_ANYTHING
    ),
    (f"{_ENCODER}.camera_token", "backbone.camera_tokens"),
    (
        f"{_ENCODER}.blocks.{{n}}.attn.q_norm.{{q}}",
        "backbone.encoder.layer.{n}.attention.attention.query_norm.{q}",
    ),
    (
        f"{_ENCODER}.blocks.{{n}}.attn.k_norm.{{q}}",
        "backbone.encoder.layer.{n}.attention.attention.key_norm.{q}",
    ),
    (f"{_HEAD}.norm.{{q}}", "neck.reassemble_stage.norm.{q}"),
    (f"{_CAMERA}.backbone.{{q}}", "camera_head.layers.{q}"),
    (f"{_CAMERA}.fc_t.{{q}}", "camera_head.translation.{q}"),
    (f"{_CAMERA}.fc_qvec.{{q}}", "camera_head.quaternion.{q}"),
    (f"{_CAMERA}.fc_fov.0.{{q}}", "camera_head.field_of_view.{q}"),
)


def _config(tensors: Tensors, kind: Kind, path: Path) -> dict[str, Any]:
    """The config.json of a Depth Anything 3 for any views."""
    patch = shape_of(tensors, f"{_ENCODER}.patch_embed.proj.weight", path, dims=4)[-1]
    backbone = vit_config(tensors, _ENCODER, patch=patch, path=path)
    taps = taps_of(kind.taps, backbone["num_hidden_layers"], path)
    normed = (match for match in map(_QUERY_NORM.fullmatch, tensors) if match)
    backbone |= {
        "model_type": "dinov2_views",
        "views_start": min((int(match[1]) for match in normed), default=0),
        "out_indices": [tap + 1 for tap in taps],  # stage 0 is the stem
        "reshape_hidden_states": False,
        "use_swiglu_ffn": f"{_ENCODER}.blocks.0.mlp.w12.weight" in tensors,
        "use_mask_token": False,
        "position_offset": 0.1,
        "layer_norm_eps": 1e-6,
        "final_layer_norm_eps": 1e-5,  # their last norm keeps PyTorch's own
    }
    head = shape_of(tensors, f"{_HEAD}.scratch.output_conv2.0.weight", path, dims=4)
    return {
        **neck_config(tensors, f"{_HEAD}.scratch", path),
        "model_type": "depth_anything_3_views",
        "architectures": [ARCHITECTURE],
        "backbone_config": backbone,
        "patch_size": patch,
        "depth_estimation_type": "depth",
        "reassemble_hidden_size": 2 * backbone["hidden_size"],
        "reassemble_factors": [4, 2, 1, 0.5],
        "head_hidden_size": head[0],
    }


FORMATS = (
    OriginalFormat(
        title="Depth-Anything-3 for any views",
        fits=lambda tensors: f"{_CAMERA}.fc_qvec.weight" in tensors,
        kinds=KINDS,
        config=_config,
        table=lambda _: TABLE,
        processor={"image_processor_type": "DepthAnything3ImageProcessor", "size": 504},
    ),
)
