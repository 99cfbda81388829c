"""How good predictions are: depth and segmentation metrics, on NumPy arrays.

Depth goes through the steps of the published protocols: choose the pixels (measured, within the
caps and the crop), align the prediction to the target, clip it to the caps, compare. Means are over
pixels within an image; how images are averaged is the business of `evaluation`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ConfigError, ImageError
from dptcli.kinds import Kind, in_metres

Alignment = Literal["none", "scale", "median", "scale-shift"]
Crop = Literal["none", "kitti-garg", "nyu-eigen"]
Space = Literal["disparity", "depth"]

ALIGNMENTS: tuple[Alignment, ...] = ("none", "scale", "median", "scale-shift")
CROPS: tuple[Crop, ...] = ("none", "kitti-garg", "nyu-eigen")
DEPTH_METRICS = (
    *("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog"),
    *("delta1", "delta2", "delta3", "ordinal"),
)

# Aligned disparity below this is raised to it where no --max-depth says how far "far" is: the
# line that fits best may cross 0, and 1 / 0 is no depth. In metres it stands for 1 km.
MIN_DISPARITY = 1e-3

# The same for a fit in depth, whose line may put the nearest points behind the camera: 1 mm.
MIN_DEPTH = 1e-3

# Two depths are in an order that counts when they differ by more than this share of their mean.
ORDINAL_MARGIN = 0.1

# KITTI's crop of Garg et al. (ECCV 2016): top, bottom of the height; left, right of the width.
_GARG = (0.40810811, 0.99189189, 0.03594771, 0.96405229)
# NYU Depth v2's crop of Eigen et al. (NIPS 2014): rows 45…470, columns 41…600 of 480×640.
_NYU_EIGEN = (slice(45, 471), slice(41, 601))
_NYU_HW = (480, 640)


@dataclass(frozen=True, kw_only=True)
class DepthProtocol:
    """How depth is compared; ConfigError for a value that makes no sense.

    align: what the prediction is fitted by, see `align_disparity`; space: what that fit is made in,
    disparity, or depth for predictions that are depth up to scale and shift. min_depth, max_depth:
    the caps in the target's unit: targets beyond them are left out, predictions are clipped to
    them. crop: the part of the image that counts. num_pairs: pixel pairs drawn for ordinal
    accuracy, with seed.
    """

    align: Alignment = "scale-shift"
    min_depth: float | None = None
    max_depth: float | None = None
    crop: Crop = "none"
    num_pairs: int = 50_000
    seed: int = 0
    space: Space = "disparity"

    def __post_init__(self) -> None:
        for name, allowed in (("align", ALIGNMENTS), ("crop", CROPS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} {getattr(self, name)!r} must be {', '.join(allowed)}")
        for name in ("min_depth", "max_depth"):
            cap = getattr(self, name)
            if cap is not None and not (np.isfinite(cap) and cap > 0):
                raise ConfigError(f"{name} {cap} must be above 0")
        if self.far <= self.near:
            raise ConfigError(f"min_depth {self.near} must be below max_depth {self.far}")
        if self.num_pairs < 1:
            raise ConfigError(f"num_pairs {self.num_pairs} must be 1 or more")

    @property
    def near(self) -> float:
        """The least depth that a prediction may have after clipping."""
        return self.min_depth or 0.0

    @property
    def far(self) -> float:
        """The greatest depth that a prediction may have after clipping."""
        return self.max_depth or max(1 / MIN_DISPARITY, 10 * self.near)

    def far_of(self, truth: NDArray[np.floating]) -> float:
        """The same for a target's pixels: a cap that nobody gave does not cut into their unit."""
        return self.far if self.max_depth else max(self.far, 10 * float(truth.max()))


