"""Measure predictions over sets of pairs: every image scored, every set averaged, failures by name.

`predict` is any function from a Pair to its prediction: a loaded model, files written earlier, a
model in training. An image's score counts once in its set, and a set once in the mean of all.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dptcli.counted import counted
from dptcli.errors import ImageError, UsageError
from dptcli.evaluation.labelmaps import LabelMap
from dptcli.evaluation.maps import resize_labels, resize_map
from dptcli.evaluation.metrics import (
    DEPTH_METRICS,
    DepthProtocol,
    DepthScores,
    SegmentScores,
    confusion_matrix,
    lower_is_nearer,
    score_depth,
    score_segments,
)
from dptcli.evaluation.pairs import Pair, PairSet, read_depth, read_labels

logger = logging.getLogger(__name__)

# log2(predicted / measured) from a quarter to four times, in 64 bins; what lies beyond is in the
# outermost ones.
ERROR_EDGES = np.linspace(-2, 2, 65)

# The kinds of a depth prediction whose large values are near.
INVERSE_KINDS = ("inverse_depth", "disparity")


@dataclass(frozen=True)
class DepthPrediction:
    """values (H, W) of any size; kind inverse_depth or disparity (large = near), depth, depth_m or
    height_m, which is compared with measured heights as metres are with metres.

    Non-finite means not predicted, and so does 0 or less in a depth.
    """

    values: NDArray[np.floating]
    kind: str = "inverse_depth"

    def disparity(self, hw: tuple[int, int]) -> NDArray[np.float64]:
        """Return 1 / depth at (height, width) `hw`, resized as it came, NaN where not predicted."""
        _check_orientation(self.values.shape, hw)
        if self.kind in INVERSE_KINDS:
            return resize_map(self.values, hw).astype(np.float64)
        predicted = np.isfinite(self.values) & (self.values > 0)
        depth = resize_map(np.where(predicted, self.values, np.nan), hw).astype(np.float64)
        return np.asarray(1 / depth)


PredictDepth = Callable[[Pair], DepthPrediction]
PredictLabels = Callable[[Pair], NDArray[np.integer]]


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """One image's account: error says why it has no scores."""

    set_name: str
    pair: Pair
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class DepthResult(ImageResult):
    """errors, baseline_errors: shares of the pixels in the bins of ERROR_EDGES."""

    scores: DepthScores | None = None
    errors: NDArray[np.float64] | None = None
    baseline: DepthScores | None = None
    baseline_errors: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class SegmentResult(ImageResult):
    """pixels: of its confusion matrix (classes, classes + 1), see `metrics.confusion_matrix`, the
    flat places and the counts above 0. Whole, those of many photographs would fill the memory.
    """

    scores: SegmentScores | None = None
    pixels: tuple[NDArray[np.intp], NDArray[np.int64]] | None = None


Result = TypeVar("Result", DepthResult, SegmentResult)


@dataclass(frozen=True, kw_only=True)
class Report(Generic[Result]):
    """The results of a run, in order."""

    results: tuple[Result, ...]

    @property
    def failed(self) -> list[Result]:
        """The images without scores."""
        return [result for result in self.results if result.error is not None]

    @property
    def set_names(self) -> list[str]:
        """The sets, in order, also those whose every image failed."""
        return list(dict.fromkeys(result.set_name for result in self.results))

    def done(self, set_name: str) -> list[Result]:
        """Return a set's images that have scores."""
        return [r for r in self.results if r.set_name == set_name and r.error is None]


@dataclass(frozen=True, kw_only=True)
class DepthReport(Report[DepthResult]):
    """Depth results with their means; the baseline is "lower is nearer" on the same pixels."""

    protocol: DepthProtocol

    def set_mean(self, set_name: str, *, baseline: bool = False) -> dict[str, float]:
        """Return each metric's mean over a set's images, NaN for a set without scores."""
        rows = [result.baseline if baseline else result.scores for result in self.done(set_name)]
        return {
            metric: _mean([getattr(row, metric) for row in rows if row is not None])
            for metric in DEPTH_METRICS
        }

    def mean(self, *, baseline: bool = False) -> dict[str, float]:
        """Return each metric's mean over the sets, one share each; sets without scores left out."""
        rows = [self.set_mean(name, baseline=baseline) for name in self.set_names]
        return {metric: _mean([row[metric] for row in rows]) for metric in DEPTH_METRICS}


