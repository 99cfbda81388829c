"""Prompt Depth Anything equals the reference both ways on random models, and so do its inputs."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from parity import assert_close, assert_depth_equal_both_ways, randomize
from PIL import Image
from torch import Tensor
from transformers.models.prompt_depth_anything import (
    image_processing_pil_prompt_depth_anything as reference_processing,
)

from dptcli import (
    AutoImageProcessor,
    PromptDepthAnythingConfig,
    PromptDepthAnythingForDepthEstimation,
    PromptDepthAnythingImageProcessor,
)
from dptcli.errors import ConfigError, ShapeError
from dptcli.fast.optimize import optimize

REFERENCE = transformers.PromptDepthAnythingForDepthEstimation
REFERENCE_PROCESSOR = reference_processing.PromptDepthAnythingImageProcessorPil
EAGER = {"attn_implementation": "eager"}  # the fused attention keeps no weights
SIZES_HW = {"square": (42, 42), "landscape": (45, 71), "portrait": (84, 30)}


def draw(seed: int) -> dict[str, Any]:
    """A random Prompt Depth Anything over DINOv2."""
    rng = random.Random(seed)
    num_layers, patch, width = rng.choice([4, 5]), rng.choice([7, 14]), rng.choice([24, 40])
    backbone = {
        "model_type": "dinov2",
        "hidden_size": width,
        "num_attention_heads": rng.choice([1, 2, 4]),
        "num_hidden_layers": num_layers,
        "image_size": patch * rng.choice([3, 5]),
        "patch_size": patch,
        "out_indices": sorted(rng.sample(range(1, num_layers + 1), 4)),
        "reshape_hidden_states": False,
    }
    return {
        "backbone_config": backbone,
        "patch_size": patch,
        "reassemble_hidden_size": width,
        "neck_hidden_sizes": [rng.choice([8, 12]) for _ in range(4)],
        "fusion_hidden_size": rng.choice([8, 18]),
        "head_hidden_size": rng.choice([4, 32]),
        "depth_estimation_type": rng.choice(["metric", "metric", "relative"]),
        "max_depth": rng.choice([None, 20]),  # says nothing here
    }


def reference_of(values: dict[str, Any], *, seed: int) -> Any:
    backbone = dict(values["backbone_config"])
    config = transformers.AutoConfig.for_model(backbone.pop("model_type"), **backbone)
    whole = transformers.PromptDepthAnythingConfig(**values | {"backbone_config": config}, **EAGER)
    model = randomize(REFERENCE(whole), seed=seed, std=0.2)
    if values["depth_estimation_type"] == "relative":  # lifts the last ReLU's input off zero
        model.head.conv3.bias.data.fill_(2.0)
    return model


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def metres(batch: int, hw: tuple[int, int], *, seed: int = 0) -> Tensor:
    """A sensor's map (B, 1, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, *hw, generator=generator) * 4 + 0.5


@pytest.mark.parametrize("size_hw", SIZES_HW.values(), ids=SIZES_HW)
@pytest.mark.parametrize("seed", range(3))
@torch.inference_mode()
def test_prompt_depth_anything_equals_the_reference_both_ways(
    seed: int, size_hw: tuple[int, int], tmp_path: Path
) -> None:
    values = draw(seed)
    reference = reference_of(values, seed=seed)
    x = pixels(2, 3, *size_hw, seed=seed)
    prompt = metres(2, [(6, 8), (9, 5), (50, 80)][seed], seed=seed)
    ours = assert_depth_equal_both_ways(
        reference, x, prompt, folder=tmp_path, model_class=PromptDepthAnythingForDepthEstimation
    )
    assert_close(ours(x, prompt_depth=prompt).predicted_depth, ours(x, prompt).predicted_depth)
    assert_close(ours(x).predicted_depth, reference(x).predicted_depth)  # without a prompt


def random_model(seed: int = 0, **changes: Any) -> PromptDepthAnythingForDepthEstimation:
    config = PromptDepthAnythingConfig(**draw(seed) | changes)
    model = randomize(PromptDepthAnythingForDepthEstimation(config), seed=seed, std=0.2)
    assert isinstance(model, PromptDepthAnythingForDepthEstimation)
    return model


@pytest.mark.processor
@torch.inference_mode()
def test_the_cheaper_form_takes_the_prompt_too() -> None:
    x, prompt = pixels(2, 3, 56, 70), metres(2, (12, 16))
    expected = random_model()(x, prompt).predicted_depth
    assert_close(optimize(random_model())(x, prompt).predicted_depth, expected)


