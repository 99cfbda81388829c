"""ONNX Runtime and its execution providers: CPU, CUDA, TensorRT, Core ML, DirectML.

Where a provider cannot start, ONNX Runtime says so on the console and takes the CPU; here that is
an error. Only the CPU's has been run by us.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dptcli.errors import ModelError, UsageError
from dptcli.export import INPUT_NAME, import_onnx_runtime
from dptcli.runtimes.graphs import Graph
from dptcli.runtimes.network import Session

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
_GPU_PACKAGES = {
    "CUDAExecutionProvider": "onnxruntime-gpu has it",
    "TensorrtExecutionProvider": "pip install 'dptcli[tensorrt]' has it",
    "DmlExecutionProvider": "onnxruntime-directml has it, on Windows",
    "CoreMLExecutionProvider": "onnxruntime has it, on a Mac",
}
_LARGEST_SIDE = 2048  # of what one TensorRT engine takes
_LARGEST_BATCH = 8


class ONNXRuntime:
    """An execution provider. Raises UsageError for one that is not in this installation."""

    title = "ONNX Runtime"

    def __init__(self, version: str, *, device: str, dtype: str, tensorrt: bool = False) -> None:
        self._runtime = onnxruntime = import_onnx_runtime()
        kind, _, index = device.partition(":")
        here = onnxruntime.get_available_providers()
        if tensorrt:
            kind = "tensorrt"
        elif kind == "auto":
            kind = "cuda" if _PROVIDERS["cuda"] in here else "cpu"
        self._index = int(index or 0)
        self._provider = _PROVIDERS[kind]
        if self._provider not in here:
            raise UsageError(
                f"this ONNX Runtime has no {self._provider}, only {', '.join(here)}; "
                f"{_GPU_PACKAGES[self._provider]}"
            )
        if dtype == "auto":
            dtype = "float16" if tensorrt else "float32"
        self.dtype: torch.dtype = getattr(torch, dtype)
        self._dtype_name = dtype
        self._version = version
        self.name = f"onnxruntime {version} {self._provider}"

    @property
    def key(self) -> str:
        """As Backend's."""
        chip = f"{self._provider}-{self._index}"
        if self._provider == _PROVIDERS["tensorrt"] and torch.cuda.is_available():
            chip += "-" + "-".join(torch.cuda.get_device_name(self._index).split())
        return f"onnxruntime-{self._version}-{chip}-{self._dtype_name}"

    def compile(self, graph: Graph, folder: Path) -> Session:
        """As Backend's."""
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        if self._provider == _PROVIDERS["cpu"]:
            options.intra_op_num_threads = torch.get_num_threads()
        providers: list[Any] = [(self._provider, self._settings(graph, folder))]
        if self._provider != _PROVIDERS["cpu"]:  # for what a provider leaves over
            providers.append(_PROVIDERS["cpu"])
        session = self._runtime.InferenceSession(str(graph.path), options, providers=providers)
        if self._provider not in session.get_providers():
            raise ModelError(
                f"{self._provider} did not start (its libraries may be missing), and ONNX Runtime "
                f"would take {', '.join(session.get_providers())}"
            )

        def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
            if self._provider == _PROVIDERS["cpu"]:  # see OpenVINO: no result depends on a batch
                return np.concatenate([_run(session, image[None]) for image in pixels])
            return _run(session, pixels)

        return run

    def _settings(self, graph: Graph, folder: Path) -> dict[str, Any]:
        if self._provider == _PROVIDERS["cuda"]:
            return {"device_id": self._index, "use_tf32": 0}
        if self._provider == _PROVIDERS["coreml"]:
            return {"ModelCacheDirectory": str(folder)}
        if self._provider == _PROVIDERS["directml"]:
            return {"device_id": self._index}
        if self._provider != _PROVIDERS["tensorrt"]:
            return {}
        # One engine for all sizes, as far as it reaches: others would be built while images wait.
        low = graph.hw or (graph.multiple_of, graph.multiple_of)
        most = _LARGEST_SIDE // graph.multiple_of * graph.multiple_of
        high, often = graph.hw or (most, most), graph.hw or (_near(384, graph), _near(512, graph))
        return {
            "device_id": self._index,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(folder),
            "trt_fp16_enable": self.dtype is torch.float16,
            "trt_bf16_enable": self.dtype is torch.bfloat16,
            "trt_profile_min_shapes": _shape(1, low),
            "trt_profile_opt_shapes": _shape(1, often),
            "trt_profile_max_shapes": _shape(_LARGEST_BATCH, high),
        }


def _run(session: Any, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    [found] = session.run(None, {INPUT_NAME: np.ascontiguousarray(pixels)})
    return np.asarray(found, np.float32)


def _near(side: int, graph: Graph) -> int:
    return max(1, side // graph.multiple_of) * graph.multiple_of


def _shape(batch: int, hw: tuple[int, int]) -> str:
    return f"{INPUT_NAME}:{batch}x3x{hw[0]}x{hw[1]}"
