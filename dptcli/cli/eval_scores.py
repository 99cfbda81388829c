"""An evaluation for people and programs: tables for 80 columns, CSV rows, one JSON document."""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dptcli.evaluation.measure import DepthReport, SegmentReport
from dptcli.evaluation.metrics import DEPTH_METRICS, ORDINAL_MARGIN, DepthScores, SegmentScores
from dptcli.inputs.decode import printable

if TYPE_CHECKING:
    from dptcli.evaluation.measure import Report

# metric -> its heading in two lines, and how many decimals tell something
_HEADINGS = {
    "abs_rel": ("Abs\nRel", 3),
    "sq_rel": ("Sq\nRel", 3),
    "rmse": ("\nRMSE", 3),
    "rmse_log": ("RMSE\nlog", 3),
    "log10": ("\nlog10", 3),
    "silog": ("SI\nLog", 1),
    "delta1": ("\nδ1", 3),
    "delta2": ("\nδ2", 3),
    "delta3": ("\nδ3", 3),
    "ordinal": ("ordi-\nnal", 3),
}
_SEGMENT_SCORES = ("miou", "pixel_accuracy", "mean_accuracy")
BASELINE_NAME = "a mere guess"
_LOOK: dict[str, Any] = {
    "box": None,
    "pad_edge": False,
    "padding": (0, 0, 0, 1),
    "title_justify": "left",
    "caption_justify": "left",
}


def depth_table(report: DepthReport, *, title: str) -> Table:
    """Return the sets' rows with their mean, and the baseline's, in at most 80 columns."""
    caption = (
        f"ordinal: of {report.protocol.num_pairs:,} pixel pairs an image, those whose depths "
        f"differ by more than {ORDINAL_MARGIN:.0%}. Predicted depth is cut at "
        f"{report.protocol.far:g}."
    )
    table = Table(title=title, caption=caption, **_LOOK)
    table.add_column("\nset", max_width=18, overflow="ellipsis", no_wrap=True)
    table.add_column("\nn", justify="right")
    for heading, _ in _HEADINGS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    _add_depth_rows(table, report, baseline=False)
    if any(result.baseline is not None for result in report.results):
        table.add_row()
        table.add_row(f"[italic]{BASELINE_NAME}[/]")
        _add_depth_rows(table, report, baseline=True)
        table.caption = f"{caption} The guess: the lower in the picture, the nearer."
    return table


def _add_depth_rows(table: Table, report: DepthReport, *, baseline: bool) -> None:
    for name in report.set_names:
        row = report.set_mean(name, baseline=baseline)
        table.add_row(printable(name), str(len(report.done(name))), *_depth_cells(row))
    if len(report.set_names) > 1:
        mean = _depth_cells(report.mean(baseline=baseline))
        num_images = sum(len(report.done(name)) for name in report.set_names)
        table.add_row("mean of sets", str(num_images), *mean, style="bold")


def _depth_cells(row: Mapping[str, float]) -> list[str]:
    return [_short(row[metric], decimals) for metric, (_, decimals) in _HEADINGS.items()]


