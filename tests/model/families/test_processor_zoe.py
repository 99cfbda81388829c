"""ZoeDepth's processor equals the reference's, before the network and after it.

The grid is drawn with a fixed seed. The reference resizes maps with torchvision; where that is not
installed, the one function that it takes from there is put in its place.
"""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers.models.zoedepth import image_processing_pil_zoedepth as reference_module
from transformers.models.zoedepth.modeling_zoedepth import ZoeDepthDepthEstimatorOutput

from dptcli import ZoeDepthConfig, ZoeDepthForDepthEstimation, ZoeDepthImageProcessor, load_model
from dptcli.errors import ConfigError
from dptcli.pipeline import open_pipeline

Reference = reference_module.ZoeDepthImageProcessorPil
ATOL = 1e-5  # bytes are resized before they are scaled, which rounds differently
HUB = {"size": {"height": 384, "width": 512}, "ensure_multiple_of": 32}
ZOE = {
    "backbone_config": {
        "model_type": "beit",
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 4,
        "intermediate_size": 32,
        "image_size": 48,
        "patch_size": 8,
        "use_relative_position_bias": True,
        "out_indices": [1, 2, 3, 4],
    },
    "neck_hidden_sizes": [8, 12, 16, 20],
    "fusion_hidden_size": 16,
    "bottleneck_features": 16,
    "bin_embedding_dim": 16,
}


class TorchvisionResize:
    """torchvision.transforms.v2.functional as far as the reference uses it."""

    class InterpolationMode:
        BICUBIC = "bicubic"

    @staticmethod
    def resize(
        image: torch.Tensor, *, size: list[int], interpolation: str, antialias: bool
    ) -> torch.Tensor:
        assert not antialias
        return F.interpolate(image[None], size=size, mode=interpolation, align_corners=False)[0]


@pytest.fixture(autouse=True)
def resize_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(reference_module, "tvF"):
        monkeypatch.setattr(reference_module, "tvF", TorchvisionResize, raising=False)


