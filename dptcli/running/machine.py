"""What this machine is: its processor and the cores that this process may use."""

import contextlib
import os
import platform
from pathlib import Path


def usable_cores() -> int:
    """The cores that this process may run on: fewer than the machine has, in a job of a cluster."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def processor_name() -> str:
    """The processor's name as its maker gives it, else the kind of machine."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
