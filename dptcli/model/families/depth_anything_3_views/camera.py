"""The camera decoder: from a view's camera token to its pose and field of view, and to matrices.

B views, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dptcli.model.heads import Head

_LEAST_TANGENT = 1e-6  # of half a field of view, where the network says 0


class CameraHead(Head):
    """Two layers, and one each for the camera's place, its turn and its fields of view."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.translation = nn.Linear(width, 3)
        self.quaternion = nn.Linear(width, 4)
        self.field_of_view = nn.Linear(width, 2)

    def forward(self, tokens: Tensor, image_hw: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Camera tokens (B, D) and the input's (height, width) -> intrinsics and extrinsics.

        Intrinsics (B, 3, 3) in the input's pixels, (0, 0) the corner of the first one, the axis
        through the middle. Extrinsics (B, 3, 4): world to camera, x right, y down, z forward; the
        world is nearly the reference view's camera, its unit that of depth.
        """
        x = self.layers(tokens)
        fov_down, fov_across = self.field_of_view(x).relu().unbind(-1)  # radians
        turn, place = matrix_of(self.quaternion(x)), self.translation(x)
        inverse = turn.transpose(1, 2)  # of a turn, its inverse
        extrinsics = torch.cat((inverse, -inverse @ place[..., None]), dim=-1)
        return intrinsics_of(fov_across, fov_down, image_hw), extrinsics


def intrinsics_of(fov_across: Tensor, fov_down: Tensor, image_hw: Sequence[int]) -> Tensor:
    """Fields of view (B,), radians, across and down an image of (height, width) -> (B, 3, 3)."""
    height, width = image_hw
    found = fov_across.new_zeros(len(fov_across), 3, 3)
    for axis, fov, side in ((0, fov_across, width), (1, fov_down, height)):
        found[:, axis, axis] = side / 2 / (fov / 2).tan().clamp(min=_LEAST_TANGENT)
        found[:, axis, 2] = side / 2
    found[:, 2, 2] = 1
    return found


def matrix_of(quaternion: Tensor) -> Tensor:
    """Quaternions (B, 4) of any length, the real part last -> rotations (B, 3, 3)."""
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
