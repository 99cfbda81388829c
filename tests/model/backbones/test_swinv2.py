"""Swin V2 as a backbone equals the reference, both ways, on random models and any input.

The grid is drawn with a fixed seed.
"""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import (
    assert_close,
    assert_depths_equal_both_ways,
    load_reference,
    pixels,
    randomize,
)
from transformers.models.swinv2.modeling_swinv2 import Swinv2SelfAttention

from dptcli import AutoBackbone, DPTForDepthEstimation, Swinv2Backbone, Swinv2Config
from dptcli.errors import ConfigError, ShapeError
from dptcli.model.backbones.swinv2 import MASKED
from dptcli.model.backbones.swinv2_attention import WindowAttention

# Sides that fill patches and windows, and sides that need padding at each of the steps.
SHAPES = {"square": (64, 64), "landscape": (48, 90), "portrait": (101, 47), "small": (17, 30)}


def draw_swin(seed: int) -> dict[str, Any]:
    """A random Swin V2 configuration with all of its stages handed out."""
    rng = random.Random(seed)
    num_stages = rng.choice([3, 4])
    heads = rng.choice([1, 2])
    window = rng.choice([3, 4, 7])
    return {
        "embed_dim": rng.choice([8, 12]),
        "depths": [rng.choice([1, 2, 3]) for _ in range(num_stages)],
        "num_heads": [heads * 2**stage for stage in range(num_stages)],
        "window_size": window,
        "pretrained_window_sizes": rng.choice([[0] * num_stages, [6, 6, 6, 3][:num_stages]]),
        "image_size": rng.choice([64, 48, 35, [64, 32]]),
        "patch_size": rng.choice([2, 4]),
        "num_channels": rng.choice([1, 3]),
        "mlp_ratio": rng.choice([2.0, 4.0]),
        "qkv_bias": rng.random() < 0.7,
        "hidden_act": rng.choice(["gelu", "relu"]),
        "layer_norm_eps": rng.choice([1e-5, 1e-12]),
        "out_features": [f"stage{stage + 1}" for stage in range(num_stages)],
    }


def reference_depth(
    values: dict[str, Any], *, seed: int = 0, std: float = 0.2, fusion_hidden_size: int = 16
) -> Any:
    """The reference's depth model over a Swin V2, with random weights."""
    width, num_stages = values["embed_dim"], len(values["depths"])
    config = transformers.DPTConfig(
        backbone_config=transformers.Swinv2Config(**values),
        neck_hidden_sizes=[width * 2**stage for stage in range(num_stages)],
        reassemble_factors=[1] * num_stages,
        fusion_hidden_size=fusion_hidden_size,
    )
    model = randomize(transformers.DPTForDepthEstimation(config), seed=seed, std=std)
    spread_scales(model, seed=seed)
    return model


