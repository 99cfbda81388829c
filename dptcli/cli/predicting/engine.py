"""Where a run's work is done: in this process, or on a Ray cluster. Loads nothing heavy."""

import contextlib
import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dptcli.errors import UsageError
from dptcli.running.machine import collector_rests

if TYPE_CHECKING:
    from dptcli.cli.predicting.outputs import Needs
    from dptcli.cli.predicting.record import Kept
    from dptcli.cli.predicting.request import Request
    from dptcli.pipeline import Options, Pipeline


@dataclass(frozen=True)
class LocalEngine:
    """This process."""

    loses_workers: ClassVar[bool] = False

    @contextlib.contextmanager
    def opened(self, request: "Request", needs: "Needs", kept: "Kept") -> "Iterator[Pipeline]":
        """The pipeline of a run, for as long as the block lasts. Raises ModelError."""
        yield open_for(request, needs, read=kept.reader())


@dataclass(frozen=True, kw_only=True)
class ClusterEngine:
    """A cluster, how many models it holds, and their share of GPUs; None is Ray's own choice."""

    address: str | None
    num_workers: int | None
    gpus_per_worker: float | None

    loses_workers: ClassVar[bool] = True

    @contextlib.contextmanager
    def opened(self, request: "Request", needs: "Needs", kept: "Kept") -> "Iterator[Pipeline]":
        """The pipeline of a run, for as long as the block lasts.

        Raises ModelError, and UsageError where the cluster cannot be joined.
        """
        from dptcli.engine_ray.driver import ClusterPipeline, connected

        with connected(self.address):
            yield ClusterPipeline(
                functools.partial(open_for, request, needs),  # travels to the workers
                num_workers=self.num_workers,
                gpus_per_worker=self.gpus_per_worker,
                note_input=kept.note_input,
            )


Engine = LocalEngine | ClusterEngine


def read_engine(given: Mapping[str, Any], *, in_order: bool = False) -> Engine:
    """Return where the run is to be done. in_order: it is a clip's. Raises UsageError."""
    engine = given.get("engine", "local")
    if engine not in {"local", "ray"}:
        raise UsageError(f"--engine {engine!r} must be local or ray")
    names = {"ray_address": "--ray-address", "workers": "--workers"}
    names["gpus_per_worker"] = "--gpus-per-worker"
    if engine == "local":
        for name, option in names.items():
            if given.get(name) is not None:
                raise UsageError(f"{option} is for a cluster; add --engine ray")
        return LocalEngine()
    if given["output"] == "-" or "-" in (given["inputs"] or []):
        raise UsageError("a cluster's machines do not see standard input and output; name files")
    if given.get("preview"):
        raise UsageError("--preview draws in this process; leave it out, or --engine ray")
    if given.get("value_range") == "global":
        raise UsageError(
            "--range global holds the run together on one machine; give values for a cluster, "
            "e.g. --range 0:30"
        )
    workers, share = given["workers"], given["gpus_per_worker"]
    if workers is not None and not re.fullmatch(r"[1-9]\d{0,4}", workers):
        raise UsageError(f"--workers {workers!r} must be a whole number, 1 or more")
    gpus_per_worker = None if share is None else _parse_gpus(share)
    if in_order:
        raise UsageError("--engine ray is for photographs; a clip is worked on in order")
    return ClusterEngine(
        address=given["ray_address"],
        num_workers=None if workers is None else int(workers),
        gpus_per_worker=gpus_per_worker,
    )


def _parse_gpus(value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    # Ray's own rule: above one, GPUs are whole.
    if not (0 <= share <= 1 or (1 < share <= 64 and share.is_integer())):
        raise UsageError(
            f"--gpus-per-worker {value!r} must be a share up to 1, or a whole number, e.g. 0.5"
        )
    return share


def options_for(request: "Request", needs: "Needs", **more: Any) -> "Options":
    """How the request's photographs are worked on; more: further fields of pipeline.Options."""
    from dptcli.pipeline import Options

    return Options(
        batch_size=request.batch_size,
        tile=request.tile,
        exact=request.exact,
        target_size=request.target_size,
        wanted=request.wanted,
        keep_rgb=needs.keep_rgb,
        keep_scores=needs.keep_scores,
        prompts=needs.prompts,
        sky=needs.sky,
        camera=needs.camera,
        confidence=needs.confidence,
        normals=needs.normals,
        panoramas=needs.panoramas,
        **more,
    )


def open_for(request: "Request", needs: "Needs", **more: Any) -> "Pipeline":
    """Load the request's model here; more: further fields of pipeline.Options."""
    with collector_rests():
        from dptcli import pipeline

    wanted: dict[str, Any] = {
        "device": request.device,
        "dtype": request.dtype,
        "optimized": request.optimize,
        "offline": request.offline,
        "size": request.size,
        "options": options_for(request, needs, **more),
    }
    if request.gives is not None:
        wanted["gives"] = request.gives
    if needs.segment_model is not None:
        from dptcli.running.together import open_together

        return open_together(request.model, needs.segment_model, **wanted)
    prompted = needs.prompts is not None
    wanted["runtime"] = request.runtime
    return pipeline.open_pipeline(request.model, task=request.task, prompted=prompted, **wanted)