def segment_table(report: SegmentReport, *, title: str) -> Table:
    """Return the sets' rows with their mean."""
    table = Table(title=title, **_LOOK | {"padding": (0, 0, 0, 2)})
    table.add_column("set", max_width=32, overflow="ellipsis", no_wrap=True)
    for heading in ("n", "mIoU", "pixel accuracy", "mean accuracy"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in report.set_names:
        row = report.set_scores(name)
        table.add_row(printable(name), str(len(report.done(name))), *_segment_cells(row))
    if len(report.set_names) > 1:
        num_images = sum(len(report.done(name)) for name in report.set_names)
        table.add_row("mean of sets", str(num_images), *_segment_cells(report.mean()), style="bold")
    return table


def class_table(report: SegmentReport) -> Table:
    """Return every class's IoU, a column for each set where they fit, and the mean."""
    names = report.set_names if 1 < len(report.set_names) <= 3 else []
    table = Table(**_LOOK | {"padding": (0, 0, 0, 2)})
    table.add_column("IoU by class", max_width=28, overflow="ellipsis", no_wrap=True)
    for name in names:
        table.add_column(printable(name), justify="right", max_width=12, overflow="ellipsis")
    table.add_column("mean of sets" if len(report.set_names) > 1 else "", justify="right")
    rows = [report.set_scores(name) for name in names] + [report.mean()]
    for place, label in enumerate(report.classes):
        table.add_row(label, *(_short(row.iou[place] if row else math.nan, 3) for row in rows))
    return table


def _segment_cells(row: SegmentScores | None) -> list[str]:
    return [_short(getattr(row, name) if row else math.nan, 3) for name in _SEGMENT_SCORES]


def show(*tables: Table) -> None:
    """Print tables on standard output, 80 columns wide where no terminal says otherwise."""
    console = Console(highlight=False)
    for table in tables:
        console.print(table)
        console.print()


def _short(value: float, decimals: int) -> str:
    """A number in five characters where it fits: .262, 3.42, 36.4, 1204; - for none."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 10:
        decimals = min(decimals, 1 if abs(value) < 1000 else 0)
    elif abs(value) >= 1:
        decimals = min(decimals, 2)
    text = f"{value:.{decimals}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def depth_csv(report: DepthReport) -> str:
    """Return one row for each image: set, image, error, its scores and the baseline's."""
    fields = [field.name for field in dataclasses.fields(DepthScores)]
    header = ["set", "image", "error", *fields, *(f"baseline_{name}" for name in DEPTH_METRICS)]
    rows = [
        [
            *(result.set_name, result.pair.name, result.error or ""),
            *_values(result.scores, fields),
            *_values(result.baseline, DEPTH_METRICS),
        ]
        for result in report.results
    ]
    return _csv(header, rows)


def segment_csv(report: SegmentReport) -> str:
    """Return one row for each image: set, image, error, its scores and each class's IoU."""
    fields = (*_SEGMENT_SCORES, "num_pixels")
    header = ["set", "image", "error", *fields, *(f"iou_{name}" for name in report.classes)]
    rows = [
        [
            *(result.set_name, result.pair.name, result.error or ""),
            *_values(result.scores, fields),
            *map(_plain, result.scores.iou if result.scores else [math.nan] * len(report.classes)),
        ]
        for result in report.results
    ]
    return _csv(header, rows)


def confusion_csv(report: SegmentReport) -> str:
    """Return the pixels of all sets: a row for each target class, a column for each predicted."""
    rows = [
        [name, *counts]
        for name, counts in zip(report.classes, report.confusion().tolist(), strict=True)
    ]
    return _csv(["target \\ predicted", *report.classes, "no group"], rows)


def depth_json(report: DepthReport, *, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole evaluation: how it was made, the means, every set, every image."""
    baseline = any(result.baseline is not None for result in report.results)

    def means(name: str | None) -> dict[str, Any]:
        pick = report.mean if name is None else lambda **given: report.set_mean(name, **given)
        content = {"scores": _clean(pick())}
        return {**content, "baseline": _clean(pick(baseline=True))} if baseline else content

    return {
        **facts,
        "protocol": {
            **dataclasses.asdict(report.protocol),
            "predictions_clipped_to": [report.protocol.near, report.protocol.far],
            "ordinal_margin": ORDINAL_MARGIN,
        },
        "mean": means(None),
        "sets": {name: {**_counts(report, name), **means(name)} for name in report.set_names},
        "images": [
            {
                "set": result.set_name,
                "image": result.pair.name,
                **({"error": result.error} if result.error else {}),
                **({"scores": _clean(dataclasses.asdict(result.scores))} if result.scores else {}),
                **(
                    {"baseline": _clean({m: getattr(result.baseline, m) for m in DEPTH_METRICS})}
                    if result.baseline
                    else {}
                ),
            }
            for result in report.results
        ],
    }


def segment_json(report: SegmentReport, *, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole evaluation: how it was made, the means, every set, every image."""

    def named(scores: SegmentScores | None) -> dict[str, Any] | None:
        if scores is None:
            return None
        iou = dict(zip(report.classes, map(_plain, scores.iou), strict=True))
        return {**_clean(dataclasses.asdict(scores)), "iou": iou}

    return {
        **facts,
        "classes": report.classes,
        "mean": named(report.mean()),
        "sets": {
            name: {**_counts(report, name), "scores": named(report.set_scores(name))}
            for name in report.set_names
        },
        "images": [
            {
                "set": result.set_name,
                "image": result.pair.name,
                **({"error": result.error} if result.error else {"scores": named(result.scores)}),
            }
            for result in report.results
        ],
        "confusion": report.confusion().tolist(),
    }


def _counts(report: "Report[Any]", name: str) -> dict[str, int]:
    num_done = len(report.done(name))
    num_all = sum(result.set_name == name for result in report.results)
    return {"num_images": num_done, "num_failed": num_all - num_done}


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([header, *rows])
    return stream.getvalue()


def _values(scores: object, names: Sequence[str]) -> list[Any]:
    return [_plain(getattr(scores, name)) if scores else None for name in names]


def _clean(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: null instead."""
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else None
