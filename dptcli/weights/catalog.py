"""The models that have names: what each one is, where it lies, what may be done with it.

Needs no torch. Any other repository of the hub works by `owner/name`: its task and family come
from its config.json.
"""

import dataclasses
import difflib
from pathlib import Path

from dptcli.errors import MissingModelError, ModelError
from dptcli.model.access import Access
from dptcli.model.families import families
from dptcli.model.families.entry import APACHE, LABELS, RELATIVE, CatalogEntry
from dptcli.model.families.family import DEPTH, SEGMENT
from dptcli.weights import DEFAULT_MODEL, hub
from dptcli.weights.folder import HERE, ORIGINAL_SUFFIXES
from dptcli.weights.hub_name import HubName, parse_name

BUILTIN_FOLDER = Path(__file__).parent / "builtin"


def _builtin(task: str, *, gives: str, parameters: int, good_for: str) -> CatalogEntry:
    return CatalogEntry(
        name=DEFAULT_MODEL,
        family="Built in",
        task=task,
        gives=gives,
        backbone="DINOv2-S",
        parameters=parameters,
        input_size="308",
        licence=APACHE,
        good_for=good_for,
        folder=BUILTIN_FOLDER / f"dpt-small-{task}",
    )


CATALOG: tuple[CatalogEntry, ...] = (
    _builtin(
        DEPTH, gives=RELATIVE, parameters=24_785_089, good_for="depth out of the box, offline"
    ),
    _builtin(SEGMENT, gives=LABELS, parameters=24_795_961, good_for="25 classes, offline"),
    *(entry for family in families() for entry in family.catalogue()),
)


def names() -> list[str]:
    """The short names, each once, in the catalogue's order."""
    return list(dict.fromkeys(entry.name for entry in CATALOG))


def entries_for(name: str | Path) -> list[CatalogEntry]:
    """The entries with a short name or a repository's name; a built-in model has one a task."""
    wanted = str(name).partition("@")[0]
    return [entry for entry in CATALOG if wanted in (entry.name, entry.repository)]


def find_model(
    name: str | Path,
    *,
    task: str | None,
    offline: bool = False,
    refresh: bool = False,
    access: Access = HERE,
) -> Path:
    """The folder of a model: a local folder, a catalogued name, or `owner/name[@revision]`.

    An original file of the authors (.pt) is its own folder.

    A model of the hub is taken from the cache, else downloaded unless `offline`; `refresh` asks
    the hub for a newer version first.
    Raises ModelError for an unknown name, with the nearest known one, and for a wrong task.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.is_file():
        if folder.suffix.lower() in ORIGINAL_SUFFIXES:
            return folder
        raise ModelError(
            f"{folder}: is a file; a model is a folder, or an original file "
            f"({', '.join(ORIGINAL_SUFFIXES)})"
        )
    named = entries_for(name)
    fitting = [entry for entry in named if task in (None, entry.task, *entry.also)]
    if named and not fitting:
        tasks = " or ".join(entry.task for entry in named)
        raise ModelError(f"model {str(name)!r} is for `dpt {tasks}`, not for `dpt {task}`")
    if fitting and fitting[0].folder is not None:
        return fitting[0].folder
    if fitting and fitting[0].original is not None:
        return hub.fetch_original(
            hub_name(name, access),
            fitting[0].original,
            licence=fitting[0].licence,
            offline=offline,
            refresh=refresh,
        )
    return hub.fetch(
        hub_name(name, access),
        task=task,
        licence=named[0].licence if named else None,
        hint=_hint(name),
        offline=offline,
        refresh=refresh,
    )


def hub_name(name: str | Path, access: Access = HERE) -> HubName:
    """The repository and revision that a short name or `owner/name[@revision]` stands for.

    Raises ModelError for a name that can be neither, and for a built-in model.
    """
    short, _, revision = str(name).partition("@")
    for entry in entries_for(name):
        if entry.repository is None:
            raise ModelError(f"model {short!r} is built in: it is part of the package")
        return HubName(entry.repository, revision or entry.revision, access)
    parsed = parse_name(str(name))
    if parsed is None:
        raise MissingModelError(
            f"unknown model {str(name)!r}; {_hint(name)}give a folder, owner/name on the hub, "
            "or a name that `dpt models` lists"
        )
    return dataclasses.replace(parsed, access=access)


def _hint(name: str | Path) -> str:
    """ "did you mean …? " when a name comes near a known one, else nothing."""
    wanted = str(name).partition("@")[0].lower()
    known = {entry.name: entry.name for entry in CATALOG}
    known |= {entry.repository.lower(): entry.repository for entry in CATALOG if entry.repository}
    near = difflib.get_close_matches(wanted, known, n=1)
    return f"did you mean {known[near[0]]!r}? " if near else ""
