"""What pays on a GPU with tensor cores computes the same; its layers run on a CPU too."""

import copy

import pytest
import torch
import torch.nn.functional as F
from optimizable import MODELS, build, pixels_for, predict
from parity import difference
from torch import nn

from dptcli.fast.kernels import JoinedLinear, Kernels
from dptcli.fast.optimize import optimize
from dptcli.fast.precision import WideningConv2d, keep_tail_float32
from dptcli.fast.tensorcores import MAX_SIDE, ConvRelu, GrowByProducts, LinearGelu
from dptcli.model.layers import GrowBilinear

KERNELS = Kernels(tensor_cores=True)
HALVES = [torch.bfloat16, torch.float16]


def smooth(*shape, seed=0):
    """Maps that vary slowly, as features do; values around 1."""
    coarse = torch.randn(*shape[:2], 3, 3, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=shape[2:], mode="bicubic", align_corners=True) + 1


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    ("hw", "size"),
    [
        ((6, 9), None),
        ((12, 12), (24, 24)),
        ((37, 29), (518, 406)),
        ((5, 8), (5, 8)),
        ((8, 6), (3, 2)),
        ((1, 7), (4, 14)),
        ((3, 3), (1, 1)),
    ],
)
def test_growing_by_products_is_bilinear(hw, size, dtype):
    x = smooth(2, 5, *hw).to(dtype)
    found = GrowByProducts()(x, size)
    expected = GrowBilinear()(x.float(), size)
    assert found.dtype is dtype
    assert found.shape == expected.shape
    # A sample may lie 1/512 of a pixel off, and two roundings to half precision follow.
    step = max(float(x.float().diff(dim=dim).abs().max()) for dim in (2, 3) if x.shape[dim] > 1)
    rounding = 2 * torch.finfo(dtype).eps * float(expected.abs().max())
    assert float((found.float() - expected).abs().max()) <= 2 * step / 512 + rounding


@pytest.mark.parametrize("dtype", HALVES)
def test_a_constant_map_stays_constant(dtype):
    x = torch.full((1, 3, 17, 13), 0.7).to(dtype)
    assert torch.equal(GrowByProducts()(x, (100, 57)), x[:, :, :1, :1].expand(1, 3, 100, 57))


def test_float32_and_large_maps_are_interpolated():
    for x in (smooth(1, 2, 8, 8), smooth(1, 2, 1, MAX_SIDE + 1).bfloat16()):
        assert torch.equal(GrowByProducts()(x), GrowBilinear()(x))


@pytest.mark.parametrize("name", MODELS)
def test_in_float32_only_the_gelus_form_may_differ(name):
    plain, pixels = build(name), pixels_for(name)
    expected = predict(plain, pixels)
    found = predict(optimize(copy.deepcopy(plain), kernels=KERNELS), pixels)
    assert difference(found, expected) <= 4e-3


@pytest.mark.processor
@pytest.mark.parametrize("name", MODELS)
def test_in_bfloat16_it_is_as_near_to_float32_as_the_plain_form(name):
    plain, pixels = build(name), pixels_for(name)
    expected = predict(plain, pixels)
    narrow = plain.to(torch.bfloat16)
    keep_tail_float32(narrow)
    unoptimized = difference(predict(narrow, pixels.bfloat16()), expected)
    depth = predict(optimize(narrow, kernels=KERNELS), pixels.bfloat16())
    assert depth.dtype is torch.float32
    assert difference(depth, expected) <= max(2 * unoptimized, 0.02)


@pytest.mark.processor
@pytest.mark.parametrize("name", ["vit, project", "depth anything", "zoedepth"])
def test_growing_in_half_precision_keeps_thousands_of_levels(name):
    model, pixels = build(name).to(torch.bfloat16), pixels_for(name, batch=1)
    keep_tail_float32(model)
    assert any(isinstance(module, WideningConv2d) for module in model.modules())
    optimize(model, kernels=KERNELS)
    assert not any(isinstance(module, WideningConv2d) for module in model.modules())
    assert predict(model, pixels.bfloat16()).unique().numel() > 2000


def test_every_kind_of_layer_is_put_in():
    kinds = [type(module) for module in optimize(build("vit, project"), kernels=KERNELS).modules()]
    assert kinds.count(LinearGelu) == 4
    assert GrowByProducts in kinds
    assert ConvRelu in kinds
    assert JoinedLinear not in kinds
    assert GrowBilinear not in kinds


def test_a_convolution_that_cudnn_cannot_fuse_runs_in_two_steps(monkeypatch):
    class OnGPU(torch.Tensor):
        is_cuda = True

    tried = []

    def refuse(*_arguments):
        tried.append(True)
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", refuse)
    conv = nn.Conv2d(8, 16, 3, padding=1)
    layer, x = ConvRelu(conv, relu=True), torch.randn(1, 8, 6, 6)
    for _ in range(2):
        found = layer(x.as_subclass(OnGPU)).as_subclass(torch.Tensor)
        torch.testing.assert_close(found, F.relu(conv(x)))
    assert tried == [True]


def test_memory_that_ends_in_a_fused_convolution_is_told_on(monkeypatch):
    class OnGPU(torch.Tensor):
        is_cuda = True

    def end(*_arguments):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "cudnn_convolution_relu", end)
    layer = ConvRelu(nn.Conv2d(8, 16, 3, padding=1), relu=True)
    with pytest.raises(torch.OutOfMemoryError):
        layer(torch.randn(1, 8, 6, 6).as_subclass(OnGPU))
    assert layer.is_fused
