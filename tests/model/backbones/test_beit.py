"""BEiT as a backbone equals the reference, both ways, on random models and inputs of any shape.

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
    bare,
    load_reference,
    pixels,
    randomize,
)
from safetensors.torch import load_file, save_file

from dptcli import AutoBackbone, BeitBackbone, BeitConfig, DPTConfig, DPTForDepthEstimation
from dptcli.errors import ConfigError, ModelError
from dptcli.weights.format import WEIGHTS_NAME

# The reference's fused attention keeps no weights; the explicit form does.
EAGER = {"attn_implementation": "eager"}
PATCH = 8
SHAPES = {"square": (48, 48), "landscape": (40, 72), "portrait": (75, 33), "native": (32, 32)}


def draw_beit(seed: int) -> dict[str, Any]:
    """A random BEiT configuration with four stages to hand out."""
    rng = random.Random(seed)
    num_layers = rng.choice([4, 5])
    taps = sorted(rng.sample(range(num_layers + 1), 4))
    return {
        "hidden_size": rng.choice([24, 40]),
        "num_attention_heads": rng.choice([1, 2, 4]),
        "num_hidden_layers": num_layers,
        "intermediate_size": rng.choice([20, 64]),
        "hidden_act": rng.choice(["gelu", "relu", "gelu_new"]),
        "layer_norm_eps": rng.choice([1e-12, 1e-5]),
        "image_size": rng.choice([32, 32, 40, 57]),
        "patch_size": PATCH,
        "num_channels": rng.choice([1, 3]),
        "use_mask_token": rng.random() < 0.3,
        "use_absolute_position_embeddings": rng.random() < 0.4,
        "use_relative_position_bias": rng.random() < 0.8,
        "use_shared_relative_position_bias": rng.random() < 0.4,
        "layer_scale_init_value": rng.choice([0.1, 0.0]),
        "use_mean_pooling": rng.random() < 0.7,
        "reshape_hidden_states": False,
        "out_features": ["stem" if tap == 0 else f"stage{tap}" for tap in taps],
    }


def reference_depth(values: dict[str, Any], *, seed: int = 0, std: float = 0.2, **neck: Any) -> Any:
    """The reference's depth model over a BEiT, with random weights."""
    settings = {"neck_hidden_sizes": [8, 12, 16, 20], "fusion_hidden_size": 16, **neck}
    config = transformers.DPTConfig(
        backbone_config=transformers.BeitConfig(**values), **settings, **EAGER
    )
    return randomize(bare(transformers.DPTForDepthEstimation, config), seed=seed, std=std)


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.processor), *range(1, 10)])
@torch.inference_mode()
def test_depth_over_beit_equals_the_reference_both_ways(seed: int, tmp_path: Path) -> None:
    values = draw_beit(seed)
    readout = ["project", "project", "ignore", "add"][seed % 4]
    reference = reference_depth(values, seed=seed, readout_type=readout)
    many = [(pixels(values, hw),) for hw in SHAPES.values()]
    assert_depths_equal_both_ways(reference, many, folder=tmp_path)


@torch.inference_mode()
def test_an_oblong_learned_grid_reads_its_table_as_the_reference_does(tmp_path: Path) -> None:
    values = draw_beit(1) | {
        "image_size": [24, 48],
        "use_absolute_position_embeddings": False,
        "use_relative_position_bias": True,
    }
    reference = reference_depth(values)
    reference.save_pretrained(tmp_path)
    ours = DPTForDepthEstimation.from_pretrained(tmp_path)
    for hw in ((24, 48), (48, 24), (48, 48)):
        x = pixels(values, hw)
        assert_close(ours(x).predicted_depth, reference(x).predicted_depth)


@pytest.mark.parametrize("reshape", [True, False], ids=["maps", "tokens"])
@pytest.mark.parametrize("stages", [{"out_features": ["stem", "stage3"]}, {"out_indices": [1, 4]}])
@torch.inference_mode()
def test_beit_alone_equals_the_reference_backbone(
    stages: dict[str, Any], reshape: bool, tmp_path: Path
) -> None:
    values = draw_beit(3) | {
        "num_hidden_layers": 4,
        "reshape_hidden_states": reshape,
        "use_relative_position_bias": True,
    }
    del values["out_features"]
    reference = transformers.AutoBackbone.from_config(transformers.BeitConfig(**values, **stages))
    randomize(reference, seed=7).save_pretrained(tmp_path / "theirs")
    ours = AutoBackbone.from_pretrained(tmp_path / "theirs", **stages)
    assert isinstance(ours, BeitBackbone)
    assert ours.channels == list(reference.channels)
    x = pixels(values, (40, 56))
    expected = reference(x).feature_maps
    for mine, theirs in zip(ours(x).feature_maps, expected, strict=True):
        assert_close(mine, theirs)
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(transformers.BeitBackbone, tmp_path / "ours")
    for again, theirs in zip(back(x).feature_maps, expected, strict=True):
        assert_close(again, theirs)


