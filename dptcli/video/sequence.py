"""Clips and numbered images through the pipeline: in order, over one range, held steady."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import DptError, ImageError
from dptcli.inputs.find import decode_image
from dptcli.inputs.search import natural_key
from dptcli.pipeline import Pipeline, Prediction, Save
from dptcli.records.report import Outcome, Report
from dptcli.results.plan import Job
from dptcli.results.writers import describe_write_error
from dptcli.running.answer import Answer
from dptcli.running.seen import Sample
from dptcli.running.windows import depths_together
from dptcli.video.read import evenly_spread
from dptcli.video.shots import Shots
from dptcli.video.smoothing import DEFAULT_STRENGTH, WARM_UP, Stabilizer, clip_range
from dptcli.video.write import VideoWriter

# Frames looked at for the clip's range before the work begins: one each half minute of a short
# film, and a tenth of the time of a clip of five seconds.
NUM_SURVEYED = 12

SHOT_CHANGE = "shot_change"

OnDone = Callable[[Outcome], None]


def survey(pipeline: Pipeline, jobs: Sequence[Job]) -> tuple[float, float]:
    """The range of a sequence's depth, (lo, hi), from a few frames spread over all of it.

    Frames that fail here fail again, and are told of, in their turn.
    """
    maps, window = [], pipeline.loaded.clip_window
    together: list[Sample] = []
    for place in evenly_spread(len(jobs), NUM_SURVEYED):
        try:
            sample = pipeline.decode(jobs[place].source)
            if window is not None:
                together.append(sample)
                continue
            [output] = pipeline.predict([sample])
            maps.append(np.asarray(pipeline.finish(output, sample).values, np.float32))
        except (DptError, OSError):
            continue
    if window is not None:  # seen alone, each of them would have a scale of its own
        views = [sample.view for sample in together]
        depths = depths_together(views, window, pipeline.run_window)
        for sample, depth in zip(together, depths, strict=True):
            maps.append(np.asarray(pipeline.finish(Answer(depth), sample).values, np.float32))
    return clip_range(maps)


def run_sequence(
    pipeline: Pipeline,
    jobs: Sequence[Job],
    *,
    save: Save,
    on_done: OnDone,
    strength: float | None,
    skipped: Sequence[Job] = (),
    limits: tuple[float, float] | None = None,
) -> Report:
    """Do the jobs in order with depth held steady; segments pass as they are.

    skipped: jobs of the sequence whose results are there. Those just before a job to do are
    predicted once more, so that it meets the state that it would have met: all of them for a
    network that sees frames together, whose values hang on the clip's beginning. strength: 0
    draws every frame over its own range and steadies none; None is 0 over one range for a network
    that sees frames together, else DEFAULT_STRENGTH. limits: a range that is known already.
    A frame that begins another shot starts the steadying anew and says so in its facts.
    The pipeline must have been opened in_order.
    """
    window = pipeline.loaded.clip_window
    if pipeline.loaded.task != "depth" or (strength == 0 and window is None):
        return pipeline.run(jobs, save=save, on_done=on_done)
    everything, todo = _in_order(jobs, skipped), set(map(_key, jobs))
    limits = None if strength == 0 else limits or survey(pipeline, everything)
    if strength is None:
        strength = DEFAULT_STRENGTH if window is None else 0.0
    steady, shots = Stabilizer(limits or (0.0, 0.0), strength=strength), Shots()
    if strength:  # the shots are told by the pictures; of frames seen together it would be many
        pipeline.options = replace(pipeline.options, keep_rgb=True)
    wanted = [_key(job) in todo for job in everything]
    if window is None:
        warmed = [
            job for place, job in enumerate(everything) if any(wanted[place : place + WARM_UP + 1])
        ]
    else:  # the window behind the last wanted frame still changes it
        warmed = everything[: len(everything) - wanted[::-1].index(True) + window.num_frames]

    def save_steady(job: Job, prediction: Prediction) -> Mapping[str, object]:
        if strength and prediction.rgb is not None and shots.begins(prediction.rgb):
            steady.start_anew()
            prediction = replace(prediction, facts={**prediction.facts, SHOT_CHANGE: True})
        values, own_limits = steadied_frame(prediction, steady)
        if _key(job) not in todo:
            return {}
        if limits is None:
            return save(job, prediction)
        return save(job, replace(prediction, values=values, limits=limits, own_limits=own_limits))

    num_repeated = 0

    def tell(outcome: Outcome) -> None:
        nonlocal num_repeated
        if _key(outcome.job) in todo:
            on_done(outcome)
        elif outcome.error is None:
            num_repeated += 1

    report = pipeline.run(warmed, save=save_steady, on_done=tell)
    failed = tuple(outcome for outcome in report.failed if _key(outcome.job) in todo)
    return replace(report, num_done=report.num_done - num_repeated, failed=failed)


def steadied_frame(
    prediction: Prediction, steady: Stabilizer
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Return the next frame's depth (H, W), and its own limits, without what a resize overshot."""
    raw, limits = np.asarray(prediction.values, np.float32), prediction.limits
    values = steady.next(raw)
    if values is not raw:  # else it keeps what it has, and no pixel need be looked at
        inside = (raw >= limits[0]) & (raw <= limits[1])
        if inside.any():
            limits = float(values[inside].min()), float(values[inside].max())
    return values, limits


