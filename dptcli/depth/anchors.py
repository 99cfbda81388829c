"""Metres from relative depth: known distances fix the scale and shift of what a model gives.

1 / metres = scale · value + shift for inverse depth, metres = scale · value + shift for depth
without a scale, by least squares that an outlier does not pull: a start from pairs of anchors
(least median of squares), then Huber weights.
"""

import csv
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.measured import FARTHEST_M, read_metres
from dptcli.errors import ImageError, UsageError
from dptcli.inputs.decode import printable
from dptcli.kinds import Kind

_MAX_SAMPLED = 20_000  # anchors that a fit takes of a dense map: more change nothing
_MAX_PAIRS = 500
_HUBER = 1.345  # 95 % of least squares' efficiency where the errors are Gaussian
_NEAREST_M = 0.001
_SAME_SHAPE = 0.02  # what maps' aspects differ by when they show one photograph
_BAD_RESIDUAL = 0.15  # a typical error above this share of the distance is no fit


@dataclass(frozen=True)
class Anchors:
    """Known distances.

    xy: pixels of the upright photograph (N, 2), column and row from 0, at pixel centres. metres:
    (N,), above 0, along the optical axis. map_hw: the size of the map whose pixels the last num_map
    of them are, in place of the photograph's.
    """

    xy: NDArray[np.float64]
    metres: NDArray[np.float64]
    map_hw: tuple[int, int] | None = None
    num_map: int = 0

    def __len__(self) -> int:
        return len(self.metres)

    def xy_in(self, source_hw: tuple[int, int]) -> NDArray[np.float64]:
        """Return all pixels (N, 2) in the photograph of `source_hw`; see Anchors.xy.

        Raises UsageError for a map whose shape is not the photograph's.
        """
        if self.map_hw is None or self.map_hw == source_hw:
            return self.xy
        if not same_shape(self.map_hw, source_hw):
            raise UsageError(
                f"--anchors: the map has {self.map_hw[1]} × {self.map_hw[0]} pixels and the "
                f"photograph {source_hw[1]} × {source_hw[0]} (width × height), which is another "
                "shape; give a map of the whole upright photograph"
            )
        scale = np.array([source_hw[1] / self.map_hw[1], source_hw[0] / self.map_hw[0]])
        xy = self.xy.copy()
        own = slice(len(xy) - self.num_map, None)
        # At pixel centres; a map that is smaller than the photograph ends within it.
        xy[own] = np.clip((xy[own] + 0.5) * scale - 0.5, 0, np.array(source_hw[::-1]) - 1)
        return xy


def same_shape(map_hw: tuple[int, int], source_hw: tuple[int, int]) -> bool:
    """Whether a map may show the whole photograph: nearly one scale in both directions.

    Sides are rounded to pixels, and by networks to multiples of 14 or 32.
    """
    down, across = map_hw[0] / source_hw[0], map_hw[1] / source_hw[1]
    rounding = max(_SAME_SHAPE, 1 / min(map_hw))
    return abs(across / down - 1) <= rounding


