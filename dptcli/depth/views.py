"""A run whose photographs show one scene: seen together, the scene written, then each of them.

Memory holds every photograph at the network's size; the decoded ones are read again where a format
needs them.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dptcli.depth.colmap import MAX_POINTS, colmap_files
from dptcli.depth.colmap_files import MARK
from dptcli.depth.poses import UNIT as POSED_UNIT
from dptcli.depth.poses import Poses
from dptcli.depth.scene import View, cloud_of, write_cloud
from dptcli.depth.similarity import Unit, in_even_unit, unit_between
from dptcli.errors import UsageError
from dptcli.inputs.text import printable
from dptcli.pipeline import Pipeline, Prediction, Save
from dptcli.processing.processor import Prepared
from dptcli.records.report import Outcome, Report
from dptcli.results.files import atomic_write, write_text
from dptcli.results.plan import Job
from dptcli.results.sidecar import UNIT
from dptcli.running.answer import Answer
from dptcli.running.items import Item
from dptcli.running.jobs import ahead
from dptcli.running.seen import hw_of

logger = logging.getLogger(__name__)

COLMAP_FOLDER = "colmap"
CLOUD_NAME = "scene.ply"
_MOST_APART = 0.3  # of how far cameras are from their middle
_TEXTS = ("cameras.txt", "images.txt", "points3D.txt")


def run_views(
    pipeline: Pipeline,
    jobs: Sequence[Job],
    *,
    folder: Path,
    save: Save,
    on_done: Callable[[Outcome], None],
    on_predicted: Callable[[], None] = lambda: None,
    max_points: int,
) -> Report:
    """Run the jobs like Pipeline.run, as the views of one scene.

    folder: where COLMAP's files and the cloud go. on_predicted: called for each photograph once the
    network has seen them all. A photograph that cannot be read is a failed Outcome, and the scene
    is that of the others. Raises UsageError for photographs that the network sees at different
    sizes, and where given cameras say no scale, TooLargeError where they do not fit into memory
    together.
    """
    started = time.perf_counter()
    items, failed = _read_all(pipeline, jobs)
    for outcome in failed:
        on_done(outcome)
    if items:
        _check_sizes(items)
        poses = None if pipeline.options.camera is None else pipeline.options.camera.poses
        if poses is None:
            told: dict[str, object] = {"scene": {"num_views": len(items)}}
            answers = pipeline.run_scene([item.sample.view for item in items])
        else:
            answers, told = _run_posed(pipeline, items, poses)
        for item, answer in zip(items, answers, strict=True):
            item.output = answer
            on_predicted()
        views = [_view_of(item, pipeline) for item in items]
        # The scene first: where all photographs have their results, it is there too.
        with pipeline.clock.stage("write"):
            unit = str(told.get("unit", UNIT[pipeline.loaded.kind]))
            write_scene(folder, views, max_points=max_points, unit=unit)
        for outcome in _write_all(pipeline, items, _telling(save, told)):
            on_done(outcome)
            if outcome.error is not None:
                failed.append(outcome)
    elapsed_s = time.perf_counter() - started
    num_done = len(jobs) - len(failed)
    return Report(num_done, tuple(failed), elapsed_s, dict(pipeline.clock.seconds))


def _run_posed(
    pipeline: Pipeline, items: Sequence[Item], poses: Poses
) -> tuple[list[Answer], dict[str, object]]:
    """What the network says of photographs whose cameras are known, in the unit of these.

    And what to say of it. Raises UsageError where no unit follows from the cameras.
    """
    given = [poses.of(item.job.source).extrinsics for item in items]
    seen = []
    for item, pose in zip(items, in_even_unit(given), strict=True):
        lens, prepared = item.sample.lens, item.sample.prepared
        assert lens is not None
        matrices = {"extrinsics": pose, "intrinsics": lens.at(prepared.network_hw).matrix()}
        known = {name: torch.from_numpy(matrix) for name, matrix in matrices.items()}
        seen.append(replace(item.sample.view, camera=known))
    answers = pipeline.run_scene(seen)
    cameras = [answer.camera for answer in answers if answer.camera is not None]
    found = [camera.extrinsics for camera in cameras if camera.extrinsics is not None]
    unit = unit_between(given, found)
    tell_if_apart(unit)
    placed = []
    for answer, camera, pose in zip(answers, cameras, given, strict=True):
        there = replace(camera, extrinsics=pose)
        placed.append(replace(answer.times(1 / unit.scale), camera=there))
    scene = {
        "num_views": len(items),
        "poses": str(poses.folder),
        "network_unit": 1 / unit.scale,
        "cameras_apart": round(unit.error, 6),
    }
    told: dict[str, object] = {"scene": scene}
    return placed, told if pipeline.loaded.is_metric else {**told, "unit": POSED_UNIT}


def tell_if_apart(unit: Unit) -> None:
    """Say on the log that a network's cameras and the given ones are not of one scene."""
    if unit.error > _MOST_APART:
        logger.warning(
            "--poses: the network's own cameras are off the given ones by %.0f %% of how far these "
            "lie from their middle, and depth's unit is as uncertain; are they world to camera, "
            "and of these photographs?",
            100 * unit.error,
        )


