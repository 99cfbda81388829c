"""ZoeDepth equals the reference, both ways, with bins of one domain and of two.

The grid is drawn with a fixed seed.
"""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import assert_close, load_reference, randomize
from safetensors.torch import load_file, save_file

from dptcli import ZoeDepthConfig, ZoeDepthForDepthEstimation
from dptcli.errors import ConfigError
from dptcli.weights.build import load_pretrained
from dptcli.weights.format import WEIGHTS_NAME

EAGER = {"attn_implementation": "eager"}  # the reference's fused attention keeps no weights
PATCH = 8
SHAPES = {"square": (48, 48), "landscape": (48, 80), "portrait": (72, 40)}
DOMAINS = [
    {"name": "nyu", "n_bins": 12, "min_depth": 1e-3, "max_depth": 10.0},
    {"name": "kitti", "n_bins": 9, "min_depth": 0.5, "max_depth": 80.0},
]
ROUTING = {
    "num_patch_transformer_layers": 4,
    "patch_transformer_hidden_size": 128,
    "patch_transformer_intermediate_size": 40,
    "patch_transformer_num_attention_heads": 4,
}
BEIT = {
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "intermediate_size": 32,
    "image_size": 48,
    "patch_size": PATCH,
    "use_relative_position_bias": True,
    "reshape_hidden_states": False,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
SWIN = {
    "embed_dim": 8,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 3,
    "image_size": 64,
    "patch_size": 2,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def draw_zoe(seed: int) -> dict[str, Any]:
    """A random ZoeDepth configuration, without its backbone."""
    rng = random.Random(seed)
    fusion = rng.choice([8, 16])
    return {
        "neck_hidden_sizes": [rng.choice([8, 12, 20]) for _ in range(4)],
        "fusion_hidden_size": fusion,
        "bottleneck_features": fusion,
        "use_batch_norm_in_fusion_residual": rng.random() < 0.5,
        "use_bias_in_fusion_residual": rng.choice([None, True, False]),
        "batch_norm_eps": rng.choice([1e-5, 1e-2]),
        "num_relative_features": rng.choice([4, 10]),
        "num_attractors": rng.choice([[16, 8, 4, 1], [3, 2, 2, 1]]),
        "bin_embedding_dim": rng.choice([16, 24]),
        "attractor_kind": rng.choice(["mean", "sum"]),
        "min_temp": rng.choice([0.0212, 1.0]),
        "max_temp": rng.choice([50.0, 3.0]),
        "hidden_act": rng.choice(["gelu", "relu"]),
        "head_in_index": -1,
    }


def reference_zoe(
    values: dict[str, Any], *, seed: int = 0, std: float = 0.2, swin: bool = False
) -> Any:
    """The reference's ZoeDepth, with random weights and a relative depth that is not all zero."""
    if swin:
        backbone = transformers.Swinv2Config(**SWIN)
        values = values | {"neck_hidden_sizes": [8, 16, 32, 64]}
    else:
        backbone = transformers.BeitConfig(**BEIT)
    config = transformers.ZoeDepthConfig(backbone_config=backbone, **values, **EAGER)
    model = randomize(transformers.ZoeDepthForDepthEstimation(config), seed=seed, std=std)
    with torch.no_grad():
        model.relative_head.conv3.bias.fill_(1.0)
    return model


def pixels(hw: tuple[int, int], *, batch: int = 1) -> torch.Tensor:
    """Random normalised pixels (B, 3, H, W)."""
    return torch.randn(batch, 3, *hw, generator=torch.Generator().manual_seed(sum(hw)))


@pytest.mark.parametrize("num_domains", [1, 2])
@pytest.mark.parametrize("kind", ["softplus", "normed"])
@pytest.mark.parametrize("seed", range(3))
@torch.inference_mode()
def test_zoedepth_equals_the_reference_both_ways(
    seed: int, kind: str, num_domains: int, tmp_path: Path
) -> None:
    values = draw_zoe(seed) | {"bin_centers_type": kind}
    values["bin_configurations"] = DOMAINS[:num_domains]
    if num_domains > 1:
        values |= ROUTING
    reference = reference_zoe(values, seed=seed)
    reference.save_pretrained(tmp_path / "theirs")
    ours = ZoeDepthForDepthEstimation.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(transformers.ZoeDepthForDepthEstimation, tmp_path / "ours")

    wanted = {"output_hidden_states": True, "output_attentions": True}
    for x in map(pixels, SHAPES.values()):
        expected, found = reference(x, **wanted), ours(x, **wanted)
        assert list(found) == list(expected)
        assert_close(found.predicted_depth, expected.predicted_depth)
        assert expected.predicted_depth.std() > 1e-4 * expected.predicted_depth.mean()
        if num_domains > 1:
            assert_close(found.domain_logits, expected.domain_logits)
        for name in ("hidden_states", "attentions"):
            for mine, theirs in zip(found[name], expected[name], strict=True):
                assert_close(mine, theirs)
        assert_close(back(x).predicted_depth, expected.predicted_depth)


@torch.inference_mode()
def test_zoedepth_over_swin_equals_the_reference(tmp_path: Path) -> None:
    reference = reference_zoe(draw_zoe(1), swin=True)
    reference.save_pretrained(tmp_path)
    ours = ZoeDepthForDepthEstimation.from_pretrained(tmp_path)
    x = pixels((64, 80), batch=2)
    assert_close(ours(x).predicted_depth, reference(x).predicted_depth)


@torch.inference_mode()
def test_each_image_goes_to_its_own_domain(tmp_path: Path) -> None:
    """The reference lets a batch vote; image by image, both give the same depths."""
    values = draw_zoe(2) | ROUTING | {"bin_configurations": DOMAINS}
    reference = reference_zoe(values, seed=2)
    x = torch.cat([pixels((48, 48)) * scale for scale in (0.1, 1.0, 5.0, 30.0)])
    logits = reference(x).domain_logits
    # Put the border between the domains amid these images.
    middle = (logits[:, 0] - logits[:, 1]).median()
    reference.metric_head.mlp_classifier.linear2.bias[0] -= middle + 1e-3
    reference.save_pretrained(tmp_path)
    ours = ZoeDepthForDepthEstimation.from_pretrained(tmp_path)
    found = ours(x)
    assert set(found.domain_logits.argmax(dim=1).tolist()) == {0, 1}
    for row, depth_m in enumerate(found.predicted_depth):
        assert_close(depth_m, reference(x[row : row + 1]).predicted_depth[0])


@pytest.mark.parametrize("readout", ["ignore", "add"])
@torch.inference_mode()
def test_other_readouts_work_where_the_reference_fails(readout: str, tmp_path: Path) -> None:
    """Projections that ignore or add the class token must give the same as these readouts."""
    values = draw_zoe(0)
    reference_zoe(values | {"readout_type": readout}).save_pretrained(tmp_path)
    x = pixels((48, 80))
    with pytest.raises(RuntimeError):
        transformers.ZoeDepthForDepthEstimation.from_pretrained(tmp_path)(x)
    ours = ZoeDepthForDepthEstimation.from_pretrained(tmp_path)
    config = transformers.ZoeDepthConfig(
        backbone_config=transformers.BeitConfig(**BEIT),
        **values | {"readout_type": "project", "hidden_act": "linear"},
    )
    twin = transformers.ZoeDepthForDepthEstimation(config).eval()
    twin.load_state_dict(
        transformers.ZoeDepthForDepthEstimation.from_pretrained(tmp_path).state_dict(), strict=False
    )
    keep = torch.eye(24)
    for project in twin.neck.reassemble_stage.readout_projects:
        project[0].weight.copy_(torch.cat((keep, keep * (readout == "add")), dim=1))
        project[0].bias.zero_()
    assert_close(ours(x).predicted_depth, twin(x).predicted_depth)


@torch.inference_mode()
def test_an_added_projection_follows_the_fused_width(tmp_path: Path) -> None:
    values = draw_zoe(0) | {"fusion_hidden_size": 256, "bottleneck_features": 256}
    # 256 channels, as the reference fixes them; larger weights would blow up the activations.
    reference = reference_zoe(values | {"add_projection": True}, std=0.05)
    reference.save_pretrained(tmp_path)
    x = pixels((48, 48))
    ours = ZoeDepthForDepthEstimation.from_pretrained(tmp_path)
    assert_close(ours(x).predicted_depth, reference(x).predicted_depth)
    narrow = ZoeDepthConfig.from_pretrained(tmp_path).replace(
        fusion_hidden_size=16, bottleneck_features=16
    )
    assert ZoeDepthForDepthEstimation(narrow)(x).predicted_depth.isfinite().all()


@torch.inference_mode()
def test_index_buffers_of_older_files_are_left_out(tmp_path: Path) -> None:
    reference = reference_zoe(draw_zoe(0))
    reference.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_NAME)
    binomial = "metric_head.conditional_log_binomial.log_binomial_transform"
    tensors[f"{binomial}.k_idx"] = torch.arange(64).view(1, -1, 1, 1)
    tensors[f"{binomial}.k_minus_1"] = torch.full((1, 1, 1, 1), 63)
    save_file(tensors, tmp_path / WEIGHTS_NAME, metadata={"format": "pt"})
    x = pixels((48, 48))
    ours = load_pretrained(ZoeDepthForDepthEstimation, tmp_path)
    assert_close(ours(x).predicted_depth, reference(x).predicted_depth)


def test_labels_in_metres_give_a_loss_and_gradients_for_every_part() -> None:
    values = draw_zoe(0) | ROUTING | {"bin_configurations": DOMAINS}
    config = ZoeDepthConfig(backbone_config={"model_type": "beit", **BEIT}, **values)
    ours = randomize(ZoeDepthForDepthEstimation(config), seed=1)
    depth_m = torch.rand(1, 30, 50) * 9 + 0.5
    output = ours(pixels((48, 80)), labels=depth_m)
    assert config.depth_estimation_type == "metric"
    output.loss.backward()
    assert ours.backbone.embeddings.cls_token.grad.abs().max() > 0
    assert output[0] is output.loss
    tuples = ours(pixels((48, 80)), return_dict=False)
    assert [tuple(part.shape) for part in tuples] == [(1, 96, 160), (1, 2)]


@pytest.mark.parametrize("num_domains", [1, 2])
@torch.inference_mode()
def test_a_neck_of_two_stages_refines_twice_as_the_references(
    num_domains: int, tmp_path: Path
) -> None:
    values = draw_zoe(1) | {
        "neck_hidden_sizes": [8, 12],
        "bin_configurations": DOMAINS[:num_domains],
    }
    values |= ROUTING if num_domains > 1 else {}
    backbone = transformers.BeitConfig(**BEIT | {"out_features": ["stage2", "stage4"]})
    config = transformers.ZoeDepthConfig(backbone_config=backbone, **values, **EAGER)
    reference: Any = randomize(transformers.ZoeDepthForDepthEstimation(config), seed=1, std=0.2)
    reference.relative_head.conv3.bias.fill_(1.0)
    reference.save_pretrained(tmp_path)
    ours = ZoeDepthForDepthEstimation.from_pretrained(tmp_path)
    x = pixels((48, 64))
    assert_close(ours(x).predicted_depth, reference(x).predicted_depth)


def test_defaults_are_the_reference_s() -> None:
    theirs, ours = transformers.ZoeDepthConfig().to_dict(), ZoeDepthConfig().to_dict()
    for name in ours.keys() & theirs.keys() - {"backbone_config"}:
        assert ours[name] == theirs[name] or ours[name] == list(theirs[name]), name
    for name in ("hidden_size", "num_hidden_layers", "image_size", "out_features"):
        assert ours["backbone_config"][name] == theirs["backbone_config"][name]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bottleneck_features": 128}, "must equal fusion_hidden_size 256"),
        ({"num_attractors": [16, 8]}, "num_attractors"),
        ({"neck_hidden_sizes": [8, 8, 8]}, "neck_hidden_sizes"),
        ({"attractor_kind": "median"}, "attractor_kind"),
        ({"bin_centers_type": "hybrid2"}, "bin_centers_type"),
        ({"bin_configurations": [{"n_bins": 64}]}, "lacks max_depth, min_depth"),
        ({"bin_configurations": [{**DOMAINS[0], "max_depth": 0.0}]}, "max_depth"),
        ({"bin_configurations": [DOMAINS[0], DOMAINS[0]]}, "differ from each other"),
        ({"bin_configurations": DOMAINS}, "num_patch_transformer_layers"),
        (
            {"bin_configurations": DOMAINS, **ROUTING, "patch_transformer_hidden_size": 30},
            "multiple of",
        ),
        ({"max_temp": 0.001}, "max_temp"),
        ({"readout_type": "sum"}, "readout_type"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_zoedepth_configurations_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ZoeDepthConfig(**wrong)


CORNERS: dict[str, dict[str, Any]] = {
    # Its width is 256 in the reference, whatever the maps' is.
    "add_projection": {
        "add_projection": True,
        "fusion_hidden_size": 256,
        "bottleneck_features": 256,
    },
    "another map": {"head_in_index": 2},
    "other factors": {"reassemble_factors": [2, 1, 1, 0.5]},
}


@pytest.mark.parametrize("name", [*CORNERS, "over DINOv2"])
@torch.inference_mode()
def test_fields_that_no_published_file_uses_mean_what_they_mean_to_the_reference(
    name: str, tmp_path: Path
) -> None:
    values = draw_zoe(0) | CORNERS.get(name, {}) | {"bin_configurations": DOMAINS[:1]}
    # Wide maps add up more: weights of the others' size would amplify rounding.
    std = 0.05 if name == "add_projection" else 0.2
    reference, hw = reference_zoe(values, std=std), SHAPES["landscape"]
    if name == "over DINOv2":
        shape = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 4}
        stages = {"out_indices": [1, 2, 3, 4], "reshape_hidden_states": False}
        backbone = transformers.Dinov2Config(image_size=56, patch_size=14, **shape, **stages)
        config = transformers.ZoeDepthConfig(backbone_config=backbone, **values, **EAGER)
        reference = randomize(transformers.ZoeDepthForDepthEstimation(config), seed=0, std=0.2)
        reference.relative_head.conv3.bias.fill_(1.0)
        hw = (56, 84)
    reference.save_pretrained(tmp_path / "theirs")
    ours = ZoeDepthForDepthEstimation.from_pretrained(tmp_path / "theirs")
    expected = reference(pixels(hw)).predicted_depth
    assert_close(ours(pixels(hw)).predicted_depth, expected)
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(type(reference), tmp_path / "ours")
    assert_close(back(pixels(hw)).predicted_depth, expected)
