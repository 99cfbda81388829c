"""Pictures of an evaluation: error histogram, confusion matrix, a sheet of best and worst images.

matplotlib's objects are used without pyplot: no window system, no global state, nothing leaks.
"""

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dptcli.depth.colormaps import palette
from dptcli.errors import ImageError
from dptcli.evaluation.labelmaps import LabelMap
from dptcli.evaluation.maps import resize_labels
from dptcli.evaluation.measure import (
    ERROR_EDGES,
    DepthReport,
    DepthResult,
    PredictDepth,
    PredictLabels,
    Result,
    SegmentReport,
    SegmentResult,
    depth_maps,
)
from dptcli.evaluation.pairs import Pair, read_labels
from dptcli.inputs.find import decode_image
from dptcli.inputs.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_THUMB = 420  # pixels of a sheet's long side
_IGNORED_RGB = (60, 60, 60)
_WRONG_RGB = (220, 40, 40)


def plot_errors(report: DepthReport) -> bytes:
    """Draw each set's error histogram, the baseline dashed, as PNG bytes.

    The axis is predicted / measured depth; every image of a set has the same weight.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    centres = 2 ** ((ERROR_EDGES[:-1] + ERROR_EDGES[1:]) / 2)
    for place, name in enumerate(report.set_names):
        done = report.done(name)
        colour = f"C{place % 10}"
        for rows, style, label in (
            ([r.errors for r in done if r.errors is not None], "-", _plain(name)),
            ([r.baseline_errors for r in done if r.baseline_errors is not None], ":", None),
        ):
            if rows:
                axes.plot(centres, 100 * np.mean(rows, axis=0), style, color=colour, label=label)
    axes.axvline(1, color="0.7", linewidth=0.8, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.25, 0.5, 0.8, 1, 1.25, 2, 4], ["¼", "½", "0.8", "1", "1.25", "2", "4"])
    axes.minorticks_off()
    axes.set_xlabel("predicted / measured depth")
    axes.set_ylabel("pixels, %")
    axes.set_ylim(bottom=0)
    dotted = any(result.baseline is not None for result in report.results)
    axes.set_title(
        "Depth errors" + " (dotted: the guess that lower is nearer)" * dotted, fontsize=10
    )
    axes.legend(fontsize=8)
    return _png(figure)


def plot_depth_sheet(report: DepthReport, predict: PredictDepth, *, num_each: int = 3) -> bytes:
    """Draw the images of least and greatest AbsRel: photograph, measured, predicted, error.

    Near is bright; the error's colours span half to twice the measured depth.
    """
    results = _extremes(report.results, _abs_rel, num_each)
    titles = ("photograph", "measured", "predicted, aligned", "red too near, blue too far")
    figure, rows = _sheet(len(results), titles)
    for axes, (result, word) in zip(rows, results, strict=True):
        assert result.scores is not None
        maps = depth_maps(result.pair, predict, protocol=report.protocol)
        target, aligned = _thin(maps["target"]), _thin(maps["aligned"])
        low, high = np.nanquantile(target, (0.01, 0.99))
        norm = LogNorm(max(float(low), 1e-6), max(float(high), float(low) * 1.01, 2e-6))
        near_bright = colormaps["inferno_r"].with_extremes(bad="0.85")
        _show(axes[0], _thumbnail(result.pair))
        axes[1].imshow(target, cmap=near_bright, norm=norm, interpolation="nearest")
        axes[2].imshow(aligned, cmap=near_bright, norm=norm, interpolation="nearest")
        octaves = np.log2(_thin(maps["aligned"] / maps["target"]))
        error_map = colormaps["RdBu"].with_extremes(bad="0.85")
        axes[3].imshow(octaves, cmap=error_map, vmin=-1, vmax=1, interpolation="nearest")
        name = f"{word}: {result.set_name}/{result.pair.name}"
        axes[0].set_ylabel(f"{_plain(name[-34:])}\nAbsRel {result.scores.abs_rel:.3f}", fontsize=6)
    return _png(figure)


def plot_segment_sheet(
    report: SegmentReport, predict: PredictLabels, *, labels: LabelMap, num_each: int = 3
) -> bytes:
    """Draw the images of highest and lowest mIoU: photograph, target, prediction, what is wrong."""
    results = _extremes(report.results, _lack_of_iou, num_each)
    figure, rows = _sheet(len(results), ("photograph", "target", "predicted", "wrong"))
    colours = palette(len(report.classes), dict(enumerate(report.classes)))
    colours = np.concatenate([colours, [_IGNORED_RGB] * 2]).astype(np.uint8)  # -1, -2
    for axes, (result, word) in zip(rows, results, strict=True):
        assert result.scores is not None
        stored = read_labels(result.pair)
        target = labels.group_targets(stored)
        predicted = resize_labels(predict(result.pair), (stored.shape[0], stored.shape[1]))
        found = labels.group_predictions(predicted)
        wrong = np.full((*stored.shape, 3), 255, np.uint8)
        wrong[found != target] = _WRONG_RGB
        wrong[target == labels.IGNORED] = _IGNORED_RGB
        _show(axes[0], _thumbnail(result.pair))
        for place, picture in enumerate((colours[target], colours[found], wrong), start=1):
            _show(axes[place], picture[:: _step(picture), :: _step(picture)])
        name = f"{word}: {result.set_name}/{result.pair.name}"
        axes[0].set_ylabel(f"{_plain(name[-34:])}\nmIoU {result.scores.miou:.3f}", fontsize=6)
    return _png(figure)


def plot_confusion(report: SegmentReport) -> bytes:
    """Draw the confusion matrix of all pixels, each target class's row in percent, as PNG bytes."""
    confusion = report.confusion().astype(np.float64)
    classes = [_plain(name) for name in report.classes]
    columns = [*classes, "no group"] if confusion[:, -1].any() else classes
    totals = confusion.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(confusion, totals, out=np.zeros_like(confusion), where=totals > 0)
    shares = shares[:, : len(columns)]
    size = 2.5 + 0.42 * len(columns)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("target")
    axes.set_title("Pixels of each target class, %", fontsize=10)
    if len(columns) <= 30:  # more would not be readable
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.5:
                colour = "white" if share > 60 else "black"
                axes.text(
                    column, row, f"{share:.0f}", ha="center", va="center", fontsize=7, color=colour
                )
    return _png(figure)