@torch.inference_mode()
def test_depth_stays_within_the_prompts_range_and_follows_its_scale() -> None:
    model, x, prompt = random_model(depth_estimation_type="metric"), pixels(1, 3, 42, 56), None
    prompt = metres(1, (7, 9))
    depth_m = model(x, prompt).predicted_depth
    assert prompt.min() < depth_m.min() < depth_m.max() < prompt.max()
    torch.testing.assert_close(model(x, 3 * prompt).predicted_depth, 3 * depth_m)


@torch.inference_mode()
def test_a_prompt_of_one_value_gives_that_value_and_no_nan() -> None:
    depth_m = random_model()(pixels(1, 3, 42, 42), torch.full((1, 1, 5, 6), 2.5)).predicted_depth
    assert (depth_m == 2.5).all()


@pytest.mark.parametrize("shape", [(1, 1, 5, 6), (2, 5, 6), (2, 3, 5, 6), (2, 1, 0, 6)])
def test_a_prompt_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="prompt_depth"):
        random_model()(pixels(2, 3, 42, 42), torch.rand(shape))


def test_the_prompts_branch_learns_from_labels() -> None:
    model = random_model(depth_estimation_type="metric")
    labels = torch.rand(2, 30, 40) + 0.5
    model.train()(pixels(2, 3, 42, 42), metres(2, (6, 6)), labels=labels).loss.backward()
    gradient = model.neck.fusion_stage.layers[0].prompt_depth_layer.convolution1.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def sensor_maps(hw: tuple[int, int]) -> dict[str, Any]:
    """A depth map of one sensor as users have it."""
    millimetres = np.random.default_rng(0).integers(300, 6000, hw).astype(np.uint16)
    return {
        "16-bit picture": Image.fromarray(millimetres),
        "uint16": millimetres,
        "float32": millimetres.astype(np.float32),
        "float64": millimetres.astype(np.float64),
        "tensor": torch.from_numpy(millimetres.astype(np.float32)),
        "with gaps": np.where(millimetres < 3000, 0, millimetres),
        "one value": np.full(hw, 1500, np.uint16),
        "one value, float32": np.full(hw, 1500, np.float32),
        "batch": millimetres[None],
    }


@pytest.mark.parametrize("kind", sensor_maps((3, 4)))
@pytest.mark.parametrize("scale", [None, 1 / 256], ids=["millimetres", "256 levels"])
def test_processed_prompts_are_the_references_bit_for_bit(kind: str, scale: float | None) -> None:
    values = {"size": {"height": 70, "width": 70}, "ensure_multiple_of": 14}
    values |= {"keep_aspect_ratio": True, "image_mean": [0.485, 0.456, 0.406]}
    rgb = np.random.default_rng(1).integers(0, 256, (41, 67, 3), dtype=np.uint8)
    photo, prompt = Image.fromarray(rgb), sensor_maps((12, 17))[kind]
    options = {} if scale is None else {"prompt_scale_to_meter": scale}
    expected = REFERENCE_PROCESSOR(**values)(photo, prompt, return_tensors="np", **options)
    result = PromptDepthAnythingImageProcessor(**values)(
        photo, prompt, return_tensors="np", **options
    )
    assert list(result) == list(expected)
    for name in result:
        assert result[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(result[name], expected[name])


def test_a_processor_is_read_by_its_name_and_by_the_reference(tmp_path: Path) -> None:
    REFERENCE_PROCESSOR(
        size={"height": 98, "width": 126}, prompt_scale_to_meter=0.01
    ).save_pretrained(tmp_path / "theirs")
    ours = AutoImageProcessor.from_pretrained(tmp_path / "theirs")
    assert isinstance(ours, PromptDepthAnythingImageProcessor)
    assert ours.prompt_scale_to_meter == 0.01
    assert ours.config.size == (98, 126)
    ours.with_size(56).save_pretrained(tmp_path / "ours")
    back = REFERENCE_PROCESSOR.from_pretrained(tmp_path / "ours")
    assert back.prompt_scale_to_meter == 0.01
    assert back.size["height"] == 56


@pytest.mark.parametrize("scale", [0, -1, "mm", float("inf"), True])
def test_a_wrong_scale_is_named(scale: Any) -> None:
    with pytest.raises(ConfigError, match="prompt_scale_to_meter"):
        PromptDepthAnythingImageProcessor(prompt_scale_to_meter=scale)


def test_another_number_of_prompts_than_images_is_refused() -> None:
    photo = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(ConfigError, match="1 maps for 2 images"):
        PromptDepthAnythingImageProcessor()([photo, photo], np.ones((4, 4)))
