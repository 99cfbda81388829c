"""What runs in the cluster's processes: reading, the network, writing; and what travels between."""

import contextlib
import copy
import logging
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import nn

from dptcli.errors import DptError, ModelError, UsageError
from dptcli.inputs.content import InputFacts
from dptcli.inputs.find import ImageSource, decode_picture
from dptcli.inputs.reading import Wanted
from dptcli.pipeline import Pipeline, Save
from dptcli.records.report import Clock, Outcome
from dptcli.results.files import RUN_TOKEN, write_for
from dptcli.running.batches import gather
from dptcli.running.items import Item, shape_of
from dptcli.running.machine import own_threads, steady_sums
from dptcli.running.network import Network

NoteInput = Callable[[ImageSource, InputFacts], None]

# What a process asks Ray for; how wide the run is we decide ourselves. A model asks for next to
# nothing, so that when a machine is lost those that are left have room for its models.
_TASK_CPUS = 0.5
MODEL_CPUS = 0.1


@dataclass(frozen=True)
class Share:
    """How a cluster is used: models, what each of them gets, tasks that read and that write.

    num_threads: at most so many; a model alone on its machine takes what a local run would take,
    since kernels are chosen by the number of threads, and other kernels round otherwise.
    """

    num_workers: int
    num_threads: int
    num_gpus: float
    num_tasks: int


@dataclass
class Parcel:
    """One image between two processes.

    facts: the state of its file as it was read. seconds: what the stages took so far. said: log
    records. spent_s: the image's busy time: the clocks of two machines cannot be compared. fatal:
    why the run cannot go on.
    """

    index: int
    item: Item | Outcome | None = None
    facts: InputFacts | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    said: list[tuple[int, str]] = field(default_factory=list)
    spent_s: float = 0.0
    fatal: str | None = None

    @contextlib.contextmanager
    def timed(self, pipeline: Pipeline) -> Iterator[None]:
        """Count a stage's time towards this image, and keep what is logged meanwhile."""
        started, pipeline.clock = time.perf_counter(), Clock()
        handler = _Ear(self.said)
        package = logging.getLogger("dptcli")
        package.addHandler(handler)
        try:
            yield
        finally:
            package.removeHandler(handler)
            self.spent_s += time.perf_counter() - started
            for stage, seconds in pipeline.clock.seconds.items():
                self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def packed(self) -> dict[str, bytes]:
        return {"parcel": pickle.dumps(self, protocol=5)}


class _Ear(logging.Handler):
    """Keeps log records as (level, text)."""

    def __init__(self, heard: list[tuple[int, str]]) -> None:
        super().__init__()
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append((record.levelno, record.getMessage()))


@dataclass
class Bench:
    """What a process needs to read and write: a pipeline without its model, and `save`."""

    pipeline: Pipeline
    save: Save
    note_input: NoteInput | None


@dataclass(frozen=True)
class Place:
    """What a worker's process takes over from the driver's: current folder, log level, the run.

    threads: what OMP_NUM_THREADS says there, if anything; in a worker Ray sets it.
    """

    folder: str = field(default_factory=os.getcwd)
    level: int = field(default_factory=lambda: logging.getLogger("dptcli").getEffectiveLevel())
    run: str = RUN_TOKEN
    threads: str | None = field(default_factory=lambda: os.environ.get("OMP_NUM_THREADS"))

    def settle_in(self) -> None:
        """Paths are relative to the driver's folder, on a disk that all machines share."""
        with contextlib.suppress(OSError):  # without such a disk all paths are addresses
            os.chdir(self.folder)
        logging.getLogger("dptcli").setLevel(self.level)
        write_for(self.run)
        steady_sums()


_benches: dict[str, Bench] = {}


def _bench(reference: Any, place: Place) -> Bench:
    """The run's bench, unpickled once in each process."""
    import ray

    key = reference.hex()
    if key not in _benches:
        place.settle_in()
        _benches.clear()
        _benches[key] = ray.get(reference)
    return _benches[key]


