"""DINOv2's positions at another size than it learned, in both ways that are in use."""

import torch
from parity import assert_close

from dptcli import Dinov2Backbone, Dinov2Config

VALUES = {"hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1}
# What transformers 4.37.2 makes of sin(0), sin(1), … as positions of 3×3 patches, for 4×5: the
# class token's first, (1 + 4·5, 2) in a row.
OF_4_37 = """
0.0 0.84147 1.06647 0.2255 0.25095 -0.3864 -0.74547 -0.96528 -0.61928 -0.12056 -0.21887 0.8057
1.11498 0.40411 0.34735 -0.2905 -0.62318 -0.99111 -0.64946 -0.22554 -0.39359 0.66459 1.13882 0.66307
0.48116 -0.12796 -0.40424 -0.9854 -0.66633 -0.37832 -0.64701 0.41447 1.11415 0.81761 0.55601
-0.01133 -0.23878 -0.94592 -0.65391 -0.46996 -0.79831 0.22715
"""


@torch.inference_mode()
def positions_of(**changes: float) -> torch.Tensor:
    """The positions that a backbone adds for 4×5 patches, (21, 2)."""
    config = Dinov2Config(**VALUES, image_size=12, patch_size=4, **changes)
    embeddings = Dinov2Backbone(config).eval().embeddings
    for parameter in embeddings.parameters():
        parameter.zero_()
    learned = torch.sin(torch.arange(20.0))
    embeddings.position_embeddings.copy_(learned.view_as(embeddings.position_embeddings))
    tokens, _ = embeddings(torch.zeros(1, 3, 16, 20))
    return tokens[0]


def test_position_offset_gives_the_numbers_of_4_37() -> None:
    expected = torch.tensor([float(number) for number in OF_4_37.split()]).view(21, 2)
    assert_close(positions_of(position_offset=0.1), expected)


def test_without_it_positions_are_those_of_5() -> None:
    learned = torch.sin(torch.arange(20.0)).view(10, 2)
    grid = learned[1:].T.reshape(1, 2, 3, 3)
    resized = torch.nn.functional.interpolate(grid, size=(4, 5), mode="bicubic")
    expected = torch.cat((learned[:1], resized.flatten(2)[0].T))
    assert_close(positions_of(), expected)
    assert (positions_of(position_offset=0.1) - expected).abs().max() > 1e-3
