"""ONNX files that ONNX Runtime computes as we do, for every family, and what goes wrong."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny import save_tiny

from dptcli import (
    DepthAnything3ImageProcessor,
    DepthAnything3ViewsConfig,
    DepthAnything3ViewsForDepthEstimation,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    GLPNConfig,
    GLPNForDepthEstimation,
    GLPNImageProcessor,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)
from dptcli import export as exporting
from dptcli.cli import main
from dptcli.errors import ModelError
from dptcli.model.families.zoedepth.processor import ZoeDepthImageProcessor
from dptcli.weights.load import load_model

FOUR = ["stage1", "stage2", "stage3", "stage4"]
VIT = {
    "hidden_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "intermediate_size": 32,
    "out_features": FOUR,
}
NECK = {"neck_hidden_sizes": [8, 12, 16, 20], "fusion_hidden_size": 16}
DINO = {"model_type": "dinov2", "image_size": 42, "patch_size": 14, "mlp_ratio": 2, **VIT}
BEIT = {
    **{"model_type": "beit", "image_size": 48, "patch_size": 8, "reshape_hidden_states": False},
    **{"use_relative_position_bias": True, **VIT},
}
SWIN = {
    **{"model_type": "swinv2", "embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 4]},
    **{"window_size": 4, "image_size": 64, "patch_size": 4, "out_features": FOUR},
}
BIT = {
    **{"model_type": "bit", "embedding_size": 16, "hidden_sizes": [32, 32, 64, 64]},
    **{"depths": [1, 1, 1], "layer_type": "bottleneck", "num_groups": 8},
    **{"global_padding": "same", "embedding_dynamic_padding": True, "out_features": FOUR[:3]},
}


def dpt(**values):
    return DPTForDepthEstimation(DPTConfig(**{**NECK, **values}))


def hybrid():
    bit = {**BIT, "hidden_sizes": [32, 32, 64]}
    return dpt(
        is_hybrid=True,
        backbone_config=bit,
        hidden_size=24,
        num_attention_heads=2,
        num_hidden_layers=4,
        intermediate_size=32,
        image_size=64,
        patch_size=16,
        neck_hidden_sizes=[32, 32, 16, 20],
        backbone_featmap_shape=[1, 64, 4, 4],
        backbone_out_indices=[0, 1, 2, 3],
        neck_ignore_stages=[0, 1],
        readout_type="project",
    )


def depth_anything():
    values = {"backbone_config": DINO, "patch_size": 14, "reassemble_hidden_size": 24, **NECK}
    return DepthAnythingForDepthEstimation(DepthAnythingConfig(**values))


def any_views():
    backbone = {**DINO, "model_type": "dinov2_views", "views_start": 1, "position_offset": 0.1}
    values = {"backbone_config": backbone, "patch_size": 14, "reassemble_hidden_size": 48, **NECK}
    return DepthAnything3ViewsForDepthEstimation(DepthAnything3ViewsConfig(**values))


def zoedepth():
    values = {"backbone_config": BEIT, **NECK, "bottleneck_features": 16}
    values["bin_configurations"] = [
        {"name": "nyu", "n_bins": 8, "min_depth": 0.01, "max_depth": 10.0}
    ]
    return ZoeDepthForDepthEstimation(ZoeDepthConfig(**values))


def glpn():
    widths = {"hidden_sizes": [8, 16, 40, 32], "decoder_hidden_size": 16}
    return GLPNForDepthEstimation(GLPNConfig(depths=[1, 1, 1, 1], **widths))


# family -> how to make it, the side of its pictures, whether its graph takes any size
FAMILIES = {
    "dinov2": (lambda: dpt(backbone_config={**DINO, "reshape_hidden_states": False}), 42, True),
    "hybrid": (hybrid, 64, False),
    "beit": (lambda: dpt(backbone_config=BEIT), 48, True),
    "swinv2": (lambda: dpt(backbone_config=SWIN, neck_hidden_sizes=[8, 16, 32, 64]), 64, False),
    "depth_anything": (depth_anything, 42, True),
    "any_views": (any_views, 42, True),
    "zoedepth": (zoedepth, 48, True),
    "glpn": (glpn, 64, True),
}


def save(model, side, folder):
    """Weights wide enough that every part of the graph shows in the output."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.parameters():
            # ZoeDepth's attractors amplify rounding: wide weights alone cost three digits.
            # And of depth by an exponential infinity would come.
            narrow = isinstance(
                model, ZoeDepthForDepthEstimation | DepthAnything3ViewsForDepthEstimation
            )
            parameter.normal_(std=0.05 if narrow else 0.2)
    model.save_pretrained(folder)
    processor = DPTImageProcessor
    if isinstance(model, ZoeDepthForDepthEstimation):
        processor = ZoeDepthImageProcessor
    if isinstance(model, GLPNForDepthEstimation):
        processor = GLPNImageProcessor
    if isinstance(model, DepthAnything3ViewsForDepthEstimation):
        processor = DepthAnything3ImageProcessor
    processor(size={"height": side, "width": side}).save_pretrained(folder)
    return load_model(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=FAMILIES)
def written(request, tmp_path_factory):
    """(a family's model, its file, what is known of that, whether it should take any size)."""
    make, side, dynamic = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("exported")
    loaded = save(make().eval(), side, folder / "model")
    path = folder / "model.onnx"
    return loaded, path, exporting.export_onnx(loaded, path), dynamic