@dataclass(frozen=True, kw_only=True)
class SegmentReport(Report[SegmentResult]):
    """Segmentation results; classes are the names of the confusion matrices' rows."""

    classes: tuple[str, ...]

    def confusion(self, set_name: str | None = None) -> NDArray[np.int64]:
        """Return the pixels of a set, or of all sets, added up."""
        total = np.zeros((len(self.classes), len(self.classes) + 1), np.int64)
        for result in self.results:
            if result.pixels is not None and set_name in (None, result.set_name):
                places, counts = result.pixels
                total.flat[places] += counts
        return total

    def set_scores(self, set_name: str) -> SegmentScores | None:
        """Return the scores of a set's pixels together, None without any."""
        confusion = self.confusion(set_name)
        return score_segments(confusion) if confusion.any() else None

    def mean(self) -> SegmentScores | None:
        """Return the mean of the sets' scores, one share each; a class's over the sets it is in."""
        rows = [row for row in map(self.set_scores, self.set_names) if row is not None]
        if not rows:
            return None
        return SegmentScores(
            miou=_mean([row.miou for row in rows]),
            pixel_accuracy=_mean([row.pixel_accuracy for row in rows]),
            mean_accuracy=_mean([row.mean_accuracy for row in rows]),
            iou=tuple(_mean(column) for column in zip(*(row.iou for row in rows), strict=True)),
            num_pixels=sum(row.num_pixels for row in rows),
        )


def evaluate_depth(
    sets: Sequence[PairSet],
    predict: PredictDepth,
    *,
    protocol: DepthProtocol | None = None,
    baseline: bool = True,
    on_image: Callable[[DepthResult], None] = lambda _result: None,
) -> DepthReport:
    """Score depth over sets of pairs; `.mean()["abs_rel"]` is one number to stop training by.

    An image that fails is a result with an error, and the others go on. Raises UsageError when
    `predict` does.
    """
    protocol = protocol or DepthProtocol()
    results = []
    for set_name, pair in _each(sets):
        try:
            result = _depth_result(set_name, pair, predict, protocol=protocol, baseline=baseline)
        except UsageError:
            raise
        except Exception as error:
            result = DepthResult(set_name=set_name, pair=pair, error=_reason(pair, error))
        results.append(result)
        on_image(result)
    return DepthReport(results=tuple(results), protocol=protocol)


def evaluate_segments(
    sets: Sequence[PairSet],
    predict: PredictLabels,
    *,
    labels: LabelMap,
    on_image: Callable[[SegmentResult], None] = lambda _result: None,
) -> SegmentReport:
    """Score class ids over sets of pairs in the groups of a label map; failures as in depth."""
    results = []
    for set_name, pair in _each(sets):
        try:
            confusion = segment_confusion(predict(pair), read_labels(pair), labels=labels)
            scores = score_segments(confusion)
            places = np.flatnonzero(confusion)
            pixels = places, confusion.flat[places]
            result = SegmentResult(set_name=set_name, pair=pair, scores=scores, pixels=pixels)
        except UsageError:
            raise
        except Exception as error:
            result = SegmentResult(set_name=set_name, pair=pair, error=_reason(pair, error))
        results.append(result)
        on_image(result)
    report = SegmentReport(results=tuple(results), classes=labels.groups)
    _warn_of_absent(report)
    return report


def _warn_of_absent(report: SegmentReport) -> None:
    """Say which classes no target has: a score of 1 may only mean that they were never asked."""
    pixels = report.confusion().sum(axis=1)
    absent = [name for name, num in zip(report.classes, pixels, strict=True) if not num]
    if not absent or not pixels.any():
        return
    more = counted(len(absent) - 5, "more class", "more classes")
    logger.warning(
        "no target has a pixel of %s%s, so no score tells of it; a mask of 0 and 255 needs 1 for "
        "255, which is ignored",
        ", ".join(absent[:5]),
        f" and {more}" if len(absent) > 5 else "",
    )


