"""A run that does not end: folders that fill, looked at until somebody says stop."""

import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dptcli.cli.predicting.engine import open_for
from dptcli.cli.predicting.outputs import RunOutputs
from dptcli.cli.predicting.request import Request, find_sources
from dptcli.cli.terminal.console import say
from dptcli.cli.terminal.signals import Stopped
from dptcli.counted import counted
from dptcli.errors import DptError, UsageError
from dptcli.inputs.text import printable
from dptcli.remote import is_address

if TYPE_CHECKING:
    from dptcli.cli.predicting.record import Kept
    from dptcli.cli.predicting.reporter import Reporter
    from dptcli.inputs.find import ImageSource
    from dptcli.pipeline import Pipeline, Save
    from dptcli.records.report import Outcome
    from dptcli.results.plan import Plan

logger = logging.getLogger(__name__)

# Looking takes at most this share of the time, however many files there are.
_SHARE = 0.1


def check_watch(request: Request, outputs: RunOutputs) -> None:
    """Raise UsageError for what cannot go on and on."""
    for name in request.inputs:
        if is_address(name) or not Path(name).is_dir():
            raise UsageError(
                f"--watch looks at folders of this machine, and {name!r} is none; name a folder"
            )
    for given, option in (
        (request.from_file, "--from-file"),
        (request.report, "--report"),
        (request.clip, "--sequence"),
    ):
        if given is not None:
            raise UsageError(f"--watch has no end, which {option} needs; leave one of them out")
    if request.options.get("engine", "local") != "local":
        raise UsageError("--watch works on this machine; leave out --engine ray, or --watch")
    if request.options.get("value_range") == "global":
        raise UsageError(
            "--range global spans a run that ends; give values with --watch, e.g. --range 0:30"
        )
    if outputs.run_all is not None or outputs.joined:
        option = outputs.joined[0].option if outputs.joined else "--views"
        raise UsageError(f"{option} is about all images of a run that ends; leave --watch out")
    if request.out == "-" or is_address(request.out):
        raise UsageError(f"--watch fills a folder of this machine, not {request.out!r}; name one")
    if Path(request.out).suffix and not Path(request.out).is_dir() and request.out[-1] != "/":
        raise UsageError(
            f"--watch fills a folder, and {request.out!r} has a file's name; end it with /"
        )


def run_watch(request: Request, outputs: RunOutputs, reporter: "Reporter") -> int:
    """Load the model, then do what is there and what comes, until Ctrl-C or SIGTERM.

    Returns 0, or 1 where images failed. What is refused at the start raises UsageError or
    ModelError; later an image that must not be written is a failure of its own.
    """
    from dptcli.cli.predicting.record import Kept
    from dptcli.results.disk import refuse_unwritable
    from dptcli.results.plan import Plan
    from dptcli.weights.catalog import find_model

    models: list[tuple[str, str]] = [(request.model, request.task)]
    if outputs.needs.segment_model is not None:
        models.append((outputs.needs.segment_model, "segment"))
    for name, task in models:
        find_model(name, task=task, offline=request.offline)
    folder = Path(request.out)
    refuse_unwritable(folder)
    prompts = outputs.needs.prompts
    kept = Kept(request, models, beside=None if prompts is None else prompts.digest)
    with reporter.loading(request.model):
        pipeline = open_for(request, outputs.needs, read=kept.reader())
        save = outputs.make_save(pipeline.loaded, Plan((), folder=folder))
    watch = _Watch(request, outputs, reporter, kept, pipeline, save)
    if not request.quiet:
        where = ", ".join(printable(name) for name in request.inputs)
        say(f"watching {where} every {request.watch_s:g} s; Ctrl-C ends it")
    with contextlib.suppress(KeyboardInterrupt, Stopped), kept.recording(Plan((), folder=folder)):
        watch.go_on()
    return watch.summary()