@dataclass(frozen=True)
class Fit:
    """What anchors say of a map: 1 / metres, or for depth metres, = scale · value + shift.

    residuals: relative errors of the anchors' distances, (fitted - known) / known. warnings: why
    the fit should not be trusted, in words.
    """

    scale: float
    shift: float
    residuals: NDArray[np.float64]
    num_outliers: int
    warnings: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return what results say about the fit."""
        errors = np.abs(self.residuals)
        return {
            "scale_to_metres": self.scale,
            "shift_to_metres": self.shift,
            "num_anchors": len(errors),
            "num_outliers": self.num_outliers,
            "median_error": float(np.median(errors)),
            "largest_error": float(errors.max()),
            "warnings": list(self.warnings),
        }


def parse_anchor(text: str) -> tuple[float, float, float]:
    """Read --anchor x,y=metres. Raises UsageError."""
    number = r"\s*(\d+(?:\.\d*)?|\.\d+)\s*"
    found = re.fullmatch(rf"{number},{number}={number}m?\s*", text)
    if found is None or not float(found[3]) > 0:
        raise UsageError(
            f"--anchor {text!r} must be x,y=metres, in pixels from the photograph's upper left, "
            "e.g. --anchor 320,240=2.4"
        )
    return float(found[1]), float(found[2]), float(found[3])


def read_anchors(
    words: Sequence[str], file: Path | None, *, levels_per_metre: float = 1000.0
) -> Anchors:
    """Gather the anchors of --anchor and --anchors. Raises UsageError for none, or broken ones.

    file: a CSV of x, y and metres, or a sparse depth map (PNG of `levels_per_metre`, or floats in
    metres; 0 and non-finite: not measured).
    """
    rows = [parse_anchor(word) for word in words]
    map_hw, num_map = None, 0
    if file is not None and file.suffix.lower() in {".csv", ".txt"}:
        rows += _read_csv(file)
    elif file is not None:
        in_map, map_hw = _read_sparse(file, levels_per_metre)
        rows, num_map = rows + in_map, len(in_map)
    if not rows:
        raise UsageError(f"{printable(file or '--anchor')!r} holds no anchors; give x,y=metres")
    table = np.array(rows, np.float64)
    return Anchors(table[:, :2], table[:, 2], map_hw, num_map)


def _read_csv(path: Path) -> list[tuple[float, float, float]]:
    rows = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = (line for line in csv.reader(stream) if any(cell.strip() for cell in line))
            for number, line in enumerate(lines):  # as they are read: a wrong one ends it at once
                row = _anchor_in(line, path, may_be_heading=number == 0)
                rows += [] if row is None else [row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--anchors {printable(path)} cannot be read ({error})") from error
    return rows


def _anchor_in(
    line: list[str], path: Path, *, may_be_heading: bool
) -> tuple[float, float, float] | None:
    """Return (x, y, metres) of a line, None for a heading. Raises UsageError."""
    try:
        x, y, metres = (float(cell) for cell in line)
    except ValueError:
        if may_be_heading:
            return None
        raise UsageError(
            f"--anchors {printable(path)}: {','.join(line)!r} must be x,y,metres, e.g. 320,240,2.4"
        ) from None
    if not (math.isfinite(x + y) and 0 < metres < math.inf and min(x, y) >= 0):
        raise UsageError(
            f"--anchors {printable(path)}: {','.join(line)!r} must be a pixel and a distance "
            "above 0"
        )
    return x, y, metres


def _read_sparse(
    path: Path, levels_per_metre: float
) -> tuple[list[tuple[float, float, float]], tuple[int, int]]:
    """Return (column, row, metres) of a map's measured pixels, and the map's size."""
    try:
        metres = read_metres(path, levels_per_metre=levels_per_metre)
    except ImageError as error:
        raise UsageError(f"--anchors: {error}") from error
    row, column = np.nonzero(np.isfinite(metres) & (metres > 0))
    step = max(1, len(row) // _MAX_SAMPLED)
    row, column = row[::step], column[::step]
    xyz = np.stack([column, row, metres[row, column]], axis=1).astype(np.float64)
    return [(x, y, z) for x, y, z in xyz.tolist()], (metres.shape[0], metres.shape[1])


def sample_at(
    values: NDArray[np.floating], anchors: Anchors, source_hw: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the map's values (N,) at the anchors, bilinear between pixel centres.

    values: (H, W) of any size, showing the whole photograph of `source_hw`. Raises UsageError for
    an anchor outside the photograph, and for a map of another shape.
    """
    xy = anchors.xy_in(source_hw)
    outside = (xy[:, 0] > source_hw[1] - 1) | (xy[:, 1] > source_hw[0] - 1)
    if outside.any():
        x, y = xy[outside][0]
        raise UsageError(
            f"anchor {x:g},{y:g} lies outside the photograph of {source_hw[1]} × {source_hw[0]} "
            "pixels (width × height)"
        )
    height, width = values.shape
    column = np.clip((xy[:, 0] + 0.5) * width / source_hw[1] - 0.5, 0, width - 1)
    row = np.clip((xy[:, 1] + 0.5) * height / source_hw[0] - 0.5, 0, height - 1)
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    x, y = column - left, row - top
    grid = values.astype(np.float64, copy=False)
    upper = grid[top, left] * (1 - x) + grid[top, right] * x
    lower = grid[bottom, left] * (1 - x) + grid[bottom, right] * x
    return np.asarray(upper * (1 - y) + lower * y)


