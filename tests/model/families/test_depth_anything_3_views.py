"""Depth Anything 3 for any views equals its authors' code, whose numbers lie in the .npz."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from depth_anything_3_views_folder import save_authors_views, views, weights
from parity import assert_close
from safetensors.torch import save_file

from dptcli import (
    AutoImageProcessor,
    DepthAnything3ImageProcessor,
    DepthAnything3ViewsConfig,
    DepthAnything3ViewsForDepthEstimation,
    load_model,
)
from dptcli.errors import ConfigError, ModelError, ShapeError
from dptcli.fast.optimize import optimize
from dptcli.weights.convert import convert_original

EXPECTED = np.load(Path(__file__).with_suffix("").with_name("depth_anything_3_views.npz"))
SIZES_HW = {"square": (70, 70), "landscape": (42, 84), "portrait": (98, 56)}
MAPS = {"depth": "predicted_depth", "confidence": "confidence"}
CAMERAS = ("intrinsics", "extrinsics")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model's folder as its authors write it."""
    return save_authors_views(tmp_path_factory.mktemp("da3v"))


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.processor)],
    ids=["plain", "optimised"],
)
def model(folder: Path, request: pytest.FixtureRequest) -> torch.nn.Module:
    found = load_model(folder, device="cpu", dtype="float32").model
    return optimize(found) if request.param else found


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", SIZES_HW)
def test_depth_confidence_and_cameras_are_the_authors(
    model: torch.nn.Module, shape: str, count: int
) -> None:
    with torch.inference_mode():
        output = model(views(SIZES_HW[shape], count)[None])
    step = 2 if count == 1 else 3  # what was kept of the maps
    for name, ours in MAPS.items():
        found = getattr(output, ours)[0][:, ::step, ::step]
        assert_close(found, torch.from_numpy(EXPECTED[f"{shape}_{count}_{name}"]))
    for name in CAMERAS:
        found = getattr(output, name)[0]
        assert_close(found, torch.from_numpy(EXPECTED[f"{shape}_{count}_{name}"]))


def test_images_without_a_scene_are_scenes_of_one(model: torch.nn.Module) -> None:
    images = views((42, 84), 3)
    with torch.inference_mode():
        together = model(images)
        alone = model(images[:, None])
    assert together.predicted_depth.shape == together.confidence.shape == (3, 42, 84)
    for name in (*MAPS.values(), *CAMERAS):
        assert_close(together[name], alone[name][:, 0])


def test_scenes_of_a_batch_do_not_see_each_other(model: torch.nn.Module) -> None:
    images = views((42, 70), 4)
    scenes = torch.stack((images[:3], images[1:].flip(0)))
    with torch.inference_mode():
        both = model(scenes)
        for place, scene in enumerate(scenes):
            one = model(scene[None])
            for name in (*MAPS.values(), *CAMERAS):
                assert_close(both[name][place], one[name][0])


def test_the_order_of_three_views_does_not_matter_to_their_results(model: torch.nn.Module) -> None:
    images = views((42, 70), 3)
    order = torch.tensor([2, 0, 1])
    with torch.inference_mode():
        first, second = model(images[None]), model(images[order][None])
    assert_close(second.predicted_depth[0], first.predicted_depth[0][order])
    assert_close(second.extrinsics[0], first.extrinsics[0][order])


def test_maps_made_of_few_views_at_once_are_the_same(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = views((42, 70), 3)[None]
    with torch.inference_mode():
        together = model(images)
        monkeypatch.setattr(type(model), "views_at_once", 2)
        parted = model(images)
    assert_close(parted.predicted_depth, together.predicted_depth)
    assert_close(parted.confidence, together.confidence)


def test_poses_are_turns_and_shifts(model: torch.nn.Module) -> None:
    with torch.inference_mode():
        output = model(views((42, 70), 2)[None])
    turns = output.extrinsics[0, :, :, :3]
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5, rtol=0)
    assert torch.linalg.det(turns).min() > 0.99
    matrix = output.intrinsics[0, 0]
    assert (float(matrix[0, 2]), float(matrix[1, 2])) == (35, 21)
    assert matrix[2].tolist() == [0, 0, 1]


def test_hidden_states_and_weights_are_those_of_every_block(folder: Path) -> None:
    model = load_model(folder, device="cpu", dtype="float32").model
    images = views((42, 70), 3)
    with torch.inference_mode():
        plain = model(images[None])
        seen = model(images[None], output_hidden_states=True, output_attentions=True)
    assert_close(seen.predicted_depth, plain.predicted_depth)
    assert len(seen.hidden_states) == 13
    assert [tuple(state.shape) for state in seen.hidden_states[-2:]] == [(3, 16, 128)] * 2
    assert seen.attentions[4].shape == (3, 2, 16, 16)
    assert seen.attentions[5].shape == (1, 2, 48, 48), "across views"


def test_it_learns_from_labels(folder: Path) -> None:
    model = DepthAnything3ViewsForDepthEstimation.from_pretrained(folder).train()
    images = views((42, 70), 2)[None]
    output = model(images, labels=torch.rand(1, 2, 42, 70) + 0.5)
    output.loss.backward()
    for name in ("backbone.camera_tokens", "neck.reassemble_stage.norm.weight"):
        assert model.get_parameter(name).grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["da3-small", "da3-giant"])
def test_the_authors_folder_names_its_processor_and_what_it_gives(
    tmp_path: Path, name: str
) -> None:
    folder = save_authors_views(tmp_path, name=name)
    loaded = load_model(folder, task="depth", device="cpu")
    assert loaded.kind == "depth"
    assert loaded.processor == DepthAnything3ImageProcessor()
    assert AutoImageProcessor.from_pretrained(folder) == loaded.processor
    config = loaded.model.config
    assert (config.backbone_config.views_start, config.backbone_config.out_indices) == (
        4,
        [6, 8, 10, 12],
    )


def test_a_converted_folder_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    done = convert_original(folder, tmp_path / "hub")
    assert done.kind == "depth"
    said = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert said["model_type"] == "depth_anything_3_views"
    again = DepthAnything3ViewsForDepthEstimation.from_pretrained(tmp_path / "hub")
    first = DepthAnything3ViewsForDepthEstimation.from_pretrained(folder)
    for tensor, other in zip(again.parameters(), first.parameters(), strict=True):
        assert torch.equal(tensor, other)


def test_a_folder_that_lacks_a_tensor_or_has_too_many_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = weights()
    tensors["model.other.weight"] = torch.zeros(3, 3)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"unknown tensors model\.other"):
        load_model(tmp_path, device="cpu")
    del tensors["model.other.weight"], tensors["model.cam_dec.fc_t.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="1 missing"):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth_estimation_type": "metric"}, "must be 'depth'"),
        ({"fusion_hidden_size": 20}, "multiple of 8"),
        ({"neck_hidden_sizes": [48, 96, 190, 384]}, "multiples of 4"),
        ({"backbone_config": {"model_type": "dinov2", "hidden_size": 768}}, "dinov2_views"),
        ({"reassemble_hidden_size": 384}, "must be the backbone's map_width 768"),
    ],
    ids=["metres", "fusion", "neck", "backbone", "width"],
)
def test_a_wrong_configuration_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DepthAnything3ViewsConfig(**change)


def test_images_that_are_no_whole_scenes_are_refused(folder: Path) -> None:
    backbone = load_model(folder, device="cpu").model.backbone
    with pytest.raises(ShapeError, match="3 images are not scenes of 2 views"):
        backbone.features(views((42, 70), 3), num_views=2)
