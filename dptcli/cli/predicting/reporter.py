"""What a run tells people and programs: progress and summary on stderr, JSON lines on stdout."""

import json
import math
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dptcli.cli.terminal.console import progress_bar, say, stderr_console
from dptcli.counted import counted
from dptcli.inputs.decode import printable
from dptcli.remote import is_address

if TYPE_CHECKING:
    from rich.progress import Progress

    from dptcli.inputs.search import LeftOut
    from dptcli.pipeline import Pipeline
    from dptcli.records.report import Outcome, Report
    from dptcli.records.runreport import RunReport
    from dptcli.results.plan import Plan


class Reporter:
    """Tells about a run as it goes.

    On a terminal a bar with rate and time left, else one plain line per image; quiet leaves only
    failures. as_json adds one JSON line per image on standard output.
    """

    def __init__(self, *, quiet: bool, as_json: bool, account: "RunReport | None" = None) -> None:
        self._account = account
        self._quiet = quiet
        self._as_json = as_json
        self._results = sys.stdout  # what a cluster's library prints there later is led elsewhere
        self._live = not quiet and sys.stderr.isatty()
        self._progress: Progress | None = None
        self._num_done = 0
        self._total = 0
        self._step = 1.0
        self._num_left_out = self._num_unlisted = 0

    def left_out(self, left_out: "LeftOut", plan: "Plan | None" = None) -> None:
        """Tell about pictures that are not worked on, and folders that could not be listed."""
        from pathlib import Path

        if plan is not None and isinstance(plan.folder, Path):
            left_out = left_out.without(plan.folder)
        left_out.log()
        self._num_left_out, self._num_unlisted = len(left_out.pictures), len(left_out.folders)
        if self._account is not None:
            self._account.left_out(left_out)
        for path, reason in left_out.pictures:
            self._json_line({"input": path, "output": None, "status": "left_out", "reason": reason})
        for path, reason in left_out.folders:
            self._json_line({"input": path, "output": None, "status": "failed", "error": reason})

    @contextmanager
    def loading(self, model: str) -> Iterator[None]:
        """Show that the model is being loaded: importing torch alone takes seconds."""
        if not self._live:
            yield
            return
        with stderr_console().status(f"loading {printable(model)}"):
            yield

    def planned(self, plan: "Plan", *, say_skipped: bool = True) -> None:
        """Tell programs about the images whose results are there already."""
        if self._account is not None:
            self._account.planned(plan)
        for job in plan.skipped if say_skipped else ():
            self._json_line({"input": job.source.given, "output": job.path, "status": "skipped"})

    def loaded(self, pipeline: "Pipeline") -> None:
        """Note which model does the work."""
        if self._account is not None:
            from dptcli.depth.facts import hash_of

            loaded = pipeline.loaded
            about = {
                "name": loaded.name,
                "hash": hash_of(loaded),
                "device": str(loaded.device),
                "dtype": loaded.dtype_name,
                "runtime": loaded.runtime,
            }
            self._account.loaded(about, pipeline.clock)

    @contextmanager
    def working(self, plan: "Plan") -> Iterator[None]:
        """Show the run while the block goes on."""
        self._total = len(plan.jobs)
        if not self._live or self._total < 2:
            yield
            return
        self._progress = progress_bar()
        with self._progress:
            task = self._progress.add_task("images", total=self._total)
            yield
            self._progress.update(task, completed=self._total)
        self._progress = None

    def predicted(self) -> None:
        """Tell about one image of a first pass over the run: it is half done."""
        self._step = 0.5
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0], self._step)

    def done(self, outcome: "Outcome") -> None:
        """Tell about one image."""
        self._num_done += 1
        if self._account is not None:
            self._account.done(outcome)
        self._json_line(_json_facts(outcome))
        if self._progress is not None:
            if outcome.error is not None:
                from rich.text import Text

                text = Text(f"failed: {outcome.error}", style="red")
                self._progress.console.print(text, soft_wrap=True)
            self._progress.advance(self._progress.task_ids[0], self._step)
        elif not self._quiet:
            counter = f"[{self._num_done}/{self._total}] " if self._total > 1 else ""
            if outcome.error is not None:
                say(f"{counter}failed: {outcome.error}")
            elif outcome.job.path is not None:
                where = printable(outcome.job.path)
                say(f"{counter}{outcome.job.source.name} -> {where} ({outcome.elapsed_s:.2f} s)")
                if isinstance(fit := outcome.facts.get("anchors"), dict):
                    say(_fit_line(fit))
                if isinstance(fit := outcome.facts.get("colmap"), dict) and fit["scale"]:
                    say(_points_line(fit))

    def summary(self, report: "Report", plan: "Plan") -> None:
        """Close with the count, the rate, and every failure by name."""
        num_failed = len(report.failed)
        beside = self._num_left_out + self._num_unlisted
        if not self._quiet and (plan.skipped or len(plan.jobs) + beside > 1):
            parts = [f"{report.num_done} done"]
            parts += [f"{len(plan.skipped)} skipped"] if plan.skipped else []
            parts += [f"{num_failed} failed"] if num_failed else []
            parts += [f"{self._num_left_out} left out"] if self._num_left_out else []
            unlisted = f"{counted(self._num_unlisted, 'folder')} not listed"
            parts += [unlisted] if self._num_unlisted else []
            where = f" in {printable(plan.folder)}" if plan.folder is not None else ""
            if self._live:
                _print_table(report, plan, ", ".join(parts))
            else:
                say(f"{', '.join(parts)}{where}: {_time_taken(report)}")
        if num_failed and (self._quiet or len(plan.jobs) > 1):
            say(f"dpt: {num_failed} of {counted(len(plan.jobs), 'image')} failed:")
            for outcome in report.failed:
                say(f"  {outcome.error}")

    def _json_line(self, facts: Mapping[str, Any]) -> None:
        if self._as_json:
            say(json.dumps(facts, default=str, allow_nan=False), file=self._results)