def fit_inverse(values: NDArray[np.float64], metres: NDArray[np.float64]) -> Fit:
    """Fit 1 / metres = scale · value + shift. values: inverse depth (N,); metres: (N,).

    One anchor, or anchors of one value, fix only the scale. Raises UsageError where even that
    cannot be: no finite value, or a scale that turns near and far around.
    """
    known = np.isfinite(values)
    values, metres = values[known], metres[known]
    if not len(values):
        raise UsageError("the depth at every anchor is not finite; place them elsewhere")
    target = 1 / metres
    warnings = []
    spread = float(np.ptp(values))
    if len(values) == 1 or spread <= 1e-6 * max(float(np.abs(values).max()), 1e-30):
        warnings.append(
            "one anchor fixes the scale and not the shift; add one at another distance"
            if len(values) == 1
            else "all anchors lie at one depth, which fixes the scale and not the shift; add others"
        )
        scale, shift = float(np.median(target / np.where(values > 0, values, np.nan))), 0.0
    else:
        # Not weighted by distance: measured on ten indoor photographs, with 60 of 200 anchors wrong
        # by a factor of 4, relative errors went astray on one run in ten (2.5 against 0.4).
        scale, shift = _robust_line(values, target)
        if len(values) == 2:
            warnings.append("two anchors are met exactly, right or wrong; a third would check them")
    if not scale > 0:
        raise UsageError(
            "the anchors turn near and far around (the nearer have the smaller inverse depth); "
            "check their pixels and distances"
        )
    return _judged(values, metres, scale, shift, warnings)


def fit_metres(values: NDArray[np.float64], metres: NDArray[np.float64]) -> Fit:
    """Fit metres = scale · value, for a model that gives metres already. Raises UsageError."""
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        raise UsageError("the depth at every anchor is unknown; place them elsewhere")
    ratio = metres[known] / values[known]
    scale = float(np.median(ratio))
    residuals = scale / ratio - 1
    warnings = ["one anchor cannot check itself; add others"] if len(ratio) == 1 else []
    return _with_warnings(scale, 0.0, residuals, warnings)


def fit_depth(values: NDArray[np.float64], metres: NDArray[np.float64]) -> Fit:
    """Fit metres = scale · value + shift, for depth without a scale. Raises UsageError.

    The shift is what such models are trained without, too, and is small: fewer than three anchors
    fix the scale alone, and so do those whose line would put one of them behind the camera.
    """
    known = np.isfinite(values) & (values > 0)
    values, metres = values[known], metres[known]
    if len(values) < 3 or float(np.ptp(values)) <= 1e-6 * float(values.max()):
        return fit_metres(values, metres)
    scale, shift = _robust_line(values, metres)
    if not scale > 0:
        raise UsageError(
            "the anchors turn near and far around (the nearer have the larger depth); check their "
            "pixels and distances"
        )
    fitted = scale * values + shift
    if (fitted <= 0).any():
        return fit_metres(values, metres)
    return _with_warnings(scale, shift, fitted / metres - 1, [])


FITS: Mapping[Kind, Callable[[NDArray[np.float64], NDArray[np.float64]], Fit]] = {
    "inverse_depth": fit_inverse,
    "depth": fit_depth,
    "depth_m": fit_metres,
}


