"""Where from_pretrained reads: a folder of this machine, or a model of the hub by its name."""

from pathlib import Path

from dptcli.weights import hub
from dptcli.weights.catalog import entries_for, find_model, hub_name
from dptcli.weights.folder import task_of


def model_folder(source: str | Path, *, model_class: str, offline: bool = False) -> Path:
    """The folder of a whole model: `source` itself, or where the hub's lies in the cache.

    source: a folder, a catalogued name, or `owner/name[@revision]`. model_class: what will be made
    of it; a name for two tasks follows it, and a backbone's takes repositories of any kind.
    Raises ModelError.
    """
    if _is_path(source):
        return Path(source)
    task = task_of({"architectures": [model_class]})
    if model_class.endswith("Backbone") and not entries_for(source):
        return hub.fetch(hub_name(source), offline=offline, bare=True)
    return find_model(source, task=task, offline=offline)


def settings_file(source: str | Path, file_name: str, *, offline: bool = False) -> Path:
    """One small file of a model, such as config.json, without its weights. Raises ModelError."""
    if _is_path(source):
        return Path(source) / file_name
    entries = entries_for(source)
    if entries and entries[0].folder is not None:
        return entries[0].folder / file_name
    return hub.fetch_file(hub_name(source), file_name, offline=offline)


def _is_path(source: str | Path) -> bool:
    """Whether a source can only be a path: what is there, and what cannot be a name."""
    if isinstance(source, Path) or Path(source).exists():
        return True
    return not entries_for(source) and hub.parse_name(source) is None
