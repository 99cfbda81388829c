"""Depth Anything 3 with cameras that are given equals its authors' code (numbers in the .npz)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from depth_anything_3_views_folder import cameras, save_authors_views, views, weights
from parity import assert_close
from safetensors.torch import save_file

from dptcli import (
    DepthAnything3PosedViewsForDepthEstimation,
    DepthAnything3ViewsForDepthEstimation,
    load_model,
)
from dptcli.errors import ConfigError, ShapeError
from dptcli.fast.optimize import optimize
from dptcli.model.families.depth_anything_3_views.given import numbers_of, quaternion_of
from dptcli.weights.convert import convert_original

EXPECTED = np.load(Path(__file__).with_name("depth_anything_3_poses.npz"))
SIZES_HW = {"landscape": (42, 84), "portrait": (98, 56)}
OUTPUTS = {
    "depth": "predicted_depth",
    "confidence": "confidence",
    "intrinsics": "intrinsics",
    "extrinsics": "extrinsics",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_authors_views(tmp_path_factory.mktemp("da3p"))


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.processor)],
    ids=["plain", "optimised"],
)
def model(folder: Path, request: pytest.FixtureRequest) -> torch.nn.Module:
    found = load_model(folder, task="depth", poses=True, device="cpu", dtype="float32").model
    assert type(found) is DepthAnything3PosedViewsForDepthEstimation
    return optimize(found) if request.param else found


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", SIZES_HW)
def test_depth_by_given_cameras_is_the_authors(
    model: torch.nn.Module, shape: str, count: int
) -> None:
    hw = SIZES_HW[shape]
    extrinsics, intrinsics = cameras(hw, count)
    with torch.inference_mode():
        output = model(
            views(hw, count)[None], extrinsics=extrinsics[None], intrinsics=intrinsics[None]
        )
    for name, ours in OUTPUTS.items():
        found = getattr(output, ours)[0]
        found = found[:, ::4, ::4] if found.shape[-2:] == hw else found  # what was kept of maps
        assert_close(found, torch.from_numpy(EXPECTED[f"{shape}_{count}_{name}"]))


def test_neither_the_worlds_place_nor_its_unit_matters() -> None:
    extrinsics, intrinsics = cameras((42, 84), 3)
    turn, shift = cameras((42, 84), 4)[0][3].split((3, 1), dim=-1)
    # The world moved and turned a hundred kilometres away, in millimetres.
    moved = extrinsics.clone()
    moved[:, :, :3] = extrinsics[:, :, :3] @ turn
    moved[:, :, 3:] = 1000 * (extrinsics[:, :, 3:] + extrinsics[:, :, :3] @ (shift + 1e5))
    numbers = [numbers_of(each[None], intrinsics[None], (42, 84)) for each in (extrinsics, moved)]
    torch.testing.assert_close(*numbers, atol=1e-5, rtol=1e-5)


def test_images_without_a_scene_take_a_camera_each(model: torch.nn.Module) -> None:
    images, (extrinsics, intrinsics) = views((42, 84), 2), cameras((42, 84), 2)
    with torch.inference_mode():
        each = model(images, extrinsics=extrinsics, intrinsics=intrinsics)
        second = model(
            images[None, 1:], extrinsics=extrinsics[None, 1:], intrinsics=intrinsics[None, 1:]
        )
    assert_close(each.predicted_depth[1:], second.predicted_depth[0])


def test_without_cameras_it_is_the_model_that_finds_them(
    model: torch.nn.Module, folder: Path
) -> None:
    alone = load_model(folder, task="depth", device="cpu", dtype="float32").model
    assert type(alone) is DepthAnything3ViewsForDepthEstimation
    with torch.inference_mode():
        assert_close(
            model(views((42, 70), 3)[None]).predicted_depth,
            alone(views((42, 70), 3)[None]).predicted_depth,
        )


def test_a_model_in_bfloat16_takes_them_too(folder: Path) -> None:
    loaded = load_model(
        folder, task="depth", poses=True, device="cpu", dtype="bfloat16", optimized=True
    )
    extrinsics, intrinsics = cameras((42, 84), 3)
    with torch.inference_mode():
        output = loaded.model(
            views((42, 84), 3)[None], extrinsics=extrinsics[None], intrinsics=intrinsics[None]
        )
    expected = torch.from_numpy(EXPECTED["landscape_3_depth"])
    found = output.predicted_depth[0][:, ::4, ::4]
    assert found.dtype == torch.float32
    assert (found / expected).log().abs().median() < 0.05, "of depths that differ by 10 without"


def test_a_converted_folder_keeps_the_camera_encoder(folder: Path, tmp_path: Path) -> None:
    convert_original(folder, tmp_path / "hub")
    first, again = (
        load_model(path, task="depth", poses=True, device="cpu").model
        for path in (folder, tmp_path / "hub")
    )
    assert again.config.camera_encoder_layers == 2
    for tensor, other in zip(again.parameters(), first.parameters(), strict=True):
        assert torch.equal(tensor, other)
    without = load_model(tmp_path / "hub", task="depth", device="cpu").model
    assert without.camera_encoder is None


def test_a_file_without_the_encoder_has_no_place_for_cameras(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    own = {name: tensor for name, tensor in weights().items() if ".cam_enc." not in name}
    save_file(own, tmp_path / "model.safetensors")
    model = load_model(tmp_path, task="depth", poses=True, device="cpu").model
    extrinsics, intrinsics = cameras((42, 84), 2)
    with pytest.raises(ConfigError, match="finds the cameras by itself"):
        model(views((42, 84), 2)[None], extrinsics=extrinsics[None], intrinsics=intrinsics[None])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"intrinsics": None}, ConfigError, "give the other one too"),
        ({"extrinsics": torch.eye(4)[None, None]}, ShapeError, r"must begin with \(1, 2\)"),
        ({"intrinsics": torch.ones(1, 2, 4)}, ShapeError, r"must begin with \(1, 2\)"),
        ({"intrinsics": torch.ones(1, 2, 2, 2)}, ShapeError, r"must end in \(3, 4\) and \(3, 3\)"),
    ],
    ids=["one of two", "too few", "a vector", "2×2"],
)
def test_cameras_that_do_not_fit_the_views_are_refused(
    model: torch.nn.Module, change: dict[str, object], error: type[Exception], message: str
) -> None:
    extrinsics, intrinsics = (each[None] for each in cameras((42, 84), 2))
    given = {"extrinsics": extrinsics, "intrinsics": intrinsics, **change}
    with pytest.raises(error, match=message):
        model(views((42, 84), 2)[None], **given)


def test_a_quaternion_is_of_length_one_and_not_turned_over() -> None:
    half_turns = torch.stack(
        [torch.diag(torch.tensor(each)) for each in ((1.0, -1, -1), (-1, 1, -1), (-1, -1, 1))]
    )
    assert quaternion_of(half_turns).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    turns = cameras((42, 84), 4)[0][:, :, :3]
    found = quaternion_of(turns)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(4, dtype=torch.float64))
    assert (found[:, 3] >= 0).all()