def segment_confusion(
    prediction: NDArray[np.integer], target: NDArray[np.integer], *, labels: LabelMap
) -> NDArray[np.int64]:
    """Return one image's confusion matrix; the prediction (H', W') takes the target's size."""
    _check_orientation(prediction.shape, target.shape)
    resized = resize_labels(prediction, (target.shape[0], target.shape[1]))
    return confusion_matrix(
        labels.group_predictions(resized),
        labels.group_targets(target),
        num_classes=len(labels.groups),
        ignore_index=labels.IGNORED,
    )


def _depth_result(
    set_name: str, pair: Pair, predict: PredictDepth, *, protocol: DepthProtocol, baseline: bool
) -> DepthResult:
    target = read_depth(pair)
    hw = (target.shape[0], target.shape[1])
    disparity = predict(pair).disparity(hw)
    scores, aligned = score_depth(disparity, target, protocol=protocol)
    result = DepthResult(
        set_name=set_name, pair=pair, scores=scores, errors=error_histogram(aligned, target)
    )
    if not baseline:
        return result
    rows = np.where(np.isfinite(disparity), lower_is_nearer(hw), np.nan)
    fitted = baseline_protocol(protocol)
    base_scores, base_aligned = score_depth(rows, target, protocol=fitted)
    base_errors = error_histogram(base_aligned, target)
    return replace(result, baseline=base_scores, baseline_errors=base_errors)


def baseline_protocol(protocol: DepthProtocol) -> DepthProtocol:
    """Return how the baseline is scored: as the predictions, but never without a fit."""
    # Rows of a picture are no metres; the baseline gets the most generous fit then.
    return (
        replace(protocol, align="scale-shift", space="disparity")
        if protocol.align == "none"
        else replace(protocol, space="disparity")
    )


def error_histogram(
    aligned: NDArray[np.float64], target: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the shares of measured pixels by log2(predicted / measured), bins of ERROR_EDGES."""
    both = (target > 0) & np.isfinite(target) & np.isfinite(aligned) & (aligned > 0)
    octaves = np.log2(aligned[both] / target[both])
    counts, _ = np.histogram(np.clip(octaves, ERROR_EDGES[0], ERROR_EDGES[-1]), bins=ERROR_EDGES)
    return counts / max(1, counts.sum())


def depth_maps(
    pair: Pair, predict: PredictDepth, *, protocol: DepthProtocol
) -> Mapping[str, NDArray[np.floating]]:
    """Return an image's "target" and "aligned" depth (H, W) again, NaN where there is none."""
    target = read_depth(pair)
    disparity = predict(pair).disparity((target.shape[0], target.shape[1]))
    _, aligned = score_depth(disparity, target, protocol=protocol)
    return {"target": np.where(target > 0, target, np.nan), "aligned": aligned}


def _each(sets: Sequence[PairSet]) -> Iterator[tuple[str, Pair]]:
    return ((pairs.name, pair) for pairs in sets for pair in pairs.pairs)


def _check_orientation(prediction: Sequence[int], target: Sequence[int]) -> None:
    """Raise ImageError when one map stands and the other lies: they cannot show the same."""
    if (prediction[0] - prediction[1]) * (target[0] - target[1]) < 0:
        raise ImageError(
            f"the prediction is {prediction[0]}×{prediction[1]} and the target "
            f"{target[0]}×{target[1]}: turn one of them (EXIF turns photographs, never targets)"
        )


def _reason(pair: Pair, error: Exception) -> str:
    """Say in one line why an image failed; the traceback of what we did not foresee is logged."""
    if isinstance(error, ImageError):
        return str(error)
    logger.debug("%s failed", pair.name, exc_info=error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what is not NaN, NaN for nothing."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
