"""Which runtime is the fastest here: who takes part, who wins, and what is written down."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dptcli.benchmark.contenders import Spec
from dptcli.benchmark.measure import Benchmark, Row
from dptcli.errors import UsageError
from dptcli.runtimes.choice import write_choice
from dptcli.runtimes.known import RUNTIMES, TORCH
from dptcli.runtimes.opening import backend_for

# What another runtime must take at most, by PyTorch's time: less is within what runs differ by.
MARGIN = 0.95
# How far results may be from the plain network's in float32, as `Ours.accuracy` tells it.
_MOST = {"float32": ("max_difference", 1e-3)}
_MOST_NARROW = ("mean_difference", 1e-2)
_LEAST_SAME = 0.99


@dataclass(frozen=True)
class Choice:
    """What was found: the runtime, how it compares, and the file that says so."""

    runtime: str
    ratio: float
    path: Path


def runtimes_here(told: list[str], *, device: str, dtype: str, optimize: bool) -> list[str]:
    """The other runtimes that run here with these options; told: takes why the rest does not.

    Raises UsageError where there is none.
    """
    here = []
    for name, runtime in RUNTIMES.items():
        if runtime.version is None:
            told.append(f"{name} is not installed")
            continue
        try:
            runtime.check(device=device, dtype=dtype, optimize=optimize)
            backend_for(name, device=device, dtype=dtype)
        except UsageError as error:
            told.append(f"{name}: {error}")
        else:
            here.append(name)
    if not here:
        raise UsageError(f"--choose: there is no other runtime ({'; '.join(told)})")
    return here


def rivals(first: Spec, runtimes: Sequence[str]) -> list[Spec]:
    """A contender for each runtime, beside ours with PyTorch."""
    return [
        replace(first, name=f"dpt, {name}", runtime=name, out=f"{first.out}-{name}")
        for name in runtimes
    ]


def choose(found: Benchmark, specs: Sequence[Spec]) -> Choice:
    """Take the fastest of those that are right, and write it down for `--runtime auto`."""
    runtimes = {spec.name: spec.runtime for spec in specs}
    best, ratio = TORCH, 1.0
    for row in found.rows:
        theirs = found.ratio(row, "forward_s") or 1.0
        whole = found.ratio(row, "photographs_s") or 1.0
        wins = runtimes.get(row.name, TORCH) != TORCH and theirs <= MARGIN and whole < 1
        if wins and theirs < ratio and is_right(row):
            best, ratio = runtimes[row.name], theirs
    first = specs[0]
    facts: dict[str, Any] = {
        "forward_ratios": {
            runtimes.get(row.name, row.name): found.ratio(row, "forward_s") for row in found.rows
        },
        "network_hw": found.rows[0].facts["network_hw"],
    }
    options = {"device": first.device, "dtype": first.dtype, "size": first.size}
    path = write_choice(first.model, first.task, best, facts, **options)
    return Choice(best, ratio, path)


def is_right(row: Row) -> bool:
    """Whether a runtime's results are near enough to the plain network's in float32."""
    accuracy = row.facts["accuracy"]
    if "same_labels" in accuracy:
        return bool(accuracy["same_labels"] >= _LEAST_SAME)
    name, most = _MOST.get(row.facts["dtype"], _MOST_NARROW)
    return bool(accuracy[name] <= most)
