"""An optimised model computes what the plain one does, step by step and all together."""

import copy
from dataclasses import replace

import pytest
import torch
from parity import TOLERANCE, difference, randomize
from torch import nn

from dptcli import (
    BeitConfig,
    BitConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    Swinv2Config,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)
from dptcli.model.kernels import ConvLinear, Kernels, PackedConv2d, PackedLinear, kernels_for
from dptcli.model.optimize import STEPS, optimize
from dptcli.model.precision import keep_tail_float32

NECK = {"neck_hidden_sizes": [16, 24, 32, 48], "fusion_hidden_size": 64}
WIDE = {"hidden_size": 64, "num_attention_heads": 4}
CPU = torch.device("cpu")
# What this processor would not choose by itself works too.
FORMS = {
    "chosen": None,
    "packed": Kernels(linear="packed", fuse_gelu=True, conv=True, explicit_attention=True),
    "packed, gelu after": Kernels(linear="packed", conv=True),
    "conv1x1": Kernels(linear="conv1x1", conv=True),
    "plain": Kernels(),
}


def dpt(**changes):
    values = {
        **WIDE,
        "intermediate_size": 128,
        "num_hidden_layers": 5,
        "image_size": 64,
        "backbone_out_indices": [0, 1, 2, 3],
        "readout_type": "project",
    }
    return DPTConfig(**{**values, **NECK, **changes})


def dinov2(**changes):
    stages = {"num_hidden_layers": 5, "out_indices": [1, 2, 3, 4], "image_size": 56}
    return Dinov2Config(**{**WIDE, "patch_size": 14, "layerscale_value": 0.5, **stages, **changes})


def beit(**changes):
    stages = {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "image_size": 64}
    shape = {"intermediate_size": 128, "layer_scale_init_value": 0.5}
    return BeitConfig(**{**WIDE, **shape, **stages, **changes})


def swinv2():
    return Swinv2Config(
        embed_dim=16,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def hybrid():
    stem = BitConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64],
        depths=[1, 1, 2],
        num_groups=8,
        layer_type="bottleneck",
        embedding_dynamic_padding=True,
        global_padding="same",
        out_features=["stage1", "stage2", "stage3"],
    )
    return dpt(
        is_hybrid=True,
        backbone_config=stem,
        backbone_featmap_shape=[1, 64, 4, 4],
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 32, 32, 48],
    )


def over(backbone, **changes):
    return dpt(backbone_config=backbone, hidden_size=64, **changes)


def zoedepth(**changes):
    return ZoeDepthConfig(
        backbone_config=beit(),
        neck_hidden_sizes=[16, 24, 32, 48],
        fusion_hidden_size=32,
        bottleneck_features=32,
        num_relative_features=16,
        **changes,
    )


MODELS = {
    "vit, project": (DPTForDepthEstimation, dpt),
    "vit, add": (DPTForDepthEstimation, lambda: dpt(readout_type="add", add_projection=True)),
    "vit, batch norm": (
        DPTForDepthEstimation,
        lambda: dpt(use_batch_norm_in_fusion_residual=True, hidden_act="relu", qkv_bias=False),
    ),
    "vit, segmentation": (
        DPTForSemanticSegmentation,
        lambda: dpt(num_labels=7, use_batch_norm_in_fusion_residual=True),
    ),
    "dinov2": (DPTForDepthEstimation, lambda: over(dinov2(), readout_type="project")),
    "dinov2, gated": (
        DPTForSemanticSegmentation,
        lambda: over(dinov2(use_swiglu_ffn=True, apply_layernorm=False), num_labels=5),
    ),
    "beit": (DPTForDepthEstimation, lambda: over(beit(), readout_type="project")),
    "beit, shared bias": (
        DPTForDepthEstimation,
        lambda: over(
            beit(use_shared_relative_position_bias=True, layer_scale_init_value=0.0),
            readout_type="ignore",
        ),
    ),
    "swin v2": (
        DPTForDepthEstimation,
        lambda: dpt(backbone_config=swinv2(), neck_hidden_sizes=[16, 32, 64, 128]),
    ),
    "hybrid": (DPTForDepthEstimation, hybrid),
    "depth anything": (
        DepthAnythingForDepthEstimation,
        lambda: DepthAnythingConfig(
            backbone_config=dinov2(),
            patch_size=14,
            reassemble_hidden_size=64,
            **{**NECK, "fusion_hidden_size": 32},
        ),
    ),
    "zoedepth": (ZoeDepthForDepthEstimation, zoedepth),
}


def build(name, *, seed=0):
    model_class, config = MODELS[name]
    return above_zero(randomize(model_class(config()), seed=seed))


def above_zero(model):
    """Behind a ReLU, weights above zero keep the last ReLU from making a random depth zero."""
    if isinstance(model, DPTForDepthEstimation):
        model.head.head[4].weight.data.abs_()
    return model


def predict(model, pixels):
    with torch.inference_mode():
        output = model(pixels)
    return output.logits if hasattr(output, "logits") else output.predicted_depth


