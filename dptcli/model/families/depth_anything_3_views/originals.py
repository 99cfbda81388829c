"""The folders of Depth-Anything-3's authors for any views: config.json with model_name, weights.

What only serves rays or Gaussian splats is left out: depth, confidence and cameras pass through
none of it.
"""

import re
from pathlib import Path
from typing import Any

from dptcli.model.families.depth_anything.originals import ENCODER as BLOCKS
from dptcli.model.families.depth_anything.originals import TABLE as PLAIN
from dptcli.model.families.depth_anything.originals import table_of
from dptcli.model.families.depth_anything_3.originals import ENCODER, HEAD, PROCESSOR, config_of_3
from dptcli.model.families.depth_anything_3_views import ARCHITECTURE, WITH_POSES
from dptcli.model.families.original import Kind, OriginalFormat, Table, Tensors

KINDS = (
    Kind(
        name="da3-any-view",
        network_hw=(504, 504),
        metric={},
        hint="da3_",
        taps={12: (5, 7, 9, 11), 24: (11, 15, 19, 23), 40: (19, 27, 33, 39)},
    ),
)
_CAMERA, _GIVEN = "model.cam_dec", "model.cam_enc"
_BLOCK = re.compile(rf"{re.escape(_GIVEN)}\.trunk\.(\d+)\.norm1\.weight")
_PLACES = ("backbone.encoder.", "camera_encoder.")
# The camera encoder's blocks are as plain as DINOv2's.
_ENCODER: Table = tuple(
    (theirs.replace(f"{BLOCKS}.blocks", f"{_GIVEN}.trunk"), ours.replace(*_PLACES))
    for theirs, ours in PLAIN
    if theirs.startswith(f"{BLOCKS}.blocks.")
)
_QUERY_NORM = re.compile(rf"{re.escape(ENCODER)}\.blocks\.(\d+)\.attn\.q_norm\.weight")
# As in Depth-Anything, one level deeper, between what is left out and what is new.
TABLE: Table = (
    (f"{HEAD}.scratch.refinenet{{r}}_aux.{{q}}", ""),
    (f"{HEAD}.scratch.output_conv1_aux.{{q}}", ""),
    (f"{HEAD}.scratch.output_conv2_aux.{{q}}", ""),
    ("model.gs_head.{q}", ""),
    ("model.gs_adapter.{q}", ""),
    *table_of(encoder=ENCODER, head=HEAD),
    (f"{ENCODER}.camera_token", "backbone.camera_tokens"),
    (
        f"{ENCODER}.blocks.{{n}}.attn.q_norm.{{q}}",
        "backbone.encoder.layer.{n}.attention.attention.query_norm.{q}",
    ),
    (
        f"{ENCODER}.blocks.{{n}}.attn.k_norm.{{q}}",
        "backbone.encoder.layer.{n}.attention.attention.key_norm.{q}",
    ),
    (f"{HEAD}.norm.{{q}}", "neck.reassemble_stage.norm.{q}"),
    (f"{_CAMERA}.backbone.{{q}}", "camera_head.layers.{q}"),
    (f"{_CAMERA}.fc_t.{{q}}", "camera_head.translation.{q}"),
    (f"{_CAMERA}.fc_qvec.{{q}}", "camera_head.quaternion.{q}"),
    (f"{_CAMERA}.fc_fov.0.{{q}}", "camera_head.field_of_view.{q}"),
    *_ENCODER,
    (f"{_GIVEN}.pose_branch.fc1.{{q}}", "camera_encoder.pose.0.{q}"),
    (f"{_GIVEN}.pose_branch.fc2.{{q}}", "camera_encoder.pose.2.{q}"),
    (f"{_GIVEN}.token_norm.{{q}}", "camera_encoder.token_norm.{q}"),
    (f"{_GIVEN}.trunk_norm.{{q}}", "camera_encoder.norm.{q}"),
)


def config_of_views(tensors: Tensors, kind: Kind, path: Path) -> dict[str, Any]:
    """Every block that looks from view to view normalises its queries and keys."""
    config = config_of_3(tensors, kind, path)
    normed = (match for match in map(_QUERY_NORM.fullmatch, tensors) if match)
    config["backbone_config"] |= {
        "model_type": "dinov2_views",
        "views_start": min((int(match[1]) for match in normed), default=0),
    }
    num_blocks = sum(1 for name in tensors if _BLOCK.fullmatch(name))
    return {
        **config,
        "model_type": "depth_anything_3_views",
        "architectures": [WITH_POSES if num_blocks else ARCHITECTURE],
        **({"camera_encoder_layers": num_blocks} if num_blocks else {}),
        "depth_estimation_type": "depth",
        # Of a tap the neck sees the tokens before and after the views were joined, side by side.
        "reassemble_hidden_size": 2 * config["backbone_config"]["hidden_size"],
    }


FORMATS = (
    OriginalFormat(
        title="Depth-Anything-3 for any views",
        fits=lambda tensors: f"{_CAMERA}.fc_qvec.weight" in tensors,
        kinds=KINDS,
        config=config_of_views,
        table=lambda _: TABLE,
        processor=PROCESSOR,
    ),
)