def check_scene_files(folder: Path) -> None:
    """Raise UsageError where a scene's files would replace some that `dpt` has not written."""
    for path in (folder / CLOUD_NAME, *(folder / COLMAP_FOLDER / name for name in _TEXTS)):
        try:
            with path.open("rb") as stream:
                start = stream.read(200)
        except OSError:
            continue
        if start and MARK.encode() not in start and b"comment dptcli" not in start:
            raise UsageError(
                f"{str(path)!r} exists and dpt has not written it; add --overwrite to replace it, "
                "or name another folder"
            )


def check_names(jobs: Sequence[Job]) -> None:
    """Raise UsageError for a photograph whose name would break a line of images.txt in two."""
    for job in jobs:
        name = job.source.relative.as_posix()
        if name.splitlines() != [name]:
            raise UsageError(
                f"--views: {printable(name)!r} has a line break in its name, which a line of "
                "COLMAP's images.txt cannot hold; rename it"
            )


def write_scene(folder: Path, views: Sequence[View], *, max_points: int, unit: str) -> None:
    """Write a scene's cloud and COLMAP's files into a folder. unit: of the world, in words."""
    cloud = cloud_of(views, max_points=max_points)
    with atomic_write(folder / CLOUD_NAME) as stream:
        write_cloud(stream, cloud, num_views=len(views), unit=unit)
    for name, text in colmap_files(views, cloud.thinned(MAX_POINTS)).items():
        write_text(folder / COLMAP_FOLDER / name, text)


def _read_all(pipeline: Pipeline, jobs: Sequence[Job]) -> tuple[list[Item], list[Outcome]]:
    """The jobs' photographs, without their pixels as they were decoded; and what failed."""
    items: list[Item] = []
    failed: list[Outcome] = []

    def read(job: Job) -> Item | Outcome:
        found = pipeline.read(job)
        if isinstance(found, Item):
            found.sample = replace(found.sample, rgb=None)
        return found

    with ThreadPoolExecutor(pipeline.num_readers, "dpt-read") as readers:
        for found in ahead(readers, read, jobs, limit=lambda: pipeline.num_readers + 1):
            if isinstance(found, Outcome):
                failed.append(found)
            else:
                items.append(found)
    return items, failed


def _check_sizes(items: Sequence[Item]) -> None:
    first = items[0]
    for item in items:
        if item.sample.shape != first.sample.shape:
            (height, width), (other_height, other_width) = (
                hw_of(one.sample.view) for one in (first, item)
            )
            raise UsageError(
                f"--views: the network sees {first.job.source.name} at {height}×{width} and "
                f"{item.job.source.name} at {other_height}×{other_width}, and all views of a scene "
                "at one size; turn or crop them alike, or leave some out"
            )


def _view_of(item: Item, pipeline: Pipeline) -> View:
    answer, prepared = item.output, item.sample.prepared
    assert answer is not None
    assert answer.camera is not None
    assert answer.camera.extrinsics is not None
    sure, depth = answer.named("confidence"), answer.depth
    sky = answer.named("sky")
    if sky is not None:  # no place in the scene
        depth = depth.masked_fill(sky >= pipeline.loaded.model.config.sky_threshold, torch.nan)
    return View(
        name=item.job.source.relative.as_posix(),
        lens=item.sample.lens or answer.camera.lens(prepared),
        extrinsics=answer.camera.extrinsics,
        depth=depth.numpy(),
        confidence=None if sure is None else sure.numpy(),
        rgb=_rgb_of(prepared, pipeline),
    )


def _rgb_of(prepared: Prepared, pipeline: Pipeline) -> NDArray[np.uint8]:
    """The photograph at the network's size, (h, w, 3), from what the network saw."""
    processor = pipeline.loaded.processor
    mean, std = (
        np.reshape(np.asarray(values, np.float32), (3, 1, 1))
        for values in (processor.image_mean, processor.image_std)
    )
    levels = (np.asarray(prepared.pixel_values) * std + mean) * 255
    return levels.round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def _telling(save: Save, facts: Mapping[str, object]) -> Save:
    def told(job: Job, prediction: Prediction) -> Mapping[str, object]:
        return save(job, replace(prediction, facts={**prediction.facts, **facts}))

    return told


def _write_all(pipeline: Pipeline, items: Sequence[Item], save: Save) -> Iterator[Outcome]:
    by_job = {id(item.job): item for item in items}

    def write(job: Job) -> Outcome:
        item = by_job[id(job)]
        if pipeline.options.keep_rgb:  # let go while the network had all of them before it
            again = pipeline.read(job)
            if isinstance(again, Outcome):
                return again
            item.sample = replace(item.sample, rgb=again.sample.rgb)
        outcome = pipeline.write(item, save)
        item.sample = replace(item.sample, rgb=None)
        return outcome

    with ThreadPoolExecutor(pipeline.num_writers, "dpt-write") as pool:
        try:
            jobs = [item.job for item in items]
            yield from ahead(pool, write, jobs, limit=lambda: pipeline.num_writers + 1)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
