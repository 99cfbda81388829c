"""Running the installed `dpt` as a process."""

import os
import shutil
import sys
from pathlib import Path

_SCRIPT = shutil.which("dpt", path=str(Path(sys.executable).parent))
DPT = [_SCRIPT] if _SCRIPT else [sys.executable, "-m", "dptcli"]


def environment(**changes):
    """This process's environment for a child: it finds this checkout, and takes one core."""
    ours = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH")]))
    inherited = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    return {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **changes}
