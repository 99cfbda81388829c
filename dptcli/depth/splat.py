"""Depth for trainers of Gaussian splats: each photograph's fitted to what COLMAP knows of it.

A trainer reads depths/NAME.png as value = level / 65536, and takes value · scale + offset, by
NAME's entry of depth_params.json, for 1 / depth in the model's unit. It leaves out a photograph
whose scale is 0, or far from the others' median; it stops where a PNG is missing, and where an
entry is missing takes `value` for 1 / depth. So each photograph of a run has both.
Source: what the trainer of 3D Gaussian Splatting reads (scene/cameras.py, dataset_readers.py).
"""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.counted import counted
from dptcli.depth.anchors import Anchors, fit_inverse, fit_metres, sample_at
from dptcli.depth.colormaps import finite_range, scale_to_levels
from dptcli.depth.depthmap import DepthMap, SparseFit
from dptcli.depth.sparse import Sparse, SparseImage
from dptcli.errors import ImageError, UsageError
from dptcli.inputs.decode import printable
from dptcli.kinds import Kind, near_is_large
from dptcli.results.writers import save_png

logger = logging.getLogger(__name__)

PARAMS_NAME = "depth_params.json"
FACT = "colmap"

_TOP = 65_535
_DIVISOR = 65_536  # what a trainer divides levels by
_FEWEST_POINTS = 10
_NEAREST = 100.0  # times nearer than the middle: what is nearer still is a speck or wrong
_BAD_RESIDUAL = 0.15


def fit_to_sparse(
    values: NDArray[np.float32], kind: Kind, seen: SparseImage, source_hw: tuple[int, int]
) -> SparseFit:
    """Fit a map (H, W) of a photograph of `source_hw` to the points that it sees.

    Inverse depth has an unknown scale and shift. Depth has an unknown scale alone: a shift of its
    inverse would bend what is flat, and a scale by the median holds with few points and many wrong
    ones. Where there is no fit, the scale is 0. Raises ImageError for points of another shape.
    """
    seen.lens(source_hw)
    found, warning = _NO_LINE, None
    try:
        found = _line(values, kind, seen, source_hw)
    except UsageError as error:
        warning = str(error).replace("anchor", "point")
        logger.warning(
            "%s: %s; trainers leave its depth out (scale 0)", printable(seen.name), warning
        )
    first, last = _span(_inverse(values, kind), found, fitted=warning is None)
    middle = float(np.median(found.errors)) if warning is None else None
    if middle is not None and middle > _BAD_RESIDUAL:
        logger.warning(
            "%s: its depth and its points disagree by %.0f %% in the middle",
            printable(seen.name),
            100 * middle,
        )
    return SparseFit(
        image=seen.name,
        factor=found.factor,
        shift=found.shift,
        first=first,
        last=last,
        num_points=len(seen.depth),
        num_outliers=found.num_outliers,
        median_error=middle,
        warning=warning,
    )


def fit_facts(fit: SparseFit, sparse: Sparse) -> dict[str, Any]:
    """What results say about a photograph's fit; scale and offset as trainers take them."""
    facts: dict[str, Any] = {
        "image": fit.image,
        "scale": (fit.last - fit.first) * _DIVISOR / _TOP if fit.warning is None else 0.0,
        "offset": fit.first if fit.warning is None else 0.0,
        "num_points": fit.num_points,
        "num_outliers": fit.num_outliers,
        "median_error": fit.median_error,
        "model": sparse.digest,
    }
    return facts if fit.warning is None else {**facts, "warning": fit.warning}


def write_splat(stream: BinaryIO, depth: DepthMap) -> dict[str, Any]:
    """Write 1 / depth in the model's unit over 65,536 levels, from far to near.

    What is beyond infinity or has no value is as far as can be. Without a fit the unit is the
    map's own.
    """
    fit = depth.sparse_fit or _unfitted(depth)
    inverse = _inverse(depth.values, depth.kind) * np.float32(fit.factor) + np.float32(fit.shift)
    levels = scale_to_levels(inverse, lo=fit.first, hi=fit.last, levels=_TOP + 1)
    levels[~np.isfinite(inverse)] = 0
    facts = {
        "kind": "inverse_depth",
        "unit": "1 / the COLMAP model's unit" if fit.warning is None else "none",
        "polarity": "large is near",
        "dtype": "uint16",
        "first": fit.first,
        "last": fit.last,
        "max_error": (fit.last - fit.first) / _TOP / 2,
        "min": fit.first,
        "max": fit.last,
    }
    save_png(stream, Image.fromarray(levels), {**depth.facts, **facts}, smooth=True)
    return facts


