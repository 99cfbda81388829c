"""A model's graphs: what `dpt export` writes and checks, made once and kept.

One graph serves all sizes where the model's graph allows it; else there is one for each size.
"""

import functools
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dptcli import __version__
from dptcli.errors import ModelError
from dptcli.export import DEFAULT_OPSET, export_onnx
from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)

# Part of the files' names: another one where the graph of the same model is written otherwise.
_FORMAT = 1


@dataclass(frozen=True)
class Graph:
    """An ONNX file. hw: the one size (height, width) that it takes; None for all sizes."""

    path: Path
    hw: tuple[int, int] | None
    multiple_of: int

    @property
    def size_name(self) -> str:
        """For names of files."""
        return "any" if self.hw is None else f"{self.hw[0]}x{self.hw[1]}"


class Graphs:
    """The graphs of one model.

    store: their folder. plain: gives the model in float32, on the CPU, to write a graph from and to
    compare with; it is called once at most, and only where something is made.
    """

    def __init__(self, store: Path, plain: Callable[[], LoadedModel]) -> None:
        self.store = store
        self.plain = functools.cache(plain)

    def graph_for(self, hw: tuple[int, int]) -> Graph:
        """The graph for inputs of a size. Raises ModelError where the model makes none."""
        first = self._kept("any") or self._made("any", None)
        if first.hw is not None and first.hw != hw:
            name = f"{hw[0]}x{hw[1]}"
            return self._kept(name) or self._made(name, self._checked(hw, first))
        self._checked(hw, first)
        return first

    def _checked(self, hw: tuple[int, int], graph: Graph) -> tuple[int, int]:
        multiple = graph.multiple_of
        if any(side % multiple for side in hw):
            raise ModelError(
                f"the network would see {hw[0]}×{hw[1]}, and its graph takes multiples of "
                f"{multiple}; take another --size, or --runtime torch"
            )
        return hw

    def _path(self, name: str) -> Path:
        return self.store / f"{name}-{__version__}-{DEFAULT_OPSET}-{_FORMAT}.onnx"

    def _kept(self, name: str) -> Graph | None:
        """A graph that was written earlier; the facts beside it come last, so they vouch for it."""
        path = self._path(name)
        try:
            facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["input"]
        except (OSError, ValueError, KeyError):
            return None
        if not path.is_file():
            return None
        fixed = facts["fixed_height"]
        hw = None if fixed is None else (int(fixed), int(facts["fixed_width"]))
        return Graph(path, hw, int(facts["multiple_of"]))

    def _made(self, name: str, hw: tuple[int, int] | None) -> Graph:
        loaded, path = self.plain(), self._path(name)
        for_size = "" if hw is None else f" for {hw[0]}×{hw[1]}"
        logger.warning("writing the graph of %s%s, once", loaded.name, for_size)
        made = export_onnx(loaded, path, fixed_hw=hw)
        return Graph(path, made.input_hw, made.multiple_of)
