"""The depth of views joined to the depth of a panorama: distances along the rays.

Where views overlap, each counts the more, the nearer to its middle it shows a direction; nothing
begins or ends anywhere but smoothly, and so there are no seams, not at ±180° either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from dptcli.kinds import Kind, near_is_large
from dptcli.panorama.align import Fit, fit_depth, fit_inverse
from dptcli.panorama.geometry import Extent, Floats, View, evenly, feather, seen_by, width_for

NUM_DIRECTIONS = 20_000
"""In how many directions, spread over the whole sphere, views are compared."""

_BAND_PIXELS = 500_000
_LEAST_SHOWN = 1e-6  # of a full weight


@dataclass(frozen=True, eq=False)
class Joined:
    """distance: float32 (H, W), along the ray, or its inverse. fit: how the views were aligned."""

    distance: Floats
    fit: Fit


def join(depths: Sequence[Floats], views: Sequence[View], extent: Extent, *, kind: Kind) -> Joined:
    """Join the depth (h, w) of views to that of a panorama, of one kind, along the rays.

    Its equator is as fine as the middle of a view.
    """
    fit = align(depths, views, extent, kind=kind)
    width = width_for(depths[0].shape[1], extent)
    height = max(1, round(width * extent.height / extent.width))
    joined = np.empty((height, width), np.float32)
    step = max(1, _BAND_PIXELS // width)
    for first in range(0, height, step):
        rows = slice(first, first + step)
        directions = extent.directions((height, width), rows=rows)
        joined[rows] = _band(depths, views, directions, fit, kind=kind)
    return Joined(joined, fit)


def align(depths: Sequence[Floats], views: Sequence[View], extent: Extent, *, kind: Kind) -> Fit:
    """Find the scales, and for inverse depth the shifts, that make views agree."""
    directions = evenly(NUM_DIRECTIONS)
    directions = directions[extent.shows(directions)]
    shape = (len(views), len(directions))
    values, cosines, weights = (np.zeros(shape) for _ in range(3))
    for number, (depth, view) in enumerate(zip(depths, views, strict=True)):
        x, y, cosine = view.places(directions)
        seen = seen_by(x, y, cosine)
        values[number, seen] = sampled(depth, x[seen], y[seen])
        cosines[number, seen] = cosine[seen]
        weights[number, seen] = feather(x[seen], y[seen])
    if near_is_large(kind):
        return fit_inverse(values, cosines, weights)
    return fit_depth(np.divide(values, cosines, where=weights > 0, out=values), weights)


def _band(
    depths: Sequence[Floats],
    views: Sequence[View],
    directions: Floats,
    fit: Fit,
    *,
    kind: Kind,
) -> Floats:
    """Distances in some directions (h, w, 3)."""
    total = np.zeros(directions.shape[:-1], np.float32)
    weights = np.zeros_like(total)
    for depth, view, scale, shift in zip(depths, views, fit.scale, fit.shift, strict=True):
        x, y, cosine = view.places(directions)
        seen = seen_by(x, y, cosine)
        if not seen.any():
            continue
        values = sampled(depth, x[seen], y[seen]) * np.float32(scale) + np.float32(shift)
        values = values * cosine[seen] if near_is_large(kind) else values / cosine[seen]
        weight = feather(x[seen], y[seen]) + np.float32(_LEAST_SHOWN)
        total[seen] += values * weight
        weights[seen] += weight
    return total / weights


def sampled(depth: Floats, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
    """A view's map (h, w) at places (M,) of it, from -1 to 1, between its pixels linearly."""
    grid = torch.from_numpy(np.stack([x, y], axis=-1).astype(np.float32))[None, None]
    maps = torch.from_numpy(np.ascontiguousarray(depth, np.float32))[None, None]
    found = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[0, 0, 0].numpy()
