"""`--dtype int8`: linear layers in 8 bits, near the float32 result, refused where it cannot be."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity import randomize
from places import SAMPLES
from process import run_dpt
from tiny import save_tiny, save_varied

from dptcli import DPTConfig, DPTForDepthEstimation
from dptcli.errors import ModelError
from dptcli.fast.int8 import Int8Linear, largest_weight
from dptcli.fast.optimize import optimize
from dptcli.pipeline import open_pipeline
from dptcli.weights.load import load_model, require_int8


@pytest.mark.processor
@pytest.mark.parametrize("shape", [(1, 96), (577, 96), (2, 5, 96)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_is_near_the_float32_one(shape, with_bias):
    generator = torch.Generator().manual_seed(8)
    weights = [torch.randn(64, 96, generator=generator), torch.zeros(32, 96)]
    bias = torch.randn(96, generator=generator) if with_bias else None
    x = torch.randn(shape, generator=generator)
    found = Int8Linear(weights, bias)(x)
    exact = F.linear(x, torch.cat(weights), bias)
    assert found.shape == exact.shape
    assert (found - exact).norm() < 0.03 * exact.norm()
    # Rows of zeros, as a query that attends to nothing has, give the bias alone.
    alone = torch.zeros(()) if bias is None else bias[64:]
    assert (found[..., 64:] - alone).abs().max() < 1e-3


@pytest.mark.processor
def test_no_input_overflows_the_sums_of_the_kernels():
    x, weight = torch.full((300, 512), 1.0), torch.full((128, 512), 1.0)
    x[0] = 0.0  # or the range would have no width
    found = Int8Linear([weight], None)(x)
    assert (found[1:] - 512).abs().max() < 5
    assert largest_weight() in {64, 127}


@pytest.mark.processor
@pytest.mark.parametrize("hidden_act", ["gelu", "relu"])
def test_a_whole_model_is_near_itself(hidden_act):
    config = DPTConfig(
        hidden_size=96,
        num_attention_heads=4,
        intermediate_size=256,
        num_hidden_layers=4,
        image_size=64,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 24, 32, 48],
        fusion_hidden_size=64,
        hidden_act=hidden_act,
    )
    model = randomize(DPTForDepthEstimation(config), seed=3).eval()
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exact = model(pixels).predicted_depth
        found = optimize(model, int8=True)(pixels).predicted_depth
    layers = [module for module in model.modules() if isinstance(module, Int8Linear)]
    assert len(layers) >= 4 * 4  # query with key with value, output, and both of the MLP
    assert (found - exact).abs().mean() < 0.03 * (exact.max() - exact.min())
    assert not torch.equal(found, exact)


def test_the_built_in_model_keeps_its_depth(tmp_path):
    photos = [SAMPLES / "city.jpg", SAMPLES / "garden.jpg"]
    for dtype in ("float32", "int8"):
        done = run_dpt(
            "depth", *photos, "-o", tmp_path / dtype, "--dtype", dtype, "--format", "npy"
        )
        assert done.returncode == 0, done.stderr
    for photo in photos:
        exact, found = (
            np.load(tmp_path / dtype / f"{photo.stem}.npy") for dtype in ("float32", "int8")
        )
        assert np.abs(found - exact).mean() < 0.02 * np.ptp(exact)
        assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.99
        assert len(np.unique(found)) > 5000  # no bands


def test_depth_with_segments_takes_it_too(tmp_path):
    photo = SAMPLES / "city.jpg"
    words = ("depth", photo, "-o", tmp_path / "out", "--with-segments")
    done = run_dpt(*words, "--dtype", "int8", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[0])
    assert facts["status"] == "done"
    assert facts["segments"]


@pytest.mark.processor
def test_a_model_whose_numbers_break_is_told_apart_from_rounding(tmp_path):
    """An infinite result asks for float32, as with half precision, and that gives finite ones."""
    pipeline = open_pipeline(save_varied(tmp_path / "m"), task="depth", dtype="int8")
    plain = open_pipeline(tmp_path / "m", task="depth", dtype="float32")
    forward = pipeline.loaded.model.forward

    def run(pixels):
        output = forward(pixels)
        output.predicted_depth = output.predicted_depth / 0
        return output

    pipeline.loaded.model.forward = run
    found = pipeline.predict_one(SAMPLES / "city.jpg").values
    exact = plain.predict_one(SAMPLES / "city.jpg").values
    assert pipeline.network.num_redone == 1
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.processor
def test_what_a_model_says_of_itself(tmp_path):
    loaded = load_model(save_tiny(tmp_path / "m", task="depth"), dtype="int8", optimized=True)
    assert loaded.dtype_name == "int8"
    assert loaded.dtype is torch.float32


def test_it_is_refused_where_it_cannot_be(monkeypatch, tmp_path):
    with pytest.raises(ModelError, match="--device cpu"):
        require_int8(torch.device("cuda"))
    monkeypatch.setattr("dptcli.weights.load.int8_engine", lambda: None)
    with pytest.raises(ModelError, match="use float32"):
        require_int8(torch.device("cpu"))
    photo = SAMPLES / "city.jpg"
    done = run_dpt("depth", photo, "-o", tmp_path / "o.png", "--dtype", "int8", "--no-optimize")
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "--no-optimize" in done.stderr
