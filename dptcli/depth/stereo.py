"""A photograph in two views for headsets, 3-D screens and coloured glasses."""

from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.depth.depthmap import DepthMap
from dptcli.depth.lens import Lens
from dptcli.depth.secondeye import crisp, second_view
from dptcli.errors import ImageError, UsageError
from dptcli.results.writers import write_picture

# One part in thirty, from the nearest thing to the farthest, is what photographers hold bearable.
DEFAULT_STRENGTH = 0.03
DEFAULT_CONVERGENCE = 0.5

_BLUR_PIXELS = 2  # of the network's, to each side: how soft its edges are
_MOST_BLUR = 24
_VR_SIDE = 4096  # of one eye's picture, at most: what headsets decode

Picture = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Stereo:
    """How far apart two views are.

    strength: how much farther the nearest thing moves than the farthest, as a share of the width.
    ipd_mm: the distance of the eyes instead, where depth is in metres. convergence: what lies in
    the plane of the screen, a share from the farthest (0) to the nearest (1) in inverse depth; None
    is DEFAULT_CONVERGENCE, and the farthest for vr180, where the eyes must not turn outwards.
    lossless: pictures are written as PNG, for a video's frames.
    """

    strength: float = DEFAULT_STRENGTH
    ipd_mm: float | None = None
    convergence: float | None = None
    lossless: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 0.2:
            raise UsageError(
                f"--strength {self.strength:g} must be above 0 and at most 0.2 of the width, "
                "e.g. --strength 0.03"
            )
        if self.ipd_mm is not None and not 0 < self.ipd_mm <= 100_000:
            raise UsageError(f"--ipd {self.ipd_mm:g} must be above 0 millimetres, e.g. --ipd 63")
        if self.convergence is not None and not 0 <= self.convergence <= 1:
            raise UsageError(
                f"--convergence {self.convergence:g} must be from 0 (the farthest thing lies in "
                "the screen) to 1 (the nearest)"
            )

    def disparity(self, depth: DepthMap, *, convergence: float) -> NDArray[np.float32]:
        """Return how far each pixel (H, W) moves to the left, in pixels. Unknown depth is far.

        Raises ImageError where the eyes' distance is given and depth is not in metres.
        """
        inverse, far, near = _inverse(depth)
        if self.ipd_mm is None:
            span = near - far
            scale = self.strength * inverse.shape[1] / span if span > 1e-30 else 0.0
        elif depth.kind == "depth_m" and depth.lens is not None:
            scale = self.ipd_mm / 1000 * depth.lens.fx
        else:
            raise ImageError("--ipd is in millimetres and this depth has no unit; give --strength")
        screen = far + convergence * (near - far)
        return np.asarray((inverse - screen) * scale, np.float32)


def write_stereo(
    stream: BinaryIO, depth: DepthMap, *, layout: str, stereo: Stereo
) -> dict[str, Any]:
    """Write both views in a layout: sbs, sbs-half, tb, tb-half, anaglyph or vr180. JPEG."""
    height, width = depth.values.shape
    assert depth.rgb is not None
    left = depth.rgb
    if left.shape[:2] != (height, width):
        left = np.asarray(Image.fromarray(left).resize((width, height), Image.Resampling.LANCZOS))
    usual = 0.0 if layout == "vr180" else DEFAULT_CONVERGENCE
    convergence = usual if stereo.convergence is None else stereo.convergence
    network_w = depth.facts.get("network_hw", (height, width))[1]
    blur_px = min(_MOST_BLUR, max(1, round(_BLUR_PIXELS * width / network_w)))
    moved = stereo.disparity(depth, convergence=convergence)
    right, holes = second_view(left, crisp(moved, blur_px=blur_px))
    if layout == "vr180":
        assert depth.lens is not None
        left, right = (_on_half_sphere(view, depth.lens) for view in (left, right))
    picture = Image.fromarray(LAYOUTS[layout](left, right))
    kind = "color" if stereo.lossless else "jpg"
    write_picture(stream, picture, kind=kind, is_photo=True)
    return {
        "kind": "stereo",
        "layout": layout,
        "shows": "left eye (the photograph) | right eye",
        "height": picture.height,
        "width": picture.width,
        "convergence": convergence,
        **({"strength": stereo.strength} if stereo.ipd_mm is None else {"ipd_mm": stereo.ipd_mm}),
        "disparity_px": [round(float(moved.min()), 3), round(float(moved.max()), 3)],
        "share_filled": round(float(holes.mean()), 6),
    }


