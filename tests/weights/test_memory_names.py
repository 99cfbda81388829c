"""State dicts as the reference's 5.x holds them in memory, which its own files name otherwise."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import assert_close, randomize

from dptcli import (
    DepthAnythingForDepthEstimation,
    DPTForDepthEstimation,
    ZoeDepthForDepthEstimation,
)

STAGES = {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False}
SHARED = {"hidden_size": 16, "num_attention_heads": 2, **STAGES}
NECK: dict[str, Any] = {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8}


def dinov2(**gated: bool) -> Any:
    return transformers.Dinov2Config(**SHARED, **gated, image_size=28, patch_size=14)


def beit(**bias: bool) -> Any:
    return transformers.BeitConfig(**SHARED, intermediate_size=32, image_size=32, **bias)


def zoe(**bias: bool) -> Any:
    config = transformers.ZoeDepthConfig(
        backbone_config=beit(**bias), bottleneck_features=8, num_relative_features=4, **NECK
    )
    return transformers.ZoeDepthForDepthEstimation(config)


MODELS: dict[str, Any] = {
    "dpt": (
        DPTForDepthEstimation,
        lambda: transformers.DPTForDepthEstimation(
            transformers.DPTConfig(backbone_config=dinov2(), **NECK)
        ),
    ),
    "dpt, gated": (
        DPTForDepthEstimation,
        lambda: transformers.DPTForDepthEstimation(
            transformers.DPTConfig(backbone_config=dinov2(use_swiglu_ffn=True), **NECK)
        ),
    ),
    "depth_anything": (
        DepthAnythingForDepthEstimation,
        lambda: transformers.DepthAnythingForDepthEstimation(
            transformers.DepthAnythingConfig(
                backbone_config=dinov2(), reassemble_hidden_size=16, **NECK
            )
        ),
    ),
    "zoedepth": (
        ZoeDepthForDepthEstimation,
        lambda: zoe(use_relative_position_bias=True, use_shared_relative_position_bias=False),
    ),
    "zoedepth, shared bias": (
        ZoeDepthForDepthEstimation,
        lambda: zoe(use_relative_position_bias=False, use_shared_relative_position_bias=True),
    ),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", ["torch.save", "state_dict"])
def test_a_state_dict_of_the_references_memory_loads(kind: str, way: str, tmp_path: Path) -> None:
    ours, make = MODELS[kind]
    theirs = randomize(make(), seed=1)
    if kind == "depth_anything":  # lifts the last ReLU's input, else a random depth is all zero
        torch.nn.init.ones_(theirs.head.conv3.bias)
    theirs.config.save_pretrained(tmp_path)
    given: dict[str, Any] = {}
    if way == "torch.save":
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    else:
        given["state_dict"] = theirs.state_dict()
    model = ours.from_pretrained(tmp_path, **given)
    pixels = torch.linspace(-1, 1, 3 * 42 * 56).view(1, 3, 42, 56)
    with torch.no_grad():
        assert_close(model(pixels).predicted_depth, theirs(pixels).predicted_depth)