def write_params(stream: BinaryIO, files: Iterable[Path], sparse: Sparse, depths: Path) -> None:
    """Write depth_params.json from the sidecars of photographs that were fitted to this model.

    depths: the folder of results. Raises ImageError where none has a fit: trainers would take each
    depth as it is.
    """
    entries = _entries(files, sparse)
    if not any(entry["scale"] for entry in entries.values()):
        raise ImageError(
            f"no photograph's depth fits its points; {PARAMS_NAME} is not written, since trainers "
            "would take the depth as it is"
        )
    missing = [image.name for image in sparse.images.values() if image.key not in entries]
    if missing:
        logger.warning(
            "%d of the model's %d images have no depth in %s yet, the first is %s; trainers stop "
            "where one is missing",
            len(missing),
            len(sparse.images),
            printable(depths),
            printable(missing[0]),
        )
    scales = {key: entry["scale"] for key, entry in entries.items() if entry["scale"]}
    middle = float(np.median([*scales.values()]))
    odd = [key for key, scale in scales.items() if not middle / 5 <= scale <= 5 * middle]
    if odd:
        logger.warning(
            "%s of 5 times the others' median or more, or a fifth of it, the first is that of %s; "
            "trainers leave such depth out",
            counted(len(odd), "scale"),
            printable(odd[0]),
        )
    stream.write(json.dumps(entries, indent=2).encode() + b"\n")


def is_ours(path: Path) -> bool:
    """Whether depth_params.json is as `write_params` has it. Raises OSError."""
    try:
        found = json.loads(path.read_bytes())
        return all("num_points" in entry and "median_error" in entry for entry in found.values())
    except (ValueError, AttributeError, TypeError):
        return False


def _entries(files: Iterable[Path], sparse: Sparse) -> dict[str, dict[str, Any]]:
    entries = {}
    for path in files:
        try:
            fact: Mapping[str, Any] = json.loads(path.read_bytes())[FACT]
            if fact["model"] != sparse.digest:  # fitted to another model, by an earlier run
                continue
            image = sparse.images[fact["image"]]
            told = ("scale", "offset", "num_points", "num_outliers", "median_error")
            entries[image.key] = {name: fact[name] for name in told}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return dict(sorted(entries.items()))


def _inverse(values: NDArray[np.float32], kind: Kind) -> NDArray[np.float32]:
    """Values of a kind -> inverse depth; NaN where there is none, 0 at infinity."""
    if near_is_large(kind):
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(values > 0, 1 / values, np.float32(np.nan))
    known = inverse[np.isfinite(inverse)]
    if not known.size:
        return inverse
    return np.minimum(inverse, np.float32(_NEAREST) * np.median(known))


def _unfitted(depth: DepthMap) -> SparseFit:
    first, last = _span(_inverse(depth.values, depth.kind), _NO_LINE, fitted=False)
    return SparseFit(
        image="",
        factor=_NO_LINE.factor,
        shift=_NO_LINE.shift,
        first=first,
        last=last,
        num_points=0,
        num_outliers=0,
        median_error=None,
        warning="no points were given",
    )


class Line(NamedTuple):
    """1 / depth = factor · inverse + shift; errors: of the points' depths, relative (N,)."""

    factor: float
    shift: float
    errors: NDArray[np.float64]
    num_outliers: int


_NO_LINE = Line(1.0, 0.0, np.empty(0), 0)


def _line(
    values: NDArray[np.float32], kind: Kind, seen: SparseImage, source_hw: tuple[int, int]
) -> Line:
    """Fit the values at the points. Raises UsageError where that cannot be."""
    if len(seen.depth) < _FEWEST_POINTS:
        raise UsageError(
            f"it sees {counted(len(seen.depth), 'point')}, and {_FEWEST_POINTS} are needed"
        )
    unit = float(np.median(seen.depth))  # a model's may be a thousandth or a thousand metres
    anchors = Anchors(seen.xy_in(source_hw), seen.depth.astype(np.float64) / unit)
    at_points = sample_at(values, anchors, source_hw)
    if not near_is_large(kind):
        fit = fit_metres(at_points, anchors.metres)
        factor, shift = 1 / fit.scale, 0.0
    elif _is_flat(at_points):
        raise UsageError("its points lie at one depth, which fixes no scale and shift")
    else:
        fit = fit_inverse(at_points, anchors.metres)
        factor, shift = fit.scale, fit.shift
    return Line(factor / unit, shift / unit, np.abs(fit.residuals), fit.num_outliers)


def _is_flat(values: NDArray[np.float64]) -> bool:
    known = values[np.isfinite(values)]
    return bool(known.size) and float(np.ptp(known)) <= 1e-4 * float(np.abs(known).max())


def _span(inverse: NDArray[np.float32], line: Line, *, fitted: bool) -> tuple[float, float]:
    """What the first and the last level stand for: all of the map, nothing beyond infinity.

    What has no value is at infinity too.
    """
    low, high = (line.factor * end + line.shift for end in finite_range(inverse))
    if fitted and (low < 0 or high <= low or not np.isfinite(inverse).all()):
        low = 0.0
    return low, max(high, low)
