"""ViTDet equals the reference's backbone both ways; inside a DPT, where that fails, it runs."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import assert_close, load_reference, randomize
from torch import Tensor
from transformers.models.vitdet.modeling_vitdet import VitDetPreTrainedModel

from dptcli import (
    AutoBackbone,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    VitDetBackbone,
    VitDetConfig,
)
from dptcli.errors import ConfigError, ShapeError
from dptcli.model.backbones.vitdet import cut_windows, join_windows


def draw(seed: int) -> dict[str, Any]:
    """A random ViTDet with windowed, global and convolution blocks."""
    rng = random.Random(seed)
    patch = rng.choice([4, 8])
    return {
        "hidden_size": rng.choice([16, 24]),
        "num_attention_heads": rng.choice([1, 2, 4]),
        "num_hidden_layers": 4,
        "mlp_ratio": rng.choice([2, 4]),
        "hidden_act": rng.choice(["gelu", "relu"]),
        "patch_size": patch,
        "image_size": patch * rng.choice([4, 6]),
        "pretrain_image_size": patch * rng.choice([3, 4]),
        "qkv_bias": rng.random() < 0.7,
        "window_block_indices": sorted(rng.sample(range(4), rng.choice([0, 2, 3]))),
        "residual_block_indices": sorted(rng.sample(range(4), rng.choice([0, 1, 2]))),
        "use_absolute_position_embeddings": rng.random() < 0.7,
        "use_relative_position_embeddings": rng.random() < 0.7,
        "window_size": rng.choice([0, 2, 3]),
        "drop_path_rate": rng.choice([0.0, 0.1]),
    }


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.processor), *range(1, 8)])
@torch.inference_mode()
def test_vitdet_equals_the_reference_at_any_size(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = draw(seed) | {"out_features": ["stem", "stage2", "stage4"]}
    # The reference's first weights fail where there are no absolute positions.
    monkeypatch.setattr(VitDetPreTrainedModel, "_init_weights", lambda *_: None)
    reference = transformers.AutoBackbone.from_config(transformers.VitDetConfig(**values))
    randomize(reference, seed=seed, std=0.2).save_pretrained(tmp_path / "theirs")
    ours = AutoBackbone.from_pretrained(tmp_path / "theirs")
    assert isinstance(ours, VitDetBackbone)
    assert ours.channels == list(reference.channels)
    for height, width in ((values["image_size"],) * 2, (37, 59), (64, 40)):
        x = pixels(2, 3, height, width, seed=seed)
        expected = reference(x, output_hidden_states=True, output_attentions=True)
        found = ours(x, True, True)
        for name in ("feature_maps", "hidden_states", "attentions"):
            for mine, theirs in zip(found[name], expected[name], strict=True):
                assert_close(mine, theirs)
        fused = ours(x).feature_maps[-1]  # without weights: the fused attention
        assert_close(fused, expected.feature_maps[-1])
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(type(reference), tmp_path / "ours")
    assert_close(back(x).feature_maps[-1], expected.feature_maps[-1])


@pytest.mark.parametrize("readout_type", ["ignore", "add", "project"])
@pytest.mark.parametrize("model_class", [DPTForDepthEstimation, DPTForSemanticSegmentation])
@torch.inference_mode()
def test_a_dpt_over_vitdet_runs_and_reads_out_nothing(
    model_class: Any, readout_type: str, tmp_path: Path
) -> None:
    """There is no class token, so whatever readout is asked for, the maps pass as they are."""
    backbone = draw(1) | {"model_type": "vitdet", "out_indices": [1, 2, 3, 4]}
    values = {
        "backbone_config": backbone,
        "neck_hidden_sizes": [8, 12, 16, 20],
        "fusion_hidden_size": 8,
        "readout_type": readout_type,
        "num_labels": 3,
    }
    model = randomize(model_class(DPTConfig(**values)), seed=1, std=0.2)
    x = pixels(1, 3, 48, 80)
    first = model(x)[0]
    assert first.isfinite().all()
    assert first.shape[-2:] == tuple(side // backbone["patch_size"] * 16 for side in (48, 80))
    plain = model_class(DPTConfig(**values | {"readout_type": "ignore"})).eval()
    kept = {name: value for name, value in model.state_dict().items() if "readout" not in name}
    plain.load_state_dict(kept)
    assert torch.equal(plain(x)[0], first)
    # The reference builds the same tensors, though it cannot run them.
    reference_class = getattr(transformers, model_class.__name__)
    if model_class is DPTForDepthEstimation:
        model.save_pretrained(tmp_path)
        load_reference(reference_class, tmp_path)


@pytest.mark.parametrize("grid_hw", [(4, 6), (5, 7), (1, 2)])
def test_windows_join_to_what_was_cut(grid_hw: tuple[int, int]) -> None:
    x = pixels(2, *grid_hw, 5)
    windows = cut_windows(x, 3)
    assert windows.shape[1:3] == (3, 3)
    assert torch.equal(join_windows(windows, 3, grid_hw), x)


@torch.inference_mode()
def test_a_window_sees_nothing_outside_it() -> None:
    values = draw(0) | {"window_block_indices": [0, 1, 2, 3], "window_size": 2, "patch_size": 4}
    values |= {"residual_block_indices": []}
    model = randomize(VitDetBackbone(VitDetConfig(**values)), seed=0)
    x = pixels(1, 3, 16, 16)
    changed = x.clone()
    changed[..., 8:, 8:] = 0.0
    before, after = model(x).feature_maps[0], model(changed).feature_maps[0]
    assert torch.equal(before[..., :2, :], after[..., :2, :])
    assert not torch.equal(before[..., 2:, 2:], after[..., 2:, 2:])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"window_block_indices": [12]}, "window_block_indices"),
        ({"residual_block_indices": [-1]}, "residual_block_indices"),
        ({"window_size": -2}, "window_size"),
        ({"num_attention_heads": 5}, "hidden_size"),
        ({"dropout_prob": 2}, "dropout_prob"),
        ({"hidden_act": "swish9"}, "hidden_act"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        VitDetConfig(**change)


def test_less_than_a_patch_is_refused() -> None:
    model = VitDetBackbone(VitDetConfig(**draw(0)))
    with pytest.raises(ShapeError, match="patch"):
        model(torch.zeros(1, 3, 2, 90))


def test_vitdet_learns() -> None:
    model = VitDetBackbone(VitDetConfig(**draw(3) | {"window_size": 2, "drop_path_rate": 0.1}))
    randomize(model, seed=3).train()
    model(pixels(2, 3, 40, 24)).feature_maps[0].square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
