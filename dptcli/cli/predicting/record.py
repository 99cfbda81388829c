"""How a command keeps and uses the record of what it has done in a folder of results."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dptcli.cli.predicting.work import content_options, work_hash
from dptcli.remote.places import RemotePath, place
from dptcli.results.files import RUN_TOKEN
from dptcli.weights.catalog import find_model

if TYPE_CHECKING:
    from PIL.Image import Image

    from dptcli.cli.predicting.request import Request
    from dptcli.inputs.content import InputFacts
    from dptcli.inputs.find import ImageSource
    from dptcli.inputs.reading import Wanted
    from dptcli.pipeline import Save
    from dptcli.records.ledger import Beside, Ledger
    from dptcli.records.report import Outcome, Report
    from dptcli.results.plan import Job, Plan

logger = logging.getLogger(__name__)


class Kept:
    """The record of a run into a folder; for one file, a stream or a store it does nothing.

    A store's objects cannot be appended to, so there what exists is refused or skipped by name.
    models: names and tasks. sources: all images, where each result depends on all of them. beside:
    hashes what goes with an image and decides its result too.
    loses_workers: a worker may be lost with a result under way, and the run go on.
    """

    def __init__(
        self,
        request: "Request",
        models: "Sequence[tuple[str, str]]",
        sources: "Sequence[ImageSource] | None" = None,
        *,
        beside: "Beside | None" = None,
        loses_workers: bool = False,
    ) -> None:
        self._request = request
        self._models = models
        self._sources = sources
        self._beside = beside
        self._loses_workers = loses_workers
        self._ledger: Ledger | None = None
        self._since_ns = time.time_ns()

    @functools.cached_property
    def _work(self) -> str:
        from dptcli.weights.fingerprint import model_hash

        request = self._request
        hashes = [
            model_hash(find_model(name, task=task, offline=request.offline))
            for name, task in self._models
        ]
        return work_hash(content_options(request.options), hashes, self._sources or ())

    def settle(self, present: "Sequence[Job]", jobs: "Sequence[Job]") -> "Sequence[Job]":
        """See plan.Settle."""
        if isinstance(place(self._request.out), RemotePath):
            from dptcli.results.plan import refuse_existing

            refuse_existing(present, jobs)
        from dptcli.records.ledger import work_of
        from dptcli.records.resume import settle

        return settle(
            present,
            jobs,
            folder=Path(self._request.out),
            task=self._request.task,
            work=lambda source: work_of(source, self._work, self._beside),
            whole=self._sources is not None,
        )

    def results(self) -> "Callable[[Path], bool] | None":
        """Return what tells earlier results from photographs; None where nothing is recorded."""
        folder = place(self._request.out)
        from dptcli.records.ledger import FOLDER_NAME, known_results

        if isinstance(folder, RemotePath) or not (folder / FOLDER_NAME).is_dir():
            return None
        return known_results(folder)

    @contextlib.contextmanager
    def recording(self, plan: "Plan") -> Iterator[None]:
        """Keep the record while the block goes on, and list the failures if it is cut short."""
        folders = {path.parent for job in plan.jobs for path in job.results}
        if plan.folder is None or isinstance(plan.folder, RemotePath):
            yield
            self._sweep(folders)
            return
        from dptcli.records.ledger import Ledger
        from dptcli.records.leftovers import tidy

        tidy(plan.folder, folders)
        ledger = Ledger(plan.folder, task=self._request.task, work=self._work, beside=self._beside)
        self._ledger = ledger if ledger.open() else None
        try:
            yield
            self._sweep(folders)
        except BaseException:
            self.list_failures(plan)
            raise
        finally:
            ledger.close()

    def _sweep(self, folders: Collection[Path]) -> None:
        """Remove what workers of a cluster that were lost had under way."""
        if not self._loses_workers:
            return
        from dptcli.records.leftovers import remove_unfinished

        for folder in folders:
            if not isinstance(folder, RemotePath):
                remove_unfinished(folder, {RUN_TOKEN})

    def reader(self) -> "Callable[[ImageSource, Wanted], Image]":
        """Return pipeline.Options.read that notes what is read."""
        from dptcli.inputs.find import decode_picture

        return lambda source, wanted: decode_picture(source, wanted=wanted, on_read=self.note_input)

    def note_input(self, source: "ImageSource", facts: "InputFacts") -> None:
        """Take the state of an image that is being read."""
        if self._ledger is not None:
            self._ledger.note_input(source, facts)

    def recorded(self, save: "Save") -> "Save":
        """Return `save` so that what it writes is recorded."""
        return save if self._ledger is None else self._ledger.recorded(save)

    def done(self, outcome: "Outcome") -> None:
        """Take note of a failure."""
        if self._ledger is not None:
            self._ledger.done(outcome)

    def list_failures(self, plan: "Plan", report: "Report | None" = None) -> None:
        """Write the list of the folder's failures, those of other runs included, or say why not.

        report: this run's, where it came to its end.
        """
        if plan.folder is None:
            return
        from dptcli.records.ledger import failures
        from dptcli.records.report import FAILURES_NAME, write_failures

        folder = plan.folder
        num_failed = 0 if report is None else len(report.failed)
        if isinstance(folder, RemotePath) or (self._ledger is None and num_failed):
            if report is not None:
                # Without a record a list is one run's own: shards would replace each other's.
                shard = self._request.shard
                own = "" if shard is None else "shard-{}-of-{}".format(*shard)
                note_failures(folder / own, report)
            return
        with _failing_softly(folder):
            listed: Mapping[str, tuple[str, str]] | None = None
            # Another run may have failed at something, and written its list, since we looked.
            for _ in range(5):
                found = failures(folder, settled=plan.skipped, since_ns=self._since_ns)
                if found == listed or (not found and not (folder / FAILURES_NAME).exists()):
                    return
                write_failures(folder, found.values())
                listed = found


def note_failures(folder: Path, report: "Report") -> None:
    """Write the list of a run's failures into a folder of results, or say why not."""
    from dptcli.records.report import write_failures

    with _failing_softly(folder):
        write_failures(folder, ((o.job.source.name, o.error) for o in report.failed))


@contextlib.contextmanager
def _failing_softly(folder: Path) -> Iterator[None]:
    """Say why a list cannot be written and go on: the summary names the failures too."""
    try:
        yield
    except OSError as error:
        logger.warning("cannot write the list of failures into %s: %s", folder, error.strerror)
