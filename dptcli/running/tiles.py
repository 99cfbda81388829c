"""A map from overlapping tiles, made to agree with a map of the whole seen coarsely.

The network judges each tile alone: its details are right, and its scale, its shift and its slow
drift are its own. A map of the whole, at the network's usual size, knows these and lacks the
details. So each tile is fitted to the whole by least squares (scale and shift), the slow rest is
taken from the whole, and tiles fade into each other where they overlap.

K maps (1 for depth, C for the logits of classes), (H, W) the canvas: all of the picture at the
resolution of the tiles; (h, w) the map of the whole; sizes are (height, width).
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dptcli.running.seen import Box, View, cut, hw_of, part_of

Run = Callable[[Sequence[View]], Sequence[Tensor]]
"""The network: tiles (3, th, tw) -> as many maps (th, tw) or (K, th, tw), float32."""

MOST_BYTES = 512 * 2**20
"""What the joined maps may take; beyond it they are kept at a half, a third, … of the canvas."""

_OVERLAP = 0.25  # of a tile's side, at the least
# The rest that is taken from the whole is so coarse, cells on a tile's side, that no edge is in it.
_CELLS = 6
_SHARE_OF_WHOLE = 0.5  # in logits: a tile sees details, the whole sees what they belong to


def predict_tiled(
    run: Run[View],
    canvas: View,
    whole: Tensor,
    *,
    tile_hw: tuple[int, int],
    fit: bool,
    batch_size: int = 1,
    most_bytes: int = MOST_BYTES,
) -> Tensor:
    """Predict a canvas (3, H, W) tile by tile: maps (K, H', W'), or (H', W') where `whole` is so.

    whole: the map (K, h, w) or (h, w) of the same picture. fit: the first map is depth, to be
    fitted; the others, and all without it, are logits, which are averaged with the whole's.
    H', W' are H, W divided by the smallest number that keeps the result within most_bytes.
    """
    flat = whole.ndim == 2
    whole = whole[None] if flat else whole
    height, width = hw_of(canvas)
    stride = max(1, math.ceil(math.sqrt(4 * len(whole) * height * width / most_bytes)))
    hw = (math.ceil(height / stride), math.ceil(width / stride))
    total = torch.zeros(len(whole), *hw)
    weights = torch.zeros(hw)
    feather = _feather((math.ceil(tile_hw[0] / stride), math.ceil(tile_hw[1] / stride)))
    grid = list(itertools.product(places(height, tile_hw[0]), places(width, tile_hw[1])))
    for start in range(0, len(grid), batch_size):
        corners = grid[start : start + batch_size]
        tiles = [cut(canvas, y, x, tile_hw) for y, x in corners]
        for (y, x), found in zip(corners, run(tiles), strict=True):
            maps = found[None] if found.ndim == 2 else found
            box = (y / height, x / width, tile_hw[0] / height, tile_hw[1] / width)
            maps = _joined(maps, whole, box, fit=fit)
            top, left = min(y // stride, hw[0]), min(x // stride, hw[1])
            bottom, right = (
                min(top + feather.shape[0], hw[0]),
                min(left + feather.shape[1], hw[1]),
            )
            maps = _resized(maps, feather.shape)[:, : bottom - top, : right - left]
            weight = feather[: bottom - top, : right - left]
            total[:, top:bottom, left:right].addcmul_(maps, weight)
            weights[top:bottom, left:right] += weight
    total /= weights
    return total[0] if flat else total


def places(length: int, tile: int) -> list[int]:
    """Where tiles of a side begin, evenly spread over `length` with at least the usual overlap."""
    if tile >= length:
        return [0]
    count = math.ceil((length - tile) / (tile * (1 - _OVERLAP))) + 1
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def smaller_tile(hw: tuple[int, int], *, multiple: int) -> tuple[int, int] | None:
    """A tile of about a third of an area (H, W), near a square, on the network's grid.

    None where it would be smaller than what a network can judge.
    """
    side = math.sqrt(hw[0] * hw[1] / 3)
    height = min(hw[0], max(side, side * side / hw[1]))
    width = min(hw[1], side * side / height)
    height, width = (
        max(multiple, int(value) // multiple * multiple) if size >= multiple else size
        for value, size in ((height, hw[0]), (width, hw[1]))
    )
    if height * width < (8 * multiple) ** 2 or height * width >= hw[0] * hw[1]:
        return None
    return int(height), int(width)


def shrunk(canvas: Tensor, *, pixels: int, multiple: int) -> Tensor:
    """The canvas (3, H, W) with at most about so many pixels, sides on the network's grid."""
    height, width = canvas.shape[-2:]
    scale = math.sqrt(pixels / (height * width))
    hw = [max(multiple, int(side * scale) // multiple * multiple) for side in (height, width)]
    return F.interpolate(canvas[None], hw, mode="bilinear", antialias=True)[0]


def _joined(maps: Tensor, whole: Tensor, box: Box, *, fit: bool) -> Tensor:
    """A tile's maps (K, th, tw) in agreement with the whole's part that `box` shows."""
    logits = maps[1:] if fit else maps
    parts = []
    if fit:
        parts.append(_fitted(maps[0], whole[:1], box)[None])
    if len(logits):
        seen = part_of(whole[-len(logits) :], box, (maps.shape[-2], maps.shape[-1]))
        parts.append(seen.lerp_(logits, 1 - _SHARE_OF_WHOLE))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _fitted(depth: Tensor, whole: Tensor, box: Box) -> Tensor:
    """A tile's depth (th, tw) on the scale of the whole's (1, h, w)."""
    # Compared where both are equally sharp, or the tile's details would count as noise.
    coarse_hw = (
        min(depth.shape[0], max(2, round(box[2] * whole.shape[1]))),
        min(depth.shape[1], max(2, round(box[3] * whole.shape[2]))),
    )
    ours = F.interpolate(depth[None, None], coarse_hw, mode="bilinear", antialias=True)[0, 0]
    theirs = part_of(whole, box, coarse_hw)[0]
    centred = ours - ours.mean()
    spread = float((centred * centred).mean())
    scale = float((centred * (theirs - theirs.mean())).mean()) / spread if spread > 0 else 0.0
    scale = max(scale, 0.0)  # nothing turns near into far
    rest = theirs - scale * ours
    cells = (min(coarse_hw[0], _CELLS), min(coarse_hw[1], _CELLS))
    slow = F.adaptive_avg_pool2d(rest[None, None], cells)
    hw = (depth.shape[0], depth.shape[1])
    return scale * depth + F.interpolate(slow, hw, mode="bicubic")[0, 0]


def _resized(maps: Tensor, hw: Sequence[int]) -> Tensor:
    if list(maps.shape[-2:]) == list(hw):
        return maps
    return F.interpolate(maps[None], list(hw), mode="bilinear", antialias=True)[0]


def _feather(hw: tuple[int, int]) -> Tensor:
    """Weights (th, tw) that fall towards the edges, over the overlap."""
    ramps = []
    for side in hw:
        inside = torch.minimum(torch.arange(side) + 0.5, side - torch.arange(side) - 0.5)
        share = (inside / max(1.0, _OVERLAP * side)).clamp(max=1)
        # No kink where a tile begins to fade, and never nothing: corners have one tile alone.
        ramps.append(share * share * (3 - 2 * share) + 1e-3)
    return ramps[0][:, None] * ramps[1][None]
