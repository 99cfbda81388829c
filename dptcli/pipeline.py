"""The loop: decode ahead, bucket by shape, run the network, write behind.

    reader thread            main thread                          writer thread
    decode, preprocess  ->   bucket by shape -> network  ->       crop, resize back, write

Reading runs ahead of the network and writing behind it, each by a bounded number of images, so a
run of a hundred thousand images holds a handful in memory. One image that cannot be read,
predicted or written becomes a failed Outcome, and the others go on. Every stage's time is recorded
on every run.
"""

import contextlib
import copy
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dptcli.depth.prompts import Prompt, prompt_remedy
from dptcli.errors import ModelError, UsageError
from dptcli.fast.memory import hold_reserve, settle_memory
from dptcli.inputs.find import ImageSource, decode_picture, source_of
from dptcli.inputs.gpano import Gpano
from dptcli.inputs.reading import Wanted, about_of
from dptcli.records.report import Clock, Outcome, Report
from dptcli.results.claims import claiming
from dptcli.results.plan import Job
from dptcli.running.agreement import agreement
from dptcli.running.answer import Answer
from dptcli.running.asking import ask
from dptcli.running.batches import BatchSizes, gather
from dptcli.running.ending import calibrated, lens_for
from dptcli.running.finishing import finish
from dptcli.running.items import Item, predict_clip, shape_of
from dptcli.running.jobs import ahead, failure
from dptcli.running.machine import usable_cores
from dptcli.running.network import Network, Size, sized
from dptcli.running.options import Options as Options
from dptcli.running.preparing import noted, prepare, prepare_sphere
from dptcli.running.seen import Prediction as Prediction
from dptcli.running.seen import Sample, Seen
from dptcli.running.sphere import known_as
from dptcli.running.windows import refuse_mirrored, refuse_tiles
from dptcli.runtimes.opening import open_model
from dptcli.weights.load import LoadedModel

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

Task = Literal["depth", "segment"]

ImageInput = str | Path | bytes | BinaryIO | NDArray[np.uint8]

Save = Callable[[Job, Prediction], Mapping[str, object]]
"""Writes one prediction and returns facts worth telling about it; runs in the writer thread."""


