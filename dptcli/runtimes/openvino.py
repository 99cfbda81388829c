"""OpenVINO: Intel's processors, and its GPUs and NPUs.

A dynamic graph is compiled once for all sizes: for one size it takes 7 s of a core instead of 1.4
(the built-in model), to run 7 to 11 % faster. What is compiled is kept by OpenVINO's own cache.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dptcli.errors import UsageError
from dptcli.fast.capabilities import processor
from dptcli.runtimes.graphs import Graph
from dptcli.runtimes.network import Session

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
# What a device must say it can, or it computes in float32 and rounds each time: 50 times slower.
_NEEDED = {"float32": None, "bfloat16": "BF16", "float16": "FP16"}


class OpenVINO:
    """A device of OpenVINO's. Raises UsageError for a device or a dtype that is not here."""

    title = "OpenVINO"

    def __init__(self, version: str, *, device: str, dtype: str) -> None:
        from openvino import Core

        self._core: Any = Core()
        kind, _, index = device.partition(":")
        self._device = "CPU" if kind == "auto" else f"{kind.upper()}.{index}".rstrip(".")
        here = list(self._core.available_devices)
        if self._device not in here and not any(
            name.startswith(f"{self._device}.") for name in here
        ):
            raise UsageError(
                f"--device {device!r}: OpenVINO finds {', '.join(here)} on this machine"
            )
        able = self._core.get_property(self._device, "OPTIMIZATION_CAPABILITIES")
        self.dtype = self._dtype_for(dtype, able)
        self._version = version
        self._full_name = str(self._core.get_property(self._device, "FULL_DEVICE_NAME"))
        self.name = f"openvino {version} {self._device}"

    def _dtype_for(self, dtype: str, able: list[str]) -> torch.dtype:
        if dtype == "auto":
            narrow = self._device == "CPU" and "BF16" in able and processor().has("bfloat16")
            dtype = "bfloat16" if narrow else "float32"
        if _NEEDED[dtype] not in (None, *able):
            raise UsageError(f"--dtype {dtype!r}: OpenVINO's {self._device} here has no {dtype}")
        found: torch.dtype = getattr(torch, dtype)
        return found

    @property
    def key(self) -> str:
        """As Backend's."""
        chip = re.sub(r"\W+", "-", f"{self._device}-{self._full_name}").strip("-")
        return f"openvino-{self._version}-{chip}-{str(self.dtype).removeprefix('torch.')}"

    def compile(self, graph: Graph, folder: Path) -> Session:
        """As Backend's."""
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _PRECISIONS[str(self.dtype).removeprefix("torch.")],
            "CACHE_DIR": str(folder),
        }
        if self._device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
        compiled = self._core.compile_model(str(graph.path), self._device, settings)

        def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
            # One by one: nothing is gained from batches, and a result never depends on one.
            maps = [np.array(compiled(image[None])[0], np.float32) for image in pixels]
            return np.concatenate(maps)

        return run
