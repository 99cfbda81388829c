"""Running the installed `dpt`, and small programs, as processes."""

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from places import ROOT

_SCRIPT = shutil.which("dpt", path=str(Path(sys.executable).parent))
DPT = [_SCRIPT] if _SCRIPT else [sys.executable, "-m", "dptcli"]

WAIT_S = 300  # a run here takes seconds; this stands for "it does not hang" on any machine


@functools.cache
def warm_dpt():
    """The words that run `dpt` forked from a process that has its imports, see `warm.py`."""
    if not hasattr(os, "pidfd_open"):
        return DPT
    program = str(Path(__file__).with_name("warm.py"))
    folder = tempfile.TemporaryDirectory(prefix="dpt-warm-")
    address = f"{folder.name}/socket"
    server = subprocess.Popen(
        [sys.executable, program, "serve", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )

    def stop():
        server.stdin.close()
        server.wait(timeout=WAIT_S)
        server.stdout.close()
        folder.cleanup()

    atexit.register(stop)
    assert server.stdout.readline() == b"ready\n"
    return [sys.executable, "-S", "-E", program, address]


def run_dpt(*words, cwd=None, **changes):
    """Run `dpt`, warm: its exit code and what it wrote as text. changes: of its environment."""
    return subprocess.run(
        [*warm_dpt(), *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
        env=environment(**changes),
    )


def environment(**changes):
    """This process's environment for a child: it finds this checkout and its tests, on one core."""
    support = Path(__file__).parent
    path = os.pathsep.join(filter(None, [str(ROOT), str(support), os.environ.get("PYTHONPATH")]))
    inherited = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    return {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **changes}


def hear_ctrl_c():
    """For a child before its program (preexec_fn): what runs in the background may ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


# For the start of a child's program. Not getrusage's maximum: that one is inherited from the
# parent through fork, so that a large test process would hide what the child takes.
PEAK_KIB = """
def peak_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
"""
NEEDS_PROC = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc"
)
