"""The files of Video-Depth-Anything (.pth): Depth Anything V2's layout and temporal modules."""

from pathlib import Path
from typing import Any

from dptcli.model.families.depth_anything.originals import V2_TAPS, config_of, table_of
from dptcli.model.families.original import (
    IMAGENET,
    Kind,
    OriginalFormat,
    Table,
    Tensors,
    shape_of,
)

_HEAD = "head"
_MODULE = f"{_HEAD}.motion_modules.{{n}}.temporal_transformer"
_BLOCK = f"{_MODULE}.transformer_blocks.0"
_MARK = f"{_HEAD}.motion_modules.0.temporal_transformer.transformer_blocks.0"
_POSITIONS = f"{_MARK}.attention_blocks.0.pos_encoder.pe"
KINDS = (
    Kind(
        name="video-depth-anything-metric",
        network_hw=(518, 518),
        metric={"depth_estimation_type": "metric"},
        hint="metric_video_depth_anything",
        taps=V2_TAPS,
    ),
    Kind(
        name="video-depth-anything",
        network_hw=(518, 518),
        metric={},
        hint="video_depth_anything",
        taps=V2_TAPS,
    ),
)
VIDEO_TABLE: Table = (
    *table_of(head=_HEAD),
    (f"{_MODULE}.norm.{{q}}", "temporal_modules.{n}.norm.{q}"),
    (f"{_MODULE}.proj_in.{{q}}", "temporal_modules.{n}.project_in.{q}"),
    (f"{_MODULE}.proj_out.{{q}}", "temporal_modules.{n}.project_out.{q}"),
    *(
        (
            f"{_BLOCK}.attention_blocks.{{m}}.{theirs}.{{q}}",
            f"temporal_modules.{{n}}.attentions.{{m}}.{ours}.{{q}}",
        )
        for theirs, ours in (
            ("to_q", "query"),
            ("to_k", "key"),
            ("to_v", "value"),
            ("to_out.0", "output"),
        )
    ),
    # Sines and cosines, which are computed here.
    (f"{_BLOCK}.attention_blocks.{{m}}.pos_encoder.pe", ""),
    (f"{_BLOCK}.norms.{{m}}.{{q}}", "temporal_modules.{n}.attention_norms.{m}.{q}"),
    (f"{_BLOCK}.ff.net.0.proj.{{q}}", "temporal_modules.{n}.feed_forward.inner.{q}"),
    (f"{_BLOCK}.ff.net.2.{{q}}", "temporal_modules.{n}.feed_forward.outer.{q}"),
    (f"{_BLOCK}.ff_norm.{{q}}", "temporal_modules.{n}.feed_forward_norm.{q}"),
)


def _config(tensors: Tensors, kind: Kind, path: Path) -> dict[str, Any]:
    return {
        **config_of(tensors, kind, path, head=_HEAD),
        "model_type": "video_depth_anything",
        "architectures": ["VideoDepthAnythingForDepthEstimation"],
        "num_frames": shape_of(tensors, _POSITIONS, path, dims=3)[1],
    }


FORMATS = (
    OriginalFormat(
        title="Video-Depth-Anything",
        fits=lambda tensors: f"{_MARK}.ff_norm.weight" in tensors,
        kinds=KINDS,
        config=_config,
        table=lambda _: VIDEO_TABLE,
        processor={
            **IMAGENET,
            "ensure_multiple_of": 14,
            "image_processor_type": "VideoDepthAnythingImageProcessor",
        },
    ),
)
