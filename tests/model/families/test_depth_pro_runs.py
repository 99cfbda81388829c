"""Depth Pro's processor and runs: its pixels are the reference's, its metres follow the camera."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from parity import assert_close, load_reference
from PIL import Image
from tiny_depth_pro import (
    SHAPES_HW,
    as_published,
    photograph,
    random_model,
)

from dptcli import AutoImageProcessor
from dptcli import DepthProImageProcessor as Processor
from dptcli.cli import main
from dptcli.depth.camera import Camera
from dptcli.errors import ConfigError
from dptcli.pipeline import Options, open_pipeline
from dptcli.weights.load import load_model

REFERENCE = transformers.DepthProForDepthEstimation


@pytest.mark.parametrize("shape", SHAPES_HW)
def test_pixels_are_normalised_before_they_are_resized(shape: str) -> None:
    image = photograph(SHAPES_HW[shape])
    ours = Processor(size=128)
    found = ours(image, return_tensors="pt").pixel_values
    assert torch.equal(found, as_published(image, 128))
    np.testing.assert_array_equal(ours.prepare(Image.fromarray(image)).pixel_values, found[0])
    assert ours.network_hw(SHAPES_HW[shape]) == (128, 128)
    assert Processor().network_hw((40, 90)) == (1536, 1536)


def reference_processor() -> Any:
    pytest.importorskip("torchvision", reason="the reference's processor needs torchvision")
    from transformers.models.depth_pro.image_processing_depth_pro import DepthProImageProcessor

    return DepthProImageProcessor


def test_pixels_are_the_references_bit_for_bit() -> None:
    changes: list[dict[str, Any]] = [{}, {"do_normalize": False}, {"do_rescale": False}]
    changes += [{"do_resize": False}, {"resample": 3}]
    for change, hw in itertools.product(changes, SHAPES_HW.values()):
        values = {"size": {"height": 128, "width": 128}, **change}
        image = photograph(hw)
        expected = reference_processor()(**values)(Image.fromarray(image), return_tensors="pt")
        found = Processor(**values)(image, return_tensors="pt").pixel_values
        assert torch.equal(found, expected["pixel_values"])


def test_metres_and_the_focal_length_are_the_references() -> None:
    from types import SimpleNamespace

    inverse = torch.rand(2, 48, 48, generator=torch.Generator().manual_seed(0))
    outputs = SimpleNamespace(predicted_depth=inverse, field_of_view=torch.tensor([60.0, 40.0]))
    found = Processor().post_process_depth_estimation(outputs, [(30, 60), (90, 40)])
    for one, hw, fov, own in zip(found, [(30, 60), (90, 40)], [60, 40], inverse, strict=True):
        focal = 0.5 * hw[1] / math.tan(math.radians(fov) / 2)
        assert float(one["focal_length"]) == pytest.approx(focal, rel=1e-5)
        resized = F.interpolate(own[None, None] * hw[1] / focal, hw, mode="bilinear")[0, 0]
        assert_close(one["predicted_depth"], 1 / resized.clamp(1e-4, 1e4))
    [plain, _] = Processor().post_process_depth_estimation(outputs)
    assert torch.equal(plain["predicted_depth"], 1 / inverse[0].clamp(1e-4, 1e4))


def test_the_published_spelling_is_read(tmp_path: Path) -> None:
    published = {"image_processor_type": "DepthProImageProcessorFast", "image_mean": 0.5}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(published))
    ours = AutoImageProcessor.from_pretrained(tmp_path)
    assert isinstance(ours, Processor)
    assert ours.prepare(photograph((5, 7))).pixel_values.shape == (3, 1536, 1536)
    with pytest.raises(ConfigError, match="resample"):
        Processor(resample=1)


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("depth-pro")
    random_model().save_pretrained(path)
    Processor(size=128).save_pretrained(path)
    return path


@pytest.mark.parametrize("shape", SHAPES_HW)
def test_a_photographs_metres_are_the_references(folder: Path, shape: str) -> None:
    image, hw = photograph(SHAPES_HW[shape]), SHAPES_HW[shape]
    loaded = load_model(folder, device="cpu", dtype="float32", optimized=True)
    assert loaded.is_metric
    prediction = open_pipeline(loaded, task="depth").predict_one(image)
    with torch.inference_mode():
        outputs = load_reference(REFERENCE, folder)(as_published(image, 128))
    fov_deg = float(outputs.field_of_view)
    focal = 0.5 * hw[1] / math.tan(math.radians(fov_deg) / 2)
    inverse = outputs.predicted_depth[0] * hw[1] / focal
    resized = F.interpolate(inverse[None, None], hw, mode="bilinear")[0, 0]
    # In 1 / metres: beside 10 km a rounding is metres.
    assert_close(1 / torch.from_numpy(prediction.values), resized.clamp(1e-4, 1e4))
    assert prediction.lens is not None
    assert prediction.lens.fx == prediction.lens.fy == pytest.approx(focal, rel=1e-4)
    assert prediction.lens.origin == "the network"


def test_a_known_camera_takes_the_networks_place_and_changes_the_metres(folder: Path) -> None:
    image = photograph((60, 100))
    loaded = load_model(folder, device="cpu", dtype="float32")
    own = open_pipeline(loaded, task="depth").predict_one(image)
    options = Options(camera=Camera(fov_deg=90))
    given = open_pipeline(loaded, task="depth", options=options).predict_one(image)
    assert own.lens is not None
    assert given.lens is not None
    assert given.lens.origin == "--fov"
    inner = (own.values < 1000) & (given.values < 1000)
    assert inner.mean() > 0.5
    np.testing.assert_allclose(
        given.values[inner] / own.values[inner], given.lens.fx / own.lens.fx, rtol=1e-4
    )


def test_dpt_writes_the_camera_that_the_network_saw(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(photograph((60, 100))).save(tmp_path / "a.png")
    words = ["depth", tmp_path / "a.png", "-o", tmp_path / "a.npz", "-m", folder, "-f", "npz"]
    words += ["--dtype", "float32", "--device", "cpu"]
    assert main([*map(str, words)]) == 0
    facts = json.loads((tmp_path / "a.json").read_text())
    assert (facts["kind"], facts["camera"]["from"]) == ("depth_m", "the network")
    assert facts["metres_by"]["focal_from"] == "the network"
    arrays = np.load(tmp_path / "a.npz")
    assert arrays["intrinsics"][0, 0, 0] == pytest.approx(facts["camera"]["fx"], abs=1e-3)
    assert 40 < facts["camera"]["fov_x_deg"] < 70


def test_an_export_is_refused_in_one_line(folder: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    assert main(["export", str(folder), str(tmp_path / "a.onnx")]) == 2
    error = capsys.readouterr().err
    assert "is not exported: its patches are cut" in error
    assert len(error.splitlines()) == 1
