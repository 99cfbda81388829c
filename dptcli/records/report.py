"""The account of a run: what became of every image, and the time that every stage took."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dptcli.results.files import write_text
from dptcli.results.plan import Job
from dptcli.results.sidecar import json_text

# Beside the results: the images that have none, one JSON line each, for `dpt gallery` and scripts.
FAILURES_NAME = "failures.jsonl"

STAGES = ("load", "decode", "preprocess", "network", "postprocess", "write")


@dataclass(frozen=True)
class Outcome:
    """What became of one job: error is None when its result is written."""

    job: Job
    error: str | None = None
    output_hw: tuple[int, int] | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Report:
    """The account of a run; stage_s are busy seconds per stage, and stages overlap."""

    num_done: int = 0
    failed: tuple[Outcome, ...] = ()
    elapsed_s: float = 0.0
    stage_s: Mapping[str, float] = field(default_factory=dict)


def write_failures(folder: Path, failed: Iterable[tuple[str, str | None]]) -> None:
    """Write failures.jsonl from (image, reason), a line each; without any an older one goes."""
    path = folder / FAILURES_NAME
    lines = [{"input": name, "error": reason} for name, reason in failed]
    if not lines:
        path.unlink(missing_ok=True)
        return
    write_text(path, "".join(json_text(line) + "\n" for line in lines))


class Clock:
    """Adds up the busy seconds of each stage, from any thread."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, float]:
        """What goes to another process."""
        return dict(self.seconds)

    def __setstate__(self, seconds: dict[str, float]) -> None:
        self.seconds = dict(seconds)
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time that the block takes towards a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] += time.perf_counter() - started
