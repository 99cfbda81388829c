"""Winograd's products give the convolution, whatever the size; only where they pay."""

import pytest
import torch
import torch.nn.functional as F
from parity import TOLERANCE, difference, randomize
from torch import nn

from dptcli import DPTConfig, DPTForDepthEstimation
from dptcli.fast import winograd as module
from dptcli.fast.kernels import Kernels, kernels_for
from dptcli.fast.optimize import optimize
from dptcli.fast.winograd import MIN_TILES, WinogradConv2d, is_worth_it
from dptcli.weights.load import load_model

FORMS = Kernels(linear="conv1x1", conv=True, winograd=True)
CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(
    not kernels_for(CPU, torch.float32).conv, reason="this processor packs no convolutions"
)


def random_conv(*, num_in, num_out, bias, seed):
    conv = nn.Conv2d(num_in, num_out, kernel_size=3, padding=1, bias=bias)
    return randomize(conv, seed=seed)


@pytest.mark.processor
@pytest.mark.parametrize("seed", range(24))
def test_it_is_the_convolution_for_every_size(seed, monkeypatch):
    draw = torch.Generator().manual_seed(seed)

    def pick(low, high):
        return int(torch.randint(low, high + 1, (), generator=draw))

    monkeypatch.setattr(module, "MIN_TILES", 1)
    monkeypatch.setattr(module, "BAND_BYTES", pick(1, 40) * 10_000)  # one band and many
    num_in, num_out, batch = pick(1, 5) * 8, pick(1, 5) * 8, pick(1, 3)
    bias, relu, with_sum = (bool(pick(0, 1)) for _ in range(3))
    conv = random_conv(num_in=num_in, num_out=num_out, bias=bias, seed=seed)
    x = torch.randn(batch, num_in, pick(1, 45), pick(1, 45), generator=draw)
    added = torch.randn(batch, num_out, *x.shape[-2:], generator=draw) if with_sum else None
    with torch.inference_mode():
        expected = conv.double()(x.double())
        expected = expected if added is None else expected + added
        expected = F.relu(expected) if relu else expected
        tiled = WinogradConv2d(conv.float(), relu=relu)
        found = tiled(x, added=added)
        assert difference(found.double(), expected) <= 1e-5
        # An image's result is the same to the bit, whoever is beside it and whatever came before.
        other = torch.randn(1, num_in, 9, 70, generator=draw)
        tiled(other)
        alone = tiled(x[-1:], added=None if added is None else added[-1:])
    assert torch.equal(alone[0], found[-1])


@pytest.mark.parametrize(
    ("conv", "worth"),
    [
        (nn.Conv2d(256, 256, kernel_size=3, padding=1), True),
        (nn.Conv2d(256, 128, kernel_size=3, padding=1), True),
        (nn.Conv2d(64, 64, kernel_size=3, padding=1), False),
        (nn.Conv2d(256, 32, kernel_size=3, padding=1), False),
        (nn.Conv2d(256, 256, kernel_size=3, padding=1, stride=2), False),
        (nn.Conv2d(256, 256, kernel_size=3, padding=2, dilation=2), False),
        (nn.Conv2d(256, 256, kernel_size=3, padding=1, groups=2), False),
        (nn.Conv2d(256, 256, kernel_size=3), False),
        (nn.Conv2d(256, 256, kernel_size=1), False),
        (nn.Conv2d(256, 256, kernel_size=3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(256, 256, kernel_size=3, padding=1, dtype=torch.bfloat16), False),
    ],
    ids=str,
)
def test_the_count_says_where_it_pays(conv, worth):
    assert is_worth_it(conv) == worth


def test_few_tiles_take_the_plain_form():
    tiled = WinogradConv2d(random_conv(num_in=128, num_out=128, bias=True, seed=0))
    with torch.inference_mode():
        tiled(torch.randn(1, 128, 16, 4 * (MIN_TILES // 4 - 1)))
        assert not tiled._packed
        tiled(torch.randn(1, 128, 16, 4 * (MIN_TILES // 4)))
    assert tiled._packed


def small_dpt(**changes):
    values = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "image_size": 64,
        "patch_size": 8,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [96, 96, 128, 128],
        "fusion_hidden_size": 128,
    }
    return DPTConfig(**{**values, **changes})


@pytest.mark.processor
@pytest.mark.parametrize("steps", [None, ["winograd"], ["winograd", "pack"]])
@pytest.mark.parametrize("normed", [False, True])
def test_a_model_of_wide_maps_stays_the_same(normed, steps):
    config = small_dpt(use_batch_norm_in_fusion_residual=normed, add_projection=True)
    model = randomize(DPTForDepthEstimation(config), seed=1)
    model.head.head[4].weight.data.abs_()
    pixels = torch.randn(2, 3, 72, 120, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = model(pixels).predicted_depth
        found = optimize(model, kernels=FORMS, steps=steps)(pixels).predicted_depth
    used = [part for part in model.modules() if isinstance(part, WinogradConv2d) and part._packed]
    assert len(used) >= 6
    assert difference(found, expected) <= TOLERANCE


def test_the_built_in_model_stays_the_same_with_every_map_in_tiles(monkeypatch):
    monkeypatch.setattr(module, "MIN_TILES", 1)
    monkeypatch.setattr(module, "MIN_SAVED", 0.0)
    model = load_model("dpt-small", device="cpu", dtype="float32").model
    pixels = torch.randn(1, 3, 154, 210, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        expected = model(pixels).predicted_depth
        found = optimize(model, kernels=FORMS)(pixels).predicted_depth
    spread = expected.max() - expected.min()
    assert (found - expected).abs().max() <= TOLERANCE * spread


@torch.inference_mode()
def test_a_model_of_full_width_stays_the_same():
    config = DPTConfig(num_hidden_layers=4, backbone_out_indices=[0, 1, 2, 3])  # DPT-base's neck
    model = randomize(DPTForDepthEstimation(config), seed=0, std=0.05)
    pixels = torch.randn(1, 3, 192, 256, generator=torch.Generator().manual_seed(0))
    expected = model(pixels).predicted_depth
    found = optimize(model, kernels=FORMS)(pixels).predicted_depth
    spread = expected.max() - expected.min()
    assert (found - expected).abs().max() <= TOLERANCE * spread