class _Shell(nn.Module):
    """What stands for a model where it is not needed: its configuration."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config


def describe(opener: Callable[[], Pipeline], place: Place) -> Pipeline | str:
    """Open the pipeline and return it without its model, or say why it cannot be opened."""
    place.settle_in()
    try:
        pipeline = opener()
    except (ModelError, UsageError) as error:
        return str(error)
    shell: Any = _Shell(pipeline.loaded.model.config)
    pipeline.loaded = replace(pipeline.loaded, model=shell)
    pipeline.network = Network(pipeline.loaded, pipeline.sizes)
    return pipeline


def _read(row: dict[str, Any], reference: Any, place: Place) -> dict[str, bytes]:
    bench = _bench(reference, place)
    index, job = pickle.loads(row["parcel"])
    parcel = Parcel(index)
    pipeline = copy.copy(bench.pipeline)
    if bench.note_input is not None:

        def keep(_source: ImageSource, facts: InputFacts) -> None:
            parcel.facts = facts

        def read(source: ImageSource, wanted: Wanted) -> Image:
            return decode_picture(source, wanted=wanted, on_read=keep)

        pipeline.options = replace(pipeline.options, read=read)
    with parcel.timed(pipeline):
        parcel.item = pipeline.read(job)
    return parcel.packed()


class _Network:
    """An actor with a model of its own."""

    def __init__(self, opener: Callable[[], Pipeline], place: Place, num_threads: int) -> None:
        place.settle_in()
        torch.set_num_threads(min(num_threads, own_threads(place.threads)))
        self._fatal: str | None = None
        try:
            self._pipeline = opener()
        except DptError as error:  # of this machine alone: of a lost actor Ray tells no reason
            self._fatal = f"{error} (on {socket.gethostname()})"

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        parcels: list[Parcel] = [pickle.loads(data) for data in batch["parcel"]]
        if self._fatal is not None:
            for parcel in parcels:
                parcel.fatal = self._fatal
            return _packed(parcels)
        owner = {id(parcel.item.job): parcel for parcel in parcels if parcel.item is not None}
        for parcel in parcels:
            if isinstance(parcel.item, Item):
                parcel.item.started = time.perf_counter() - parcel.spent_s
        items = (parcel.item for parcel in parcels if parcel.item is not None)
        for group in gather(items, shape_of, self._pipeline.sizes, in_order=False):
            first = owner[id(group[0].job)]
            try:
                with first.timed(self._pipeline):
                    results = list(self._pipeline.predict_each(group))
            except ModelError as error:  # no image's fault: the driver ends the run
                for parcel in parcels:
                    parcel.fatal = str(error)
                break
            for result in results:
                owner[id(result.job)].item = _lightened(result)
        return _packed(parcels)


def _packed(parcels: list[Parcel]) -> dict[str, list[bytes]]:
    return {"parcel": [parcel.packed()["parcel"] for parcel in parcels]}


def _lightened(result: Item | Outcome) -> Item | Outcome:
    """Leave behind what writing does not need: the network's input, the batch of the output."""
    if isinstance(result, Item) and result.output is not None:
        result.output = replace(result.output, maps=result.output.maps.clone())
        pixels = result.sample.prepared.pixel_values
        nothing = np.empty((0, *pixels.shape[1:]), pixels.dtype)  # its shape is what was padded to
        prepared = replace(result.sample.prepared, pixel_values=nothing)
        prompt = result.sample.prompt
        if prompt is not None:
            prompt = replace(prompt, depth_m=np.empty((0, 0), np.float32))
        result.sample = replace(result.sample, prepared=prepared, overview=None, prompt=prompt)
    return result


def _write(row: dict[str, Any], reference: Any, place: Place) -> dict[str, bytes]:
    parcel: Parcel = pickle.loads(row["parcel"])
    item = parcel.item
    if isinstance(item, Item) and parcel.fatal is None:
        bench = _bench(reference, place)
        pipeline = copy.copy(bench.pipeline)
        if bench.note_input is not None and parcel.facts is not None:
            bench.note_input(item.job.source, parcel.facts)
        item.started = time.perf_counter() - parcel.spent_s
        with parcel.timed(pipeline):
            parcel.item = pipeline.write(item, bench.save)
    if not isinstance(parcel.item, Outcome):
        parcel.item = None
    return parcel.packed()


@dataclass(frozen=True)
class Stages:
    """The stages as a Ray Data pipeline. bench: a reference to a Bench; unit: images at once."""

    opener: Callable[[], Pipeline]
    bench: Any
    place: Place
    share: Share
    unit: int

    def stream(self, rows: list[dict[str, bytes]]) -> Iterator[bytes]:
        """Send (index, job) rows through; packed parcels come in order of completion."""
        import ray.data

        if self.place.level > logging.INFO:
            logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        share = self.share
        tasks = ray.data.TaskPoolStrategy(size=share.num_tasks)
        num_blocks = min(len(rows), max(4 * share.num_workers, -(-len(rows) // self.unit)))
        work = (
            ray.data.from_items(rows, override_num_blocks=num_blocks)
            .map(_read, fn_args=(self.bench, self.place), num_cpus=_TASK_CPUS, compute=tasks)
            .map_batches(
                _Network,
                fn_constructor_args=(self.opener, self.place, share.num_threads),
                batch_size=None,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(size=share.num_workers),
                num_cpus=MODEL_CPUS,
                num_gpus=share.num_gpus,
            )
            .map(_write, fn_args=(self.bench, self.place), num_cpus=_TASK_CPUS, compute=tasks)
        )
        for row in work.iter_rows():
            yield row["parcel"]


class Conductor:
    """An actor that runs the stages for a client outside the cluster, and ends with it."""

    def __init__(self, stages: Stages, rows: list[dict[str, bytes]]) -> None:
        stages.place.settle_in()
        self._stream = stages.stream(rows)

    def next(self) -> bytes | None:
        """The next packed parcel; None at the end."""
        return next(self._stream, None)