def _time_taken(report: "Report") -> str:
    """The time, and the rate of a run that had something to do."""
    time = f"{report.elapsed_s:.1f} s"
    if not report.num_done or not report.elapsed_s:
        return time
    return f"{time}, {report.num_done / report.elapsed_s:.2f} images/s"


def _print_table(report: "Report", plan: "Plan", counts: str) -> None:
    """Close a run on a terminal: what was done, how fast, where it is, how to look at it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("images", counts)
    table.add_row("time", _time_taken(report))
    if plan.folder is not None:
        table.add_row("results", Text(printable(plan.folder), overflow="fold"))
        if not is_address(str(plan.folder)):
            command = f"dpt gallery {shlex.quote(str(plan.folder))}"
            table.add_row("look", Text(printable(command), overflow="fold"))
    stderr_console().print(table)


def _fit_line(fit: Mapping[str, Any]) -> str:
    formula = f"{fit['scale_to_metres']:.6g} * value + {fit['shift_to_metres']:.6g}"
    if fit["of"] == "inverse_depth":
        formula = f"1 / ({formula})"
    if fit["num_anchors"] == 1:  # which its line meets exactly, and that says nothing
        return f"  metres by 1 anchor: {formula}"
    return (
        f"  metres by {fit['num_anchors']} anchors: {formula}; error {fit['median_error']:.1%} in "
        f"the middle, {fit['largest_error']:.1%} at most, "
        f"{counted(fit['num_outliers'], 'outlier')}"
    )


def _points_line(fit: Mapping[str, Any]) -> str:
    return (
        f"  fitted to {counted(fit['num_points'], 'point')}: error {fit['median_error']:.1%} in "
        f"the middle, {counted(fit['num_outliers'], 'outlier')}"
    )


def _json_facts(outcome: "Outcome") -> dict[str, Any]:
    path = outcome.job.path
    line: dict[str, Any] = {
        "input": outcome.job.source.given,
        "output": None if outcome.error is not None else path,
        "status": "done" if outcome.error is None else "failed",
        "elapsed_s": round(outcome.elapsed_s, 4),
    }
    if outcome.error is not None:
        return {**line, "error": outcome.error}
    assert outcome.output_hw is not None
    height, width = outcome.output_hw
    facts = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in outcome.facts.items()
    }
    return {**line, "height": height, "width": width, **facts}
