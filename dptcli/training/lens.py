"""What a lens and a moving camera do to a rendered view: defocus and motion blur from exact depth.

Both are computed on linear light after rendering. Blender's own would blur the depth along with
the colour, and cost rays; here the depth stays that of the sharp view. H×W is the frame's size.
"""

import numpy as np
from numpy.typing import NDArray

FAR_M = 1e4
"""The depth that stands for the sky's."""
LEVELS = (0.0, 0.7, 1.4, 2.8, 5.6)
"""Blur radii in pixels between which a pixel's own is interpolated."""


def defocus(
    linear: NDArray[np.float32], depth_m: NDArray[np.float32], *, focus_m: float, strength: float
) -> NDArray[np.float32]:
    """Blur linear RGB (H, W, 3) by each pixel's circle of confusion.

    depth_m: (H, W), 0 for sky. strength: the radius in pixels, times the width over 336, of a
    point infinitely far, with the focus at 1 m; a thin lens's grows with |1/depth − 1/focus|.
    """
    inverse = 1 / np.where(depth_m > 0, depth_m, FAR_M)
    radius = strength * linear.shape[1] / 336 * np.abs(inverse - 1 / focus_m)
    # Before blurring, the radius itself spreads: what is blurred covers its sharp neighbour.
    spread = np.maximum(radius, _blur(radius[..., None], 1.0)[..., 0])
    place = np.interp(np.clip(spread, 0, LEVELS[-1]), LEVELS, np.arange(len(LEVELS)))
    out = np.zeros_like(linear)
    for index, level in enumerate(LEVELS):
        weight = np.clip(1 - np.abs(place - index), 0, 1)[..., None]
        if weight.any():
            out += (weight * (_blur(linear, level) if level else linear)).astype(np.float32)
    return out


def _blur(values: NDArray[np.floating], radius: float) -> NDArray[np.float32]:
    """Gaussian blur of every channel of (H, W, C); the border repeats."""
    reach = max(1, round(3 * radius))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    out = values.astype(np.float32)
    for axis in (0, 1):
        margin = [(0, 0)] * 3
        margin[axis] = (reach, reach)
        padded = np.pad(out, margin, mode="edge")
        length = out.shape[axis]
        parts = (
            weight * padded.take(range(k, k + length), axis=axis) for k, weight in enumerate(kernel)
        )
        out = np.asarray(sum(parts), np.float32)
    return out


def motion(
    linear: NDArray[np.float32],
    depth_m: NDArray[np.float32],
    *,
    shift_px: tuple[float, float],
    near_px: float,
) -> NDArray[np.float32]:
    """Blur linear RGB (H, W, 3) along the path of a camera that moves while the shutter is open.

    shift_px: (x, y) by which everything moves (the camera turns). near_px: by how much a point at
    the nearest tenth of the depths moves beyond that, towards the edges (the camera advances);
    farther ones less, as the inverse of their depth.
    """
    height, width = depth_m.shape
    inverse = 1 / np.where(depth_m > 0, depth_m, FAR_M)
    rate = np.clip(inverse / max(float(np.percentile(inverse, 90)), 1e-9), 0, 2)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    reach = np.hypot(height, width) / 2
    flow_x = shift_px[0] + near_px * rate * (columns - width / 2) / reach
    flow_y = shift_px[1] + near_px * rate * (rows - height / 2) / reach
    longest = float(np.hypot(flow_x, flow_y).max())
    num = int(np.clip(np.ceil(longest), 1, 12)) + 1
    out = np.zeros_like(linear)
    for part in np.linspace(-0.5, 0.5, num):
        x = np.clip(np.rint(columns + part * flow_x), 0, width - 1).astype(np.intp)
        y = np.clip(np.rint(rows + part * flow_y), 0, height - 1).astype(np.intp)
        out += linear[y, x] / num
    return out


def photograph(
    linear: NDArray[np.float32], depth_m: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """A random lens and hand: a quarter of all frames out of focus somewhere, an eighth moved."""
    if rng.random() < 0.25:
        known = depth_m[depth_m > 0]
        focus_m = float(np.quantile(known, rng.uniform(0.05, 0.95))) if known.size else 5.0
        # A wide aperture close to, a small one far away: some radius at the frame's own depths.
        aside = np.abs(1 / np.quantile(known, [0.05, 0.95]) - 1 / focus_m) if known.size else 1.0
        strength = float(rng.uniform(0.8, 4.5)) / max(float(np.max(aside)), 1e-3)
        linear = defocus(linear, depth_m, focus_m=focus_m, strength=strength)
    if rng.random() < 0.125:
        shift = rng.normal(0, 2.0, 2)
        linear = motion(
            linear,
            depth_m,
            shift_px=(float(shift[0]), float(shift[1])),
            near_px=float(rng.exponential(5.0)),
        )
    return linear
