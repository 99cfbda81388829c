"""The same photograph gives the same numbers, however a run is carried out."""

import pytest
import torch

from dptcli.fast.capabilities import packs_bfloat16
from dptcli.fast.kernels import Kernels, kernels_for
from dptcli.weights.load import load_model

pytestmark = pytest.mark.processor  # see pyproject.toml

SIZES = {"square": (308, 308), "landscape": (308, 406)}


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def models(request):
    """The built-in model twice: one that has seen nothing, one for whatever it is to see."""
    if request.param == "bfloat16" and not packs_bfloat16():
        pytest.skip("without instructions for it bfloat16 takes minutes")
    return [
        load_model("dpt-small", task="depth", device="cpu", dtype=request.param, optimized=True)
        for _ in range(2)
    ]


@pytest.fixture(scope="module")
def pictures():
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(1, 3, *hw, generator=draw) for name, hw in SIZES.items()}


@torch.inference_mode()
def depth(loaded, pixels):
    return loaded.model(pixels).predicted_depth


def test_neither_what_came_before_nor_where_pixels_lie_in_memory_counts(models, pictures):
    fresh, warmed = models
    pixels = pictures["square"]
    depth(warmed, pictures["landscape"])
    moved = torch.empty(pixels.numel() + 1)[1:].reshape(pixels.shape).copy_(pixels)
    assert torch.equal(depth(warmed, moved), depth(fresh, pixels))


@pytest.mark.parametrize("models", ["float32"], indirect=True)
@pytest.mark.parametrize("name", SIZES)
def test_the_number_of_threads_counts_by_rounding_alone_in_float32(models, pictures, name):
    """By it oneDNN chooses the blocks of a convolution: 48 channels for one or two, 32 for three.

    In bfloat16 it counts for more: some processors' products split a sum between threads.
    """
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            found.append(depth(models[0], pictures[name]))
    finally:
        torch.set_num_threads(before)
    spread = found[0].max() - found[0].min()
    for other in found[1:]:
        assert (other - found[0]).abs().max() <= 2e-6 * spread
    if kernels_for(torch.device("cpu"), torch.float32) != Kernels():  # not chosen by PyTorch
        assert torch.equal(found[0], found[1])
