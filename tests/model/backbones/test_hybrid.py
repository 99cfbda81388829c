"""BiT and the hybrid equal the reference, both ways, on random models.

The grids are drawn with fixed seeds. The reference's hybrid takes only its image size; other
sizes are compared through `interpolate_pos_encoding`, which its own call leaves off.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import assert_close, load_reference, randomize
from torch import Tensor

from dptcli import (
    AutoBackbone,
    BitBackbone,
    BitConfig,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    DPTModel,
)
from dptcli.errors import ConfigError, ShapeError

TASKS = {
    "depth": (transformers.DPTForDepthEstimation, DPTForDepthEstimation),
    "segment": (transformers.DPTForSemanticSegmentation, DPTForSemanticSegmentation),
}
EAGER = {"attn_implementation": "eager"}  # the fused attention keeps no weights
SIZES_HW = {"square": (64, 64), "landscape": (64, 96), "portrait": (112, 48)}


def draw_bit(seed: int) -> dict[str, Any]:
    """A random BiT of any kind."""
    rng = random.Random(seed)
    depth = rng.choice([3, 4])
    groups = rng.choice([2, 4])
    layer_type = rng.choice(["preactivation", "bottleneck"])
    return {
        "embedding_size": groups * rng.choice([4, 6]),
        "hidden_sizes": [rng.choice([32, 48, 64]) for _ in range(depth)],
        "depths": [rng.choice([1, 2]) for _ in range(depth)],
        "layer_type": layer_type,
        "hidden_act": rng.choice(["relu", "gelu"]),
        "global_padding": rng.choice([None, "same", "SAME"]),
        "num_groups": groups,
        "embedding_dynamic_padding": rng.random() < 0.5,
        "output_stride": rng.choice([8, 16, 32]),
        # The reference's final norm leaves the factor out and fails.
        "width_factor": rng.choice([1, 2]) if layer_type == "bottleneck" else 1,
        "drop_path_rate": rng.choice([0.0, 0.2]),
    }


def draw_hybrid(seed: int) -> dict[str, Any]:
    """A random hybrid: a bottleneck BiT of stride 16 and a transformer over its map."""
    rng = random.Random(500 + seed)
    groups, fused = rng.choice([4, 8]), rng.choice([8, 20])
    widths = [rng.choice([32, 64]) for _ in range(3)]
    num_layers = rng.choice([4, 5])
    neck = [*widths[:2], rng.choice([12, 20]), rng.choice([12, 20])]
    return {
        "is_hybrid": True,
        "hidden_size": rng.choice([16, 40]),
        "num_attention_heads": rng.choice([1, 2, 4]),
        "num_hidden_layers": num_layers,
        "intermediate_size": rng.choice([20, 64]),
        "image_size": 64,
        "patch_size": 16,
        "qkv_bias": rng.random() < 0.7,
        "hidden_act": rng.choice(["gelu", "relu"]),
        "backbone_out_indices": [0, 1, *sorted(rng.sample(range(2, num_layers), 2))],
        "neck_hidden_sizes": neck,
        "reassemble_factors": [1, 1, 1, 0.5],
        "fusion_hidden_size": fused,
        "use_batch_norm_in_fusion_residual": rng.random() < 0.5,
        "num_labels": rng.choice([2, 7]),
        "backbone_featmap_shape": [1, widths[2], 4, 4],
        "backbone_config": {
            "model_type": "bit",
            "global_padding": "same",
            "layer_type": rng.choice(["bottleneck", "bottleneck", "preactivation"]),
            "depths": [1, 2, 1],
            "hidden_sizes": widths,
            "embedding_size": groups * 2,
            "num_groups": groups,
            "out_features": ["stage1", "stage2", "stage3"],
            "embedding_dynamic_padding": True,
        },
    }


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def main_output(output: Any) -> Tensor:
    return output.predicted_depth if "predicted_depth" in output else output.logits


@pytest.mark.parametrize("seed", range(8))
@torch.inference_mode()
def test_bit_equals_the_reference_at_any_size(seed: int, tmp_path: Path) -> None:
    values = draw_bit(seed)
    stages = {"out_features": ["stem", "stage1", "stage3"]}
    reference = randomize(
        transformers.AutoBackbone.from_config(transformers.BitConfig(**values, **stages)), seed=seed
    )
    reference.save_pretrained(tmp_path / "theirs")
    ours = AutoBackbone.from_pretrained(tmp_path / "theirs")
    assert isinstance(ours, BitBackbone)
    if values["width_factor"] == 1:  # the reference reports widths without the factor
        assert ours.channels == list(reference.channels)
    for height, width in ((64, 64), (47, 83), (90, 33)):
        x = pixels(2, 3, height, width, seed=seed)
        expected, found = reference(x, output_hidden_states=True), ours(x, True)
        assert [found_map.shape[1] for found_map in found.feature_maps] == ours.channels
        for name in ("feature_maps", "hidden_states"):
            for mine, theirs in zip(found[name], expected[name], strict=True):
                assert_close(mine, theirs)
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(type(reference), tmp_path / "ours")
    assert_close(back(x).feature_maps[-1], expected.feature_maps[-1])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.processor), *range(1, 5)])
@torch.inference_mode()
def test_hybrid_equals_the_reference_both_ways(seed: int, task: str, tmp_path: Path) -> None:
    reference_class, our_class = TASKS[task]
    config = transformers.DPTConfig(**draw_hybrid(seed), **EAGER)
    reference = randomize(reference_class(config), seed=seed, std=0.2)
    reference.save_pretrained(tmp_path / "theirs")
    ours = our_class.from_pretrained(tmp_path / "theirs")
    x = pixels(2, 3, 64, 64, seed=seed)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    expected, found = reference(x, **wanted), ours(x, **wanted)
    assert_close(main_output(found), main_output(expected))
    for name in ("hidden_states", "attentions"):
        for mine, theirs in zip(found[name], expected[name], strict=True):
            assert_close(mine, theirs)
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(reference_class, tmp_path / "ours")
    assert_close(main_output(back(x)), main_output(expected))


@pytest.mark.parametrize("size_hw", SIZES_HW.values(), ids=SIZES_HW)
@torch.inference_mode()
def test_hybrid_takes_any_size_the_stem_reduces(size_hw: tuple[int, int], tmp_path: Path) -> None:
    """The tokens at other sizes are those of the reference with resized positions."""
    reference = randomize(
        transformers.DPTModel(transformers.DPTConfig(**draw_hybrid(3))), seed=3, std=0.2
    )
    reference.save_pretrained(tmp_path)
    ours = DPTModel.from_pretrained(tmp_path)
    x = pixels(1, 3, *size_hw)
    embedded = reference.embeddings(x, interpolate_pos_encoding=True)
    expected = reference.layernorm(reference.encoder(embedded.last_hidden_states)[0])
    found = ours(x)
    assert_close(found.last_hidden_state, expected)
    assert_close(found.pooler_output, reference.pooler(expected))
    pairs = zip(found.intermediate_activations, embedded.intermediate_activations, strict=True)
    for mine, theirs in pairs:
        assert_close(mine, theirs)


@pytest.mark.parametrize("size_hw", [(48, 80), (50, 70), (97, 33)])
@torch.inference_mode()
def test_hybrid_predicts_at_twice_the_size_of_its_finest_map(size_hw: tuple[int, int]) -> None:
    model = randomize(DPTForDepthEstimation(DPTConfig(**draw_hybrid(1))), seed=1, std=0.2)
    depth = model(pixels(2, 3, *size_hw)).predicted_depth
    steps = [-(-side // 16) for side in size_hw]  # the deepest map's grid, before the ×0.5
    assert depth.shape == (2, *(-(-step // 2) * 32 for step in steps))
    assert depth.isfinite().all()


@torch.inference_mode()
def test_hybrid_stem_maps_come_with_the_bare_model_alone(tmp_path: Path) -> None:
    config = transformers.DPTConfig(**draw_hybrid(2))
    reference = randomize(transformers.DPTModel(config), seed=2)
    reference.save_pretrained(tmp_path)
    ours = DPTModel.from_pretrained(tmp_path)
    x = pixels(1, 3, 64, 64)
    expected, found = reference(x), ours(x)
    assert len(found.intermediate_activations) == 2
    for mine, theirs in zip(
        found.intermediate_activations, expected.intermediate_activations, strict=True
    ):
        assert_close(mine, theirs)
    assert found.to_tuple()[-1] is found.intermediate_activations


def test_old_files_name_the_stem_without_its_type() -> None:
    values = draw_hybrid(0)
    del values["backbone_config"]["model_type"]
    values["backbone_config"]["global_padding"] = "SAME"
    config = DPTConfig(**values)
    assert isinstance(config.backbone_config, BitConfig)
    assert config.backbone_config.global_padding == "SAME"


def test_hybrid_without_a_named_stem_gets_the_papers() -> None:
    config = DPTConfig(is_hybrid=True)
    assert config.backbone_config.depths == [3, 4, 9]
    assert config.backbone_config.layer_type == "bottleneck"
    assert config.backbone_config.global_padding == "SAME"
    theirs = transformers.DPTConfig(is_hybrid=True).to_dict()["backbone_config"]
    ours = json.loads(config.to_json_string())["backbone_config"]
    assert {name: theirs[name] for name in ours if name in theirs} == {
        name: value for name, value in ours.items() if name in theirs
    }


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"layer_type": "plain"}, "layer_type"),
        ({"global_padding": "valid"}, "global_padding"),
        ({"depths": []}, "depths"),
        ({"depths": [1, 1, 1, 1, 1]}, "depths"),
        ({"num_groups": 0}, "num_groups"),
        ({"out_features": ["stage9"]}, "out_features"),
    ],
)
def test_a_wrong_bit_value_is_named(change: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        BitConfig(**change)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"readout_type": "add"}, "readout_type"),
        ({"neck_ignore_stages": []}, "neck_ignore_stages"),
        ({"backbone_featmap_shape": [1, 7, 4, 4]}, "backbone_featmap_shape"),
        ({"backbone_out_indices": [0, 1, 2, 99]}, "backbone_out_indices"),
    ],
)
def test_a_wrong_hybrid_value_is_named(change: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        DPTForDepthEstimation(DPTConfig(**draw_hybrid(0) | change))


def test_two_stem_stages_are_too_few() -> None:
    values = draw_hybrid(0)
    values["backbone_config"]["out_features"] = ["stage2", "stage3"]
    with pytest.raises(ConfigError, match="three"):
        DPTForDepthEstimation(DPTConfig(**values))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 3, 0, 64)])
def test_wrong_pixels_are_refused(shape: tuple[int, ...]) -> None:
    model = DPTForDepthEstimation(DPTConfig(**draw_hybrid(0)))
    with pytest.raises(ShapeError, match="pixel_values"):
        model(torch.zeros(shape))


def test_hybrid_learns_from_labels() -> None:
    model = randomize(DPTForDepthEstimation(DPTConfig(**draw_hybrid(4))), seed=4, std=0.2).train()
    loss = model(pixels(2, 3, 48, 64), labels=torch.rand(2, 48, 64) + 0.5).loss
    loss.backward()
    grads = [parameter.grad for parameter in model.dpt.embeddings.backbone.bit.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


def test_bit_alone_serves_as_a_backbone_without_reassembling() -> None:
    """A ResNet's maps already come at falling resolution, so the neck fuses them as they are."""
    backbone = draw_bit(1) | {"model_type": "bit", "output_stride": 32, "width_factor": 1}
    backbone["out_features"] = ["stem", "stage1", "stage2", "stage3"]
    widths = BitConfig(**backbone).stage_widths[:4]
    config = DPTConfig(backbone_config=backbone, neck_hidden_sizes=widths, fusion_hidden_size=8)
    for model_class in (DPTForDepthEstimation, DPTForSemanticSegmentation):
        output = main_output(randomize(model_class(config), seed=1)(pixels(1, 3, 64, 96)))
        assert output.isfinite().all()