@torch.inference_mode()
def test_files_of_older_releases_load_the_same_model(tmp_path: Path) -> None:
    """Before 5.x: index buffers in the file, the shared bias elsewhere, no last norm."""
    values = draw_beit(0) | {
        "use_shared_relative_position_bias": True,
        "use_relative_position_bias": True,
        "use_mean_pooling": False,
    }
    reference = reference_depth(values)
    reference.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_NAME)
    old = {
        name.replace("backbone.beit.encoder.", "backbone.encoder."): tensor
        for name, tensor in tensors.items()
        if "beit.layernorm" not in name
    }
    bias = "backbone.encoder.layer.0.attention.attention.relative_position_bias"
    old[f"{bias}.relative_position_index"] = torch.zeros(17, 17, dtype=torch.int64)
    assert old.keys() != tensors.keys()
    save_file(old, tmp_path / WEIGHTS_NAME, metadata={"format": "pt"})
    x = pixels(values, (40, 56))
    ours = DPTForDepthEstimation.from_pretrained(tmp_path)
    assert_close(ours(x).predicted_depth, reference(x).predicted_depth)


def test_gradients_through_a_resized_bias_equal_the_reference(tmp_path: Path) -> None:
    values = draw_beit(1) | {
        "use_relative_position_bias": True,
        "use_shared_relative_position_bias": True,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    reference = reference_depth(values)
    reference.save_pretrained(tmp_path)
    ours = DPTForDepthEstimation.from_pretrained(tmp_path)
    # A grid of its own: the reference caches index tensors, and inference mode's cannot train.
    x = pixels(values, (24, 64))
    reference(x).predicted_depth.square().mean().backward()
    ours(x).predicted_depth.square().mean().backward()
    theirs = dict(reference.named_parameters())
    per_layer = "backbone.encoder.layer.1.attention.attention.relative_position_bias"
    for mine, other in (
        (per_layer, "backbone.beit.layers.1.relative_position_bias"),
        ("backbone.beit.encoder.relative_position_bias", "backbone.beit.shared_position_bias"),
    ):
        table = "relative_position_bias_table"
        found = ours.get_parameter(f"{mine}.{table}").grad
        assert_close(found, theirs[f"{other}.{table}"].grad)


@torch.inference_mode()
def test_a_masked_head_adds_nothing() -> None:
    values = draw_beit(1) | {"num_attention_heads": 4, "hidden_size": 40}
    ours = randomize(BeitBackbone(BeitConfig(**values)), seed=3)
    x = pixels(values, (40, 56))
    masked = ours.features(x, head_mask=torch.tensor([1.0, 0.0, 1.0, 1.0])).maps[-1].map
    assert not torch.allclose(ours.features(x).maps[-1].map, masked)
    for layer in ours.encoder.layer:
        layer.attention.output.dense.weight[:, 10:20] = 0.0
    assert_close(ours.features(x).maps[-1].map, masked)


def test_stochastic_depth_grows_with_the_layer_and_only_trains() -> None:
    ours = BeitBackbone(BeitConfig(**draw_beit(1) | {"drop_path_rate": 0.4}))
    rates = [layer.drop_path_rate for layer in ours.encoder.layer]
    assert rates[0] == 0.0
    assert rates[-1] == pytest.approx(0.4)
    x = torch.randn(1, ours.config.num_channels, 32, 32)
    randomize(ours, seed=1)
    assert torch.equal(ours(x).feature_maps[-1], ours(x).feature_maps[-1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"add_fpn": True}, "add_fpn: True is not supported"),
        ({"num_attention_heads": 5}, "is not a multiple of"),
        ({"image_size": 4}, "less than one patch"),
        ({"layer_scale_init_value": -1}, "layer_scale_init_value"),
        ({"out_features": ["stage99"]}, "out_features"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_beit_configurations_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BeitConfig(**{"hidden_size": 24, "num_attention_heads": 2, **wrong})


def test_a_table_for_another_grid_is_refused_by_name(tmp_path: Path) -> None:
    values = draw_beit(1) | {"use_relative_position_bias": True, "image_size": 32}
    reference_depth(values).save_pretrained(tmp_path)
    config = DPTConfig.from_pretrained(tmp_path)
    assert config.backbone_config is not None
    larger = config.replace(backbone_config={**config.backbone_config.to_dict(), "image_size": 64})
    with pytest.raises(ModelError, match="relative_position_bias_table"):
        DPTForDepthEstimation.from_pretrained(tmp_path, config=larger)


@pytest.mark.slow
@torch.inference_mode()
def test_a_full_size_beit_large_512_equals_the_reference_both_ways(tmp_path: Path) -> None:
    values = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "image_size": 512,
        "use_relative_position_bias": True,
        "reshape_hidden_states": False,
        "out_features": ["stage6", "stage12", "stage18", "stage24"],
    }
    reference = reference_depth(
        values, std=0.02, neck_hidden_sizes=[256, 512, 1024, 1024], fusion_hidden_size=256
    )
    reference.save_pretrained(tmp_path / "theirs")
    ours = DPTForDepthEstimation.from_pretrained(tmp_path / "theirs")
    other = (192, 256)  # another grid than the tables', and a sixth of the work
    expected = {hw: reference(pixels(values, hw, batch=1)) for hw in ((512, 512), other)}
    del reference  # a gigabyte and a half each
    for hw, output in expected.items():
        assert_close(ours(pixels(values, hw, batch=1)).predicted_depth, output.predicted_depth)
    ours.save_pretrained(tmp_path / "ours")
    del ours
    back = load_reference(transformers.DPTForDepthEstimation, tmp_path / "ours")
    found = back(pixels(values, other, batch=1))
    assert_close(found.predicted_depth, expected[other].predicted_depth)
