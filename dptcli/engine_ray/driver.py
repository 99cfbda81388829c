"""Where the command runs: join a cluster, share it out, send jobs, gather what became of them."""

import contextlib
import logging
import os
import pickle
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dptcli.engine_ray.stages import (
    MODEL_CPUS,
    Bench,
    Conductor,
    NoteInput,
    Parcel,
    Place,
    Share,
    Stages,
    describe,
)
from dptcli.errors import ModelError, UsageError
from dptcli.pipeline import Pipeline, Save
from dptcli.records.report import Outcome
from dptcli.results.plan import Job

logger = logging.getLogger(__name__)

# Images in one unit of work: fewer cost Ray's own time for each, more come late to idle workers.
UNIT = 8
# A server for each client outside is a process of its own, and some fail to start, see _join.
_TRIES = 4


class ClusterPipeline(Pipeline):
    """A pipeline whose run goes to a cluster; the model is loaded there alone."""

    def __init__(
        self,
        opener: Callable[[], Pipeline],
        *,
        num_workers: int | None = None,
        gpus_per_worker: float | None = None,
        note_input: NoteInput | None = None,
    ) -> None:
        """Let a worker open the pipeline and describe it. Raises ModelError and UsageError.

        opener: travels to the workers. num_workers: models; None is one for each share of the GPUs,
        or one for each machine without. gpus_per_worker: may be a fraction; None is 1 where the
        cluster has GPUs, else 0. note_input: takes the state of each image's file, where its
        results are written, on a copy that shares with `save` what it shares here.
        """
        import ray

        self._opener = opener
        self._share = share_out(ray.cluster_resources(), ray.nodes(), num_workers, gpus_per_worker)
        logger.info("%s", self._share)
        task = ray.remote(describe).options(num_cpus=MODEL_CPUS, num_gpus=self._share.num_gpus)
        found = ray.get(task.remote(opener, Place()))
        if isinstance(found, str):
            raise ModelError(found)
        super().__init__(found.loaded, options=found.options, clock=found.clock)
        self._light: Pipeline = found
        self._note_input = note_input

    def _outcomes(self, jobs: Iterable[Job], save: Save) -> Generator[Outcome, None, None]:
        jobs = list(jobs)
        with contextlib.closing(self._parcels(jobs, save)) as parcels:
            for parcel in parcels:
                for level, message in parcel.said:
                    logger.log(level, "%s", message)
                if parcel.fatal is not None:
                    raise ModelError(parcel.fatal)
                assert isinstance(parcel.item, Outcome)
                for stage, seconds in parcel.seconds.items():
                    self.clock.seconds[stage] += seconds
                yield replace(parcel.item, job=jobs[parcel.index])

    def _parcels(self, jobs: Sequence[Job], save: Save) -> Generator[Parcel, None, None]:
        import ray

        # One pickle, so that `save` and note_input keep sharing what they share here.
        bench = ray.put(Bench(self._light, save, self._note_input))
        wanted = self.options.batch_size
        unit = max(UNIT, 4 * (wanted if isinstance(wanted, int) else UNIT))
        stages = Stages(self._opener, bench, Place(), self._share, unit)
        rows = [{"parcel": pickle.dumps((index, job))} for index, job in enumerate(jobs)]
        if not ray.util.client.ray.is_connected():
            yield from map(pickle.loads, stages.stream(rows))
            return
        # Ray Data wants to be in the cluster, and ray:// is a client outside.
        conductor = ray.remote(Conductor).options(num_cpus=0).remote(stages, rows)
        while (data := ray.get(conductor.next.remote())) is not None:
            yield pickle.loads(data)


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Join a cluster, or start one on this machine, until the block ends.

    address: "auto", HOST:PORT or ray://…; None is what RAY_ADDRESS says, else this machine alone.
    Leaving, for whatever reason, ends all that this run has under way there. Meanwhile sys.stdout
    is standard error: Ray prints there that a worker was lost, between a run's lines of JSON.
    Raises UsageError.
    """
    # Without a word Ray would join whatever cluster was last started here, by anybody.
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    with contextlib.redirect_stdout(sys.stderr), _joined(wanted):
        yield


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    # From 1.81 on gRPC may end a process that is being started before its exec (grpc issue 43055).
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'dptcli[ray]'") from error
    quiet = not logger.isEnabledFor(logging.INFO)
    level = logging.ERROR if quiet else logging.INFO
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        try:
            _knock(address)
            _join(
                address=address,
                log_to_driver=False,  # what workers say comes with their results
                logging_level=level,
                configure_logging=not quiet,
            )
        except Exception as error:  # a node that does not start in time raises Exception itself
            raise UsageError(_why_not_joined(address, error)) from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)  # Ray puts its own in its place
        yield
    finally:
        ray.shutdown()


def _why_not_joined(address: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # A first line that ends so is a title, and below it the traceback of Ray's own server.
    reason = f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") else lines[0]
    alone = address == "local"
    what = "start Ray on this machine" if alone else f"join the Ray cluster {address!r}"
    return f"cannot {what}: {reason}"


def _join(**settings: Any) -> None:
    """Call ray.init, and again where the cluster failed to start a server for this client.

    With gRPC from 1.81 on that happens by chance, more often the busier the cluster is.
    """
    import ray

    for left in reversed(range(_TRIES)):
        try:
            ray.init(**settings)
            return
        except (ConnectionError, RuntimeError) as error:
            if not left or "Starting Ray client server failed" not in str(error):
                raise
            logger.info("the cluster could not start a server for this client; trying again")
            ray.shutdown()
            time.sleep(1)


def _knock(address: str) -> None:
    """Raise OSError where nobody answers: Ray itself would try for a minute."""
    found = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d{1,5})", address)
    if found is not None:
        socket.create_connection((found[1], int(found[2])), timeout=10).close()


def share_out(
    resources: Mapping[str, float],
    nodes: Sequence[Mapping[str, Any]],
    num_workers: int | None,
    per_worker: float | None,
) -> Share:
    """Decide how many models the cluster holds and what each one gets. Raises UsageError."""
    gpus, cpus = resources.get("GPU", 0.0), resources.get("CPU", 0.0)
    if per_worker is None:
        per_worker = 1.0 if gpus else 0.0
    if per_worker > gpus:
        raise UsageError(
            f"--gpus-per-worker {per_worker:g}: the cluster has {gpus:g} GPUs; take a smaller share"
        )
    if cpus <= 0:
        raise UsageError("the Ray cluster has no CPUs; start its nodes with --num-cpus")
    machines = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    if per_worker:
        num_workers = num_workers or max(1, int(gpus / per_worker))
        return Share(num_workers, 1, per_worker, max(1, int(cpus / 2)))
    num_workers = num_workers or max(1, len(machines))
    num_threads = max((float(node["Resources"]["CPU"]) for node in machines), default=cpus)
    if num_workers > len(machines):  # of those that share one, a quarter of the cores reads
        num_threads = min(0.75 * cpus / num_workers, num_threads)
    return Share(num_workers, max(1, int(num_threads)), 0.0, max(1, int(cpus / 4)))
