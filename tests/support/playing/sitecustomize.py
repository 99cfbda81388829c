"""Lets every process of a test run play the processor that DPT_TEST_PLAYS names.

`DPT_TEST_PLAYS=bfloat16 pytest tests/weights` finds tests that hold only where "auto" is float32:
conftest.py puts this file's folder on PYTHONPATH. Of the machine's own capabilities only the level
changes, so what is asked for still runs, slowly.
"""

import importlib.util
import os
import sys
from dataclasses import replace
from importlib.abc import MetaPathFinder

MODULE = "dptcli.fast.capabilities"


class Player(MetaPathFinder):
    """Changes the module as it is imported: importing it here would import torch."""

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            own = module.detected
            module.detected = lambda: replace(own(), level=os.environ["DPT_TEST_PLAYS"])

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("DPT_TEST_PLAYS"):
    sys.meta_path.insert(0, Player())