class Pipeline:
    """One loaded model and the way of an image through it."""

    def __init__(
        self, loaded: LoadedModel, *, options: Options | None = None, clock: Clock | None = None
    ) -> None:
        self.loaded = loaded
        self.options = options or Options()
        self.clock = clock or Clock()
        self.sizes = BatchSizes(self.options.batch_size, loaded.device)
        self.network = Network(loaded, self.sizes)
        share = max(1, usable_cores() // (2 if loaded.device.type == "cuda" else 4))
        self.num_readers = self.options.num_readers or share
        self.num_writers = self.options.num_writers or share

    def with_options(self, options: Options, *, size: Size = None) -> "Pipeline":
        """The same network under other options, as each request to a server has its own."""
        other = copy.copy(self)
        other.options, other.loaded = options, sized(self.loaded, size)
        return other

    def run(
        self,
        jobs: Iterable[Job],
        *,
        save: Save,
        on_done: Callable[[Outcome], None] = lambda _outcome: None,
    ) -> Report:
        """Do every job and tell `on_done`, in this thread and in order of completion.

        An image's failure is an Outcome; everything else (an interrupt, a bug) is raised after the
        result under way is complete, and no further one is begun.
        """
        started, num_done, failed = time.perf_counter(), 0, []
        with contextlib.closing(self._outcomes(jobs, save)) as outcomes:
            for outcome in outcomes:
                on_done(outcome)
                if outcome.error is None:
                    num_done += 1
                else:
                    failed.append(outcome)
        elapsed_s = time.perf_counter() - started
        busy = ", ".join(f"{stage} {spent:.2f}" for stage, spent in self.clock.seconds.items())
        logger.info("busy seconds by stage: %s; %.2f in all after loading", busy, elapsed_s)
        if self.network.num_redone:
            logger.info("images that were done again in float32: %d", self.network.num_redone)
        return Report(num_done, tuple(failed), elapsed_s, dict(self.clock.seconds))

    def _outcomes(self, jobs: Iterable[Job], save: Save) -> Generator[Outcome, None, None]:
        options = self.options
        num_readers, num_writers = self.num_readers, self.num_writers
        if options.in_order:
            num_readers = num_writers = 1
        readers = ThreadPoolExecutor(num_readers, "dpt-read")
        writers = ThreadPoolExecutor(num_writers, "dpt-write")
        writing: deque[Future[Outcome]] = deque()
        finished = False
        try:
            items = ahead(readers, self.read, jobs, limit=lambda: self.sizes.largest + num_readers)
            for batch in self._predicted(items):
                for item in batch:
                    if isinstance(item, Outcome):
                        yield item
                        continue
                    writing.append(writers.submit(self.write, item, save))
                write_behind = self.sizes.largest + num_writers
                while writing and (writing[0].done() or len(writing) > write_behind):
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()
            finished = True
        finally:
            # A reader may hang in a pipe that nobody writes to: when leaving early, don't wait.
            readers.shutdown(wait=finished, cancel_futures=True)
            writers.shutdown(wait=True, cancel_futures=True)

    def _predicted(self, items: Iterator["Item | Outcome"]) -> Iterator[Iterable["Item | Outcome"]]:
        """The items with the network's output, in groups as they become ready."""
        in_order, window = self.options.in_order, self.loaded.clip_window
        if in_order and window is not None:
            return predict_clip(items, window, self.run_window)
        batches = gather(items, shape_of, self.sizes, in_order=in_order)
        return (self.predict_each(batch) for batch in batches)

    def run_window(self, views: Sequence[Seen]) -> list[Tensor]:
        """Frames of one clip, seen together -> depth (h, w) each, as `predict` returns it."""
        with self.clock.stage("network"):
            return self.network.run_window(views)

    def run_scene(self, views: Sequence[Seen]) -> list[Answer]:
        """Photographs of one scene, seen together -> what the network says of each."""
        with self.clock.stage("network"):
            return self.network.run_scene(views)

    def read(self, job: Job) -> "Item | Outcome":
        """Decode a job's image and make it ready for the network."""
        started = time.perf_counter()
        try:
            sample = self.decode(job.source)
        except Exception as error:
            return failure(job, error, started)
        return Item(job, sample, started)

    def predict_each(self, batch: Sequence["Item | Outcome"]) -> Iterator["Item | Outcome"]:
        """Run a batch; where that fails, each image on its own, so that one cannot sink others."""
        items = [item for item in batch if isinstance(item, Item)]
        yield from (item for item in batch if isinstance(item, Outcome))
        if not items:
            return
        try:
            outputs = self.predict([item.sample for item in items])
        except ModelError:  # no image's fault: the run ends
            raise
        except Exception as error:
            if len(items) == 1:
                yield failure(items[0].job, error, items[0].started)
                return
            logger.warning("a batch of %d failed (%s); trying one by one", len(items), error)
            for item in items:
                yield from self.predict_each([item])
            return
        for item, output in zip(items, outputs, strict=True):
            item.output = output
            yield item

    def write(self, item: "Item", save: Save) -> Outcome:
        """Bring an image's map to its size and save it."""
        try:
            assert item.output is not None
            prediction = self.finish(item.output, item.sample)
            item.output = None
            with self.clock.stage("write"), claiming(item.job):
                facts = save(item.job, prediction)
        except Exception as error:
            return failure(item.job, error, item.started)
        if item.sample.about.notes:
            facts = {**facts, "notes": list(item.sample.about.notes)}
        height, width = prediction.values.shape
        elapsed_s = time.perf_counter() - item.started
        return Outcome(item.job, None, (height, width), facts, elapsed_s)

    def predict_one(self, image: ImageInput, *, prompt: Prompt | None = None) -> Prediction:
        """Take one image all the way, in this thread. Raises ImageError."""
        if isinstance(image, np.ndarray):
            sample = self.prepare(image, prompt=prompt)
        else:
            source = source_of(image) if isinstance(image, str) else image
            sample = self.decode(source, prompt=prompt)
        return self.finish(self.predict([sample])[0], sample)

    def decode(
        self,
        source: ImageSource | Path | bytes | BinaryIO,
        *,
        prompt: Prompt | None = None,
    ) -> Sample:
        """Decode one image and make it ready for the network. Raises ImageError.

        prompt: None takes that of the options.
        """
        with self.clock.stage("decode"):
            wanted = self._wanted
            if self.options.read is not None and isinstance(source, ImageSource):
                picture: NDArray[np.uint8] | Image = self.options.read(source, wanted)
            else:
                picture = decode_picture(source, wanted=wanted)
            if self.options.prompts is not None and isinstance(source, ImageSource):
                prompt = self.options.prompts.read(source)
        about = about_of(picture)
        name = source.name if isinstance(source, ImageSource) else "the image"
        sample = self.prepare(
            picture, prompt=prompt, gpano=about.gpano, whole_hw=about.whole_hw, name=name
        )
        about = replace(about, notes=(*about.notes, *sample.about.notes))
        lens = lens_for(self.loaded, self.options.camera, sample.prepared.source_hw, source)
        return replace(sample, about=about, lens=lens)

    @property
    def _wanted(self) -> Wanted:
        """How photographs are read: smaller than they are where that is enough for all."""
        options = self.options
        exact = self.loaded.device.type != "cuda" if options.exact is None else options.exact
        all_are_panoramas = options.panoramas is not None and options.panoramas.all_are
        if exact or options.keep_rgb or options.tile is not None or all_are_panoramas:
            return options.wanted
        return replace(options.wanted, enough=self.loaded.processor.enough_hw)

    def prepare(
        self,
        picture: "NDArray[np.uint8] | Image",
        *,
        prompt: Prompt | None = None,
        gpano: Gpano | None = None,
        whole_hw: tuple[int, int] | None = None,
        name: str = "the image",
    ) -> Sample:
        """Resize and normalise a picture, RGB uint8 (H, W, 3) or Pillow's, for the network.

        gpano: what its file says of it as a panorama. whole_hw: its own size, where it was read
        smaller. Raises ImageError where the model takes a prompt and none is given, or one of
        another shape, and for what can be no panorama.
        """
        options = self.options
        hw = picture.shape[:2] if isinstance(picture, np.ndarray) else picture.size[::-1]
        known = known_as((hw[0], hw[1]), gpano, options.panoramas, name=name)
        with self.clock.stage("preprocess"):
            if known.extent is not None:
                sample = prepare_sphere(picture, known, self.loaded, options)
            else:
                sample = prepare(
                    picture,
                    self.loaded,
                    options,
                    prompt=prompt,
                    keep_rgb=options.keep_rgb,
                    whole_hw=whole_hw,
                )
        return sample if known.note is None else noted(sample, known.note, name=name)

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Answer]:
        """Run the network on samples of one shape: depth or logits each, at the network's scale."""
        with self.clock.stage("network"):
            answers = ask(self.network, samples, self.loaded, self.options)
            if self.options.confidence == "mirrored":
                turned = ask(
                    self.network, [one.mirrored() for one in samples], self.loaded, self.options
                )
                for place, (answer, other) in enumerate(zip(answers, turned, strict=True)):
                    both = (answer.depth, other.depth.flip(-1))
                    own, again = (calibrated(depth, self.loaded) for depth in both)
                    sure = agreement(own, again, self.loaded.kind)
                    answers[place] = answer.with_map("confidence", sure)
            return answers

    @torch.inference_mode()
    def finish(self, output: Answer, sample: Sample) -> Prediction:
        """Bring the network's map to the size that was asked for: crop, resize, argmax."""
        with self.clock.stage("postprocess"):
            return finish(output, sample, self.loaded, self.options)


