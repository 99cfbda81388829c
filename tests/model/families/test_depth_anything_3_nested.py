"""Depth Anything 3 nested equals its authors' code, whose numbers lie in the .npz."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from depth_anything_3_nested_folder import save_authors_nested, weights
from depth_anything_3_views_folder import cameras, views
from parity import assert_close
from safetensors.torch import save_file

from dptcli import (
    DepthAnything3ImageProcessor,
    DepthAnything3NestedConfig,
    DepthAnything3NestedForDepthEstimation,
    DepthAnything3PosedNestedForDepthEstimation,
    load_model,
)
from dptcli.depth.camera import Camera
from dptcli.errors import ConfigError, ModelError
from dptcli.export import export_onnx
from dptcli.fast.optimize import optimize
from dptcli.model.families.depth_anything_3_nested.aligning import align
from dptcli.pipeline import Options, open_pipeline
from dptcli.weights.convert import convert_original
from dptcli.weights.load import LoadedModel

EXPECTED = np.load(Path(__file__).with_name("depth_anything_3_nested.npz"))
SIZES_HW = {"square": (70, 70), "landscape": (42, 84), "portrait": (98, 56)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_authors_nested(tmp_path_factory.mktemp("da3n"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load_model(folder, task="depth", device="cpu", dtype="float32", optimized=True)


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.processor)],
    ids=["plain", "optimised"],
)
def model(folder: Path, request: pytest.FixtureRequest) -> torch.nn.Module:
    found = load_model(folder, task="depth", poses=True, device="cpu", dtype="float32").model
    assert type(found) is DepthAnything3PosedNestedForDepthEstimation
    return optimize(found) if request.param else found


@pytest.mark.parametrize(
    "name",
    [f"{shape}_{count}" for shape in SIZES_HW for count in (1, 3)]
    + ["landscape_1_given", "landscape_3_given"],
)
def test_metres_confidence_and_cameras_are_the_authors(model: torch.nn.Module, name: str) -> None:
    shape, count, *given = name.split("_")
    hw, matrices = SIZES_HW[shape], cameras(SIZES_HW[shape], int(count))
    names = ("extrinsics", "intrinsics")
    known = dict(zip(names, (each[None] for each in matrices), strict=True)) if given else {}
    with torch.inference_mode():
        output = model(views(hw, int(count))[None], **known)
    sky = output.sky >= model.config.sky_threshold
    assert 0.05 < sky.float().mean() < 0.2
    depth = torch.where(sky, output.sky_depth[..., None, None], output.predicted_depth)[0]
    for found, wanted in ((depth, "depth"), (output.confidence[0], "confidence")):
        assert_close(found[:, ::4, ::4], torch.from_numpy(EXPECTED[f"{name}_{wanted}"]))
    for wanted in names:
        assert_close(output[wanted][0], torch.from_numpy(EXPECTED[f"{name}_{wanted}"]))


def test_scenes_of_a_batch_have_metres_of_their_own(model: torch.nn.Module) -> None:
    images = views((42, 70), 4)
    with torch.inference_mode():
        both = model(torch.stack((images[:2], images[2:])))
        each = model(images)
        second = model(images[None, 2:])
        third = model(images[2:3, None])
    assert_close(both.predicted_depth[1], second.predicted_depth[0])
    assert_close(both.sky_depth[1], second.sky_depth[0])
    assert both.sky_depth.shape == (2, 2)
    assert (both.sky_depth[:, 0] == both.sky_depth[:, 1]).all(), "one for all views of a scene"
    assert_close(each.predicted_depth[2], third.predicted_depth[0, 0])
    assert each.sky_depth.shape == (4,)


def test_one_factor_fits_the_surer_half_of_what_is_not_sky() -> None:
    rng = torch.Generator().manual_seed(0)
    depth = torch.rand(2, 30, 40, generator=rng) + 0.5
    sure = torch.rand(2, 30, 40, generator=rng) + 1
    sky = torch.zeros(2, 30, 40, dtype=torch.bool)
    sky[:, :10] = True
    metres = 7 * depth
    metres[sky] = 1000.0
    metres[(sure < sure[~sky].median()) & ~sky] = 0.1
    found = align(depth, sure, metres, sky, max_sky_m=200)
    assert float(found.scale) == pytest.approx(7, 1e-5)
    assert float(found.sky_m) == pytest.approx(float(torch.quantile(7 * depth[~sky], 0.99)), 1e-5)
    assert float(align(depth, sure, 100 * metres, sky, max_sky_m=200).sky_m) == 200
    whole = align(depth, sure, 7 * depth, torch.ones_like(sky), max_sky_m=200)
    assert float(whole.scale) == pytest.approx(7, 1e-5), "of nothing but sky, by all of it"


def test_the_sky_of_a_photograph_lies_where_the_network_puts_it(loaded: LoadedModel) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (84, 84, 3), dtype=np.uint8)
    far, kept = (
        open_pipeline(loaded, task="depth", size=84, options=Options(sky=sky)).predict_one(photo)
        for sky in ("far", "keep")
    )
    assert far.sky is not None
    assert 20 < far.sky.sum() < far.sky.size / 2
    assert len(np.unique(far.values[far.sky])) == 1
    assert (far.values[~far.sky] == kept.values[~far.sky]).all()


def test_a_given_focal_length_changes_the_metres_in_proportion(loaded: LoadedModel) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (84, 84, 3), dtype=np.uint8)
    own = open_pipeline(loaded, task="depth", size=84).predict_one(photo)
    assert own.lens is not None
    assert own.lens.origin == "the network"
    assert own.facts["metres_by"]["focal_from"] == "the network"
    given = Options(camera=Camera(fov_deg=40.0))
    other = open_pipeline(loaded, task="depth", size=84, options=given).predict_one(photo)
    assert other.lens is not None
    ratio = other.lens.mean_focal_px / own.lens.mean_focal_px
    assert abs(ratio - 1) > 0.2
    np.testing.assert_allclose(other.values, own.values * ratio, rtol=1e-4)


def test_the_authors_folder_names_its_processor_and_what_it_gives(loaded: LoadedModel) -> None:
    assert type(loaded.model) is DepthAnything3NestedForDepthEstimation
    assert loaded.kind == "depth_m"
    assert loaded.processor == DepthAnything3ImageProcessor()
    config = loaded.model.config
    assert config.views.backbone_config.views_start == 4
    assert config.metric.reference_focal_px == 300
    assert (config.sees_views, config.gives_confidence, config.sky_threshold) == (True, True, 0.3)


def test_a_converted_folder_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    done = convert_original(folder, tmp_path / "hub")
    assert done.kind == "depth_m"
    said = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert said["model_type"] == "depth_anything_3_nested"
    assert said["architectures"] == ["DepthAnything3PosedNestedForDepthEstimation"]
    first, again = (
        load_model(path, task="depth", poses=True, device="cpu").model
        for path in (folder, tmp_path / "hub")
    )
    for tensor, other in zip(again.parameters(), first.parameters(), strict=True):
        assert torch.equal(tensor, other)


def test_a_folder_that_lacks_a_tensor_or_has_too_many_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = weights()
    tensors["model.da3_metric.other.weight"] = torch.zeros(3, 3)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"unknown tensors model\.da3_metric\.other"):
        load_model(tmp_path, device="cpu")
    del tensors["model.da3_metric.other.weight"], tensors["model.da3.cam_dec.fc_t.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="1 missing"):
        load_model(tmp_path, device="cpu")


def test_it_is_not_written_as_onnx_and_says_why(folder: Path, tmp_path: Path) -> None:
    plain = load_model(folder, task="depth", device="cpu", dtype="float32")
    with pytest.raises(ModelError, match="found anew for each scene"):
        export_onnx(plain, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth_estimation_type": "depth"}, "must be 'metric'"),
        ({"metric_config": {"depth_estimation_type": "depth"}}, "metric_config: depth_estimation"),
        ({"views_config": 3}, "must be a DepthAnything3ViewsConfig"),
        ({"metric_config": {"sky_threshold": -1}}, "sky_threshold"),
        ({"max_sky_m": -2}, "max_sky_m"),
    ],
    ids=["no metres", "a part without", "no part", "a part's", "sky"],
)
def test_a_wrong_configuration_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DepthAnything3NestedConfig(**change)
