"""The published shapes at full size, on random weights, equal the reference both ways (slow)."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import assert_close, bare, load_reference, randomize

import dptcli

LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "image_size": 384,
    "backbone_out_indices": [5, 11, 17, 23],
    "neck_hidden_sizes": [256, 512, 1024, 1024],
}
HYBRID = {
    "is_hybrid": True,
    "backbone_out_indices": [0, 1, 8, 11],
    "reassemble_factors": [1, 1, 1, 0.5],
    "neck_hidden_sizes": [256, 512, 768, 768],
}
SMALL = {
    "hidden_size": 384,
    "num_attention_heads": 6,
    "image_size": 518,
    "reshape_hidden_states": False,
}
SMALL_NECK = {"neck_hidden_sizes": [48, 96, 192, 384]}


def dinov2_small() -> Any:
    backbone = transformers.Dinov2Config(**SMALL, out_indices=[3, 6, 9, 12], apply_layernorm=False)
    return transformers.DPTConfig(
        backbone_config=backbone,
        use_bias_in_fusion_residual=False,
        add_projection=True,
        **SMALL_NECK,
    )


def depth_anything_small() -> Any:
    backbone = transformers.Dinov2Config(**SMALL, out_indices=[3, 6, 9, 12])
    return transformers.DepthAnythingConfig(backbone_config=backbone, **SMALL_NECK)


# name -> the class, its configuration, and an input that the reference takes
PUBLISHED = {
    "dpt-large": ("DPT", lambda: transformers.DPTConfig(**LARGE), (384, 384)),
    "dpt-hybrid-midas": ("DPT", lambda: transformers.DPTConfig(**HYBRID), (384, 384)),
    "dpt-dinov2-small": ("DPT", dinov2_small, (378, 518)),
    "depth-anything-small": ("DepthAnything", depth_anything_small, (518, 378)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
@torch.inference_mode()
def test_a_full_size_model_equals_the_reference_both_ways(name: str, tmp_path: Path) -> None:
    family, config, size_hw = PUBLISHED[name]
    class_name = f"{family}ForDepthEstimation"
    reference_class = getattr(transformers, class_name)
    reference = randomize(bare(reference_class, config()), seed=0, std=0.05)
    if family == "DepthAnything":  # lifts the last ReLU's input off zero
        reference.head.conv3.bias.fill_(1.0)
    x = torch.randn(1, 3, *size_hw, generator=torch.Generator().manual_seed(0))
    expected = reference(x).predicted_depth
    assert expected.std() > 1e-3  # a flat map would prove little
    reference.save_pretrained(tmp_path / "theirs")
    del reference  # up to a gigabyte and a half each
    ours = getattr(dptcli, class_name).from_pretrained(tmp_path / "theirs")
    assert_close(ours(x).predicted_depth, expected)
    ours.save_pretrained(tmp_path / "ours")
    del ours
    back = load_reference(reference_class, tmp_path / "ours")
    assert_close(back(x).predicted_depth, expected)