def open_pipeline(
    model: str | Path | LoadedModel,
    *,
    task: Task,
    device: str = "auto",
    dtype: str = "auto",
    offline: bool = False,
    gives: str | None = None,
    optimized: bool = True,
    size: Size = None,
    prompted: bool = False,
    options: Options | None = None,
    runtime: str = "torch",
) -> Pipeline:
    """Load a model for a task and make its pipeline; the time goes to the stage "load".

    offline: never download. gives: see `load_model`. optimized: the same function by cheaper steps.
    size: what the network sees. prompted: a depth sensor's map comes with every image. runtime:
    what runs it. Raises ModelError for a wrong or broken model, and UsageError where it takes a
    prompt that does not come, or the reverse.
    """
    clock = Clock()
    with clock.stage("load"):
        if not isinstance(model, LoadedModel):
            model = open_model(
                model,
                runtime=runtime,
                in_order=options is not None and options.in_order,
                optimized=optimized,
                task=task,
                device=device,
                dtype=dtype,
                offline=offline,
                gives=gives,
                normals=options is not None and options.normals,
                poses=options is not None and options.has_poses,
            )
        settle_memory()
        hold_reserve()
        if model.task != task:
            raise ModelError(f"model {model.name!r} is for {model.task}, not for {task}")
        if model.takes_prompt != prompted:
            raise UsageError(prompt_remedy(model.name, takes_prompt=model.takes_prompt))
        if options is not None and options.in_order and options.tile is not None:
            refuse_tiles(model)
        if options is not None and options.in_order and options.confidence == "mirrored":
            refuse_mirrored(model)
        logger.info("%s from %s: %s, %s", model.name, model.folder, model.device, model.dtype_name)
    return Pipeline(sized(model, size), options=options, clock=clock)
