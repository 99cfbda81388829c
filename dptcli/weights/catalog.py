"""The models that have names: what each one is and where it lies. Needs no torch."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from dptcli.errors import ModelError

DEPTH = "depth"
SEGMENT = "segment"
TASKS = (DEPTH, SEGMENT)
BUILTIN_FOLDER = Path(__file__).parent / "builtin"
DEFAULT_MODEL = "dpt-small"


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """One named model. folder: where a built-in one lies."""

    name: str
    task: str
    licence: str
    folder: Path


CATALOG = (
    CatalogEntry(
        name="dpt-small",
        task=DEPTH,
        licence="Apache-2.0",
        folder=BUILTIN_FOLDER / "dpt-small-depth",
    ),
    CatalogEntry(
        name="dpt-small",
        task=SEGMENT,
        licence="Apache-2.0",
        folder=BUILTIN_FOLDER / "dpt-small-segment",
    ),
)


def find_model(name: str | Path, *, task: str | None) -> Path:
    """The folder of a model: a folder in the hub's layout, or the name of a catalogued one.

    Raises ModelError for an unknown name, with the nearest known one.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    named = [entry for entry in CATALOG if entry.name == str(name)]
    for entry in named:
        if task is None or entry.task == task:
            return entry.folder
    if named:
        tasks = " or ".join(entry.task for entry in named)
        raise ModelError(f"model {str(name)!r} is for `dpt {tasks}`, not for `dpt {task}`")
    near = difflib.get_close_matches(str(name), {entry.name for entry in CATALOG}, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ModelError(
        f"unknown model {str(name)!r}; {hint}Give a folder with config.json, or a name: "
        f"{', '.join(sorted({entry.name for entry in CATALOG}))}"
    )