def _extremes(
    results: Sequence[Result], badness: Callable[[Result], float], num_each: int
) -> list[tuple[Result, str]]:
    """The best and the worst results with their word, each once, best first."""
    ranked = sorted((r for r in results if r.error is None), key=badness)
    num_best = min(num_each, (len(ranked) + 1) // 2)
    num_worst = min(num_each, len(ranked) - num_best)
    worst = ranked[len(ranked) - num_worst :]
    return [(r, "best") for r in ranked[:num_best]] + [(r, "worst") for r in worst]


def _abs_rel(result: DepthResult) -> float:
    return result.scores.abs_rel if result.scores else math.inf


def _lack_of_iou(result: SegmentResult) -> float:
    return -result.scores.miou if result.scores else math.inf


def _sheet(num_rows: int, titles: Sequence[str]) -> "tuple[Figure, NDArray[Any]]":
    figure = Figure(figsize=(2.6 * len(titles), 2.1 * num_rows), layout="constrained")
    rows: NDArray[Any] = figure.subplots(num_rows, len(titles), squeeze=False)
    for axes in rows.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for axes, title in zip(rows[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    return figure, rows


def _show(axes: "Axes", picture: NDArray[np.uint8]) -> None:
    axes.imshow(picture, interpolation="nearest")


def _plain(name: str) -> str:
    """A name as it is drawn: matplotlib takes no bytes beyond UTF-8, and $ for mathematics."""
    return printable(name).replace("$", r"\$")


def _thumbnail(pair: Pair) -> NDArray[np.uint8]:
    try:
        image = Image.fromarray(decode_image(pair.image))
    except ImageError:  # predictions made earlier can be judged without the photographs
        return np.full((3, 4, 3), 255, np.uint8)
    image.thumbnail((_THUMB, _THUMB))
    return np.asarray(image)


def _step(values: NDArray[np.generic]) -> int:
    return max(1, -(-max(values.shape[:2]) // _THUMB))


def _thin(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Average blocks of (H, W) without their NaN, so that sparse targets stay visible."""
    step = _step(values)
    height, width = (side // step * step for side in values.shape)
    blocks = values[:height, :width].reshape(height // step, step, width // step, step)
    known = np.isfinite(blocks)
    counts = known.sum(axis=(1, 3))
    sums = np.where(known, blocks, 0).sum(axis=(1, 3))
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)


def _png(figure: Figure) -> bytes:
    stream = BytesIO()
    FigureCanvasAgg(figure).print_png(stream)
    return stream.getvalue()
