"""What `dpt eval` tells: progress on stderr, tables or JSON on stdout, a folder of files."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dptcli.cli.terminal.console import progress_bar, say
from dptcli.counted import counted
from dptcli.errors import UsageError
from dptcli.inputs.decode import printable

if TYPE_CHECKING:
    from dptcli.evaluation.labelmaps import LabelMap
    from dptcli.evaluation.measure import (
        DepthReport,
        ImageResult,
        PredictDepth,
        PredictLabels,
        Report,
        SegmentReport,
    )
    from dptcli.evaluation.metrics import DepthProtocol
    from dptcli.evaluation.pairs import PairSet


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a report goes. facts: what the JSON says about how it was made."""

    folder: Path | None
    plots: bool
    as_json: bool
    quiet: bool
    facts: Mapping[str, Any]


@contextmanager
def progress(
    sets: "Sequence[PairSet]", *, quiet: bool
) -> "Iterator[Callable[[ImageResult], None]]":
    """Show the run on stderr: a bar on a terminal, else one line an image; failures by name."""
    total = sum(len(pairs.pairs) for pairs in sets)
    live = not quiet and sys.stderr.isatty() and total > 1
    bar = progress_bar() if live else None
    num_done = 0

    def on_image(result: "ImageResult") -> None:
        nonlocal num_done
        num_done += 1
        name = printable(f"{result.set_name}/{result.pair.name}")
        line = f"[{num_done}/{total}] {name}" + (f": {result.error}" if result.error else "")
        if bar is not None:
            bar.advance(task)
            if result.error:
                bar.console.print(line, style="red", markup=False, soft_wrap=True)
        elif result.error or not quiet:
            say(line)

    if bar is None:
        yield on_image
        return
    with bar:
        task = bar.add_task("images", total=total)
        yield on_image


def tell_depth(
    report: "DepthReport", to: Destination, *, source: str, predict: "PredictDepth"
) -> None:
    """Show and write a depth report; predict draws the sheet's images again."""
    from dptcli.cli import eval_scores as scores

    content = scores.depth_json(report, facts={"task": "depth", **to.facts})
    if to.as_json:
        print(json.dumps(content, indent=2, allow_nan=False))
    else:
        title = f"{printable(source)}, {_fit(report.protocol)}"
        scores.show(scores.depth_table(report, title=title))
    if to.folder is None:
        return
    files: dict[str, str | bytes] = {
        "report.json": json.dumps(content, indent=2, allow_nan=False) + "\n",
        "images.csv": scores.depth_csv(report),
    }
    if to.plots and len(report.failed) < len(report.results):
        from dptcli.evaluation import plots

        files["errors.png"] = plots.plot_errors(report)
        files["best-worst.png"] = plots.plot_depth_sheet(report, predict)
    _write(to.folder, files, quiet=to.quiet)


def tell_segments(
    report: "SegmentReport",
    to: Destination,
    *,
    source: str,
    predict: "PredictLabels",
    labels: "LabelMap",
) -> None:
    """Show and write a segmentation report; predict draws the sheet's images again."""
    from dptcli.cli import eval_scores as scores

    content = scores.segment_json(report, facts={"task": "segment", **to.facts})
    if to.as_json:
        print(json.dumps(content, indent=2, allow_nan=False))
    else:
        table = scores.segment_table(report, title=printable(source))
        scores.show(table, scores.class_table(report))
    if to.folder is None:
        return
    files: dict[str, str | bytes] = {
        "report.json": json.dumps(content, indent=2, allow_nan=False) + "\n",
        "images.csv": scores.segment_csv(report),
        "confusion.csv": scores.confusion_csv(report),
    }
    if to.plots and len(report.failed) < len(report.results):
        from dptcli.evaluation import plots

        files["confusion.png"] = plots.plot_confusion(report)
        files["best-worst.png"] = plots.plot_segment_sheet(report, predict, labels=labels)
    _write(to.folder, files, quiet=to.quiet)


def _fit(protocol: "DepthProtocol") -> str:
    """Return the protocol in a few words, for the table's title."""
    words = {
        "none": "not aligned",
        "scale": f"scale fitted in {protocol.space}",
        "scale-shift": f"scale and shift fitted in {protocol.space}",
        "median": "scaled by the medians",
    }
    parts = [words[protocol.align]]
    if protocol.min_depth is not None or protocol.max_depth is not None:
        parts.append(f"depth {protocol.near:g}–{protocol.max_depth or math.inf:g}")
    parts += [f"crop {protocol.crop}"] if protocol.crop != "none" else []
    return ", ".join(parts)


def _write(folder: Path, files: Mapping[str, str | bytes], *, quiet: bool) -> None:
    from dptcli.results.files import atomic_write, write_text

    try:
        for name, content in files.items():
            if isinstance(content, str):
                write_text(folder / name, content)
                continue
            with atomic_write(folder / name) as stream:
                stream.write(content)
    except OSError as error:
        raise UsageError(f"cannot write to {printable(folder)}: {error.strerror}") from error
    if not quiet:
        print(f"{', '.join(files)} in {printable(folder)}", file=sys.stderr)


def close(report: "Report[Any]") -> int:
    """Count the failures, which were named as they came, and return the exit code."""
    if not report.failed:
        return 0
    print(
        f"dpt: {len(report.failed)} of {counted(len(report.results), 'image')} failed",
        file=sys.stderr,
    )
    return 1
