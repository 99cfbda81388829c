"""DPT over a plain ViT and over DINOv2 equals the reference, both ways, on random models.

The grid is drawn with a fixed seed. It runs with transformers 5.x, and unchanged with 4.37.2.
"""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import assert_close, load_reference, randomize

from dptcli import (
    AutoBackbone,
    Dinov2Backbone,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    DPTModel,
)

MAJOR = int(transformers.__version__.split(".")[0])
NUM_CONFIGS = 14
TASKS = {
    "depth": (transformers.DPTForDepthEstimation, DPTForDepthEstimation),
    "segment": (transformers.DPTForSemanticSegmentation, DPTForSemanticSegmentation),
}
# The reference's fused attention keeps no weights; the explicit form does.
EAGER = {"attn_implementation": "eager"} if MAJOR >= 5 else {}


def draw_neck(rng: random.Random, num_stages: int) -> dict[str, Any]:
    """Neck and head settings for a number of taps."""
    return {
        "readout_type": rng.choice(["ignore", "add", "project"]),
        "reassemble_factors": [rng.choice([4, 2, 1, 0.5]) for _ in range(num_stages)],
        "neck_hidden_sizes": [rng.choice([8, 12, 20]) for _ in range(num_stages)],
        "fusion_hidden_size": rng.choice([8, 16, 34]),
        "use_batch_norm_in_fusion_residual": rng.random() < 0.5,
        "use_bias_in_fusion_residual": rng.choice([None, True, False]),
        "head_in_index": rng.choice([-1, -1, 0, num_stages - 2]),
        "num_labels": rng.choice([2, 5, 21]),
        "use_auxiliary_head": rng.random() < 0.7,
        "auxiliary_loss_weight": rng.choice([0.4, 1.3]),
        "semantic_loss_ignore_index": rng.choice([255, 0]),
        "hidden_act": rng.choice(["gelu", "relu", "silu", "gelu_new"]),
    }


def draw_vit(seed: int) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """A random plain ViT configuration and an input (batch, height, width) for it.

    Square, since the reference crashes on anything else here.
    """
    rng = random.Random(seed)
    num_layers = rng.choice([4, 5, 7])
    num_stages = rng.choice([3, 4, 4])
    patch = rng.choice([4, 8])
    values = {
        "hidden_size": rng.choice([16, 24, 40]),
        "num_attention_heads": rng.choice([1, 2, 4]),
        "num_hidden_layers": num_layers,
        "intermediate_size": rng.choice([20, 64]),
        "image_size": patch * rng.choice([3, 4, 6]),
        "patch_size": patch,
        "num_channels": rng.choice([1, 3, 4]),
        "qkv_bias": rng.random() < 0.5,
        "layer_norm_eps": rng.choice([1e-12, 1e-5]),
        "backbone_out_indices": sorted(rng.sample(range(num_layers), num_stages)),
        **draw_neck(rng, num_stages),
    }
    side = patch * rng.choice([2, 3, 5, 7]) + rng.choice([0, 1, patch - 1])
    return values, (rng.choice([1, 2, 3]), side, side)


def draw_dinov2(seed: int) -> tuple[dict[str, Any], dict[str, Any], tuple[int, int, int]]:
    """A random DINOv2 configuration, a neck for it, and an input of any shape."""
    rng = random.Random(1000 + seed)
    num_layers = rng.choice([4, 5])
    taps = sorted(rng.sample(range(1, num_layers + 1), 4))
    patch = rng.choice([4, 7, 14])
    backbone = {
        "hidden_size": rng.choice([24, 40]),
        "num_attention_heads": rng.choice([1, 2, 4]),
        "num_hidden_layers": num_layers,
        "mlp_ratio": rng.choice([2, 4]),
        "image_size": patch * rng.choice([3, 5]),
        "patch_size": patch,
        "qkv_bias": rng.random() < 0.7,
        "hidden_act": rng.choice(["gelu", "relu"]),
        "use_swiglu_ffn": rng.random() < 0.4,
        "apply_layernorm": rng.random() < 0.5,
        "reshape_hidden_states": False,
        "out_features": [f"stage{tap}" for tap in taps],
    }
    height, width = (patch * rng.choice([2, 3, 4, 6]) + rng.choice([0, 3]) for _ in range(2))
    return backbone, draw_neck(rng, len(taps)), (rng.choice([1, 2]), height, width)


def pixels(config: DPTConfig, shape: tuple[int, int, int], *, seed: int) -> torch.Tensor:
    """Random normalised pixels (B, C, H, W) for a configuration."""
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = shape
    return torch.randn(batch, config.num_channels, height, width, generator=generator)


