"""The folders of Depth-Anything-3's authors: config.json with model_name, model.safetensors."""

from pathlib import Path
from typing import Any

from dptcli.model.families.depth_anything.originals import config_of, table_of
from dptcli.model.families.depth_anything_3 import ARCHITECTURE, MODEL_NAMES
from dptcli.model.families.original import Kind, OriginalFormat, Table, Tensors

_TAPS = {24: (4, 11, 17, 23)}
_GIVES: tuple[dict[str, Any], ...] = (
    {"depth_estimation_type": "depth"},
    {"depth_estimation_type": "metric", "reference_focal_px": 300.0},
)
KINDS = tuple(
    Kind(name=name, network_hw=(504, 504), metric=gives, hint=name.replace("-", "_"), taps=_TAPS)
    for name, gives in zip(MODEL_NAMES, _GIVES, strict=True)
)
ENCODER, HEAD = "model.backbone.pretrained", "model.head"
PROCESSOR = {"image_processor_type": "DepthAnything3ImageProcessor", "size": 504}
# As in Depth-Anything, one level deeper; the sky's convolutions stand beside those of depth.
TABLE: Table = (
    *table_of(encoder=ENCODER, head=HEAD),
    (f"{HEAD}.scratch.sky_output_conv2.0.{{q}}", "head.sky_conv2.{q}"),
    (f"{HEAD}.scratch.sky_output_conv2.2.{{q}}", "head.sky_conv3.{q}"),
)


def config_of_3(tensors: Tensors, kind: Kind, path: Path) -> dict[str, Any]:
    """What every config.json of a Depth Anything 3 says; the architecture is yet to be named."""
    config = config_of(tensors, kind, path, encoder=ENCODER, head=HEAD)
    config["backbone_config"] |= {
        "layer_norm_eps": 1e-6,
        "final_layer_norm_eps": 1e-5,  # their last norm keeps PyTorch's own
    }
    return config


def config_of_metric(tensors: Tensors, kind: Kind, path: Path) -> dict[str, Any]:
    return {
        **config_of_3(tensors, kind, path),
        "model_type": "depth_anything_3",
        "architectures": [ARCHITECTURE],
    }


FORMATS = (
    OriginalFormat(
        title="Depth-Anything-3 mono and metric",
        fits=lambda tensors: f"{HEAD}.scratch.sky_output_conv2.0.weight" in tensors,
        kinds=KINDS,
        config=config_of_metric,
        table=lambda _: TABLE,
        processor=PROCESSOR,
    ),
)
