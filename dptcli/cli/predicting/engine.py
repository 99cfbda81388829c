"""Where a run's work is done: in this process, or on a Ray cluster. Loads nothing heavy."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dptcli.errors import UsageError

if TYPE_CHECKING:
    from dptcli.cli.predicting.record import Kept
    from dptcli.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class ClusterRequest:
    """Which cluster, how many models, and their share of GPUs; None is the engine's choice."""

    address: str | None
    num_workers: int | None
    gpus_per_worker: float | None


def read_engine(given: Mapping[str, Any]) -> ClusterRequest | None:
    """Return what is asked of a cluster; None for this process. Raises UsageError."""
    engine = given.get("engine", "local")
    if engine not in {"local", "ray"}:
        raise UsageError(f"--engine {engine!r} must be local or ray")
    names = {"ray_address": "--ray-address", "workers": "--workers"}
    names["gpus_per_worker"] = "--gpus-per-worker"
    if engine == "local":
        for name, option in names.items():
            if given.get(name) is not None:
                raise UsageError(f"{option} is for a cluster; add --engine ray")
        return None
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
    return ClusterRequest(
        address=given["ray_address"],
        num_workers=None if workers is None else int(workers),
        gpus_per_worker=None if share is None else _parse_share(share),
    )


def _parse_share(value: str) -> float:
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


@contextlib.contextmanager
def opened(
    cluster: ClusterRequest | None,
    opener: "Callable[..., Pipeline]",
    kept: "Kept",
    *,
    max_pixels: int | None,
) -> "Iterator[Pipeline]":
    """The pipeline of a run, for as long as the block lasts. opener: takes Options' `read`.

    Raises ModelError and UsageError.
    """
    if cluster is None:
        yield opener(read=kept.reader(max_pixels))
        return
    from dptcli.engine_ray.driver import ClusterPipeline, connected

    with connected(cluster.address):
        yield ClusterPipeline(
            opener,
            num_workers=cluster.num_workers,
            gpus_per_worker=cluster.gpus_per_worker,
            note_input=kept.note_input,
        )