def pixels_for(name, *, batch=2, seed=3):
    hw = (70, 98) if "dinov2" in name or name == "depth anything" else (64, 96)
    return torch.randn(batch, 3, *hw, generator=torch.Generator().manual_seed(seed))


def assert_same(name, **options):
    plain, pixels = build(name), pixels_for(name)
    expected = predict(plain, pixels)
    assert expected.std() > 0
    optimized = optimize(copy.deepcopy(plain), **options)
    assert difference(predict(optimized, pixels), expected) <= TOLERANCE
    return plain, optimized


@pytest.mark.parametrize("name", MODELS)
def test_all_steps_together_change_nothing_but_rounding(name):
    plain, optimized = assert_same(name)
    # Other sizes and batches than the one that weights were packed for, and back again.
    for batch in (1, 3, 2):
        pixels = pixels_for(name, batch=batch, seed=batch).transpose(-1, -2)
        assert difference(predict(optimized, pixels), predict(plain, pixels)) <= TOLERANCE


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", MODELS)
def test_each_step_on_its_own_changes_nothing_but_rounding(name, step):
    assert_same(name, steps=[step])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["vit, project", "dinov2", "beit", "vit, segmentation"])
def test_every_kernel_computes_the_same(name, form):
    assert_same(name, kernels=FORMS[form])


@pytest.mark.parametrize("seed", range(6))
def test_random_configurations_are_equal_too(seed):
    draw = torch.Generator().manual_seed(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), (), generator=draw))]

    taps = sorted(torch.randperm(6, generator=draw)[:4].tolist())
    config = dpt(
        num_hidden_layers=6,
        backbone_out_indices=taps,
        readout_type=pick("ignore", "add", "project"),
        hidden_act=pick("gelu", "relu", "gelu_new"),
        use_batch_norm_in_fusion_residual=pick(True, False),
        use_bias_in_fusion_residual=pick(True, False, None),
        qkv_bias=pick(True, False),
        add_projection=pick(True, False),
        patch_size=pick(8, 16),
        intermediate_size=pick(96, 256),
        head_in_index=pick(-1, 2),
    )
    model = above_zero(randomize(DPTForDepthEstimation(config), seed=seed))
    hw = pick((64, 64), (48, 96), (80, 64))
    pixels = torch.randn(1, 3, *hw, generator=draw)
    expected = predict(model, pixels)
    assert difference(predict(optimize(model), pixels), expected) <= TOLERANCE


def test_blocks_behind_the_last_tap_are_gone():
    model = optimize(build("vit, project"), steps=["leave-out"])
    assert len(model.dpt.encoder.layer) == 4
    assert not any("residual_layer1" in name and ".0." in name for name in model.state_dict())


def test_what_the_processor_packs_fast_is_packed():
    model = build("vit, segmentation")
    kernels = kernels_for(CPU, torch.float32)
    kinds = {type(module) for module in optimize(model).modules()}
    assert (PackedConv2d in kinds) == kernels.conv
    assert (ConvLinear in kinds) == (kernels.linear == "conv1x1")
    assert (PackedLinear in kinds) == (kernels.linear == "packed")


def test_long_rows_are_cut_and_summed():
    draw = torch.Generator().manual_seed(1)
    linear = nn.Linear(5000, 96)
    x = torch.randn(2, 7, 5000, generator=draw)
    with torch.inference_mode():
        packed = ConvLinear([linear.weight], linear.bias, gelu=True)(x)
        assert difference(packed, nn.functional.gelu(linear(x))) <= TOLERANCE


def test_a_gpu_gets_no_kernels_of_the_cpu():
    assert kernels_for(torch.device("cuda"), torch.float32) == Kernels()


@pytest.mark.parametrize("name", ["vit, project", "depth anything", "zoedepth"])
def test_bfloat16_keeps_thousands_of_levels_in_a_depth_map(name):
    model = build(name)
    model, pixels = model.to(torch.bfloat16), pixels_for(name, batch=1)
    banded = predict(model, pixels.bfloat16()).unique().numel()
    keep_tail_float32(model)
    depth = predict(model, pixels.bfloat16())
    assert depth.dtype is torch.float32
    levels = depth.unique().numel()
    assert levels > max(2000, 4 * banded), (levels, banded, depth.numel())


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_with_all_steps_stays_near_float32(name):
    plain, pixels = build(name), pixels_for(name)
    expected = predict(plain, pixels)
    narrow = plain.to(torch.bfloat16)
    keep_tail_float32(narrow)
    unoptimized = difference(predict(narrow, pixels.bfloat16()), expected)
    native = kernels_for(CPU, torch.bfloat16)
    optimized = optimize(narrow, kernels=replace(native, explicit_attention=True))
    found = difference(predict(optimized, pixels.bfloat16()), expected)
    # As near as the plain bfloat16 model, whose error depends on the random weights.
    assert found <= max(2 * unoptimized, 0.02), (found, unoptimized)
