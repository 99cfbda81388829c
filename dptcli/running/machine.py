"""What this machine is: its processor and the cores that this process may use."""

import contextlib
import gc
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path


def usable_cores() -> int:
    """The cores that this process may run on: fewer than the machine has, in a job of a cluster."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def own_threads(wanted: str | None) -> int:
    """The threads that PyTorch takes by itself. wanted: what OMP_NUM_THREADS says, if anything.

    One for each core, not for each of the processors that a core may show.
    """
    with contextlib.suppress(ValueError):
        return max(1, int((wanted or "").partition(",")[0]))
    cores = set()
    with contextlib.suppress(OSError, AttributeError):
        for processor in os.sched_getaffinity(0):
            folder = Path(f"/sys/devices/system/cpu/cpu{processor}/topology")
            cores.add((folder / "thread_siblings_list").read_text())
    return len(cores) or usable_cores()


def steady_sums() -> None:
    """Let MKL sum in one order, wherever in memory a thread's numbers lie; before its first use.

    Otherwise attention over 485 tokens differs in its last bit with eight threads or more. It costs
    nothing that can be measured.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def brief_waits() -> None:
    """Let threads that wait for others sleep soon; before torch is imported.

    GNU's OpenMP lets them turn for 5 ms, this for .2 (a Xeon) to 1.7 (a Zen 4 with other work).
    Where others run too, the core that a thread waits for is the one that turning takes: on two
    cores with five other processes the network then takes 2.3 times as long. Its operations follow
    each other faster, so on an idle machine its threads stay awake as before. What the caller says
    of OpenMP's waiting counts.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@contextlib.contextmanager
def collector_rests() -> Iterator[None]:
    """Import torch without Python's collector of cycles, and keep what it made out of its rounds.

    That is a quarter of a million objects that stay, which it would look through time and again
    while they come (a sixth of the time of importing torch) and, as it is told to forget them, once
    more when the process ends. What the run makes of its own it looks through as ever.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def processor_name() -> str:
    """The processor's name as its maker gives it, else the kind of machine."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_bytes() -> int | None:
    """The memory that this process may still take, where the system says it.

    The machine's, or what a container's limit leaves of it.
    """
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        [line] = [line for line in lines if line.startswith("MemAvailable:")]
        found.append(1024 * int(line.split()[1]))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())  # "max" is none
        found.append(limit - int((group / "memory.current").read_text()))
    return max(0, min(found)) if found else None