@dataclass(frozen=True, kw_only=True)
class DepthScores:
    """One image's depth scores; depths in the target's unit, logarithms natural but for log10.

    With p predicted, t measured, e = ln p - ln t, means over the pixels that count:
    abs_rel |p-t|/t; sq_rel (p-t)²/t; rmse √(p-t)²; rmse_log √e²; log10 |log10 p - log10 t|;
    silog 100 √(mean e² - (mean e)²); delta_i the share with max(p/t, t/p) < 1.25^i; ordinal the
    share of pixel pairs in the right order (`ordinal_accuracy`).
    coverage: the share of the pixels that count for which there is a prediction. scale and shift:
    the fit, in the protocol's space. Sources: Eigen et al. 2014 (all but silog, ordinal), the KITTI
    depth benchmark (silog).
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    log10: float
    silog: float
    delta1: float
    delta2: float
    delta3: float
    ordinal: float
    num_pixels: int
    num_pairs: int
    coverage: float
    scale: float
    shift: float


def score_depth(
    disparity: NDArray[np.floating],
    target: NDArray[np.floating],
    *,
    protocol: DepthProtocol,
) -> tuple[DepthScores, NDArray[np.float64]]:
    """Score one image; return the scores and the aligned depth (H, W), NaN where not predicted.

    disparity: (H, W) inverse depth, large = near, in any unit (1 / target's unit for align "none");
    non-finite = not predicted. target: depth (H, W), 0 or non-finite = not measured.
    Raises ImageError when the shapes differ or no pixel is left to compare.
    """
    if disparity.shape != target.shape:
        raise ImageError(f"prediction {disparity.shape} and target {target.shape} differ in shape")
    counting = counting_pixels(target, protocol=protocol)
    predicted = np.isfinite(disparity)
    both = counting & predicted
    if not both.any():
        where = "is measured within the caps and the crop" if not counting.any() else "is predicted"
        raise ImageError(f"no pixel of the target {where}; check the caps, the crop and the kind")
    values, truth = disparity[both].astype(np.float64), target[both].astype(np.float64)
    aligned = np.full(disparity.shape, np.nan)
    whole = disparity[predicted].astype(np.float64)
    far = protocol.far_of(truth)
    if protocol.space == "depth":
        scale, shift = align_depth(1 / values, truth, align=protocol.align)
        near = max(protocol.near, MIN_DEPTH)
        aligned[predicted] = np.clip(scale / whole + shift, near, far)
    else:
        scale, shift = align_disparity(values, 1 / truth, align=protocol.align)
        # Clipping to the caps is the clamp of the aligned disparity as well: 1 / far is above 0.
        lifted = np.maximum(scale * whole + shift, 1 / far)
        aligned[predicted] = np.maximum(1 / lifted, protocol.near)
    ordinal, num_pairs = ordinal_accuracy(
        values, truth, num_pairs=protocol.num_pairs, seed=protocol.seed
    )
    scores = DepthScores(
        **depth_errors(aligned[both], truth),
        ordinal=ordinal,
        num_pixels=int(both.sum()),
        num_pairs=num_pairs,
        coverage=float(both.sum() / counting.sum()),
        scale=scale,
        shift=shift,
    )
    return scores, aligned


def counting_pixels(target: NDArray[np.floating], *, protocol: DepthProtocol) -> NDArray[np.bool_]:
    """Return which pixels (H, W) count: measured, within the caps, inside the crop.

    Raises ImageError for a crop that is defined for another size only.
    """
    counting = np.isfinite(target) & (target > 0)
    if protocol.min_depth is not None:
        counting &= target >= protocol.min_depth
    if protocol.max_depth is not None:
        counting &= target <= protocol.max_depth
    if protocol.crop == "none":
        return counting
    inside = np.zeros_like(counting)
    inside[crop_window(counting.shape, crop=protocol.crop)] = True
    return counting & inside


def crop_window(hw: tuple[int, ...], *, crop: Crop) -> tuple[slice, slice]:
    """Return the rows and columns of a published crop for an image of (height, width) `hw`."""
    if crop == "none":
        return slice(None), slice(None)
    height, width = hw
    if crop == "nyu-eigen":
        if hw != _NYU_HW:
            raise ImageError(
                f"the crop nyu-eigen is defined on 480×640, the target is {height}×{width}; "
                "leave --crop out"
            )
        return _NYU_EIGEN
    # int() cuts, as in the protocol's own astype(int32).
    top, bottom = int(_GARG[0] * height), int(_GARG[1] * height)
    left, right = int(_GARG[2] * width), int(_GARG[3] * width)
    return slice(top, bottom), slice(left, right)


def align_disparity(
    disparity: NDArray[np.float64], truth: NDArray[np.float64], *, align: Alignment
) -> tuple[float, float]:
    """Return scale s and shift b so that s · disparity + b fits `truth`; both are inverse depth.

    none: (1, 0). scale-shift: least squares over all pixels given (Ranftl et al., MiDaS, 2020).
    scale: least squares without shift. median: the medians of the depths agree (Zhou et al.,
    SfMLearner, 2017). A prediction that is constant gets scale 0 and the mean as its shift.
    """
    if align == "none":
        return 1.0, 0.0
    if align == "scale-shift":
        centred = disparity - disparity.mean()
        variance = float(np.dot(centred, centred))
        # Rounding leaves a constant with a variance of this order.
        if variance <= disparity.size * (1e-12 * float(np.abs(disparity).max())) ** 2:
            return 0.0, float(truth.mean())
        scale = float(np.dot(centred, truth - truth.mean())) / variance
        return scale, float(truth.mean() - scale * disparity.mean())
    if align == "scale":
        power = float(np.dot(disparity, disparity))
        return (float(np.dot(disparity, truth)) / power if power else 0.0), 0.0
    # What is at or behind infinity counts as infinitely far: it has its place in the order.
    depth = np.divide(1.0, disparity, out=np.full_like(disparity, np.inf), where=disparity > 0)
    middle = float(np.median(depth))
    return (middle / float(np.median(1 / truth)) if np.isfinite(middle) else 0.0), 0.0


def align_depth(
    depth: NDArray[np.float64], truth: NDArray[np.float64], *, align: Alignment
) -> tuple[float, float]:
    """Return scale s and shift b so that s · depth + b fits `truth`; as `align_disparity`."""
    if align != "median":
        return align_disparity(depth, truth, align=align)
    middle = float(np.median(depth))
    return (float(np.median(truth)) / middle if middle else 0.0), 0.0


def own_protocol(kind: Kind | str) -> DepthProtocol:
    """Return how predictions of a kind are compared where nobody says it.

    Metres (of heights, too) as they are; depth without scale by scale and shift in depth, as its
    authors align it (Depth Anything 3, 2025); inverse depth by scale and shift in disparity.
    """
    if in_metres(kind):
        return DepthProtocol(align="none")
    return DepthProtocol(space="depth" if kind == "depth" else "disparity")


def depth_errors(depth: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float]:
    """Return the errors that DepthScores describes, but for ordinal; both (N,), above 0."""
    difference = depth - truth
    log_ratio = np.log(depth) - np.log(truth)
    ratio = np.maximum(depth / truth, truth / depth)
    return {
        "abs_rel": float(np.mean(np.abs(difference) / truth)),
        "sq_rel": float(np.mean(difference**2 / truth)),
        "rmse": float(np.sqrt(np.mean(difference**2))),
        "rmse_log": float(np.sqrt(np.mean(log_ratio**2))),
        "log10": float(np.mean(np.abs(log_ratio)) / np.log(10)),
        # The variance, computed around the mean: the difference of two squares can fall below 0.
        "silog": float(100 * np.std(log_ratio)),
        **{f"delta{i}": float(np.mean(ratio < 1.25**i)) for i in (1, 2, 3)},
    }


def ordinal_accuracy(
    disparity: NDArray[np.floating], truth: NDArray[np.floating], *, num_pairs: int, seed: int
) -> tuple[float, int]:
    """Return the share of pixel pairs whose order is right, and how many pairs counted.

    disparity: (N,), large = near; truth: depth (N,). `num_pairs` pairs are drawn with the seed;
    those count whose depths differ by more than ORDINAL_MARGIN of their mean. A tie in the
    prediction is no order, and wrong. NaN if no pair counts. Needs no alignment. After
    Chen et al., Depth in the Wild, 2016.
    """
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, truth.size, size=(2, num_pairs))
    near, far = truth[first], truth[second]
    counts = np.abs(near - far) > ORDINAL_MARGIN * (near + far) / 2
    if not counts.any():
        return float("nan"), 0
    lead = disparity[first[counts]] - disparity[second[counts]]
    right = lead * (far - near)[counts] > 0
    return float(np.mean(right)), int(counts.sum())


def lower_is_nearer(hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return the baseline without a network, disparity (H, W): the row's centre / height."""
    height, width = hw
    rows = (np.arange(height) + 0.5) / height
    return np.broadcast_to(rows[:, None], (height, width))


# --- segmentation --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SegmentScores:
    """What a confusion matrix says.

    iou: per class, NaN where a class occurs neither in the targets nor in the predictions. miou:
    their mean without NaN. pixel_accuracy: the share of pixels that are right. mean_accuracy: the
    mean over the targets' classes of the share of their pixels found. Source: Long et al. 2015.
    """

    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    iou: tuple[float, ...]
    num_pixels: int


def confusion_matrix(
    prediction: NDArray[np.integer],
    target: NDArray[np.integer],
    *,
    num_classes: int,
    ignore_index: int = 255,
) -> NDArray[np.int64]:
    """Count pixels (num_classes, num_classes + 1): target's class by row, predicted by column.

    prediction, target: class ids (H, W). The last column counts predictions outside the classes:
    they are wrong. Targets of ignore_index are left out. Raises ImageError when the shapes differ,
    a target is no class, or no pixel is left.
    """
    if prediction.shape != target.shape:
        raise ImageError(f"prediction {prediction.shape} and target {target.shape} differ in shape")
    counting = target != ignore_index
    truth, found = target[counting].astype(np.int64), prediction[counting].astype(np.int64)
    if not truth.size:
        raise ImageError(f"every target pixel is {ignore_index}, which is ignored")
    wrong = truth[(truth < 0) | (truth >= num_classes)]
    if wrong.size:
        raise ImageError(
            f"the target holds class {int(wrong[0])}; it must be 0 to {num_classes - 1}, or "
            f"{ignore_index} to be ignored"
        )
    found[(found < 0) | (found >= num_classes)] = num_classes
    shape = (num_classes, num_classes + 1)
    places = truth * shape[1] + found
    return np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)


def score_segments(confusion: NDArray[np.int64]) -> SegmentScores:
    """Return the scores of a confusion matrix, of one image or of many added up."""
    classes = confusion[:, :-1]
    right = np.diag(classes).astype(np.float64)
    in_target, in_prediction = confusion.sum(axis=1), classes.sum(axis=0)
    iou = _ratio(right, in_target + in_prediction - right)
    return SegmentScores(
        miou=float(np.nanmean(iou)),
        pixel_accuracy=float(right.sum() / confusion.sum()),
        mean_accuracy=float(np.nanmean(_ratio(right, in_target))),
        iou=tuple(iou.tolist()),
        num_pixels=int(confusion.sum()),
    )


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Return part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
