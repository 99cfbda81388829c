"""Depth Anything, and DINOv2 with registers, equal the reference both ways on random models."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import assert_close, assert_depth_equal_both_ways, load_reference, randomize
from torch import Tensor

from dptcli import (
    AutoBackbone,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    Dinov2WithRegistersBackbone,
    DPTForDepthEstimation,
)
from dptcli.errors import ConfigError, ShapeError
from dptcli.weights.load import load_model

REFERENCE = transformers.DepthAnythingForDepthEstimation
EAGER = {"attn_implementation": "eager"}  # the fused attention keeps no weights
SIZES_HW = {"square": (42, 42), "landscape": (45, 71), "portrait": (84, 30)}


def draw(seed: int) -> dict[str, Any]:
    """A random Depth Anything over DINOv2."""
    rng = random.Random(seed)
    num_layers = rng.choice([4, 5])
    patch = rng.choice([7, 14])
    width = rng.choice([24, 40])
    backbone = {
        "model_type": "dinov2",
        "hidden_size": width,
        "num_attention_heads": rng.choice([1, 2, 4]),
        "num_hidden_layers": num_layers,
        "image_size": patch * rng.choice([3, 5]),
        "patch_size": patch,
        "out_indices": sorted(rng.sample(range(1, num_layers + 1), 4)),
        "use_swiglu_ffn": rng.random() < 0.3,
        "reshape_hidden_states": False,
    }
    metric = rng.random() < 0.5
    return {
        "backbone_config": backbone,
        "patch_size": patch,
        "reassemble_hidden_size": width,
        "reassemble_factors": [4, 2, 1, 0.5],
        "neck_hidden_sizes": [rng.choice([8, 12]) for _ in range(4)],
        "fusion_hidden_size": rng.choice([8, 18]),
        "head_in_index": rng.choice([-1, -1, 2]),
        "head_hidden_size": rng.choice([4, 32]),
        "depth_estimation_type": "metric" if metric else "relative",
        "max_depth": rng.choice([20, 80]) if metric else rng.choice([1, 3]),
    }


def reference_of(values: dict[str, Any], *, seed: int) -> Any:
    backbone = dict(values["backbone_config"])
    config = transformers.AutoConfig.for_model(backbone.pop("model_type"), **backbone)
    whole = transformers.DepthAnythingConfig(**values | {"backbone_config": config}, **EAGER)
    model = randomize(REFERENCE(whole), seed=seed, std=0.2)
    if values["depth_estimation_type"] == "relative":  # lifts the last ReLU's input off zero
        model.head.conv3.bias.data.fill_(2.0)
    return model


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size_hw", SIZES_HW.values(), ids=SIZES_HW)
@pytest.mark.parametrize("seed", range(3))
@torch.inference_mode()
def test_depth_anything_equals_the_reference_both_ways(
    seed: int, size_hw: tuple[int, int], tmp_path: Path
) -> None:
    values = draw(seed)
    reference = reference_of(values, seed=seed)
    x = pixels(2, 3, *size_hw, seed=seed)
    assert_depth_equal_both_ways(
        reference, x, folder=tmp_path, model_class=DepthAnythingForDepthEstimation
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reshape", [True, False], ids=["maps", "tokens"])
@pytest.mark.parametrize("apply_layernorm", [True, False])
@torch.inference_mode()
def test_registers_backbone_equals_the_reference(
    seed: int, reshape: bool, apply_layernorm: bool, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    values = {
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "image_size": 56,
        "patch_size": 14,
        "num_register_tokens": 0 if seed == 2 else rng.choice([1, 4]),
        "use_swiglu_ffn": rng.random() < 0.5,
        "out_features": ["stem", "stage1", "stage3"],
        "reshape_hidden_states": reshape,
        "apply_layernorm": apply_layernorm,
    }
    config = transformers.Dinov2WithRegistersConfig(**values, **EAGER)
    reference = randomize(transformers.AutoBackbone.from_config(config), seed=seed, std=0.2)
    reference.save_pretrained(tmp_path / "theirs")
    ours = AutoBackbone.from_pretrained(tmp_path / "theirs")
    assert isinstance(ours, Dinov2WithRegistersBackbone)
    for height, width in ((56, 56), (70, 101), (43, 29)):  # larger and smaller than trained
        x = pixels(2, 3, height, width, seed=seed)
        expected = reference(x, output_hidden_states=True, output_attentions=True)
        found = ours(x, True, True)
        for name in ("feature_maps", "hidden_states", "attentions"):
            for mine, theirs in zip(found[name], expected[name], strict=True):
                assert_close(mine, theirs)
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(type(reference), tmp_path / "ours")
    assert_close(back(x).feature_maps[-1], expected.feature_maps[-1])


@torch.inference_mode()
def test_depth_anything_over_registers_leaves_them_out() -> None:
    """Where the reference takes registers for patches and fails, the map has the image's shape."""
    values = draw(0)
    values["backbone_config"] |= {"model_type": "dinov2_with_registers"}
    model = randomize(DepthAnythingForDepthEstimation(DepthAnythingConfig(**values)), seed=0)
    patch = values["patch_size"]
    depth = model(pixels(1, 3, 45, 71)).predicted_depth
    assert depth.shape == (1, 45 // patch * patch, 71 // patch * patch)


def test_config_of_v1_and_v2_files_is_read(tmp_path: Path) -> None:
    """Spellings from the hub: v1 names every option of its loader, V2 adds the kind of depth."""
    shared = {
        "architectures": ["DepthAnythingForDepthEstimation"],
        "backbone": None,
        "backbone_config": {
            "hidden_size": 384,
            "image_size": 518,
            "model_type": "dinov2",
            "num_attention_heads": 6,
            "out_features": ["stage9", "stage10", "stage11", "stage12"],
            "out_indices": [9, 10, 11, 12],
            "patch_size": 14,
            "reshape_hidden_states": False,
            "torch_dtype": "float32",
        },
        "fusion_hidden_size": 64,
        "head_hidden_size": 32,
        "head_in_index": -1,
        "initializer_range": 0.02,
        "model_type": "depth_anything",
        "neck_hidden_sizes": [48, 96, 192, 384],
        "patch_size": 14,
        "reassemble_factors": [4, 2, 1, 0.5],
        "reassemble_hidden_size": 384,
        "torch_dtype": "float32",
        "transformers_version": None,
        "use_pretrained_backbone": False,
    }
    newer = {"backbone_kwargs": None, "use_timm_backbone": False}
    newer |= {"depth_estimation_type": "metric", "max_depth": 20}
    for folder, values in ((tmp_path / "v1", shared), (tmp_path / "v2", shared | newer)):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(values))
        config = DepthAnythingConfig.from_pretrained(folder)
        assert config.backbone_config.out_indices == [9, 10, 11, 12]
        assert config.to_dict()["use_pretrained_backbone"] is False
    assert config.depth_estimation_type == "metric"
    assert config.max_depth == 20


