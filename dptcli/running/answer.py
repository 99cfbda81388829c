"""What the network says about an image: its maps, and the camera that it thinks took it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dptcli.depth.lens import Lens
from dptcli.processing.processor import Prepared

NORMALS = ("normal_x", "normal_y", "normal_z")
MAPS_BESIDE = ("sky", "confidence", *NORMALS)
"""The maps (B, H, W) that a depth model's output may hold beside predicted_depth."""

ORIGIN = "the network"


@dataclass(frozen=True, eq=False)
class SeenCamera:
    """A camera as a network estimates it, in shares of its input: of the width, of the height.

    fy: None where pixels of the photograph are square. extrinsics: world to camera, (3, 4), x
    right, y down, z forward, where the network knows the pose (float32) or it was given (float64).
    """

    fx: float
    fy: float | None = None
    cx: float = 0.5
    cy: float = 0.5
    extrinsics: NDArray[np.floating] | None = None

    def mean_focal_px(self, hw: tuple[int, int]) -> float:
        """The mean of both focal lengths, in pixels of the network's input of `hw`."""
        across = self.fx * hw[1]
        return (across + (across if self.fy is None else self.fy * hw[0])) / 2

    def lens(self, prepared: Prepared) -> Lens:
        """Return it in pixels of the photograph that was prepared for the network."""
        top, _, left, _ = prepared.padding
        height, width = prepared.padded_hw
        down, across = 1.0, 1.0
        if not prepared.pads_source:
            down = prepared.source_hw[0] / prepared.resized_hw[0]
            across = prepared.source_hw[1] / prepared.resized_hw[1]
        fx = self.fx * width * across
        return Lens(
            fx=fx,
            fy=fx if self.fy is None else self.fy * height * down,
            cx=(self.cx * width - left) * across,
            cy=(self.cy * height - top) * down,
            hw=prepared.source_hw,
            origin=ORIGIN,
        )


@dataclass(frozen=True, eq=False)
class Answer:
    """maps: depth (h, w); the logits of classes (C, h, w); or several (K, h, w), depth first.

    Of a panorama: the depth of each of its views (N, h, w). Float32, on the CPU. beside: what the
    last of several are, of MAPS_BESIDE. camera: where the network estimates it. sky_depth: the
    value for the sky, where that is found with the network's own scale.
    """

    maps: Tensor
    beside: tuple[str, ...] = ()
    camera: SeenCamera | None = None
    sky_depth: float | None = None

    @property
    def depth(self) -> Tensor:
        """Depth (h, w)."""
        return self.maps if self.maps.ndim == 2 else self.maps[0]

    @property
    def inner(self) -> Tensor:
        """The maps (K, h, w) between depth and those that are named: logits, where there are."""
        assert self.maps.ndim == 3
        return self.maps[1 : len(self.maps) - len(self.beside)]

    def named(self, name: str) -> Tensor | None:
        """A map (h, w) beside depth; None where there is none."""
        if name not in self.beside:
            return None
        return self.maps[self.beside.index(name) - len(self.beside)]

    @property
    def normals(self) -> Tensor | None:
        """Surface normals (3, h, w) of length 1, in the network's axes; None without."""
        planes = [self.named(name) for name in NORMALS]
        known = [plane for plane in planes if plane is not None]
        return F.normalize(torch.stack(known), dim=0) if len(known) == len(NORMALS) else None

    def times(self, factor: float) -> "Answer":
        """Its depth, and the sky's, in another unit."""
        maps = self.maps.clone()
        (maps if maps.ndim == 2 else maps[0]).mul_(factor)
        far = None if self.sky_depth is None else self.sky_depth * factor
        return replace(self, maps=maps, sky_depth=far)

    def with_map(self, name: str, values: Tensor) -> "Answer":
        """Add a map (h, w), or take it instead of the one of that name."""
        if name in self.beside:
            maps = self.maps.clone()
            maps[self.beside.index(name) - len(self.beside)] = values
            return replace(self, maps=maps)
        flat = self.maps[None] if self.maps.ndim == 2 else self.maps
        return replace(self, maps=torch.cat((flat, values[None])), beside=(*self.beside, name))


def answers_of(output: object, maps: Tensor, *, network_hw: tuple[int, int]) -> list[Answer]:
    """What a model's output says of each image. maps: predicted_depth or logits of it, (B, …).

    The output may hold maps of MAPS_BESIDE, and of the camera `field_of_view` (B,), degrees across
    the whole input, or `intrinsics` (B, 3, 3) in pixels of the input, (0, 0) the corner of the
    first one; and `extrinsics` (B, 3, 4). `sky_depth` (B,): what the sky's depth is to be.
    """
    found = {name: getattr(output, name, None) for name in MAPS_BESIDE}
    beside = {name: values for name, values in found.items() if values is not None}
    if beside:
        flat = maps[:, None] if maps.ndim == 3 else maps
        maps = torch.cat((flat, *(values[:, None] for values in beside.values())), dim=1)
    maps = maps.float().cpu()
    cameras = _cameras(output, len(maps), network_hw)
    names = tuple(beside)
    sky_depth: Tensor | None = getattr(output, "sky_depth", None)
    in_sky = [None] * len(maps) if sky_depth is None else sky_depth.float().cpu().tolist()
    found_of_each = zip(maps, cameras, in_sky, strict=True)
    return [Answer(one, names, camera, far) for one, camera, far in found_of_each]


def _cameras(
    output: object, count: int, network_hw: tuple[int, int]
) -> Sequence[SeenCamera | None]:
    fov_deg: Tensor | None = getattr(output, "field_of_view", None)
    intrinsics: Tensor | None = getattr(output, "intrinsics", None)
    if fov_deg is not None:
        halves = torch.deg2rad(fov_deg.double().flatten()) / 2
        return [SeenCamera(fx=0.5 / value) for value in halves.tan().tolist()]
    if intrinsics is None:
        return [None] * count
    poses: Tensor | None = getattr(output, "extrinsics", None)
    height, width = network_hw
    found = []
    for place, matrix in enumerate(intrinsics.double().cpu().tolist()):
        camera = SeenCamera(
            fx=matrix[0][0] / width,
            fy=matrix[1][1] / height,
            cx=matrix[0][2] / width,
            cy=matrix[1][2] / height,
            extrinsics=None if poses is None else poses[place].float().cpu().numpy(),
        )
        found.append(camera)
    return found
