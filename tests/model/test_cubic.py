"""Bicubic resizing as products is PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from dptcli.model.cubic import resize_cubic


@pytest.mark.parametrize("hw", [(3, 7), (5, 5), (12, 4), (1, 9)], ids=str)
def test_cubic_products_are_pytorchs_resizing(hw: tuple[int, int]) -> None:
    grid = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    scale = ((hw[0] + 0.1) / 5, (hw[1] + 0.1) / 6)
    theirs = F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)
    torch.testing.assert_close(resize_cubic(grid, hw, scale=scale), theirs, atol=1e-5, rtol=1e-5)
