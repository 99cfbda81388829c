"""What a checkpoint gives, decided in one place: relative depth, depth without scale, or metres.

In this order: the option `--gives`, what its config.json says, the catalogue's row of its
repository, the marks that its family knows. The hub's files of whole families leave it out.
Needs no torch.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dptcli.model.families import families
from dptcli.model.families.entry import CatalogEntry
from dptcli.model.families.family import DEPTH
from dptcli.weights.catalog import CATALOG
from dptcli.weights.folder import read_config, task_of

TYPE = "depth_estimation_type"
_CACHE = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)")


def described_config(folder: str | Path) -> dict[str, Any]:
    """A folder's config.json, with what it leaves out of what the model gives. As read_config."""
    return completed(read_config(folder), folder)


def completed(values: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """The values of a config.json with `depth_estimation_type`, where anybody knows it."""
    if values.get(TYPE) is not None or task_of(values) != DEPTH:
        return dict(values)
    entry = entry_of(folder)
    if entry is not None and entry.task == DEPTH:
        return {**values, TYPE: entry.gives}
    marks = (family.told_by(values) for family in families())
    told = next((mark for mark in marks if mark is not None), None)
    return dict(values) if told is None else {**values, TYPE: told}


def told_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config.json with what its family's classes say in its place."""
    named = set(values.get("architectures") or ())
    given = [family.gives for family in families() if not named.isdisjoint(family.tasks)]
    return {**values, TYPE: given[0]} if given and given[0] is not None else dict(values)


def entry_of(folder: str | Path) -> CatalogEntry | None:
    """The catalogue's row of a folder in the hub's cache, or of a built-in model's."""
    folder = Path(folder)
    repository = repository_of(folder)
    for entry in CATALOG:
        if entry.repository is not None and entry.repository == repository:
            return entry
        if entry.folder is not None and entry.folder == folder:
            return entry
    return None


def repository_of(folder: Path) -> str | None:
    """`owner/name` of a folder …/models--owner--name/snapshots/COMMIT, else None."""
    if folder.parent.name != "snapshots":
        folder = folder.absolute()
    found = _CACHE.fullmatch(folder.parent.parent.name)
    if folder.parent.name != "snapshots" or found is None:
        return None
    return f"{found['owner']}/{found['name']}"