def spread_scales(model: torch.nn.Module, *, seed: int) -> None:
    """Give the attention's scales values on both sides of their bound."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("logit_scale"):
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 6)


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.processor), *range(1, 10)])
@torch.inference_mode()
def test_depth_over_swin_equals_the_reference_both_ways(seed: int, tmp_path: Path) -> None:
    values = draw_swin(seed)
    reference = reference_depth(values, seed=seed)
    many = [(pixels(values, hw),) for hw in SHAPES.values()]
    assert_depths_equal_both_ways(reference, many, folder=tmp_path)


@pytest.mark.parametrize("stages", [{"out_features": ["stem", "stage2"]}, {"out_indices": [1, 3]}])
@torch.inference_mode()
def test_swin_alone_equals_the_reference_backbone(stages: dict[str, Any], tmp_path: Path) -> None:
    values = draw_swin(3)
    del values["out_features"]
    reference = transformers.AutoBackbone.from_config(transformers.Swinv2Config(**values, **stages))
    randomize(reference, seed=7).save_pretrained(tmp_path / "theirs")
    ours = AutoBackbone.from_pretrained(tmp_path / "theirs", **stages)
    assert isinstance(ours, Swinv2Backbone)
    x = pixels(values, (40, 70))
    expected = reference(x).feature_maps
    found = ours(x).feature_maps
    assert ours.channels == [feature_map.shape[1] for feature_map in found]
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs)
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(transformers.Swinv2Backbone, tmp_path / "ours")
    for again, theirs in zip(back(x).feature_maps, expected, strict=True):
        assert_close(again, theirs)


@torch.inference_mode()
def test_the_mask_is_as_deep_as_the_reference_s() -> None:
    """Its -100, added twice, only shows where like places have cosines of -1 and scales of 100."""
    config = transformers.Swinv2Config(qkv_bias=False)
    theirs = Swinv2SelfAttention(config, dim=4, num_heads=1, window_size=2).eval()
    ours = WindowAttention(
        Swinv2Config(qkv_bias=False), width=4, num_heads=1, side=2, learned_side=0
    ).eval()
    randomize(theirs, seed=1)
    theirs.query.weight.copy_(torch.eye(4))
    theirs.key.weight.copy_(-torch.eye(4))
    theirs.logit_scale.fill_(9.0)
    ours.load_state_dict(theirs.state_dict())
    side = torch.tensor([1.0, 1.0, -1.0, -1.0])
    x = side[None, :, None] * torch.tensor([1.0, 2.0, 3.0, 4.0])
    apart = (side[:, None] != side).float()[None]
    expected, weights = theirs(x, -100.0 * apart, output_attentions=True)
    assert weights.max() < 0.9
    assert_close(ours(x, mask=MASKED * apart)[0], expected)


@torch.inference_mode()
def test_absolute_positions_are_added_where_the_reference_fails(tmp_path: Path) -> None:
    """The reference keeps one position too many and cannot add them; ours leaves the first out."""
    values = draw_swin(0) | {"use_absolute_embeddings": True, "image_size": 64, "num_channels": 3}
    reference = transformers.AutoBackbone.from_config(transformers.Swinv2Config(**values))
    randomize(reference, seed=1).save_pretrained(tmp_path)
    x = pixels(values, (64, 64))
    with pytest.raises(RuntimeError, match="must match"):
        reference(x)
    ours = AutoBackbone.from_pretrained(tmp_path)
    positions = reference.embeddings.position_embeddings
    plain = ours.embeddings.norm(ours.embeddings.patch_embeddings(x))
    assert_close(ours.embeddings(x).flatten(1, 2), plain + positions[:, 1:])
    assert ours(pixels(values, (40, 70))).feature_maps[0].isfinite().all()


def test_gradients_equal_the_reference(tmp_path: Path) -> None:
    values = draw_swin(1)
    reference = reference_depth(values)
    reference.save_pretrained(tmp_path)
    ours = DPTForDepthEstimation.from_pretrained(tmp_path)
    x = pixels(values, (48, 70))
    reference(x).predicted_depth.square().mean().backward()
    ours(x).predicted_depth.square().mean().backward()
    for name in ("logit_scale", "continuous_position_bias_mlp.0.weight"):
        path = f"backbone.encoder.layers.0.blocks.0.attention.self.{name}"
        assert_close(ours.get_parameter(path).grad, reference.get_parameter(path).grad)


def test_stochastic_depth_grows_over_all_blocks() -> None:
    ours = Swinv2Backbone(Swinv2Config(**draw_swin(1) | {"drop_path_rate": 0.4}))
    rates = [block.drop_path_rate for stage in ours.encoder.layers for block in stage.blocks]
    assert rates == pytest.approx(torch.linspace(0, 0.4, len(rates)).tolist())


def test_head_masks_are_refused() -> None:
    values = draw_swin(1)
    ours = Swinv2Backbone(Swinv2Config(**values))
    with pytest.raises(ShapeError, match="head_mask"):
        ours.features(pixels(values, (64, 64)), head_mask=torch.ones(2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": []}, "depths"),
        ({"num_heads": [3, 6]}, "one number for each of the 4 stages"),
        ({"num_heads": [5, 6, 12, 24]}, "does not divide the width 96 of stage 1"),
        ({"image_size": 16}, "leaves no patch in stage 4"),
        ({"window_size": 0}, "window_size"),
        ({"pretrained_window_sizes": [12, 12, 12, -6]}, "pretrained_window_sizes"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_swin_configurations_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Swinv2Config(**wrong)


@pytest.mark.slow
@torch.inference_mode()
def test_a_full_size_swinv2_tiny_256_equals_the_reference_both_ways(tmp_path: Path) -> None:
    values = {
        "image_size": 256,
        "window_size": 16,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
    }
    reference = reference_depth(values, std=0.05, fusion_hidden_size=256)
    reference.save_pretrained(tmp_path / "theirs")
    ours = DPTForDepthEstimation.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(transformers.DPTForDepthEstimation, tmp_path / "ours")
    for hw in ((256, 256), (256, 384), (384, 256)):
        x = pixels(values, hw, batch=1)
        expected = reference(x).predicted_depth
        assert_close(ours(x).predicted_depth, expected)
    assert_close(back(x).predicted_depth, expected)
