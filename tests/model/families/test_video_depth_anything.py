"""Video Depth Anything gives the numbers of the authors' code; its files are read and converted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from video_depth import expected, frames, save_original

from dptcli import VideoDepthAnythingConfig, VideoDepthAnythingForDepthEstimation, load_model
from dptcli.cli import main
from dptcli.errors import ConfigError, ModelError, ShapeError

TINY = {
    "backbone_config": {
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
    },
    "reassemble_hidden_size": 24,
    "neck_hidden_sizes": [8, 8, 16, 16],
    "fusion_hidden_size": 16,
    "num_norm_groups": 4,
}
# Of values around 2 that differ by 1e-3 from frame to frame; sums are taken in another order.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_original(tmp_path_factory.mktemp("original"))


def clip(number: int = 5) -> Tensor:
    values = frames(number, 56, 70).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    return torch.from_numpy(values)


@pytest.mark.parametrize("optimized", [False, True], ids=["plain", "optimized"])
@torch.inference_mode()
def test_frames_together_give_the_authors_numbers(original: Path, optimized: bool) -> None:
    loaded = load_model(original, device="cpu", dtype="float32", optimized=optimized)
    found = loaded.model(clip()[None]).predicted_depth
    assert found.shape == (1, 5, 56, 70)
    np.testing.assert_allclose(found[0].numpy(), expected()["network"], rtol=0, atol=TOLERANCE)


@torch.inference_mode()
def test_a_photograph_is_the_first_of_as_many_equal_frames(original: Path) -> None:
    model = load_model(original, device="cpu").model
    found = model(clip(2)).predicted_depth
    assert found.shape == (2, 56, 70)
    np.testing.assert_allclose(found[0].numpy(), expected()["still"], rtol=0, atol=TOLERANCE)
    repeated = clip(2)[1].expand(1, 32, -1, -1, -1)
    torch.testing.assert_close(found[1], model(repeated).predicted_depth[0, 0])


@torch.inference_mode()
def test_clips_of_a_batch_do_not_meet(original: Path) -> None:
    model = load_model(original, device="cpu").model
    both = torch.stack((clip(3), clip(3).flip(-1)))
    found = model(both).predicted_depth
    for one, alone in zip(found, both, strict=True):
        torch.testing.assert_close(one, model(alone[None]).predicted_depth[0])


def test_frames_are_sized_as_the_authors_code_does(original: Path) -> None:
    processor = load_model(original, device="cpu").processor
    for height, width, *network_hw in expected()["sizes"].tolist():
        assert processor.network_hw((height, width)) == tuple(network_hw)
    prepared = processor.prepare(frames(1, 300, 640)[0])
    assert prepared.network_hw == prepared.resized_hw == processor.network_hw((300, 640))


def test_a_converted_file_gives_the_same_numbers(original: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    assert main(["convert", str(original), str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["model_type"] == "video_depth_anything"
    assert config["num_frames"] == 32
    loaded, direct = load_model(out, device="cpu"), load_model(original, device="cpu")
    assert loaded.processor.network_hw((400, 1000)) == (364, 910)
    with torch.inference_mode():
        torch.testing.assert_close(
            loaded.model(clip(1)).predicted_depth, direct.model(clip(1)).predicted_depth
        )


@pytest.mark.parametrize(
    ("name", "kind", "fits"),
    [
        ("video_depth_anything_vits.pth", "inverse_depth", True),
        ("metric_video_depth_anything_vits.pth", "depth_m", False),
    ],
)
def test_a_files_name_tells_metres(name: str, kind: str, fits: bool, tmp_path: Path) -> None:
    loaded = load_model(save_original(tmp_path, name), device="cpu")
    assert loaded.kind == kind
    assert loaded.clip_window is not None
    assert loaded.clip_window.fits == fits
    with torch.inference_mode():  # the same layers, whichever kind it is
        found = loaded.model(clip(1)).predicted_depth[0].numpy()
    np.testing.assert_allclose(found, expected()["still"], rtol=0, atol=TOLERANCE)


def test_a_renamed_file_asks_for_its_kind(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"video-depth-anything-metric.*--kind"):
        load_model(save_original(tmp_path, "mine.pth"), device="cpu")


def test_a_new_temporal_module_changes_nothing_yet() -> None:
    model = VideoDepthAnythingForDepthEstimation(VideoDepthAnythingConfig(**TINY))
    module = model.temporal_modules[2]
    maps = torch.randn(4, 16, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(module(maps, num_frames=2), maps)


def test_the_temporal_modules_learn_from_labels() -> None:
    model = VideoDepthAnythingForDepthEstimation(VideoDepthAnythingConfig(**TINY)).train()
    with torch.no_grad():
        model.head.conv3.bias.fill_(1.0)
    x = torch.randn(2, 3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(1)) + 0.5
    model(x, labels=labels).loss.backward()
    gradient = model.temporal_modules[0].project_out.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 0, 3, 28, 28), (1, 33, 3, 28, 28)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    model = VideoDepthAnythingForDepthEstimation(VideoDepthAnythingConfig(**TINY))
    with pytest.raises(ShapeError, match="pixel_values"):
        model(torch.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_temporal_heads": 5}, "num_temporal_heads 5"),
        ({"neck_hidden_sizes": [8, 16, 16]}, "neck_hidden_sizes"),
        ({"num_frames": 10}, "fewer than 10 frames"),
        ({"num_frames": 17, "keyframes": [0, 1, *range(9, 17)]}, "7 new frames"),
        ({"keyframes": [0, 12, *range(23, 31)]}, "end with the window's last 8"),
    ],
)
def test_what_cannot_be_a_clips_way_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoDepthAnythingConfig(**{**TINY, **changes})