def test_every_family_gives_our_numbers_in_onnx_runtime(written):
    loaded, path, exported, dynamic = written
    assert (exported.input_hw is None) == dynamic, exported.reason
    assert exported.difference < exporting.TOLERANCE
    assert len(exported.checked) >= 2
    # Once more from the file itself, at a size and a batch that the export did not check.
    hw = exported.input_hw or (8 * exported.multiple_of, 5 * exported.multiple_of)
    pixel_values = torch.randn(4, 3, *hw, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(str(path))
    [theirs] = session.run(None, {"pixel_values": pixel_values.numpy()})
    with torch.inference_mode():
        ours = loaded.model(pixel_values).predicted_depth.numpy()
    assert np.abs(theirs - ours).max() < 1e-3 * np.abs(ours).max()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # OpenVINO's own, at import
@pytest.mark.parametrize(
    "written", ["dinov2", "beit", "hybrid", "swinv2", "depth_anything"], indirect=True
)
def test_openvino_reads_the_same_file(written):
    openvino = pytest.importorskip("openvino")
    loaded, path, exported, _ = written
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    hw = exported.input_hw or (8 * exported.multiple_of, 5 * exported.multiple_of)
    pixel_values = torch.randn(2, 3, *hw, generator=torch.Generator().manual_seed(1))
    theirs = compiled(pixel_values.numpy())[0]
    with torch.inference_mode():
        ours = loaded.model(pixel_values).predicted_depth.numpy()
    assert np.abs(theirs - ours).max() < 1e-3 * np.abs(ours).max()


@pytest.mark.parametrize("task", ["depth", "segment"])
def test_the_command_says_what_it_wrote_and_how_to_feed_it(task, tmp_path, capsys):
    folder = save_tiny(tmp_path / "model", task=task)
    out = tmp_path / "model.onnx"
    assert main(["export", str(folder), str(out)]) == 0
    said = capsys.readouterr().out
    assert "any size in multiples of 16" in said
    assert "largest difference" in said
    facts = json.loads((tmp_path / "model.json").read_text())
    assert facts["preprocessing"]["image_mean"] == [0.5, 0.5, 0.5]
    assert facts["input"]["multiple_of"] == 16
    model = onnx.load(str(out))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["dpt.preprocessing"]) == facts["preprocessing"]
    assert metadata["dpt.task"] == task
    assert bool(facts["labels"]) == (task == "segment")


def test_a_fixed_size_is_kept(tmp_path, capsys):
    folder = save_tiny(tmp_path / "model", task="depth")
    out = tmp_path / "model.onnx"
    assert main(["export", str(folder), str(out), "--fixed-size", "48x80", "--opset", "18"]) == 0
    assert "48x80 only" in capsys.readouterr().out
    dims = onnx.load(str(out)).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims[1:]] == [3, 48, 80]
    assert dims[0].dim_param == "batch"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["OUT.pt"], "must end in .onnx"),
        (["OUT.onnx", "--fixed-size", "50x80"], "multiples of 16"),
        (["OUT.onnx", "--fixed-size", "big"], "'big'"),
        (["OUT.onnx", "--opset", "9"], "from 14 to 20"),
        (["OUT.onnx", "--task", "sing"], "depth or segment"),
        (["OUT.onnx", "--task", "segment"], "segment"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(words, message, tmp_path, capsys):
    folder = save_tiny(tmp_path / "model", task="depth")
    words = [word.replace("OUT", str(tmp_path / "out")) for word in words]
    assert main(["export", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_a_file_that_exists_is_kept_unless_it_may_be_replaced(tmp_path, capsys):
    folder, out = save_tiny(tmp_path / "model", task="depth"), tmp_path / "model.onnx"
    out.write_bytes(b"mine")
    assert main(["export", str(folder), str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"


def test_a_graph_that_gives_other_numbers_is_not_put_in_place(tmp_path, monkeypatch):
    loaded = load_model(save_tiny(tmp_path / "model", task="depth"), device="cpu")
    forward = exporting._MapOnly.forward

    def changed(self, pixel_values):
        return forward(self, pixel_values) + (1.0 if torch.jit.is_tracing() else 0.0)

    monkeypatch.setattr(exporting._MapOnly, "forward", changed)
    with pytest.raises(ModelError, match="differs from ours"):
        exporting.export_onnx(loaded, tmp_path / "out.onnx")
    assert not list(tmp_path.glob("*.onnx"))
    assert not list(tmp_path.glob("*.dpt-tmp"))


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_the_extra_one_line_says_how_to_install_it(missing, tmp_path, capsys, monkeypatch):
    folder = save_tiny(tmp_path / "model", task="depth")
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["export", str(folder), str(tmp_path / "out.onnx")]) == 2
    error = capsys.readouterr().err
    assert "pip install 'dptcli[onnx]'" in error
    assert error.count("\n") == 1


def test_a_model_beyond_what_a_file_holds_is_refused_before_its_weights_are_read(tmp_path, capsys):
    folder = save_tiny(tmp_path / "model", task="depth")
    path = folder / "config.json"
    wide = {"hidden_size": 4096, "num_attention_heads": 32, "intermediate_size": 16384}
    path.write_text(json.dumps({**json.loads(path.read_text()), **wide}))
    assert main(["export", str(folder), str(tmp_path / "out.onnx")]) == 2
    error = capsys.readouterr().err
    assert "GB of weights are more than the 2 GB that an ONNX file holds" in error
    assert error.count("\n") == 1


def test_onnx_runtime_tells_nobody_of_its_use(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text(
        "import os\ntold = os.environ.get('ORT_DISABLE_TELEMETRY')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for given, expected in ((None, "1"), ("0", "0")):
        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", given or "")
        if given is None:
            monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
        assert exporting.import_onnx_runtime().told == expected
    monkeypatch.delitem(sys.modules, "onnxruntime")
    package = Path(exporting.__file__).parent
    others = [path for path in package.rglob("*.py") if "import onnxruntime" in path.read_text()]
    assert not others
