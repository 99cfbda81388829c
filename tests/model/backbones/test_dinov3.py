"""DINOv3 as a backbone equals the reference, both ways, on random models and any shape."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import assert_close, load_reference, pixels, randomize
from safetensors.torch import load_file

from dptcli import (
    AutoBackbone,
    DINOv3ViTBackbone,
    DINOv3ViTConfig,
    DPTConfig,
    DPTForDepthEstimation,
)
from dptcli.errors import ConfigError

EAGER = {"attn_implementation": "eager"}  # the fused attention keeps no weights
SHAPES = {"square": (48, 48), "landscape": (40, 72), "portrait": (75, 33)}


def draw(seed: int, **changes: Any) -> dict[str, Any]:
    """A random DINOv3; half of them as the larger public ones, with a gate and SiLU."""
    rng = random.Random(seed)
    num_layers = rng.choice([4, 5])
    gated = seed % 2 == 1
    values = {
        "hidden_size": rng.choice([24, 48]),
        "intermediate_size": rng.choice([20, 64]),
        "num_attention_heads": rng.choice([1, 2, 3]),
        "num_hidden_layers": num_layers,
        "image_size": 32,
        "patch_size": 8,
        "num_register_tokens": rng.choice([0, 1, 4]),
        "use_gated_mlp": gated,
        "hidden_act": "silu" if gated else "gelu",
        "key_bias": rng.random() < 0.3,
        "mlp_bias": rng.random() < 0.7,
        "rope_theta": rng.choice([100.0, 30.0]),
        "apply_layernorm": rng.random() < 0.6,
        "out_indices": [*sorted(rng.sample(range(num_layers), 3)), num_layers],
    }
    return values | changes


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.processor), *range(1, 4)])
@torch.inference_mode()
def test_the_backbone_equals_the_reference_both_ways(seed: int, shape: str, tmp_path: Path) -> None:
    values = draw(seed, reshape_hidden_states=seed != 2, return_class_token=True)
    config = transformers.DINOv3ViTConfig(**values, **EAGER)
    reference = randomize(transformers.AutoBackbone.from_config(config), seed=seed, std=0.2)
    reference.save_pretrained(tmp_path / "theirs")
    ours = AutoBackbone.from_pretrained(tmp_path / "theirs")
    assert isinstance(ours, DINOv3ViTBackbone)
    x = pixels(values, SHAPES[shape])
    expected = reference(x, output_hidden_states=True, output_attentions=True)
    found = ours(x, True, True)
    for name in ("feature_maps", "hidden_states", "attentions", "cls_tokens"):
        for mine, theirs in zip(found[name], expected[name], strict=True):
            assert_close(mine, theirs)
    for mine, theirs in zip(ours(x).feature_maps, expected.feature_maps, strict=True):
        assert_close(mine, theirs)  # the fused attention
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(type(reference), tmp_path / "ours")
    assert_close(back(x).feature_maps[-1], expected.feature_maps[-1])


@pytest.mark.parametrize("readout", ["ignore", "add", "project"])
@torch.inference_mode()
def test_a_dpt_stands_on_it(readout: str, tmp_path: Path) -> None:
    """The reference's DPT takes the first patch for a class token and fails; here each readout
    finds its own, and the registers stay out."""
    neck = {"neck_hidden_sizes": [8, 12, 16, 20], "fusion_hidden_size": 16}
    backbone = {"model_type": "dinov3_vit", **draw(1, num_register_tokens=2)}
    config = DPTConfig(backbone_config=backbone, readout_type=readout, **neck)
    model = randomize(DPTForDepthEstimation(config), seed=3)
    model.save_pretrained(tmp_path)
    x = pixels(backbone, (48, 80))
    depth = model(x).predicted_depth
    assert depth.shape == (2, 96, 160)
    assert depth.std() > 0
    assert torch.equal(DPTForDepthEstimation.from_pretrained(tmp_path)(x).predicted_depth, depth)


@torch.inference_mode()
def test_the_whole_model_that_is_published_gives_its_backbone(tmp_path: Path) -> None:
    """facebook/dinov3-vit* hold DINOv3ViTModel; its names in memory and in files differ."""
    values = draw(1)
    whole = randomize(transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**values)), seed=5)
    whole.save_pretrained(tmp_path)
    assert "layer.0.attention.q_proj.weight" in load_file(tmp_path / "model.safetensors")
    x = pixels(values, (40, 56))
    expected = whole(x).last_hidden_state
    prefix = 1 + values["num_register_tokens"]
    for options in ({}, {"state_dict": whole.state_dict()}):
        ours = AutoBackbone.from_pretrained(
            tmp_path, out_indices=[-1], reshape_hidden_states=False, **options
        )
        assert_close(ours(x).feature_maps[0], expected[:, prefix:])


@torch.inference_mode()
def test_places_are_relative_to_the_image_so_any_size_and_dtype_runs() -> None:
    config = DINOv3ViTConfig(**draw(0))
    model = randomize(DINOv3ViTBackbone(config), seed=1, std=0.1)
    wide = model(torch.randn(1, 3, 8, 200)).feature_maps[-1]
    assert wide.shape == (1, config.hidden_size, 1, 25)
    x = torch.randn(1, 3, 48, 40)
    plain = model(x).feature_maps[-1]
    half = model.bfloat16()(x).feature_maps[-1]
    assert half.dtype is torch.bfloat16
    assert (half.float() - plain).abs().mean() < 0.05 * plain.abs().mean()


def test_training_varies_the_places_and_reaches_every_weight() -> None:
    config = DINOv3ViTConfig(**draw(3, pos_embed_shift=0.2, pos_embed_jitter=1.1))
    model = randomize(DINOv3ViTBackbone(config), seed=1).train()
    x = torch.randn(2, 3, 32, 32)
    first, second = model(x).feature_maps[-1], model(x).feature_maps[-1]
    assert not torch.equal(first, second)
    sum(x.square().sum() for x in model(x).feature_maps).backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert without == ["embeddings.mask_token"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden_size": 30, "num_attention_heads": 3}, "hidden_size"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"num_register_tokens": -1}, "num_register_tokens"),
        ({"pos_embed_rescale": 0.5}, "pos_embed_rescale"),
        ({"intermediate_size": 0}, "intermediate_size"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DINOv3ViTConfig(**draw(0) | change)