class _Watch:
    """The rounds of a watch, and what became of its images."""

    def __init__(
        self,
        request: Request,
        outputs: RunOutputs,
        reporter: "Reporter",
        kept: "Kept",
        pipeline: "Pipeline",
        save: "Save",
    ) -> None:
        from dptcli.inputs.growing import Growing

        self._request, self._outputs, self._reporter = request, outputs, reporter
        self._kept, self._pipeline, self._save = kept, pipeline, save
        self._growing = Growing(self._find)
        self._is_result = kept.results()
        self._own: set[Path] = set()  # results that may lie among the photographs
        self._told: set[str] = set()
        self._started = time.monotonic()
        self._num_done = self._num_skipped = 0
        self._failed: dict[ImageSource, Outcome] = {}

    def go_on(self) -> None:
        """Look and work, again and again."""
        assert self._request.watch_s is not None
        while True:
            started = time.monotonic()
            whole = self._look()
            looked_s = time.monotonic() - started
            if whole:
                self._work(whole)
            time.sleep(max(self._request.watch_s, looked_s / _SHARE))

    def summary(self) -> int:
        """Say what was done; returns the exit code."""
        if not self._request.quiet:
            parts = [f"{self._num_done} done"]
            parts += [f"{self._num_skipped} skipped"] if self._num_skipped else []
            parts += [f"{len(self._failed)} failed"] if self._failed else []
            waiting = self._growing.num_waiting
            parts += [f"{waiting} not whole yet"] if waiting else []
            watched_s = time.monotonic() - self._started
            say(f"{', '.join(parts)} in {printable(self._request.out)}: watched {watched_s:.0f} s")
        if self._failed:
            say(f"dpt: {counted(len(self._failed), 'image')} failed:")
            for outcome in self._failed.values():
                say(f"  {outcome.error}")
        return 1 if self._failed else 0

    def _look(self) -> "list[ImageSource]":
        try:
            whole = self._growing.look()
        except UsageError as error:  # a disk that is away comes back
            self._tell(f"cannot look: {error}")
            return []
        return whole

    def _find(self) -> "list[ImageSource]":
        """The photographs that are there, without results, of this part of the work."""
        from dptcli.inputs.search import LeftOut
        from dptcli.results.plan import Shard

        left_out = LeftOut()
        found = find_sources(self._request, left_out, may_be_none=True)
        for line in (*left_out.sentences(), *(reason for _, reason in left_out.folders)):
            self._tell(line)
        if self._request.shard is not None:
            found = [it for it in found if Shard(*self._request.shard).holds(it)]
        out = Path(self._request.out).resolve()
        roots = {Path(name).resolve() for name in self._request.inputs}
        is_inside = any(root in out.parents for root in roots)
        if not is_inside and not any(out in (root, *root.parents) for root in roots):
            return found
        return [source for source in found if not self._is_made(source, out, is_inside)]

    def _is_made(self, source: "ImageSource", out: Path, is_inside: bool) -> bool:
        """Whether a picture is a result: all in a folder of results inside, else the known ones."""
        assert source.path is not None
        path = source.path.parent.resolve() / source.path.name
        if out not in path.parents:
            return False
        known = self._is_result
        return is_inside or path in self._own or (known is not None and known(path))

    def _tell(self, line: str) -> None:
        """Warn of something once, not at every look."""
        if line not in self._told:
            self._told.add(line)
            logger.warning("%s", line)

    def _work(self, sources: "Sequence[ImageSource]") -> None:
        plan = self._plan(sources)
        self._num_skipped += len(plan.skipped)
        self._reporter.planned(plan)
        if plan.jobs:
            save = self._kept.recorded(self._save)
            self._pipeline.run(plan.jobs, save=save, on_done=self._done)
        self._kept.list_failures(plan)  # those that the plan refused among them

    def _plan(self, sources: "Sequence[ImageSource]") -> "Plan":
        """Plan some images; where that is refused, each by itself, so that one costs no other."""
        from dptcli.records.report import Outcome
        from dptcli.results.plan import Job, Plan, plan_outputs

        try:
            if self._outputs.needs.prompts is not None:
                self._outputs.needs.prompts.check_for(sources)
            return plan_outputs(
                sources,
                self._request.out,
                suffixes=self._outputs.suffixes,
                sidecar=self._outputs.sidecar,
                existing=self._request.existing,
                settle=self._kept.settle,
                added=self._request.suffix,
            )
        except DptError as error:
            if len(sources) == 1:
                self._done(Outcome(Job(sources[0], None), f"{sources[0].name}: {error}"))
                return Plan((), folder=Path(self._request.out))
        plans = [self._plan([source]) for source in sources]
        taken: set[Path] = set()
        jobs: list[Job] = []
        for job in (job for plan in plans for job in plan.jobs):
            if taken.isdisjoint(job.results):
                taken.update(job.results)
                jobs.append(job)
            else:
                why = f"another image's result would be {str(job.path)!r} too; rename one of them"
                self._done(Outcome(Job(job.source, None), f"{job.source.name}: {why}"))
        skipped = tuple(job for plan in plans for job in plan.skipped)
        return Plan(tuple(jobs), skipped, Path(self._request.out))

    def _done(self, outcome: "Outcome") -> None:
        source = outcome.job.source
        is_refused = outcome.job.path is None  # by the plan: waiting changes nothing
        if outcome.error is not None and not is_refused and self._growing.doubt(source):
            logger.info("%s: tried again when it has come to rest", outcome.error)
            return
        self._kept.done(outcome)
        self._reporter.done(outcome)
        if outcome.error is None:
            self._num_done += 1
            self._failed.pop(source, None)
            self._own.update(path.parent.resolve() / path.name for path in outcome.job.results)
        else:
            self._failed[source] = outcome
