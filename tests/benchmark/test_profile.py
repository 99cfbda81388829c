"""Where the network's time goes: each operator counts towards the work that it is part of."""

import pytest
import torch
from tiny import save_tiny
from torch import nn

from dptcli.benchmark.profile import kind_of_operator, profiled
from dptcli.fast.kernels import Kernels
from dptcli.fast.optimize import optimize
from dptcli.fast.winograd import WinogradConv2d
from dptcli.weights.load import load_model


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::_softmax", "softmax"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention in one pass"),
        ("aten::bmm", "products of attention"),
        ("aten::baddbmm", "products of attention"),
        ("aten::mm", "products of attention"),
        ("aten::addmm", "linear layers"),
        ("mkldnn::_linear_pointwise", "linear layers"),
        ("mkldnn::_convolution_pointwise", "convolutions"),
        ("aten::native_layer_norm", "normalisation"),
        ("aten::upsample_bilinear2d", "upsampling"),
        ("aten::copy_", "copies"),
        ("aten::gelu_", "sums and activations"),
        ("aten::view", "other"),
    ],
)
def test_an_operator_counts_by_its_name(name, kind):
    assert kind_of_operator(name) == kind


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "depth", task="depth")


@pytest.mark.parametrize("form", ["plain", "optimised"])
def test_the_kinds_of_a_network_are_those_of_its_modules(folder, form):
    model = load_model(folder, dtype="float32", device="cpu", optimized=form != "plain").model
    pixels = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        model(pixels)
        found = profiled(model, lambda: model(pixels), on_gpu=False)
    assert {"convolutions", "linear layers", "upsampling", "normalisation"} <= found.keys()
    assert all(spent > 0 for spent in found.values())
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_products_inside_a_convolution_are_the_convolutions():
    conv = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1)).eval()
    optimize(conv, steps=["winograd"], kernels=Kernels(conv=True, winograd=True))
    assert isinstance(conv[0], WinogradConv2d)
    pixels = torch.zeros(1, 128, 48, 48)
    with torch.inference_mode():
        found = profiled(conv, lambda: conv(pixels), on_gpu=False)
    assert found.keys() == {"convolutions"}
