"""Preprocessing equals the reference's, on a grid drawn with a fixed seed.

The same grid runs against transformers 5.x (its Pillow backend) and against 4.37.2, whichever is
installed. Bytes are resized by the same Pillow, so the bound is that of float32 arithmetic.
"""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

from dptcli.errors import ConfigError
from dptcli.processing.processor import DPTImageProcessor

transformers = pytest.importorskip("transformers", reason="the reference is not installed")
IS_OLD = int(transformers.__version__.split(".")[0]) < 5
if IS_OLD:
    from transformers import DPTImageProcessor as Reference
else:
    from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil as Reference

CASES = 160
# Our bytes go through the reference's own float32 steps; floats may differ by one rounding.
ATOL = 1e-6
DINOV2 = {
    "do_resize": False,
    "do_rescale": False,
    "do_pad": True,
    "size_divisor": 14,
    "image_mean": [123.675, 116.28, 103.53],
    "image_std": [58.395, 57.12, 57.375],
}


def draw_case(seed):
    """One configuration, the (height, width) of an image and call-time overrides."""
    rng = random.Random(seed)
    config = {
        "do_resize": rng.random() < 0.85,
        "size": rng.choice([384, 97, {"height": 64, "width": 200}, {"height": 384, "width": 384}]),
        "resample": rng.randrange(6),
        "keep_aspect_ratio": rng.random() < 0.5,
        "ensure_multiple_of": rng.choice([1, 14, 32]),
        "do_normalize": rng.random() < 0.85,
        "do_rescale": rng.random() < 0.8,
    }
    if not config["do_rescale"]:
        config |= {name: DINOV2[name] for name in ("image_mean", "image_std")}
    elif rng.random() < 0.5:
        config |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
        config["rescale_factor"] = rng.choice([1 / 255, 1 / 127.5, 0.01])
    if rng.random() < 0.4:
        config |= {"do_pad": True, "size_divisor": rng.choice([14, 16, 32, 61])}
    overrides = {}
    if rng.random() < 0.4:
        overrides = {
            "size": {"height": rng.randint(1, 300), "width": rng.randint(1, 300)},
            "resample": rng.randrange(6),
            "keep_aspect_ratio": rng.random() < 0.5,
        }
    # 4.37.2 takes an axis of 1 or 3 pixels for the channels; a test below has those.
    hw = tuple(rng.choice([rng.randint(4, 40), rng.randint(4, 700)]) for _ in range(2))
    return config, hw, overrides


