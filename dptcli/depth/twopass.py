"""Two passes over a run, for what needs all of it: the first predicts, the second writes.

Between them every prediction lies on disk at the network's own size (384×384: 0.6 MB, exact), in a
hidden folder beside the results (for a store, in the system's temporary folder) that is removed
whatever happens; memory holds a few images.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from dptcli.depth.picture import merged_range
from dptcli.inputs.find import decode_image
from dptcli.panorama.resize import resized
from dptcli.pipeline import Pipeline, Prediction, Save
from dptcli.processing.target_size import TargetSize, target_hw
from dptcli.records.report import Outcome, Report
from dptcli.remote.places import RemotePath
from dptcli.results.claims import claiming
from dptcli.results.files import RUN_TOKEN, SPOOL_PREFIX
from dptcli.results.plan import Job
from dptcli.running.ending import at_other_size
from dptcli.running.jobs import ahead, failure

# What a prediction has of every pixel: of a hundred thousand photographs it would fill the memory.
_MAPS = ("values", "confidence", "sky", "normals")


@dataclass(frozen=True)
class Spooled:
    """A photograph whose maps lie in a file."""

    path: Path
    prediction: Prediction  # without its maps

    @classmethod
    def at(cls, path: Path, prediction: Prediction) -> Self:
        """Write its maps there, and keep the rest."""
        maps = {name: getattr(prediction, name) for name in _MAPS}
        known: dict[str, Any] = {name: maps[name] for name in _MAPS if maps[name] is not None}
        np.savez(path, **known)  # allow_pickle would be one more array to NumPy before 2
        none: dict[str, Any] = dict.fromkeys(_MAPS)
        return cls(path, replace(prediction, **none))

    def whole(self) -> Prediction:
        """What was written, once: the file is gone then."""
        with np.load(self.path) as arrays:
            maps: dict[str, Any] = dict(arrays)
        self.path.unlink()
        return replace(self.prediction, **maps)


def run_two_passes(
    pipeline: Pipeline,
    jobs: Sequence[Job],
    *,
    folder: Path,
    save_with: Callable[[tuple[float, float]], Save],
    on_done: Callable[[Outcome], None],
    on_predicted: Callable[[], None] = lambda: None,
) -> Report:
    """Run the jobs like Pipeline.run, with `save` made from the depth range of the whole run.

    folder: where the predictions wait. save_with: takes (smallest, largest). on_predicted: called
    for each image of the first pass.
    """
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    beside = None if isinstance(folder, RemotePath) else folder
    with tempfile.TemporaryDirectory(prefix=f"{SPOOL_PREFIX}{RUN_TOKEN}-", dir=beside) as spool:
        spooled: dict[int, Spooled] = {}
        number = itertools.count()

        def keep(job: Job, prediction: Prediction) -> Mapping[str, object]:
            spooled[id(job)] = Spooled.at(Path(spool) / f"{next(number)}.npz", prediction)
            return {}

        def predicted(outcome: Outcome) -> None:
            (on_predicted if outcome.error is None else lambda: on_done(outcome))()

        at_network_size = replace(pipeline.options, target_size=TargetSize("model"), keep_rgb=False)
        first = Pipeline(pipeline.loaded, options=at_network_size, clock=pipeline.clock).run(
            jobs, save=keep, on_done=predicted
        )
        save = save_with(merged_range(item.prediction.limits for item in spooled.values()))
        ready = [job for job in jobs if id(job) in spooled]
        failed = list(first.failed)
        for outcome in _write_all(pipeline, ready, spooled, save):
            on_done(outcome)
            if outcome.error is not None:
                failed.append(outcome)
    elapsed_s = time.perf_counter() - started
    num_done = len(jobs) - len(failed)
    return Report(num_done, tuple(failed), elapsed_s, dict(pipeline.clock.seconds))


def _write_all(
    pipeline: Pipeline, jobs: Sequence[Job], spooled: Mapping[int, Spooled], save: Save
) -> Iterable[Outcome]:
    def write(job: Job) -> Outcome:
        started = time.perf_counter()
        try:
            prediction = _restore(pipeline, job, spooled[id(job)])
            with pipeline.clock.stage("write"), claiming(job):
                facts = save(job, prediction)
        except Exception as error:
            return failure(job, error, started)
        height, width = prediction.values.shape
        return Outcome(job, None, (height, width), facts, time.perf_counter() - started)

    num_writers = pipeline.num_writers
    with ThreadPoolExecutor(num_writers, "dpt-write") as pool:
        try:
            yield from ahead(pool, write, jobs, limit=lambda: num_writers + 1)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _restore(pipeline: Pipeline, job: Job, item: Spooled) -> Prediction:
    """Bring a waiting prediction to the size that was asked for, with its photograph."""
    options = pipeline.options
    rgb = None
    if options.keep_rgb:
        with pipeline.clock.stage("decode"):
            rgb = decode_image(job.source, wanted=options.wanted)
    with pipeline.clock.stage("postprocess"):
        known = item.whole()
        depth = torch.from_numpy(known.values)
        hw = target_hw(known.source_hw, (depth.shape[0], depth.shape[1]), options.target_size)
        if known.extent is not None:
            return replace(known, values=resized(depth.numpy(), hw, known.extent), rgb=rgb)
        sky = None
        if known.sky is not None and options.sky != "keep":
            sky = torch.from_numpy(known.sky)
        values = at_other_size(depth, hw, pipeline.loaded, sky=sky)
        return replace(known, values=values.numpy(), rgb=rgb)
