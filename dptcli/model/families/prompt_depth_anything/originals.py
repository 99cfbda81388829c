"""The files of PromptDA (.ckpt): Depth Anything V2's layout, with branches for the prompt."""

from pathlib import Path
from typing import Any

from dptcli.model.families.depth_anything.originals import (
    PROMPT_MARK,
    TABLE,
    V2_TAPS,
    config_of,
)
from dptcli.model.families.original import IMAGENET, Kind, OriginalFormat, Table, Tensors

KIND = Kind(
    name="prompt-depth-anything",
    network_hw=(756, 756),
    metric={"depth_estimation_type": "metric", "max_depth": None},
    hint="promptda",
    taps=V2_TAPS,
)
_BRANCH = "neck.fusion_stage.layers.{r}.prompt_depth_layer"
PROMPT_TABLE: Table = (
    *TABLE,
    *(
        (
            f"depth_head.scratch.refinenet{{r}}.resConfUnit_depth.{theirs}.{{q}}",
            f"{_BRANCH}.convolution{ours}.{{q}}",
        )
        for ours, theirs in ((1, 0), (2, 2), (3, 4))
    ),
    ("_mean", ""),  # the normalisation, which preprocessor_config.json says
    ("_std", ""),
)


def _config(tensors: Tensors, kind: Kind, path: Path) -> dict[str, Any]:
    return {
        **config_of(tensors, kind, path),
        "model_type": "prompt_depth_anything",
        "architectures": ["PromptDepthAnythingForDepthEstimation"],
    }


FORMATS = (
    OriginalFormat(
        title="PromptDA",
        fits=lambda tensors: PROMPT_MARK in tensors,
        kinds=(KIND,),
        config=_config,
        table=lambda _: PROMPT_TABLE,
        processor={
            **IMAGENET,
            "ensure_multiple_of": 14,
            "image_processor_type": "PromptDepthAnythingImageProcessor",
        },
    ),
)
