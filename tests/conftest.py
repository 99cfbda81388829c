"""Settings for every test: no network, quiet reference, one thread for each test process.

Every parity test leaves its largest difference in the summary that ends the run.
"""

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: more threads only wait
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a command that runs in this process sets: -q would silence later tests' logs."""
    package = logging.getLogger("dptcli")
    before = package.level, package.propagate, package.handlers
    yield
    package.setLevel(before[0])
    package.propagate, package.handlers = before[1:]


_largest: dict[str, float] = {}


def _gather(seen: dict[str, float]) -> None:
    for test, found in seen.items():
        _largest[test] = max(found, _largest.get(test, 0.0))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take this process's differences, or hand a worker's to the main process."""
    from parity import largest_seen

    worker_output = getattr(session.config, "workeroutput", None)
    if worker_output is None:
        _gather(largest_seen)
    else:
        worker_output["parity"] = largest_seen


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a pytest-xdist worker saw."""
    _gather(getattr(node, "workeroutput", {}).get("parity", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of differences."""
    if _largest:
        terminalreporter.section("parity: largest difference relative to the reference")
    for test, found in sorted(_largest.items()):
        terminalreporter.write_line(f"{found:.1e}  {test.removeprefix('tests/')}")