def _inverse(depth: DepthMap) -> tuple[NDArray[np.float32], float, float]:
    """Inverse depth (H, W), float32, and its farthest and nearest; what is unknown is farthest."""
    lo, hi = depth.limits
    values = depth.within_limits()
    if depth.near_is_large:
        inverse, far, near = values, lo, hi
    else:
        good = values > 0
        inverse = np.divide(1, values, out=np.full_like(values, np.nan), where=good)
        known = inverse[np.isfinite(inverse)]
        far = 1 / hi if hi > 0 else 0.0
        near = 1 / lo if lo > 0 else float(known.max(initial=far))
    return np.where(np.isfinite(inverse), inverse, np.float32(far)), far, near


def _halved(view: Picture, axis: int) -> Picture:
    height, width = view.shape[:2]
    size = (max(1, width // 2), height) if axis == 1 else (width, max(1, height // 2))
    return np.asarray(Image.fromarray(view).resize(size, Image.Resampling.LANCZOS))


def _anaglyph(left: Picture, right: Picture) -> Picture:
    """Red for the left eye, cyan for the right, colours where they don't fight (Dubois's matrices).

    Source: Dubois, A projection method to generate anaglyph stereo images, 2001.
    """
    of_left = np.array(
        [[0.437, 0.449, 0.164], [-0.062, -0.062, -0.024], [-0.048, -0.050, -0.017]], np.float32
    )
    of_right = np.array(
        [[-0.011, -0.032, -0.007], [0.377, 0.761, 0.009], [-0.026, -0.093, 1.234]], np.float32
    )
    # The matrices are for light, which a screen gives by a power of its levels.
    light = _light(left) @ of_left.T + _light(right) @ of_right.T
    levels = np.clip(light, 0, 1) ** np.float32(1 / 2.2)
    return np.asarray(levels * 255 + 0.5).astype(np.uint8)


def _light(view: Picture) -> NDArray[np.float32]:
    table = (np.arange(256, dtype=np.float32) / 255) ** np.float32(2.2)
    return np.asarray(table[view], np.float32)


def _on_half_sphere(view: Picture, lens: Lens) -> Picture:
    """Return a view as the half of a sphere before the viewer: square, 180° across and down.

    What the camera did not see is black.
    """
    side = min(_VR_SIDE, max(64, round(np.pi * lens.fx / 16) * 16))
    angle = ((np.arange(side, dtype=np.float32) + 0.5) / side - 0.5) * np.float32(np.pi)
    shown = np.zeros((side, side, 3), np.uint8)
    across = np.tan(angle)  # of a ray's x to its z
    column = lens.fx * across + lens.cx - 0.5
    height, width = view.shape[:2]
    seen = (column > -0.5) & (column < width - 0.5)
    for index, down in enumerate(np.tan(angle)):
        # y to z is the tangent of the latitude, longer the farther to the side.
        row = lens.fy * down / np.cos(angle[seen]) + lens.cy - 0.5
        inside = (row > -0.5) & (row < height - 0.5)
        if not inside.any():
            continue
        places = np.flatnonzero(seen)[inside]
        shown[index, places] = _between(view, row[inside], column[places])
    return shown


def _between(view: Picture, row: NDArray[Any], column: NDArray[Any]) -> Picture:
    """Return the colours at places between pixels, bilinear, uint8 (N, 3)."""
    height, width = view.shape[:2]
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    top, left = row.astype(np.intp), column.astype(np.intp)
    low, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = (row - top)[:, None], (column - left)[:, None]
    upper = view[top, left] * (1 - across) + view[top, right] * across
    lower = view[low, left] * (1 - across) + view[low, right] * across
    return np.asarray(upper * (1 - down) + lower * down + 0.5).astype(np.uint8)


def _side_by_side(left: Picture, right: Picture) -> Picture:
    return np.hstack([left, right])


def _over_each_other(left: Picture, right: Picture) -> Picture:
    return np.vstack([left, right])


LAYOUTS = {
    "sbs": _side_by_side,
    "sbs-half": lambda left, right: _side_by_side(_halved(left, 1), _halved(right, 1)),
    "tb": _over_each_other,
    "tb-half": lambda left, right: _over_each_other(_halved(left, 0), _halved(right, 0)),
    "anaglyph": _anaglyph,
    "vr180": _side_by_side,
}

Frames = Literal["left-right", "top-bottom"]
FRAMES: dict[str, Frames] = {
    "sbs": "left-right",
    "sbs-half": "left-right",
    "tb": "top-bottom",
    "tb-half": "top-bottom",
    "vr180": "left-right",
}
"""How a video's frames hold the views, as players read it."""