def _key(job: Job) -> Path:
    return job.source.relative


def _in_order(jobs: Sequence[Job], skipped: Sequence[Job]) -> list[Job]:
    if not skipped:
        return list(jobs)
    return sorted([*skipped, *jobs], key=lambda job: natural_key(job.source.relative))


def run_to_video(
    pipeline: Pipeline,
    jobs: Sequence[Job],
    *,
    save: Save,
    on_done: OnDone,
    strength: float | None,
    writer: VideoWriter,
    seconds: Sequence[Fraction],
) -> Report:
    """Do the jobs and put what `save` draws of each into a video, which `writer.finish` completes.

    seconds: when each job's picture is shown. A frame that fails leaves the one before it standing.
    Raises ImageError when the video cannot be written (a frame of another size only fails itself).
    """
    places = {_key(job): place for place, job in enumerate(jobs)}
    limits: tuple[float, float] | None = None
    if pipeline.loaded.task == "depth" and strength != 0:
        limits = tuple(writer.facts["limits"]) if "limits" in writer.facts else None
        if limits is None:
            limits = survey(pipeline, jobs)
            writer.remember(limits=limits)
    broken: list[ImageError] = []

    def tell(outcome: Outcome) -> None:
        if broken:
            raise broken[0]
        on_done(outcome)

    with tempfile.TemporaryDirectory(prefix="dpt-") as folder:
        # Through a picture file, so that a frame looks as the command's options make a photograph
        # look, whatever they are; about 0.06 s for 1920x1080, in the writer's thread.
        picture_path = Path(folder) / "frame.png"

        def add(job: Job, prediction: Prediction) -> Mapping[str, object]:
            if broken:  # a later frame in its place would make a hole look finished
                raise broken[0]
            facts = save(replace(job, path=picture_path), prediction)
            picture = decode_image(picture_path, wanted=pipeline.options.wanted)
            place = places[_key(job)]
            try:
                writer.write(place, picture, seconds=seconds[place])
            except ImageError as error:  # of another size
                raise ImageError(f"{job.source.name} {error}") from error
            except OSError as error:
                broken.append(describe_write_error(writer.out, error))
                raise broken[0] from error
            return facts

        try:
            return run_sequence(
                pipeline,
                jobs[writer.done :],
                save=add,
                on_done=tell,
                strength=strength,
                skipped=jobs[: writer.done],
                limits=limits,
            )
        except BaseException:
            writer.abandon()
            raise
