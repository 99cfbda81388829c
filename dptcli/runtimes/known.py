"""The runtimes: what each one is called, needs and can be asked for. Loads nothing heavy."""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dptcli.errors import UsageError

AUTO = "auto"
TORCH = "torch"


@dataclass(frozen=True)
class Runtime:
    """A runtime as `--runtime` has it; an extra of the same name installs it.

    module: what is imported. packages: the distributions that bring it, the first that is installed
    counts. devices, dtypes: what of `--device` and `--dtype` it takes, but for auto.
    """

    name: str
    title: str
    module: str
    packages: tuple[str, ...]
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]

    @property
    def version(self) -> str | None:
        """The installed version; None where it is not installed."""
        if importlib.util.find_spec(self.module) is None:
            return None
        from importlib import metadata  # it takes longer than all of `dpt --help`'s options

        for package in self.packages:
            try:
                return metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        return "unknown"

    def require(self) -> str:
        """Return the installed version. Raises UsageError where it is not installed."""
        version = self.version
        if version is None:
            raise UsageError(
                f"--runtime {self.name}: {self.title} is not installed; "
                f"pip install 'dptcli[{self.name}]'"
            )
        return version

    def check(self, *, device: str, dtype: str, optimize: bool) -> None:
        """Raise UsageError for options that it does not take."""
        kind = device.partition(":")[0]
        if kind not in (AUTO, *self.devices):
            raise UsageError(
                f"--device {device!r}: --runtime {self.name} takes auto, {', '.join(self.devices)}"
            )
        if dtype not in (AUTO, *self.dtypes):
            raise UsageError(
                f"--dtype {dtype!r}: --runtime {self.name} takes auto, {', '.join(self.dtypes)}"
            )
        if not optimize:
            raise UsageError(
                f"--no-optimize is PyTorch's plain network; leave out --runtime {self.name}"
            )


_ONNX_RUNTIME = ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime")
RUNTIMES: Mapping[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            "openvino",
            "OpenVINO",
            "openvino",
            ("openvino",),
            ("cpu", "gpu", "npu"),
            ("float32", "bfloat16", "float16"),
        ),
        Runtime(
            "onnxruntime",
            "ONNX Runtime",
            "onnxruntime",
            _ONNX_RUNTIME,
            ("cpu", "cuda", "coreml", "directml"),
            ("float32",),
        ),
        # Through ONNX Runtime's execution provider, which builds the engines and keeps them.
        Runtime(
            "tensorrt",
            "ONNX Runtime",
            "onnxruntime",
            _ONNX_RUNTIME,
            ("cuda",),
            ("float32", "bfloat16", "float16"),
        ),
    )
}
# Devices that PyTorch has no name for, or a runtime another one.
OTHER_DEVICES = re.compile(r"gpu(:\d+)?|npu|coreml|directml")


def check_runtime(name: str, *, device: str, dtype: str, optimize: bool) -> None:
    """Raise UsageError unless a runtime is known, installed, and takes these options."""
    if name in (AUTO, TORCH):
        if OTHER_DEVICES.fullmatch(device):
            homes = [one.name for one in RUNTIMES.values() if device.split(":")[0] in one.devices]
            raise UsageError(
                f"--device {device!r} must be auto, cpu, cuda, cuda:N or mps, unless --runtime is "
                f"{' or '.join(homes)}"
            )
        return
    if name not in RUNTIMES:
        names = ", ".join((AUTO, TORCH, *RUNTIMES))
        raise UsageError(f"--runtime {name!r} must be one of {names}")
    runtime = RUNTIMES[name]
    runtime.check(device=device, dtype=dtype, optimize=optimize)
    runtime.require()