def photograph(hw: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """Random RGB uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def draw_case(seed: int) -> tuple[dict[str, Any], tuple[int, int]]:
    """One configuration and the (height, width) of an image."""
    rng = random.Random(seed)
    config = {
        "do_pad": rng.random() < 0.7,
        "do_resize": rng.random() < 0.9,
        "do_normalize": rng.random() < 0.8,
        "size": rng.choice([{"height": 96, "width": 128}, {"height": 70, "width": 50}]),
        "keep_aspect_ratio": rng.random() < 0.6,
        "ensure_multiple_of": rng.choice([32, 32, 1, 14, 1 / 32]),
        "resample": rng.choice([2, 2, 3]),
    }
    if rng.random() < 0.4:
        config |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    hw = rng.choice([(rng.randint(3, 40), rng.randint(3, 40)), (120, 160), (333, 97), (64, 301)])
    return config, hw


@pytest.mark.parametrize("seed", range(40))
def test_pixels_equal_the_reference(seed: int) -> None:
    config, hw = draw_case(seed)
    image = photograph(hw, seed=seed)
    ours = ZoeDepthImageProcessor(**config)
    expected = Reference(**config)(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    found = ours(image, return_tensors="np").pixel_values[0]
    prepared = ours.prepare(image)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)
    assert np.array_equal(prepared.pixel_values, found)
    assert ours.network_hw(hw) == prepared.network_hw == found.shape[1:]


@pytest.mark.parametrize("hw", [(480, 640), (640, 480), (375, 1242)])
def test_the_hub_s_settings_equal_the_reference(hw: tuple[int, int]) -> None:
    image = photograph(hw)
    expected = Reference(**HUB)(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    found = ZoeDepthImageProcessor(**HUB)([image], return_tensors="pt").pixel_values
    torch.testing.assert_close(found, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("targets", [None, [(50, 70), (33, 20)]], ids=["source", "target"])
@pytest.mark.parametrize("flipped", [False, True], ids=["plain", "flipped"])
@pytest.mark.parametrize("removes", [None, True, False], ids=["own", "removed", "kept"])
def test_depths_after_the_network_equal_the_reference(
    removes: bool | None, flipped: bool, targets: list[tuple[int, int]] | None
) -> None:
    generator = torch.Generator().manual_seed(1)
    outputs, mirrored = (
        ZoeDepthDepthEstimatorOutput(predicted_depth=torch.rand(2, 48, 64, generator=generator))
        for _ in range(2)
    )
    arguments = {
        "source_sizes": [(60, 91), (60, 91)],
        "target_sizes": targets,
        "outputs_flipped": mirrored if flipped else None,
        "do_remove_padding": removes,
    }
    expected = Reference().post_process_depth_estimation(outputs, **arguments)
    found = ZoeDepthImageProcessor().post_process_depth_estimation(outputs, **arguments)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(
            ours["predicted_depth"], theirs["predicted_depth"], rtol=1e-5, atol=1e-6
        )


def test_without_sizes_the_maps_stay_as_they_are() -> None:
    outputs = {"predicted_depth": torch.rand(1, 12, 16)}
    (found,) = ZoeDepthImageProcessor().post_process_depth_estimation(
        outputs, do_remove_padding=False
    )
    assert torch.equal(found["predicted_depth"], outputs["predicted_depth"][0])


def test_wrong_sizes_after_the_network_are_refused() -> None:
    outputs = {"predicted_depth": torch.rand(2, 12, 16)}
    processor = ZoeDepthImageProcessor()
    with pytest.raises(ConfigError, match="source_sizes is None"):
        processor.post_process_depth_estimation(outputs)
    with pytest.raises(ConfigError, match="source_sizes has 1 sizes for 2"):
        processor.post_process_depth_estimation(outputs, [(10, 10)])
    with pytest.raises(ConfigError, match="target_sizes has 1 sizes for 2"):
        processor.post_process_depth_estimation(outputs, [(10, 10)] * 2, [(10, 10)])
    flipped = {"predicted_depth": torch.rand(2, 12, 17)}
    with pytest.raises(ConfigError, match="outputs_flipped"):
        processor.post_process_depth_estimation(outputs, [(10, 10)] * 2, outputs_flipped=flipped)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resample": 0}, "allowed for ZoeDepth"),
        ({"ensure_multiple_of": 0}, "ensure_multiple_of"),
        ({"ensure_multiple_of": 1.5}, "ensure_multiple_of"),
        ({"image_processor_type": "DPTImageProcessor"}, "ZoeDepthImageProcessor"),
        ({"do_pad": "yes"}, "do_pad"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ZoeDepthImageProcessor(**wrong)


def test_the_reference_s_file_reads_and_ours_reads_there(tmp_path: Path) -> None:
    Reference(**HUB, do_pad=False).save_pretrained(tmp_path / "theirs")
    ours = ZoeDepthImageProcessor.from_pretrained(tmp_path / "theirs")
    assert (ours.size, ours.do_pad) == ({"height": 384, "width": 512}, False)
    ours.save_pretrained(tmp_path / "ours")
    back = Reference.from_pretrained(tmp_path / "ours")
    assert (back.ensure_multiple_of, back.do_pad, back.resample) == (32, False, 2)
    assert ours == ZoeDepthImageProcessor.from_pretrained(tmp_path / "ours")
    saved = json.loads((tmp_path / "ours" / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "ZoeDepthImageProcessor"


def test_another_size_keeps_the_other_parameters() -> None:
    resized = ZoeDepthImageProcessor(**HUB, do_pad=False).with_size(64)
    assert type(resized) is ZoeDepthImageProcessor
    assert (resized.size, resized.do_pad) == ({"height": 64, "width": 64}, False)
    assert resized.ensure_multiple_of == 32


def test_the_pipeline_gives_the_depth_that_post_processing_gives(tmp_path: Path) -> None:
    """Padding is cut off and the photograph's size restored, whatever its shape."""
    torch.manual_seed(0)
    ZoeDepthForDepthEstimation(ZoeDepthConfig(**ZOE)).save_pretrained(tmp_path)
    ZoeDepthImageProcessor(size=(64, 96), ensure_multiple_of=32).save_pretrained(tmp_path)
    loaded = load_model(tmp_path, task="depth", device="cpu")
    assert isinstance(loaded.processor, ZoeDepthImageProcessor)
    assert loaded.is_metric
    image = photograph((70, 83))
    depth_m = open_pipeline(loaded, task="depth").predict_one(image).values
    inputs = loaded.processor(image, return_tensors="pt")
    with torch.inference_mode():
        outputs = loaded.model(**inputs)
    (expected,) = loaded.processor.post_process_depth_estimation(outputs, [(70, 83)])
    assert depth_m.shape == (70, 83)
    np.testing.assert_allclose(depth_m, expected["predicted_depth"].numpy(), rtol=1e-5)
