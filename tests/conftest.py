"""Settings for every test: no network, quiet reference, one thread for each test process.

Every parity test leaves its largest difference in the summary that ends the run, and the fault
suite its count.
"""

import logging
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: more threads only wait
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as `dpt` has it
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
if os.environ.get("DPT_TEST_PLAYS"):  # a processor that this one is not, here and in children
    _playing = Path(__file__).parent / "support" / "playing"
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(_playing), os.environ.get("PYTHONPATH")])
    )
    runpy.run_path(str(_playing / "sitecustomize.py"))


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> None:
    """Undo what a command in this process sets: -q would silence later tests' logs.

    To what a new process has, since fixtures of a module run commands before a test begins.
    """
    package = logging.getLogger("dptcli")
    package.setLevel(logging.NOTSET)
    package.propagate, package.handlers = True, []


@pytest.fixture(autouse=True)
def _threads_as_they_were() -> Iterator[None]:
    """Undo `--threads` of a command that runs in this process: two workers would wait in turns."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != int(os.environ["OMP_NUM_THREADS"]):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


_largest: dict[str, float] = {}
_faults = {"tried": 0, "survived": 0}


def _gather(seen: dict[str, float]) -> None:
    for test, found in seen.items():
        _largest[test] = max(found, _largest.get(test, 0.0))


def _count(seen: dict[str, int]) -> None:
    for name, number in seen.items():
        _faults[name] += number


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take this process's differences and faults, or hand a worker's to the main process."""
    from faults import counts
    from parity import largest_seen

    worker_output = getattr(session.config, "workeroutput", None)
    if worker_output is None:
        _gather(largest_seen)
        _count(counts)
    else:
        worker_output["parity"] = largest_seen
        worker_output["faults"] = counts


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a pytest-xdist worker saw."""
    seen = getattr(node, "workeroutput", {})
    _gather(seen.get("parity", {}))
    _count(seen.get("faults", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of differences and the count of faults."""
    if _faults["tried"]:
        lost = _faults["tried"] - _faults["survived"]
        terminalreporter.section("faults")
        terminalreporter.write_line(
            f"tried {_faults['tried']}, survived {_faults['survived']}, lost {lost}"
        )
    if _largest:
        terminalreporter.section("parity: largest difference relative to the reference")
    for test, found in sorted(_largest.items()):
        terminalreporter.write_line(f"{found:.1e}  {test.removeprefix('tests/')}")
