"""An optimised model computes what the plain one does, step by step and all together."""

import copy
import functools
import sys

import pytest
import torch
from optimizable import (
    CPU,
    FORMS,
    MODELS,
    above_zero,
    assert_same,
    build,
    dinov2,
    dpt,
    pixels_for,
    predict,
)
from parity import TOLERANCE, difference, randomize
from torch import nn

from dptcli import DPTForDepthEstimation
from dptcli.fast.kernels import (
    FEW_HEADS_TOKENS,
    ConvLinear,
    Kernels,
    MklLinear,
    PackedConv2d,
    PackedLinear,
    attend_few_heads,
    kernels_for,
)
from dptcli.fast.optimize import STEPS, optimize
from dptcli.fast.precision import keep_tail_float32
from dptcli.model.layers import attend


@pytest.mark.processor
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


@pytest.mark.processor
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["vit, project", "dinov2", "dinov3", "dinov3, gated", "beit", "vit, segmentation"]
)
def test_every_kernel_computes_the_same(name, form):
    assert_same(name, kernels=FORMS[form])


@pytest.mark.processor
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backbone", [None, dinov2(hidden_size=48)], ids=["vit", "dinov2"])
def test_a_narrow_block_whose_mlp_alone_is_packed_computes_the_same(backbone, form):
    config = dpt(hidden_size=48, backbone_config=backbone)
    model = above_zero(randomize(DPTForDepthEstimation(config), seed=1))
    pixels = pixels_for("vit" if backbone is None else "dinov2")
    expected = predict(model, pixels)
    assert difference(predict(optimize(model, kernels=FORMS[form]), pixels), expected) <= TOLERANCE


@functools.cache
def with_a_nan(name):
    """A plain model that gives no numbers in places, pixels, and where; nobody changes it."""
    plain, pixels = build(name), pixels_for(name)
    plain.neck.fusion_stage.layers[-1].projection.bias.data[0] = torch.nan
    broken = predict(plain, pixels).isnan()
    assert broken.any()
    return plain, pixels, broken


# What .ci/run repeats as each lesser processor: the forms that it chooses there.
CHOSEN = pytest.param("chosen", marks=pytest.mark.processor)


@pytest.mark.parametrize("form", [CHOSEN, *(form for form in FORMS if form != "chosen")])
@pytest.mark.parametrize("name", MODELS)
def test_no_step_hides_a_value_that_is_no_number(name, form):
    plain, pixels, broken = with_a_nan(name)
    optimized = optimize(copy.deepcopy(plain), kernels=FORMS[form])
    assert torch.equal(predict(optimized, pixels).isnan(), broken)


@pytest.mark.processor
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


@pytest.mark.processor
def test_what_the_processor_packs_fast_is_packed():
    model = build("vit, segmentation")
    kernels = kernels_for(CPU, torch.float32)
    kinds = {type(module) for module in optimize(model).modules()}
    assert (PackedConv2d in kinds) == kernels.conv
    assert (ConvLinear in kinds) == (kernels.linear == "conv1x1")
    assert (PackedLinear in kinds) == (kernels.linear == "packed")
    assert (MklLinear in kinds) == (kernels.linear == "mkl")


@pytest.mark.processor
def test_long_rows_are_cut_and_summed():
    draw = torch.Generator().manual_seed(1)
    linear = nn.Linear(5000, 96)
    x = torch.randn(2, 7, 5000, generator=draw)
    with torch.inference_mode():
        packed = ConvLinear([linear.weight], linear.bias, gelu=True)(x)
        assert difference(packed, nn.functional.gelu(linear(x))) <= TOLERANCE


@pytest.mark.processor
@pytest.mark.parametrize("num_inputs", [384, 1024])
def test_a_row_of_a_product_does_not_depend_on_those_beside_it(num_inputs):
    linear = nn.Linear(num_inputs, 256)
    kernels = kernels_for(CPU, torch.float32)
    x = torch.randn(3 * 197, num_inputs, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        product = optimize(nn.Sequential(linear), kernels=kernels)
        assert torch.equal(product(x)[:197], product(x[:197]))


def test_a_gpu_gets_no_kernels_of_the_cpu():
    assert kernels_for(torch.device("cuda"), torch.float32) == Kernels()


@pytest.mark.processor
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


@pytest.mark.processor
@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_with_all_steps_stays_near_float32(name):
    plain, pixels = build(name), pixels_for(name)
    expected = predict(plain, pixels)
    narrow = plain.to(torch.bfloat16)
    keep_tail_float32(narrow)
    unoptimized = difference(predict(narrow, pixels.bfloat16()), expected)
    optimized = optimize(narrow)
    found = difference(predict(optimized, pixels.bfloat16()), expected)
    # As near as the plain bfloat16 model, whose error depends on the random weights.
    assert found <= max(2 * unoptimized, 0.02), (found, unoptimized)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("biases", ["none", "one", "each"])
@pytest.mark.parametrize("shape", [(1, 3, 17, 8), (3, 5, 40, 16), (2, 1, 1, 4)])
def test_attention_a_few_heads_at_a_time_is_attention(shape, biases, threads):
    """Heads that the threads do not divide, too; with views of one product, as they come."""
    batch, heads, tokens, width = shape
    draw = torch.Generator().manual_seed(5)
    both = torch.randn(batch, tokens, 3, heads, width, generator=draw)
    query, key, value = both.permute(2, 0, 3, 1, 4).unbind(0)
    bias = torch.randn(1 if biases == "one" else batch, heads, tokens, tokens, generator=draw)
    kept = bias.clone()
    how = {"scale": 0.3, "bias": None if biases == "none" else bias}
    expected, _ = attend(query, key, value, **how)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = attend_few_heads(query, key, value, **how)
    finally:
        torch.set_num_threads(before)
    assert difference(found, expected) <= TOLERANCE
    assert torch.equal(bias, kept)


MODULE = sys.modules[optimize.__module__]


@pytest.mark.processor
@pytest.mark.parametrize("name", MODELS)
def test_every_attention_may_take_a_few_heads_at_a_time(name, monkeypatch):
    asked = []

    def attending(*heads, **how):
        asked.append(heads[0].shape[2])
        return attend_few_heads(*heads, **how)

    monkeypatch.setattr(MODULE, "attend_few_heads", attending)
    monkeypatch.setattr(MODULE, "FEW_HEADS_TOKENS", range(1, 10_000))
    assert_same(name, kernels=FORMS["packed"])
    assert asked
    asked.clear()
    monkeypatch.setattr(MODULE, "FEW_HEADS_TOKENS", FEW_HEADS_TOKENS)
    assert_same(name, kernels=FORMS["packed"])
    assert not asked  # so few tokens as here are the fused form's


def test_the_tokens_of_published_models_are_within_those_of_a_few_heads():
    """384 and 518 in patches of 16 and 14; not the windows of Swin V2."""
    assert {577, 639, 1370} <= {*FEW_HEADS_TOKENS}
    assert 16 * 16 not in FEW_HEADS_TOKENS
