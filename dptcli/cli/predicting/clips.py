"""A run over a clip or a sequence: plan, run, join, report."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dptcli.cli.predicting.clip_request import ClipRequest
from dptcli.cli.predicting.engine import open_for
from dptcli.cli.predicting.record import note_failures
from dptcli.cli.predicting.request import find_sources
from dptcli.counted import counted
from dptcli.errors import UsageError

if TYPE_CHECKING:
    from dptcli.cli.predicting.joined import Joined
    from dptcli.cli.predicting.outputs import RunOutputs
    from dptcli.cli.predicting.reporter import Reporter
    from dptcli.cli.predicting.request import Request
    from dptcli.inputs.find import ImageSource
    from dptcli.inputs.reading import Wanted
    from dptcli.inputs.search import LeftOut
    from dptcli.pipeline import Pipeline
    from dptcli.records.report import Report
    from dptcli.results.plan import Plan
    from dptcli.video.animation import Animation
    from dptcli.video.read import Clip, FrameRange

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shot:
    """The frames to work on, in order. clip: what they are of; None for images."""

    wanted: ClipRequest
    sources: "list[ImageSource]"
    clip: "Clip | Animation | None"

    def open(self, request: "Request", outputs: "RunOutputs") -> "Pipeline":
        """Load the model, for frames in their order."""
        read: Callable[[ImageSource, Wanted], Any] | None = None
        if (clip := self.clip) is not None:
            from dptcli.video.read import FrameSource

            def read(source: "ImageSource", _wanted: "Wanted") -> Any:
                assert isinstance(source, FrameSource)
                return clip.read(source.index)

        return open_for(request, outputs.needs, in_order=True, read=read)


def run_clip(
    request: "Request", wanted: ClipRequest, outputs: "RunOutputs", reporter: "Reporter"
) -> int:
    """Do a clip's or a sequence's frames; returns the exit code.

    A clip that breaks off gives the frames before the break, a warning, and exit code 1.
    """
    from dptcli.inputs.search import LeftOut
    from dptcli.video.read import parse_frames

    frames = parse_frames(wanted.frames)
    left_out = LeftOut()
    shot = _shot(request, wanted, frames, left_out)
    if outputs.needs.prompts is not None:
        outputs.needs.prompts.check_for(shot.sources)
    clip = shot.clip
    with contextlib.closing(clip) if clip is not None else contextlib.nullcontext():
        work = _to_video if wanted.to_video else _to_folder
        reporter.left_out(left_out)
        code = work(request, outputs, shot, reporter) or (1 if left_out.folders else 0)
    if clip is not None and clip.is_cut and (frames.stop or 1 << 60) > clip.num_frames:
        of = f" of {clip.num_frames + clip.num_missing}" if clip.num_missing else ""
        logger.error(
            "%s breaks off after %s%s; what there is is done",
            clip.path,
            counted(clip.num_frames, "frame"),
            of,
        )
        return 1
    return code


def _shot(
    request: "Request", wanted: ClipRequest, frames: "FrameRange", left_out: "LeftOut"
) -> Shot:
    from dptcli.video.read import Clip

    found = find_sources(request, left_out)
    if wanted.from_video:
        if len(found) != 1 or found[0].path is None:
            raise UsageError("a video is worked on alone; run the inputs one after another")
        clip = Clip(found[0].path)
        return Shot(wanted, [*clip.sources(frames)], clip)
    if len(found) == 1 and found[0].path is not None:
        from dptcli.video.animation import open_animation

        if (animation := open_animation(found[0].path)) is not None:
            return Shot(wanted, [*animation.sources(frames)], animation)
    chosen = [found[place] for place in frames.of(len(found))]
    if not chosen:
        raise UsageError(
            f"the input is {counted(len(found), 'image')}, none from {frames.start} on"
        )
    return Shot(wanted, chosen, None)


def _to_folder(request: "Request", outputs: "RunOutputs", shot: Shot, reporter: "Reporter") -> int:
    from dptcli.cli.predicting.joined import Joined
    from dptcli.records.report import Report
    from dptcli.results.plan import plan_outputs

    plan = plan_outputs(
        shot.sources,
        request.out,
        suffixes=outputs.suffixes,
        sidecar=outputs.sidecar,
        existing=request.existing,
        added=request.suffix,
    )
    joined = [Joined(plan, joint, existing=request.existing) for joint in outputs.joined]
    reporter.planned(plan)
    if not plan.jobs:
        return _ended(plan, Report(), joined, reporter)
    with reporter.loading(request.model):
        from dptcli.video.sequence import run_sequence

        pipeline = shot.open(request, outputs)
        save = outputs.make_save(pipeline.loaded, plan)
    reporter.loaded(pipeline)
    with reporter.working(plan):
        report = run_sequence(
            pipeline,
            plan.jobs,
            save=save,
            on_done=reporter.done,
            strength=shot.wanted.smoothing,
            skipped=plan.skipped,
        )
    return _ended(plan, report, joined, reporter)


def _ended(plan: "Plan", report: "Report", joined: "Sequence[Joined]", reporter: "Reporter") -> int:
    """List what failed, write what is made of all results, sum up; returns the exit code."""
    if plan.folder is not None:
        note_failures(plan.folder, report)
    for one in joined:
        one.write()
    reporter.summary(report, plan)
    return 1 if report.failed else 0


def _to_video(request: "Request", outputs: "RunOutputs", shot: Shot, reporter: "Reporter") -> int:
    from dptcli.records.report import Report
    from dptcli.results.plan import Job, Plan
    from dptcli.video.read import DEFAULT_FPS, Clip
    from dptcli.video.write import VideoWriter

    wanted, sources, clip = shot.wanted, shot.sources, shot.clip
    out = Path(request.out)
    plan = Plan(tuple(Job(source, out) for source in sources))
    if not _may_write(out, sources, existing=request.existing):
        plan = Plan((), plan.jobs)
        reporter.summary(Report(), plan)
        return 0
    fps = wanted.fps or (clip.fps if clip is not None else DEFAULT_FPS)
    seconds = _seconds(sources, clip if wanted.fps is None else None, fps)
    work = _work(wanted, sources, request)
    writer = VideoWriter(out, fps=fps, work=work, views=outputs.views)
    if writer.done:
        logger.warning("going on behind %s of an earlier run", counted(writer.done, "frame"))
    with reporter.loading(request.model):
        from dptcli.video.sequence import run_to_video

        pipeline = shot.open(request, outputs)
        save = outputs.make_save(pipeline.loaded, plan)
    remaining = Plan(plan.jobs[writer.done :], plan.jobs[: writer.done])
    reporter.planned(remaining, say_skipped=False)
    reporter.loaded(pipeline)
    with reporter.working(remaining):
        report = run_to_video(
            pipeline,
            plan.jobs,
            save=save,
            on_done=reporter.done,
            strength=wanted.smoothing,
            writer=writer,
            seconds=seconds,
        )
    if writer.is_empty:
        writer.abandon()
        reporter.summary(report, plan)
        return 1
    start = clip.seconds(getattr(sources[0], "index", 0)) if clip is not None else Fraction(0)
    if clip is not None and wanted.audio and not clip.has_audio:
        logger.warning("%s has no sound; the video is written without", clip.path)
    writer.finish(
        sound_of=clip if wanted.audio and isinstance(clip, Clip) else None,
        start=start,
        stop=start + seconds[-1] + 1 / fps,
    )
    reporter.summary(report, plan)
    return 1 if report.failed else 0


def _seconds(
    sources: "list[ImageSource]", clip: "Clip | Animation | None", fps: Fraction
) -> list[Fraction]:
    """When each frame is shown: as in the clip, or evenly."""
    if clip is None:
        return [place / fps for place in range(len(sources))]
    times = [clip.seconds(getattr(source, "index", 0)) for source in sources]
    return [time - times[0] for time in times]


def _work(
    wanted: ClipRequest, sources: "list[ImageSource]", request: "Request"
) -> dict[str, object]:
    """What tells this run's result from another's: its frames, its model, its options."""
    names = [source.name for source in sources]
    facts = [
        (stat.st_size, stat.st_mtime_ns)
        for stat in (path.stat() for path in {s.path for s in sources if s.path is not None})
    ]
    return {"frames": names, "files": sorted(facts), "task": request.task, **wanted.options}


def _may_write(out: Path, sources: "list[ImageSource]", *, existing: str) -> bool:
    """Whether to go on; False when the video is there and is to be kept. Raises UsageError."""
    from dptcli.results.disk import refuse_unwritable
    from dptcli.video.write import check_video_name

    check_video_name(out)
    if not out.exists():
        refuse_unwritable(out.parent)
        return True
    if not out.is_file():
        raise UsageError(f"cannot write {str(out)!r}: it exists and is no ordinary file")
    if any(path.exists() and out.samefile(path) for path in {s.path for s in sources} if path):
        raise UsageError(f"the result would replace the input {str(out)!r}; name another output")
    if existing == "refuse":
        raise UsageError(
            f"{str(out)!r} exists already; add --overwrite to replace or --skip-existing to keep it"
        )
    return existing == "overwrite"
