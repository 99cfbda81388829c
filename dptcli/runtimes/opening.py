"""From a model's name and a runtime's to a LoadedModel that the loop runs like any other."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dptcli.errors import ModelError
from dptcli.runtimes.known import RUNTIMES, TORCH, check_runtime
from dptcli.weights.load import LoadedModel, load_model

if TYPE_CHECKING:
    from dptcli.runtimes.network import Backend


def open_model(
    name: str | Path, *, runtime: str, optimized: bool, in_order: bool, **wanted: Any
) -> LoadedModel:
    """Load a model for predictions by PyTorch, or describe it and let another runtime run it.

    wanted: task, device, dtype, offline, gives and normals of `load_model`. in_order: a clip's
    frames come. Raises UsageError for what the runtime cannot be asked for or this machine does not
    have, ModelError for a model that has no graph.
    """
    if runtime == TORCH:
        return load_model(name, optimized=optimized, **wanted)
    from dptcli.export import require_exportable
    from dptcli.runtimes.graphs import Graphs
    from dptcli.runtimes.network import RuntimeNetwork, stands_for
    from dptcli.runtimes.store import store_for

    device, dtype = wanted["device"], wanted["dtype"]
    check_runtime(runtime, device=device, dtype=dtype, optimize=optimized)
    plain = {**wanted, "device": "cpu", "dtype": "float32"}
    # Its weights are read where a graph is made, and only there.
    loaded = load_model(name, with_weights=False, **plain)
    bare = {**plain, "normals": False}
    tells_normals = wanted["normals"] and type(loaded.model) is not type(
        load_model(name, with_weights=False, **bare).model
    )
    _refuse(loaded, runtime, in_order=in_order, tells_normals=tells_normals)
    require_exportable(loaded)
    backend = backend_for(runtime, device=device, dtype=dtype)
    graphs = Graphs(store_for(loaded.folder, loaded.task), lambda: load_model(name, **plain))
    network = RuntimeNetwork(loaded.model.config, loaded.task, graphs, backend)
    return stands_for(loaded, network)


def backend_for(runtime: str, *, device: str, dtype: str) -> "Backend":
    """The runtime on a device. Raises UsageError where it or its provider is absent."""
    version = RUNTIMES[runtime].require()
    if runtime == "openvino":
        from dptcli.runtimes.openvino import OpenVINO

        return OpenVINO(version, device=device, dtype=dtype)
    from dptcli.runtimes.onnx_runtime import ONNXRuntime

    tensorrt = runtime == "tensorrt"
    return ONNXRuntime(version, device=device, dtype=dtype, tensorrt=tensorrt)


def _refuse(loaded: LoadedModel, runtime: str, *, in_order: bool, tells_normals: bool) -> None:
    """Raise ModelError for a model that does more than a graph of one output tells."""
    missing = None
    if loaded.takes_prompt:
        missing = "takes a depth sensor's map beside the photograph"
    elif hasattr(loaded.model.config, "sky_threshold"):
        missing = "tells the sky beside depth"
    elif tells_normals:
        missing = "tells surface normals beside depth"
    elif in_order and loaded.clip_window is not None:
        missing = "sees several frames of a clip at once"
    if missing is not None:
        raise ModelError(
            f"--runtime {runtime}: model {loaded.name!r} {missing}, and its graph does not; take "
            "--runtime torch"
        )
