"""The sky's place in a depth map: sharp where it begins, whatever size the map gets."""

import pytest
import torch

from dptcli.processing.postprocess import Mode, resize_depth
from dptcli.processing.sky import put_in, without_jump

SKY_M = 200.0
HW, LARGE_HW = (20, 30), (70, 123)


def street() -> tuple[torch.Tensor, torch.Tensor]:
    """Depth of a street in metres (H, W) under a stepped and a slanted roof, and its sky."""
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    sky = (rows < 5 + columns % 7) & (rows + columns < 30)
    return 12 - 0.4 * rows + 0.05 * columns, sky


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_what_stands_before_the_sky_keeps_its_depth_at_another_size(mode: Mode) -> None:
    depth, sky = street()
    placed = depth.masked_fill(sky, SKY_M)
    resized = put_in(resize_depth(without_jump(placed, sky), LARGE_HW, mode=mode), placed, sky)
    in_sky = resized == SKY_M
    assert 0.3 < in_sky.float().mean() < 0.7
    # As if no sky had been there: a jump to 200 m would bend some of it to below 0 or to 100 m.
    whole = resize_depth(depth, LARGE_HW, mode=mode)
    assert (resized - whole)[~in_sky].abs().max() < 0.6
    away = ~torch.nn.functional.max_pool2d(in_sky[None].float(), 25, 1, 12)[0].bool()
    assert away.any()
    assert torch.equal(resized[away], whole[away]), "what is not beside the sky is untouched"
    bare = resize_depth(placed, LARGE_HW, mode=mode)[~in_sky]
    assert bare.max() > 90, "which is what it guards against"
    assert mode != "bicubic" or bare.min() < 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_map_of_nothing_but_sky_or_without_any_stays(value: float) -> None:
    depth, _ = street()
    sky = torch.full(HW, value).bool()
    assert torch.equal(without_jump(depth, sky), depth)
    assert torch.equal(put_in(depth, depth, sky), depth)
