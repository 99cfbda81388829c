"""What stands where a loaded model's network stands, and runs the graph elsewhere.

B batch, H×W pixels, h×w the map, C classes.
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dptcli.errors import DptError, ModelError
from dptcli.export import TOLERANCE
from dptcli.model.outputs import DepthEstimatorOutput, SemanticSegmenterOutput
from dptcli.running.answer import answers_of
from dptcli.runtimes.graphs import Graph, Graphs
from dptcli.runtimes.store import compiled_in
from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)

Session = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A compiled graph: pixels (B, 3, H, W) -> depth (B, h, w) or logits (B, C, h, w)."""

# What a compilation may differ from PyTorch in float32, of the largest value: in float32 at most,
# in narrower types in the mean.
NARROW_TOLERANCE = 1e-2
# Sessions in memory; each holds the weights. Where the graph is dynamic there is one.
_MOST_SESSIONS = 4
_CHECKED_NAME = "checked"
_MEMORY = re.compile(
    r"bad.?alloc|out of memory|failed to allocate|cannot allocate|not enough memory|"
    r"CUDA failure 2\b|CUDNN_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)


class Backend(Protocol):
    """A runtime on one of its devices. name: with version and device; dtype: of PyTorch's."""

    name: str
    title: str
    dtype: torch.dtype

    @property
    def key(self) -> str:
        """Name what a compilation depends on but the graph: for a folder."""

    def compile(self, graph: Graph, folder: Path) -> Session:
        """Make a graph ready to run. folder: for what can be kept of it."""


class RuntimeNetwork(nn.Module):
    """Runs a model's graph by a backend; takes and gives what the model itself does."""

    def __init__(self, config: Any, task: str, graphs: Graphs, backend: Backend) -> None:
        super().__init__()
        self.config = config
        self.task = task
        self.graphs = graphs
        self.backend = backend
        self._graphs: dict[tuple[int, int], Graph] = {}
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def forward(self, pixel_values: Tensor) -> DepthEstimatorOutput | SemanticSegmenterOutput:
        """(B, 3, H, W) -> predicted_depth (B, h, w) or logits (B, C, h, w), float32 on the CPU.

        Raises MemoryError where memory ends, and ModelError where the runtime fails otherwise.
        """
        if pixel_values.ndim != 4:
            raise ModelError(
                f"{self.backend.name} takes pictures one by one, and not {len(pixel_values[0])} "
                "that are seen together; take --runtime torch"
            )
        pixels = pixel_values.float().cpu().numpy()
        height, width = pixels.shape[-2:]
        session = self.session_for((height, width))
        maps = torch.from_numpy(self._guarded(lambda: session(pixels)))
        if self.task == "depth":
            return DepthEstimatorOutput(predicted_depth=maps)
        return SemanticSegmenterOutput(logits=maps)

    def session_for(self, hw: tuple[int, int]) -> Session:
        """What runs inputs of a size: compiled, checked and kept when it is first asked for."""
        graph = self._graphs.get(hw)
        if graph is None:
            graph = self._graphs[hw] = self.graphs.graph_for(hw)
        found = self._sessions.pop(graph.size_name, None)
        if found is None:
            while len(self._sessions) >= _MOST_SESSIONS:
                self._sessions.popitem(last=False)
            folder = compiled_in(self.graphs.store, f"{self.backend.key}-{graph.size_name}")
            found = self._guarded(lambda: self.backend.compile(graph, folder))
            self._check(found, hw, folder / _CHECKED_NAME)
        self._sessions[graph.size_name] = found
        return found

    def _check(self, session: Session, hw: tuple[int, int], mark: Path) -> None:
        """Compare a new compilation with PyTorch's plain network. Raises ModelError."""
        if mark.is_file():
            return
        plain = self.graphs.plain()
        image = torch.randn(1, 3, *hw, generator=torch.Generator().manual_seed(0))
        theirs = self._guarded(lambda: session(image.numpy()))
        with torch.inference_mode():
            output: Any = plain.model(image, return_dict=True)
        maps: Tensor = output.predicted_depth if self.task == "depth" else output.logits
        answer = answers_of(output, maps, network_hw=hw)[0]
        if answer.beside or answer.camera is not None:
            told = ", ".join((*answer.beside, *(["a camera"] if answer.camera else [])))
            raise ModelError(
                f"model {plain.name!r} tells {told} beside its map, and its graph does not; take "
                "--runtime torch"
            )
        ours = maps.numpy()
        if theirs.shape != ours.shape:
            raise ModelError(f"{self.backend.name} gives {theirs.shape}, PyTorch {ours.shape}")
        apart = np.abs(theirs - ours) / max(float(np.abs(ours).max()), 1e-30)
        exact = self.backend.dtype is torch.float32
        difference = float(apart.max() if exact else apart.mean())
        most = TOLERANCE if exact else NARROW_TOLERANCE
        logger.info("%s differs from PyTorch by %.1e", self.backend.name, difference)
        if not difference <= most:
            raise ModelError(
                f"{self.backend.name} differs from PyTorch by {difference:.1e} of the largest "
                f"value, where {most:g} is allowed; take --runtime torch"
            )
        mark.write_text(f"{difference:.3e}\n", encoding="ascii")

    def _guarded(self, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except (MemoryError, DptError):
            raise
        except Exception as error:
            if _MEMORY.search(str(error)):
                raise MemoryError(str(error)) from error
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelError(
                f"{self.backend.name} fails: {reason}; --runtime torch runs the model without it"
            ) from error


def stands_for(loaded: LoadedModel, network: RuntimeNetwork) -> LoadedModel:
    """A model described without its weights, with the network in place of its own."""
    model: Any = network.eval()
    return replace(
        loaded,
        model=model,
        dtype=network.backend.dtype,
        optimized=True,
        runtime=network.backend.name,
    )
