"""Depth Pro equals the reference both ways on random models."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import assert_close, load_reference, randomize
from tiny_depth_pro import SIDE, draw, lifted, pixels, random_model
from torch import Tensor

from dptcli import DepthProConfig, DepthProForDepthEstimation
from dptcli.errors import ConfigError, ShapeError
from dptcli.fast.optimize import optimize
from dptcli.model.families.depth_pro import pyramid

REFERENCE = transformers.DepthProForDepthEstimation


def reference_of(values: dict[str, Any], *, seed: int = 0) -> Any:
    model = REFERENCE(transformers.DepthProConfig(**values))
    return lifted(randomize(model, seed=seed, std=0.15))


@pytest.mark.parametrize("seed", range(4))
@torch.inference_mode()
def test_depth_pro_equals_the_reference_both_ways(seed: int, tmp_path: Path) -> None:
    reference = reference_of(draw(seed), seed=seed)
    reference.save_pretrained(tmp_path / "theirs")
    ours = DepthProForDepthEstimation.from_pretrained(tmp_path / "theirs")
    x = pixels(1 if seed == 0 else 2, seed=seed)  # the first one is the largest
    wanted = {"output_hidden_states": True, "output_attentions": True}
    expected, found = reference(x), ours(x)
    assert_close(found.predicted_depth, expected.predicted_depth)
    assert_close(found.field_of_view, expected.field_of_view)
    for mine, theirs in zip(
        ours(x, **wanted).hidden_states,
        reference(x, output_hidden_states=True).hidden_states,
        strict=True,
    ):
        assert_close(mine, theirs)
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(REFERENCE, tmp_path / "ours")
    assert_close(back(x).predicted_depth, expected.predicted_depth)
    assert_close(back(x).field_of_view, expected.field_of_view)


@torch.inference_mode()
def test_a_larger_input_than_the_usual_equals_the_reference() -> None:
    x = pixels(1, 5 * SIDE)
    assert_close(
        random_model()(x).predicted_depth, reference_of(draw(1), seed=1)(x).predicted_depth
    )


@pytest.mark.processor
@torch.inference_mode()
def test_the_cheaper_form_gives_the_same() -> None:
    x = pixels()
    expected, found = random_model()(x), optimize(random_model())(x)
    assert_close(found.predicted_depth, expected.predicted_depth)
    assert_close(found.field_of_view, expected.field_of_view)


@torch.inference_mode()
def test_patches_go_through_in_parts_that_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = random_model(), []
    encoder = model.depth_pro.encoder.patch_encoder.model
    features = encoder.features

    def watched(patches: Tensor) -> Any:
        seen.append(len(patches))
        return features(patches)

    monkeypatch.setattr(encoder, "features", watched)
    expected = model(pixels()).predicted_depth
    assert sum(seen) == 2 * (25 + 9 + 1)
    assert max(seen) == pyramid.PATCHES_AT_ONCE
    monkeypatch.setattr(pyramid, "PATCHES_AT_ONCE", 100)
    assert_close(model(pixels()).predicted_depth, expected)


@torch.inference_mode()
def test_without_its_third_encoder_it_estimates_no_camera() -> None:
    model = random_model(use_fov_model=False)
    assert model(pixels(1)).field_of_view is None
    assert not model.config.gives_camera


@pytest.mark.parametrize("hw", [(128, 160), (96, 96)])
def test_what_no_pyramid_is_made_of_is_refused(hw: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="squares of at least 128x128"):
        random_model()(torch.zeros(1, 3, *hw))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scaled_images_ratios": [1, 0.5, 0.25]}, "must rise"),
        ({"scaled_images_feature_dims": [8, 8]}, "scaled_images_feature_dims"),
        ({"intermediate_hook_ids": [7, 0]}, "intermediate_hook_ids"),
        ({"intermediate_feature_dims": [8]}, "intermediate_feature_dims"),
        ({"num_fov_head_layers": 9}, "num_fov_head_layers"),
        ({"patch_size": 30}, "patch_size 8 does not divide"),
        ({"patch_model_config": {"model_type": "beit"}}, "must be dinov2"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DepthProConfig(**draw(1) | change)
