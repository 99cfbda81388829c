"""Where from_pretrained reads: a folder of this machine, or a model of the hub by its name."""

from pathlib import Path

from dptcli.errors import ModelError
from dptcli.model.access import Access
from dptcli.weights import hub
from dptcli.weights.catalog import entries_for, find_model, hub_name
from dptcli.weights.folder import HERE, task_of
from dptcli.weights.hub_name import parse_name


def model_folder(
    source: str | Path, *, model_class: str, access: Access = HERE, any_task: bool = False
) -> Path:
    """The folder of a whole model: `source` itself, or where the hub's lies in the cache.

    source: a folder, a catalogued name, or `owner/name[@revision]`. model_class: what will be made
    of it; a name for two tasks follows it, and a backbone's takes repositories of any kind.
    any_task: a model for another task will do.
    Raises ModelError.
    """
    if _is_path(source):
        return Path(source) / access.subfolder
    named = with_revision(source, access)
    task = task_of({"architectures": [model_class]})
    if any_task and all(entry.task != task for entry in entries_for(named)):
        task = None
    if model_class.endswith("Backbone") and not entries_for(named):
        return hub.fetch(hub_name(named, access), offline=access.offline, bare=True)
    return find_model(named, task=task, offline=access.offline, access=access)


def settings_file(source: str | Path, file_name: str, *, access: Access = HERE) -> Path:
    """One small file of a model, such as config.json, without its weights. Raises ModelError.

    source: as for `model_folder`, or that file itself.
    """
    if _is_path(source):
        path = Path(source)
        return path if path.is_file() else path / access.subfolder / file_name
    named = with_revision(source, access)
    entries = entries_for(named)
    if entries and entries[0].folder is not None:
        return entries[0].folder / file_name
    return hub.fetch_file(hub_name(named, access), file_name, offline=access.offline)


def with_revision(source: str | Path, access: Access) -> str:
    """The name with its revision behind an @, wherever it was said. ModelError for two of them."""
    name, _, own = str(source).partition("@")
    if access.revision is None or access.revision == own:
        return str(source)
    if own:
        raise ModelError(
            f"model {str(source)!r} and revision={access.revision!r} name two revisions; give one"
        )
    return f"{name}@{access.revision}"


def _is_path(source: str | Path) -> bool:
    """Whether a source can only be a path: what is there, and what cannot be a name.

    Raises ModelError for a word that is neither, with the nearest name.
    """
    if isinstance(source, Path) or Path(source).exists():
        return True
    if entries_for(source) or parse_name(source) is not None:
        return False
    if source == Path(source).name:  # no folders in it
        hub_name(source)
    return True