def main_output(output: Any) -> torch.Tensor:
    """The depth or the logits."""
    return output.predicted_depth if "predicted_depth" in output else output.logits


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "seed", [pytest.param(0, marks=pytest.mark.processor), *range(1, NUM_CONFIGS)]
)
@torch.inference_mode()
def test_plain_vit_equals_the_reference_both_ways(seed: int, task: str, tmp_path: Path) -> None:
    values, shape = draw_vit(seed)
    reference_class, our_class = TASKS[task]
    reference = randomize(
        reference_class(transformers.DPTConfig(**values, **EAGER)), seed=seed, std=0.2
    )
    reference.save_pretrained(tmp_path / "theirs")
    ours = our_class.from_pretrained(tmp_path / "theirs")
    x = pixels(ours.config, shape, seed=seed)

    wanted = {"output_hidden_states": True, "output_attentions": True}
    expected, found = reference(x, **wanted), ours(x, **wanted)
    assert_close(main_output(found), main_output(expected))
    assert_close(main_output(ours(x)), main_output(expected))  # the fused attention
    for name in ("hidden_states", "attentions"):
        assert len(found[name]) == len(expected[name])
        for mine, theirs in zip(found[name], expected[name], strict=True):
            assert_close(mine, theirs)

    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(reference_class, tmp_path / "ours")
    assert_close(main_output(back(x)), main_output(expected))


@pytest.mark.parametrize(
    "seed", [pytest.param(0, marks=pytest.mark.processor), *range(1, NUM_CONFIGS)]
)
@torch.inference_mode()
def test_dinov2_depth_equals_the_reference_both_ways(seed: int, tmp_path: Path) -> None:
    backbone, neck, shape = draw_dinov2(seed)
    if MAJOR < 5:
        # 4.37.2 resizes positions by a scale factor with an offset; the same grid avoids it.
        shape = (shape[0], backbone["image_size"], backbone["image_size"])
    config = transformers.DPTConfig(
        backbone_config=transformers.Dinov2Config(**backbone), **neck, **EAGER
    )
    reference = randomize(transformers.DPTForDepthEstimation(config), seed=seed, std=0.2)
    reference.save_pretrained(tmp_path / "theirs")
    ours = DPTForDepthEstimation.from_pretrained(tmp_path / "theirs")
    x = pixels(ours.config, shape, seed=seed)

    expected = reference(x, output_hidden_states=True)
    found = ours(x, output_hidden_states=True, output_attentions=True)
    assert_close(found.predicted_depth, expected.predicted_depth)
    for mine, theirs in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert_close(mine, theirs)
    assert len(found.attentions) == backbone["num_hidden_layers"]

    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(transformers.DPTForDepthEstimation, tmp_path / "ours")
    assert_close(back(x).predicted_depth, expected.predicted_depth)


@pytest.mark.parametrize("seed", range(4))
@torch.inference_mode()
def test_bare_model_and_its_pooler_equal_the_reference(seed: int, tmp_path: Path) -> None:
    values, shape = draw_vit(100 + seed)
    reference = randomize(
        transformers.DPTModel(transformers.DPTConfig(**values, **EAGER)), seed=seed
    )
    reference.save_pretrained(tmp_path / "theirs")
    ours = DPTModel.from_pretrained(tmp_path / "theirs")
    x = pixels(ours.config, shape, seed=seed)
    expected = reference(x, output_hidden_states=True, output_attentions=True)
    found = ours(x, output_hidden_states=True, output_attentions=True)
    assert_close(found.last_hidden_state, expected.last_hidden_state)
    assert_close(found.pooler_output, expected.pooler_output)
    assert_close(found.hidden_states[-1], expected.hidden_states[-1])
    assert_close(found.attentions[0], expected.attentions[0])
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(transformers.DPTModel, tmp_path / "ours")
    assert_close(back(x).pooler_output, expected.pooler_output)


@pytest.mark.parametrize("reshape", [True, False], ids=["maps", "tokens"])
@pytest.mark.parametrize("stages", [{"out_features": ["stem", "stage3"]}, {"out_indices": [1, 4]}])
@torch.inference_mode()
def test_dinov2_alone_equals_the_reference_backbone(
    stages: dict[str, Any], reshape: bool, tmp_path: Path
) -> None:
    values = {
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 4,
        "image_size": 42,
        "reshape_hidden_states": reshape,
        **stages,
    }
    reference = transformers.AutoBackbone.from_config(transformers.Dinov2Config(**values))
    randomize(reference, seed=7).save_pretrained(tmp_path)
    ours = AutoBackbone.from_pretrained(tmp_path, **stages)
    assert isinstance(ours, Dinov2Backbone)
    assert ours.channels == list(reference.channels)
    x = torch.randn(2, 3, 42, 42 if MAJOR < 5 else 70, generator=torch.Generator().manual_seed(1))
    for mine, theirs in zip(ours(x).feature_maps, reference(x).feature_maps, strict=True):
        assert_close(mine, theirs)