def apply_fit(values: NDArray[np.float32], fit: Fit, *, inverse: bool) -> NDArray[np.float32]:
    """Return depth in metres, float32 (H, W).

    What the fit puts beyond 1 km in inverse depth ends there, what it puts behind the camera at
    1 mm.
    """
    scaled = values.astype(np.float32) * np.float32(fit.scale)
    if not inverse and not fit.shift:
        return scaled
    scaled += np.float32(fit.shift)
    if not inverse:
        return np.maximum(scaled, np.float32(_NEAREST_M))
    return np.asarray(1 / np.maximum(scaled, np.float32(1 / FARTHEST_M)), np.float32)


def _robust_line(values: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float]:
    """Fit a line to points some of which may be wrong.

    Three points cannot tell which of them is: every pair meets two of them, so all three count.
    """
    if len(values) == 3:
        slope, shift = np.polyfit(values, target, 1)
        return float(slope), float(shift)
    line = _line_of_median(values, target) if len(values) > 2 else None
    factor = np.ones_like(values)
    for _ in range(30):
        if line is not None:
            error = np.maximum(np.abs(line[0] * values + line[1] - target), 1e-30)
            # The spread of the better half stands for that of all that are right.
            sigma = max(1.4826 * float(np.median(error)), 1e-9)
            # Far outliers get nothing at all: Huber alone still lets them pull.
            factor = np.where(error > 6 * sigma, 0, np.minimum(1, _HUBER * sigma / error))
        root = np.sqrt(factor)
        design = np.stack([values * root, root], axis=1)
        solution = np.linalg.lstsq(design, target * root, rcond=None)[0]
        new = (float(solution[0]), float(solution[1]))
        if line is not None and np.allclose(new, line, rtol=1e-9, atol=1e-15):
            break
        line = new
    assert line is not None
    return line


def _line_of_median(
    values: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Return the line through two of the points that half of all points come nearest to."""
    num = len(values)
    if num * (num - 1) // 2 <= _MAX_PAIRS:
        pairs = np.array(list(itertools.combinations(range(num), 2)))
    else:
        pairs = np.random.default_rng(0).integers(0, num, (_MAX_PAIRS, 2))  # the same on every run
    a, b = pairs[:, 0], pairs[:, 1]
    apart = np.abs(values[a] - values[b]) > 0.02 * np.ptp(values)
    if not apart.any():
        return None
    a, b = a[apart], b[apart]
    slopes = (target[a] - target[b]) / (values[a] - values[b])
    shifts = target[a] - slopes * values[a]
    step = max(1, num // 2000)
    errors = np.abs(slopes[:, None] * values[::step] + shifts[:, None] - target[::step])
    # A line that turns near and far around is no candidate while another is there.
    score = np.median(errors, axis=1) + np.where(slopes > 0, 0, 1e9)
    best = int(score.argmin())
    return float(slopes[best]), float(shifts[best])


def _judged(
    values: NDArray[np.float64],
    metres: NDArray[np.float64],
    scale: float,
    shift: float,
    warnings: list[str],
) -> Fit:
    fitted = scale * values + shift
    if (fitted <= 0).any():
        warnings.append(f"{int((fitted <= 0).sum())} anchors come out behind infinity")
    residuals = 1 / np.maximum(fitted, 1 / FARTHEST_M) / metres - 1
    return _with_warnings(scale, shift, residuals, warnings)


def _with_warnings(
    scale: float, shift: float, residuals: NDArray[np.float64], warnings: list[str]
) -> Fit:
    errors = np.abs(residuals)
    typical = float(np.median(errors))
    outliers = int((errors > max(6 * 1.4826 * typical, 0.1)).sum()) if len(errors) > 2 else 0
    if typical > _BAD_RESIDUAL:
        warnings.append(f"the anchors disagree with the depth by {typical:.0%} in the middle")
    if outliers >= len(errors) / 3 and outliers:
        warnings.append(f"{outliers} of {len(errors)} anchors fit no common scale")
    return Fit(scale, shift, residuals, outliers, tuple(warnings))
