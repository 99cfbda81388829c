"""A run: what is asked for, what it writes, where it is done; over photographs here."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dptcli.cli.predicting.outputs import RunOutputs, Watch
from dptcli.cli.predicting.request import Request, find_sources

if TYPE_CHECKING:
    from dptcli.cli.predicting.engine import Engine
    from dptcli.cli.predicting.record import Kept
    from dptcli.cli.predicting.reporter import Reporter
    from dptcli.records.report import Outcome
    from dptcli.records.runreport import RunReport


def run(request: Request, outputs: RunOutputs, engine: "Engine") -> int:
    """Plan the run, load the model, do the work, report; returns the exit code."""
    from dptcli.cli.predicting.reporter import Reporter

    if request.watch_s is not None:
        from dptcli.cli.predicting.watch import check_watch

        check_watch(request, outputs)
    with _account_of(request) as account:
        reporter = Reporter(quiet=request.quiet, as_json=request.as_json, account=account)
        if request.clip is not None:
            from dptcli.cli.predicting.clips import run_clip

            return run_clip(request, request.clip, outputs, reporter)
        if request.watch_s is not None:
            from dptcli.cli.predicting.watch import run_watch

            return run_watch(request, outputs, reporter)
        return _run_photographs(request, outputs, engine, reporter)


def _run_photographs(
    request: Request, outputs: RunOutputs, engine: "Engine", reporter: "Reporter"
) -> int:
    from dptcli.cli.predicting.joined import Joined
    from dptcli.cli.predicting.record import Kept
    from dptcli.inputs.search import LeftOut
    from dptcli.records.report import Report
    from dptcli.results.plan import Shard, plan_outputs
    from dptcli.weights.catalog import find_model

    # Everything that may be refused is refused before torch is imported, in a fraction of a second.
    left_out = LeftOut()
    sources = find_sources(request, left_out)
    if outputs.choose is not None:
        sources = outputs.choose(sources, left_out)
    prompts = outputs.needs.prompts
    if prompts is not None:
        prompts.check_for(sources)
    models: list[tuple[str, str]] = [(request.model, request.task)]
    if outputs.needs.segment_model is not None:
        models.append((outputs.needs.segment_model, "segment"))
    # Where each result depends on all images, the record knows each by all of them.
    whole = None if outputs.run_all is None else sources
    beside = None if prompts is None else prompts.digest
    kept = Kept(request, models, whole, beside=beside, loses_workers=engine.loses_workers)
    plan = plan_outputs(
        sources,
        request.out,
        suffixes=outputs.suffixes,
        sidecar=outputs.sidecar,
        existing=request.existing,
        settle=kept.settle,
        shard=None if request.shard is None else Shard(*request.shard),
        is_result=kept.results(),
        added=request.suffix,
    )
    joined = [Joined(plan, joint, existing=request.existing) for joint in outputs.joined]
    reporter.left_out(left_out, plan)
    if not plan.jobs:
        for one in joined:
            one.write()
        reporter.planned(plan)
        report = Report()
        kept.list_failures(plan, report)
        reporter.summary(report, plan)
        return 1 if left_out.folders else 0
    # A download draws its own bars, so it comes before the spinner; a typo costs no torch either.
    for name, task in models:
        find_model(name, task=task, offline=request.offline)
    watch = _watch(kept, reporter)
    with contextlib.ExitStack() as while_open:
        with reporter.loading(request.model):
            pipeline = while_open.enter_context(engine.opened(request, outputs.needs, kept))
            save = outputs.make_save(pipeline.loaded, plan)
        reporter.planned(plan)
        reporter.loaded(pipeline)
        with kept.recording(plan), reporter.working(plan):
            if outputs.run_all is None:
                report = pipeline.run(plan.jobs, save=watch.recorded(save), on_done=watch.done)
            else:
                report = outputs.run_all(pipeline, plan, watch)
    for one in joined:
        one.write()
    kept.list_failures(plan, report)
    reporter.summary(report, plan)
    return 1 if report.failed or left_out.folders else 0


def _watch(kept: "Kept", reporter: "Reporter") -> Watch:
    def done(outcome: "Outcome") -> None:
        kept.done(outcome)
        reporter.done(outcome)

    return Watch(recorded=kept.recorded, done=done, predicted=reporter.predicted)


@contextlib.contextmanager
def _account_of(request: Request) -> "Iterator[RunReport | None]":
    """The run's report, where one was asked for, written when the block ends."""
    if request.report is None:
        yield None
        return
    from dptcli.records.runreport import RunReport
    from dptcli.remote.places import place

    shard = None if request.shard is None else "/".join(map(str, request.shard))
    path = place(request.report)
    with RunReport(path, command=request.task, options=request.options, shard=shard) as account:
        yield account