@pytest.mark.parametrize("seed", range(8))
def test_segmentation_loss_and_gradients_equal_the_reference(seed: int, tmp_path: Path) -> None:
    values, shape = draw_vit(200 + seed)
    values["use_auxiliary_head"] = True  # without it the reference raises UnboundLocalError
    reference = randomize(
        transformers.DPTForSemanticSegmentation(transformers.DPTConfig(**values)), seed=seed
    )
    reference.save_pretrained(tmp_path)
    ours = DPTForSemanticSegmentation.from_pretrained(tmp_path)
    x = pixels(ours.config, shape, seed=seed)
    labels = torch.randint(0, values["num_labels"], (shape[0], 37, 53))
    labels[:, :5] = values["semantic_loss_ignore_index"]
    expected, found = reference(x, labels=labels), ours(x, labels=labels)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-4, atol=0)
    expected.loss.backward()
    found.loss.backward()
    assert_close(ours.neck.convs[0].weight.grad, reference.neck.convs[0].weight.grad)


@torch.inference_mode()
def test_masked_heads_equal_zeroed_value_projections() -> None:
    """A head that is masked adds nothing, as when its slice of the output projection is zero."""
    values, shape = draw_vit(3)
    values |= {"num_attention_heads": 4, "hidden_size": 40}
    ours = randomize(DPTForDepthEstimation(DPTConfig(**values)), seed=3)
    x = pixels(ours.config, shape, seed=3)
    masked = ours(x, head_mask=torch.tensor([1.0, 0.0, 1.0, 1.0])).predicted_depth
    per_layer = torch.ones(values["num_hidden_layers"], 4)
    per_layer[:, 1] = 0.0
    assert torch.equal(ours(x, head_mask=per_layer).predicted_depth, masked)
    assert not torch.allclose(ours(x).predicted_depth, masked)
    for layer in ours.dpt.encoder.layer:
        layer.attention.output.dense.weight[:, 10:20] = 0.0
    assert_close(ours(x).predicted_depth, masked)


@pytest.mark.skipif(MAJOR >= 5, reason="transformers 5 has no head_mask")
@torch.inference_mode()
def test_head_mask_equals_the_reference(tmp_path: Path) -> None:
    values, shape = draw_vit(5)
    reference = randomize(
        transformers.DPTForDepthEstimation(transformers.DPTConfig(**values)), seed=5
    )
    reference.save_pretrained(tmp_path)
    ours = DPTForDepthEstimation.from_pretrained(tmp_path)
    x = pixels(ours.config, shape, seed=5)
    mask = torch.rand(values["num_hidden_layers"], values["num_attention_heads"])
    expected = reference(x, head_mask=mask).predicted_depth
    assert_close(ours(x, head_mask=mask).predicted_depth, expected)


@torch.inference_mode()
def test_tuples_hold_what_the_reference_returns(tmp_path: Path) -> None:
    values, shape = draw_vit(11)
    for task, (reference_class, our_class) in TASKS.items():
        reference = randomize(reference_class(transformers.DPTConfig(**values, **EAGER)), seed=11)
        reference.save_pretrained(tmp_path / task)
        ours = our_class.from_pretrained(tmp_path / task)
        x = pixels(ours.config, shape, seed=11)
        for wanted in ({}, {"output_attentions": True, "output_hidden_states": True}):
            expected = reference(x, return_dict=False, **wanted)
            found = ours(x, return_dict=False, **wanted)
            assert isinstance(found, tuple)
            assert len(found) == len(expected)
            assert_close(found[0], expected[0])


def test_reference_writes_no_key_that_is_lost(tmp_path: Path) -> None:
    """config.json goes from the reference to ours and back with every value."""
    theirs = transformers.DPTConfig(
        backbone_config=transformers.Dinov2Config(out_features=["stage2"]), hidden_act="silu"
    )
    theirs.save_pretrained(tmp_path / "theirs")
    DPTConfig.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    back = transformers.DPTConfig.from_pretrained(tmp_path / "ours")
    before, after = theirs.to_dict(), back.to_dict()
    skipped = {"backbone_config", "_name_or_path"}
    if MAJOR < 5:  # null where another backbone stands in; ours writes the unused defaults
        skipped |= {name for name, value in before.items() if value is None}
    for name in before.keys() - skipped:
        same = after[name] == before[name]
        assert same or list(after[name]) == list(before[name]), name
    assert after["backbone_config"]["out_features"] == ["stage2"]
    assert isinstance(Dinov2Config.from_pretrained(tmp_path / "ours"), Dinov2Config)


@pytest.mark.parametrize("taps", [[0, 1, 2, 3], [0, 1, 0, 1], [1, 0]], ids=str)
@torch.inference_mode()
def test_the_layers_among_the_taps_that_exist_count_once(taps: list[int], tmp_path: Path) -> None:
    values = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32}
    neck = {"neck_hidden_sizes": [8, 12], "fusion_hidden_size": 8, "backbone_out_indices": taps}
    config = transformers.DPTConfig(**values, **neck, intermediate_size=24)
    reference = randomize(transformers.DPTForDepthEstimation(config), seed=0)
    reference.save_pretrained(tmp_path)
    ours = DPTForDepthEstimation.from_pretrained(tmp_path)
    x = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    assert_close(ours(x).predicted_depth, reference(x).predicted_depth)
    assert ours.config.backbone_out_indices == taps