def test_an_empty_config_means_the_small_model() -> None:
    config = DepthAnythingConfig()
    theirs = transformers.DepthAnythingConfig().backbone_config
    assert isinstance(config.backbone_config, Dinov2Config)
    for name in ("hidden_size", "num_attention_heads", "image_size", "reshape_hidden_states"):
        assert getattr(config.backbone_config, name) == getattr(theirs, name)
    assert list(config.backbone_config.out_indices) == list(theirs.out_indices)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"depth_estimation_type": "absolute"}, "depth_estimation_type"),
        ({"max_depth": -1}, "max_depth"),
        ({"patch_size": 16}, "patch_size"),
        ({"reassemble_hidden_size": 77}, "reassemble_hidden_size"),
        ({"neck_hidden_sizes": []}, "neck_hidden_sizes"),
        ({"reassemble_factors": [1.5, 1, 1, 1]}, "reassemble_factors"),
        ({"head_in_index": 4}, "head_in_index"),
        ({"head_hidden_size": 0}, "head_hidden_size"),
        ({"backbone_config": 3}, "backbone_config"),
        ({"backbone_config": {"model_type": "dinov9"}}, "model_type"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DepthAnythingConfig(**draw(0) | change)


def test_another_number_of_maps_than_the_necks_is_refused() -> None:
    values = draw(0)
    values["backbone_config"]["out_indices"] = [1, 2]
    model = DepthAnythingForDepthEstimation(DepthAnythingConfig(**values))
    with pytest.raises(ShapeError, match="2 feature maps"):
        model(pixels(1, 3, 42, 42))


@torch.inference_mode()
def test_metric_depth_stays_within_max_depth() -> None:
    values = draw(0) | {"depth_estimation_type": "metric", "max_depth": 20}
    model = randomize(DepthAnythingForDepthEstimation(DepthAnythingConfig(**values)), seed=1)
    depth_m = model(pixels(2, 3, 42, 56)).predicted_depth
    assert depth_m.min() > 0
    assert depth_m.max() < 20


def test_depth_anything_learns_from_labels_of_either_kind() -> None:
    for kind in ("relative", "metric"):
        values = draw(0) | {"depth_estimation_type": kind, "head_in_index": -1}
        model = randomize(DepthAnythingForDepthEstimation(DepthAnythingConfig(**values)), seed=2)
        model.head.conv3.bias.data.fill_(0.5)
        output = model.train()(pixels(2, 3, 42, 42), labels=torch.rand(2, 30, 40) + 0.5)
        output.loss.backward()
        assert model.neck.convs[0].weight.grad.abs().sum() > 0


def save_with_processor(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    processor = {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": 56, "width": 56},
        "ensure_multiple_of": 14,
        "keep_aspect_ratio": True,
        "resample": 3,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def test_a_folder_loads_by_its_architecture(tmp_path: Path) -> None:
    values = draw(0) | {"depth_estimation_type": "metric", "max_depth": 20}
    save_with_processor(DepthAnythingForDepthEstimation(DepthAnythingConfig(**values)), tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert isinstance(loaded.model, DepthAnythingForDepthEstimation)
    assert not isinstance(loaded.model, DPTForDepthEstimation)
    assert loaded.task == "depth"
    assert loaded.is_metric
