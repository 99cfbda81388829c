"""The families of models, a folder each, with the same set of files in every one.

Nothing else in the tree names a family: adding one is adding its folder here and its tests.

    __init__.py     FAMILY: what it is asked for by (needs no torch)
    config.py       its configuration, with the reference's names
    model.py        its models; their own blocks in files beside it
    processor.py    its image processor, where it differs from DPT's
    catalogue.py    its public checkpoints, the rows of `dpt models` (needs no torch)
    originals.py    the authors' own files: their marks, their tensors' names, their config.json

What several of them share lies beside the folders: family.py, entry.py, original.py (reading the
authors' files) and estimator.py (the forward of the plain ones).
DPT itself is the family `dpt`; its model stands in `dptcli/model/`, for the others build on it.
"""

import importlib
import pkgutil
from functools import cache

from dptcli.model.families.family import Family


@cache
def families() -> tuple[Family, ...]:
    """Every family, in the order of their folders' names."""
    folders = sorted(found.name for found in pkgutil.iter_modules(__path__) if found.ispkg)
    return tuple(importlib.import_module(f"{__name__}.{name}").FAMILY for name in folders)