def noise(hw, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def within_the_references_means(config, source_hw):
    """Whether the reference resizes to at least a pixel and we to the same, unbounded, size."""
    if not config.do_resize:
        return True
    scales = [size / side for size, side in zip(config.size, source_hw, strict=True)]
    if config.keep_aspect_ratio:
        scales = [min(reversed(scales), key=lambda scale: abs(1 - scale))] * 2
    sides = [scale * side for scale, side in zip(scales, source_hw, strict=True)]
    return max(sides) <= 4096 and all(round(side / config.ensure_multiple_of) for side in sides)


def seeds_within_the_references_means():
    for seed in range(CASES):
        config, hw, overrides = draw_case(seed)
        if within_the_references_means(DPTImageProcessor(**{**config, **overrides}).config, hw):
            yield seed


@pytest.mark.parametrize("seed", list(seeds_within_the_references_means()))
def test_random_configuration_and_image_give_the_references_numbers(seed):
    config, hw, overrides = draw_case(seed)
    ours, theirs = DPTImageProcessor(**config), Reference(**config)
    picture = Image.fromarray(noise(hw, seed))
    expected = theirs(picture, return_tensors="np", **overrides)["pixel_values"]
    result = ours(picture, return_tensors="np", **overrides)["pixel_values"]
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    difference = np.abs(result.astype(np.float64) - expected.astype(np.float64)).max()
    assert difference <= ATOL


@pytest.mark.parametrize("seed", range(0, CASES, 4))
def test_prepare_gives_exactly_the_numbers_of_preprocess(seed):
    config, hw, _ = draw_case(seed)
    image = noise(hw, seed)
    ours = DPTImageProcessor(**config)
    prepared = ours.prepare(image)
    expected = ours(Image.fromarray(image), return_tensors="np").pixel_values[0]
    np.testing.assert_array_equal(prepared.pixel_values, expected.astype(np.float32))
    assert prepared.pixel_values.dtype == np.float32
    assert prepared.network_hw == ours.network_hw(image.shape[:2]) == expected.shape[1:]
    assert prepared.source_hw == image.shape[:2]
    top, bottom, left, right = prepared.padding
    height, width = prepared.resized_hw
    assert prepared.network_hw == (height + top + bottom, width + left + right)


def inputs_of_every_kind(image):
    planes = np.moveaxis(image, -1, 0)
    unit = image.astype(np.float32) / 255
    return {
        "PIL": Image.fromarray(image),
        "HWC uint8": image,
        "CHW uint8": np.ascontiguousarray(planes),
        "CHW view": planes,
        "HWC unit floats": unit,
        "HWC float64 unit": unit.astype(np.float64),
        "CHW whole floats": planes.astype(np.float32),
        "HWC int64": image.astype(np.int64),
        "tensor CHW uint8": torch.from_numpy(np.ascontiguousarray(planes)),
        "tensor HWC float": torch.from_numpy(unit),
        "batch": np.stack([image, image[::-1]]),
        "list": [image, image[::-1]],
    }


@pytest.mark.parametrize("do_resize", [True, False], ids=["resized", "own size"])
@pytest.mark.parametrize("kind", inputs_of_every_kind(np.zeros((8, 8, 3), np.uint8)))
def test_every_kind_of_input_gives_the_references_numbers(kind, do_resize):
    image = noise((41, 67))
    images = inputs_of_every_kind(image)[kind]
    config = {"size": {"height": 50, "width": 90}, "do_resize": do_resize}
    expected = Reference(**config)(images, return_tensors="np")["pixel_values"]
    result = DPTImageProcessor(**config)(images, return_tensors="np").pixel_values
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_a_stated_input_format_settles_an_ambiguous_shape(layout):
    image = noise((3, 20))
    config = {"size": {"height": 24, "width": 32}}
    expected = Reference(**config)(image, input_data_format=layout, return_tensors="np")
    result = DPTImageProcessor(**config)(image, input_data_format=layout, return_tensors="np")
    np.testing.assert_allclose(result.pixel_values, expected["pixel_values"], rtol=0, atol=ATOL)


@pytest.mark.skipif(not IS_OLD, reason="5.x ignores data_format")
def test_channels_last_equals_the_old_references():
    image = noise((30, 20))
    expected = Reference()(image, data_format="channels_last", return_tensors="np")
    result = DPTImageProcessor()(image, data_format="channels_last", return_tensors="np")
    np.testing.assert_allclose(result.pixel_values, expected["pixel_values"], rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"size": 518, "keep_aspect_ratio": True, "ensure_multiple_of": 14, "resample": 3},
        DINOV2,
    ],
    ids=["default", "depth anything", "dinov2"],
)
def test_what_we_save_the_reference_reads_with_the_same_result(config, tmp_path):
    ours = DPTImageProcessor(**config, note="kept", max_long_side=5000)
    ours.save_pretrained(tmp_path)
    theirs = Reference.from_pretrained(tmp_path)
    image = noise((33, 47))
    np.testing.assert_allclose(
        ours(image, return_tensors="np").pixel_values,
        theirs(image, return_tensors="np")["pixel_values"],
        rtol=0,
        atol=ATOL,
    )
    # And back: what the reference writes of it is the same processor to us, unknown keys too.
    theirs.save_pretrained(tmp_path)
    again = DPTImageProcessor.from_pretrained(tmp_path)
    assert again.config == ours.config
    assert again.note == "kept"


@pytest.mark.skipif(IS_OLD, reason="4.37.2 takes no label maps")
@pytest.mark.parametrize("reduce", [False, True], ids=["labels", "reduced labels"])
def test_label_maps_equal_the_references_with_its_nearest_filter(reduce):
    rng = np.random.default_rng(9)
    image = noise((45, 61))
    labels = rng.integers(0, 256, (45, 61), dtype=np.uint8)
    config = {"size": {"height": 30, "width": 77}, "do_reduce_labels": reduce}
    expected = Reference(**config, resample=0)(image, labels.copy(), return_tensors="np")["labels"]
    result = DPTImageProcessor(**config)(image, labels, return_tensors="np").labels
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, expected)


def test_old_files_read_as_the_reference_reads_them(tmp_path):
    old = {
        "do_normalize": True,
        "do_resize": True,
        "ensure_multiple_of": 1,
        "feature_extractor_type": "DPTFeatureExtractor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "keep_aspect_ratio": False,
        "resample": 2,
        "size": 384,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    image = noise((100, 60))
    ours, theirs = DPTImageProcessor.from_pretrained(tmp_path), Reference.from_pretrained(tmp_path)
    np.testing.assert_allclose(
        ours(image, return_tensors="np").pixel_values,
        theirs(image, return_tensors="np")["pixel_values"],
        rtol=0,
        atol=ATOL,
    )


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (9, 1), (2, 3), (3, 200), (3, 3)], ids=str)
def test_tiny_pictures_are_never_taken_for_planes(hw):
    # The old reference reads a 3-pixel-high picture as three planes; a Pillow image is never that.
    image = noise(hw)
    result = DPTImageProcessor(size=32)(Image.fromarray(image), return_tensors="np").pixel_values
    resized = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC))
    expected = (np.moveaxis(resized, -1, 0) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(result[0], expected, rtol=0, atol=ATOL)


def test_ragged_batches_are_refused_with_their_shapes():
    images = [np.zeros((40, 30, 3), np.uint8), np.zeros((30, 40, 3), np.uint8)]
    ours = DPTImageProcessor(size=64, keep_aspect_ratio=True)
    with pytest.raises(ConfigError, match=r"\(3, 48, 64\), \(3, 64, 48\)"):
        ours(images, return_tensors="pt")
    assert [value.shape for value in ours(images).pixel_values] == [(3, 64, 48), (3, 48, 64)]
