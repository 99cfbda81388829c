"""What the rest of the tree may ask of a family, whichever it is. Needs no torch."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dptcli.model.families.entry import CatalogEntry
    from dptcli.model.families.original import OriginalFormat
    from dptcli.model.pretrained import Pretrained

DEPTH = "depth"
SEGMENT = "segment"
# Among a family's parts:
NORMALS = "normals"  # depth with surface normals beside it
POSES = "poses"  # depth by cameras that are given


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of models; its parts are imported when they are asked for.

    package: where its files lie. title: as messages name it. tasks: {architecture in config.json:
    task}; the class of that name is in `models`. processor: the class in processor.py, None for
    DPT's own. public: further names that `dptcli` hands out, {name: module}. told_by: what
    a config.json without `depth_estimation_type` tells of it by other marks, or None. gives: what
    all of its models of depth give, where no config.json says it; in the catalogue's words.
    parts: {architecture of a file that serves several tasks: {task: the class for that one}}.
    authors_layout: the architecture that a config.json in a layout of the authors' own means.
    """

    package: str
    title: str
    tasks: Mapping[str, str]
    models: str = "model"
    processor: str | None = None
    has_originals: bool = False
    public: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    authors_layout: Callable[[Mapping[str, Any]], str | None] = lambda _values: None
    told_by: Callable[[Mapping[str, Any]], str | None] = lambda _values: None
    gives: str | None = None

    def model_class(self, architecture: str) -> "type[Pretrained]":
        """The class that an architecture of config.json names."""
        found: type[Pretrained] = getattr(self._module(self.models), architecture)
        return found

    def part_for(
        self, architecture: str, task: str | None, *, normals: bool = False, poses: bool = False
    ) -> str:
        """The architecture that does a task with the file of another; itself where it has none."""
        parts = self.parts.get(architecture, {})
        for part, is_wanted in ((NORMALS, normals), (POSES, poses)):
            if is_wanted and task == DEPTH and part in parts:
                return parts[part]
        return parts.get(task or "", architecture)

    def processor_class(self) -> Any:
        """The class of its own image processor; None where DPT's serves."""
        if self.processor is None:
            return None
        return getattr(self._module("processor"), self.processor)

    def catalogue(self) -> "tuple[CatalogEntry, ...]":
        """The public checkpoints."""
        entries: tuple[CatalogEntry, ...] = self._module("catalogue").ENTRIES
        return entries

    def originals(self) -> "tuple[OriginalFormat, ...]":
        """The authors' own files that can be read."""
        if not self.has_originals:
            return ()
        formats: tuple[OriginalFormat, ...] = self._module("originals").FORMATS
        return formats

    def public_names(self) -> dict[str, str]:
        """{public name: the module that defines it}."""
        names = {name: self._path(self.models) for name in self.tasks}
        if self.processor is not None:
            names[self.processor] = self._path("processor")
        return names | {name: self._path(module) for name, module in self.public.items()}

    def _path(self, name: str) -> str:
        return name if "." in name else f"{self.package}.{name}"

    def _module(self, name: str) -> Any:
        return importlib.import_module(self._path(name))
