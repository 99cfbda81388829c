"""GLPN equals the reference both ways on random models, and so does its processor."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from parity import assert_close, assert_depth_equal_both_ways, load_reference, randomize
from PIL import Image
from torch import Tensor
from transformers.models.glpn import image_processing_pil_glpn as reference_processing

from dptcli import AutoImageProcessor, GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor
from dptcli.errors import ConfigError, ShapeError
from dptcli.fast.optimize import optimize
from dptcli.pipeline import Options, open_pipeline
from dptcli.weights.load import load_model

REFERENCE = transformers.GLPNForDepthEstimation
REFERENCE_PROCESSOR = reference_processing.GLPNImageProcessorPil
SIZES_HW = {"square": (64, 64), "landscape": (64, 128), "portrait": (96, 32)}


def draw(seed: int) -> dict[str, Any]:
    """A random tiny GLPN."""
    rng = random.Random(seed)
    return {
        "depths": [rng.choice([1, 2]) for _ in range(4)],
        "sr_ratios": rng.choice([[8, 4, 2, 1], [4, 2, 1, 1]]),
        "hidden_sizes": rng.choice([[8, 16, 24, 32], [16, 12, 40, 16]]),
        "num_attention_heads": [1, 2, 4, 8],
        "mlp_ratios": [rng.choice([2, 4]) for _ in range(4)],
        "hidden_act": rng.choice(["gelu", "relu"]),
        "decoder_hidden_size": rng.choice([16, 24]),  # 16 is a stage's own width
        "max_depth": rng.choice([10, 80]),
        "head_in_index": rng.choice([-1, -1, 2]),
    }


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def reference_of(values: dict[str, Any], *, seed: int) -> Any:
    return randomize(REFERENCE(transformers.GLPNConfig(**values)), seed=seed, std=0.15)


@pytest.mark.parametrize("size_hw", SIZES_HW.values(), ids=SIZES_HW)
@pytest.mark.parametrize("seed", range(3))
@torch.inference_mode()
def test_glpn_equals_the_reference_both_ways(
    seed: int, size_hw: tuple[int, int], tmp_path: Path
) -> None:
    reference = reference_of(draw(seed), seed=seed)
    x = pixels(2, 3, *size_hw, seed=seed)
    assert_depth_equal_both_ways(reference, x, folder=tmp_path, model_class=GLPNForDepthEstimation)


def random_model(seed: int = 0, **changes: Any) -> GLPNForDepthEstimation:
    model = randomize(GLPNForDepthEstimation(GLPNConfig(**draw(seed) | changes)), seed=seed)
    assert isinstance(model, GLPNForDepthEstimation)
    return model


@pytest.mark.processor
@torch.inference_mode()
def test_the_cheaper_form_gives_the_same() -> None:
    x = pixels(2, 3, 64, 96)
    expected = random_model()(x).predicted_depth
    assert_close(optimize(random_model())(x).predicted_depth, expected)


@pytest.mark.parametrize("optimized", [False, True])
@torch.inference_mode()
def test_a_narrow_model_takes_and_gives_float32(tmp_path: Path, optimized: bool) -> None:
    # Wide enough that its first convolution is packed, as the published one's.
    random_model(hidden_sizes=[32, 16, 24, 32]).save_pretrained(tmp_path)
    GLPNImageProcessor().save_pretrained(tmp_path)
    loaded = load_model(tmp_path, device="cpu", dtype="bfloat16", optimized=optimized)
    x = pixels(1, 3, 64, 96)
    found, again = (loaded.model(given)[0] for given in (x, x.bfloat16()))
    assert found.dtype is torch.float32
    assert torch.equal(found, again)


@torch.inference_mode()
def test_sides_that_are_no_multiples_are_taken_too() -> None:
    """Where the reference's maps do not fit each other, each grows to the next one's size."""
    depth_m = random_model(head_in_index=-1, max_depth=10)(pixels(1, 3, 70, 45)).predicted_depth
    assert depth_m.shape == (1, 72, 48)
    assert 0 < depth_m.min() < depth_m.max() < 10


@torch.inference_mode()
def test_too_few_pixels_are_refused() -> None:
    model = random_model(sr_ratios=[8, 4, 2, 1])
    assert model(pixels(1, 3, 29, 40)).predicted_depth.isfinite().all()
    with pytest.raises(ShapeError, match="28x40"):
        model(pixels(1, 3, 28, 40))


def test_glpn_learns_from_labels() -> None:
    model = random_model(head_in_index=-1)
    model.train()(pixels(2, 3, 64, 64), labels=torch.rand(2, 30, 40) + 0.5).loss.backward()
    gradient = model.decoder.stages[0].convolution.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"depths": [1, 1]}, "depths"),
        ({"strides": [4, 2, 0, 2]}, "strides"),
        ({"hidden_sizes": [8, 16, 24, 33]}, "hidden_sizes"),
        ({"mlp_ratios": 4}, "mlp_ratios"),
        ({"hidden_act": "sine"}, "hidden_act"),
        ({"head_in_index": 4}, "head_in_index"),
        ({"max_depth": -1}, "max_depth"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        GLPNConfig(**draw(0) | change)


@pytest.mark.parametrize("hw", [(64, 96), (71, 131), (480, 640), (33, 400), (40, 32)], ids=str)
@pytest.mark.parametrize(
    "values", [{}, {"resample": 3}, {"do_resize": False}, {"size_divisor": 16}]
)
def test_processed_pixels_are_the_references_bit_for_bit(
    hw: tuple[int, int], values: dict[str, Any]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
    expected = REFERENCE_PROCESSOR(**values)(image, return_tensors="np")["pixel_values"]
    ours = GLPNImageProcessor(**values)
    result = ours(image, return_tensors="np")["pixel_values"]
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(ours.prepare(image).pixel_values, expected[0])
    assert ours.network_hw(hw) == expected.shape[2:]


def test_a_size_that_is_asked_for_keeps_the_shape_and_the_multiples() -> None:
    ours = GLPNImageProcessor().with_size(224)
    assert ours.network_hw((3000, 4000)) == (224, 288)
    assert GLPNImageProcessor().network_hw((20, 3000)) == (32, 2976)
    assert GLPNImageProcessor(max_long_side=640).network_hw((3000, 4000)) == (480, 640)
    changed = GLPNImageProcessor()
    assert changed.size is None
    changed.size = {"height": 64, "width": 64}
    assert changed.network_hw((300, 300)) == (64, 64)


def test_the_published_spelling_is_read_and_the_reference_reads_ours(tmp_path: Path) -> None:
    published = {"do_rescale": True, "do_resize": True, "resample": 2, "size_divisor": 32}
    published["feature_extractor_type"] = "GLPNFeatureExtractor"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(published))
    ours = AutoImageProcessor.from_pretrained(tmp_path)
    assert isinstance(ours, GLPNImageProcessor)
    ours.save_pretrained(tmp_path / "ours")
    again = AutoImageProcessor.from_pretrained(tmp_path / "ours")
    assert again == ours
    image = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    theirs = REFERENCE_PROCESSOR.from_pretrained(tmp_path / "ours")
    np.testing.assert_array_equal(
        theirs(image, return_tensors="np")["pixel_values"],
        again(image, return_tensors="np")["pixel_values"],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("glpn")
    random_model(head_in_index=-1, max_depth=10).save_pretrained(path)
    GLPNImageProcessor().save_pretrained(path)
    return path


def test_a_folder_gives_metres_of_the_photographs_size(folder: Path) -> None:
    loaded = load_model(folder, device="cpu", dtype="float32", optimized=True)
    assert loaded.is_metric
    rgb = np.random.default_rng(0).integers(0, 256, (70, 101, 3), dtype=np.uint8)
    prediction = open_pipeline(loaded, task="depth").predict_one(rgb)
    assert prediction.network_hw == (64, 96)
    assert prediction.values.shape == (70, 101)
    reference, processor = load_reference(REFERENCE, folder), REFERENCE_PROCESSOR()
    with torch.inference_mode():
        outputs = reference(**processor(Image.fromarray(rgb), return_tensors="pt"))
    [expected] = processor.post_process_depth_estimation(outputs, [(70, 101)])
    assert_close(torch.from_numpy(prediction.values), expected["predicted_depth"])


def test_a_photograph_goes_through_in_tiles(folder: Path) -> None:
    pipeline = open_pipeline(folder, task="depth", device="cpu", options=Options(tile=96))
    rgb = np.random.default_rng(0).integers(0, 256, (200, 260, 3), dtype=np.uint8)
    assert pipeline.predict_one(rgb).values.shape == (200, 260)
