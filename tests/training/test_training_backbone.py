"""Converting an exported encoder to the hub's names."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dptcli.errors import ModelError
from dptcli.training.backbone import convert_onnx, main

WIDTH = 4
LINEAR = ("attention/attention/query", "attention/attention/key", "attention/attention/value",
          "attention/output/dense", "mlp/fc1", "mlp/fc2")  # fmt: skip


def write_onnx(path: Path, *, drop: str = "") -> dict[str, np.ndarray]:
    """Two blocks as the exporter writes them; the expected tensors."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    expected: dict[str, np.ndarray] = {}
    constants, nodes = [], []

    def constant(name: str, *shape: int) -> np.ndarray:
        values = rng.standard_normal(shape).astype(np.float32)
        constants.append(onnx.numpy_helper.from_array(values, name))
        return values

    for block in range(2):
        prefix = f"backbone.encoder.layer.{block}"
        names = [f"{part.replace('/', '.')}.bias" for part in LINEAR]
        names += [f"norm{k}.{part}" for k in (1, 2) for part in ("weight", "bias")]
        names += [f"layer_scale{k}.lambda1" for k in (1, 2)]
        for name in names:
            if name != drop or block == 0:
                expected[f"{prefix}.{name}"] = constant(f"{prefix}.{name}", WIDTH)
        for part in LINEAR:
            unnamed = f"onnx::MatMul_{len(constants)}"
            expected[f"{prefix}.{part.replace('/', '.')}.weight"] = constant(
                unnamed, WIDTH, WIDTH
            ).T
            nodes.append(
                onnx.helper.make_node(
                    "MatMul",
                    ["x", unnamed],
                    ["x"],
                    name=f"/backbone/encoder/layer.{block}/{part}/MatMul",
                )
            )
    first, rest = constant("onnx::Concat_1", 1, 1, WIDTH), constant("onnx::Reshape_2", 1, 9, WIDTH)
    expected["backbone.embeddings.position_embeddings"] = np.concatenate([first, rest], axis=1)
    nodes.append(
        onnx.helper.make_node(
            "Concat", ["onnx::Concat_1", "x"], ["x"], name="/backbone/embeddings/Concat_6"
        )
    )
    nodes.append(
        onnx.helper.make_node(
            "Reshape", ["onnx::Reshape_2", "x"], ["x"], name="/backbone/embeddings/Reshape_1"
        )
    )
    constant("decoder.final_conv.weight", 1, 1)
    graph = onnx.helper.make_graph(nodes, "g", [], [], initializer=constants)
    onnx.save(onnx.helper.make_model(graph), str(path))
    return expected


def test_every_tensor_arrives_under_the_hubs_name(tmp_path: Path) -> None:
    expected = write_onnx(tmp_path / "net.onnx")
    found = convert_onnx(tmp_path / "net.onnx")
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_the_command_writes_half_precision(tmp_path: Path) -> None:
    expected = write_onnx(tmp_path / "net.onnx")
    assert main([str(tmp_path / "net.onnx"), "-o", str(tmp_path / "out.safetensors")]) == 0
    found = load_file(tmp_path / "out.safetensors")
    assert {values.dtype for values in found.values()} == {np.dtype("float16")}
    assert set(found) == set(expected)


def test_a_block_with_a_tensor_missing_is_refused(tmp_path: Path) -> None:
    write_onnx(tmp_path / "net.onnx", drop="norm1.bias")
    with pytest.raises(ModelError, match=r"norm1\.bias"):
        convert_onnx(tmp_path / "net.onnx")


def test_a_missing_file_is_an_error_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    assert main([str(tmp_path / "none.onnx"), "-o", str(tmp_path / "out.safetensors")]) == 2
    assert "no such file" in capsys.readouterr().err
