"""The camera encoder: from cameras that are known to the tokens that stand for them.

B scenes, S views of each, D width.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dptcli.errors import ShapeError
from dptcli.model.backbones.plain_config import Dinov2Config
from dptcli.model.backbones.vit import Dinov2Layer
from dptcli.model.heads import Head

if TYPE_CHECKING:
    from dptcli.model.families.depth_anything_3_views.config import DepthAnything3ViewsConfig

_NUMBERS = 9  # of a camera: its place, its turn, its two fields of view
_LEAST_DISTANCE = 0.1  # cameras that stand nearer to each other are not moved apart more


class CameraEncoder(Head):
    """A camera's numbers to a token, and blocks in which the cameras of a scene see each other."""

    def __init__(self, config: "DepthAnything3ViewsConfig") -> None:
        super().__init__()
        backbone: Any = config.backbone_config
        width = backbone.hidden_size
        blocks = Dinov2Config(
            hidden_size=width,
            num_attention_heads=config.camera_encoder_heads,
            layer_norm_eps=1e-5,
            layerscale_value=0.01,
        )
        self.pose = nn.Sequential(
            nn.Linear(_NUMBERS, width // 2), nn.GELU(), nn.Linear(width // 2, width)
        )
        self.token_norm = nn.LayerNorm(width)
        self.layer = nn.ModuleList(Dinov2Layer(blocks) for _ in range(config.camera_encoder_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, cameras: Tensor) -> Tensor:
        """Cameras as `numbers_of` gives them (B, S, 9) -> their tokens (B, S, D)."""
        x = self.token_norm(self.pose(cameras))
        for layer in self.layer:
            x, _ = layer(x)
        return self.norm(x)


def numbers_of(extrinsics: Tensor, intrinsics: Tensor, image_hw: Sequence[int]) -> Tensor:
    """Cameras of scenes as the encoder reads them, float32 (B, S, 9).

    extrinsics: world to camera, (B, S, 3, 4) or (B, S, 4, 4), any world, any unit. intrinsics:
    (B, S, 3, 3) in pixels of the input of (height, width). The first camera becomes the world, and
    the median distance from it the unit; where it is nearer than a tenth, that is a tenth.
    Raises ShapeError.
    """
    if extrinsics.shape[-2:] not in ((3, 4), (4, 4)) or intrinsics.shape[-2:] != (3, 3):
        raise ShapeError(
            f"extrinsics, intrinsics: {tuple(extrinsics.shape)} and {tuple(intrinsics.shape)} must "
            "end in (3, 4) and (3, 3), a matrix of each for a view"
        )
    # In double precision: a world's origin may be far away.
    poses, lenses = extrinsics.double(), intrinsics.double()
    turn, shift = poses[..., :3, :3], poses[..., :3, 3:]
    turn_from_first = turn @ turn[:, :1].mT
    shift = shift - turn_from_first @ shift[:, :1]
    back = turn_from_first.mT  # camera to world: of a turn, its inverse
    places = (-back @ shift).squeeze(-1)  # (B, S, 3)
    unit = places.norm(dim=-1).median(dim=1).values.clamp(min=_LEAST_DISTANCE)
    height, width = image_hw
    fields = [
        2 * (side / 2 / lenses[..., axis, axis]).atan() for axis, side in ((1, height), (0, width))
    ]
    parts = (places / unit[:, None, None], quaternion_of(back), torch.stack(fields, dim=-1))
    return torch.cat(parts, dim=-1).float()


def quaternion_of(turn: Tensor) -> Tensor:
    """Rotations (…, 3, 3) -> (…, 4) of length 1, the real part last and not negative."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in turn.unbind(-2))
    # Four times the products of the quaternion's parts, each with each: any row is a multiple of
    # it, and that of the largest part is the most exact.
    rows = (
        (1 + xx - yy - zz, xy + yx, xz + zx, zy - yz),
        (xy + yx, 1 - xx + yy - zz, yz + zy, xz - zx),
        (xz + zx, yz + zy, 1 - xx - yy + zz, yx - xy),
        (zy - yz, xz - zx, yx - xy, 1 + xx + yy + zz),
    )
    table = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    largest = table.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    found = table.take_along_dim(largest[..., None, None], dim=-2).squeeze(-2)
    found = found / found.norm(dim=-1, keepdim=True)
    return torch.where(found[..., 3:] < 0, -found, found)
