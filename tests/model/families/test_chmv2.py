"""CHMv2 equals the reference both ways on random models; heights are told from distances."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from parity import assert_depth_equal_both_ways, load_reference, randomize
from PIL import Image, TiffImagePlugin, TiffTags
from process import run_dpt
from torch import Tensor

from dptcli import (
    AutoImageProcessor,
    CHMv2Config,
    CHMv2ForDepthEstimation,
    CHMv2ImageProcessor,
)
from dptcli.cli import main
from dptcli.errors import ConfigError
from dptcli.weights.catalog import entries_for, hub_name
from dptcli.weights.hub_download import show_licence
from dptcli.weights.load import load_model

REFERENCE = transformers.CHMv2ForDepthEstimation
PLAIN = ("--device", "cpu", "--dtype", "float32")
EAGER = {"attn_implementation": "eager"}  # the fused attention keeps no weights
SIZES_HW = {"square": (64, 64), "landscape": (48, 80), "portrait": (85, 36)}
# preprocessor_config.json of the public model.
PUBLISHED = {
    "data_format": "channels_first",
    "do_normalize": True,
    "do_pad": True,
    "do_rescale": True,
    "do_resize": False,
    "ensure_multiple_of": 16,
    "image_mean": [0.42, 0.411, 0.296],
    "image_processor_type": "CHMv2ImageProcessorFast",
    "image_std": [0.213, 0.156, 0.143],
    "keep_aspect_ratio": True,
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 384, "width": 384},
    "size_divisor": 16,
}


def draw(seed: int) -> dict[str, Any]:
    """A random CHMv2; the first is spaced and summed as the public one."""
    rng = random.Random(seed)
    num_layers = rng.choice([4, 5])
    width = rng.choice([24, 48])
    strategies = [("chmv2_mixlog", "chmv2_mixlog"), ("linear", "linear"), ("log", "softmax")]
    strategies += [("chmv2_mixlog", "sigmoid")]
    bins, norm = strategies[seed % 4]
    return {
        "backbone_config": {
            "model_type": "dinov3_vit",
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_attention_heads": rng.choice([1, 2, 3]),
            "num_hidden_layers": num_layers,
            "image_size": 64,
            "patch_size": 16,
            "num_register_tokens": rng.choice([1, 4]),
            "key_bias": True,
            "out_indices": sorted(rng.sample(range(1, num_layers + 1), 4)),
            "return_class_token": True,
        },
        "post_process_channels": [rng.choice([8, 12]) for _ in range(4)],
        "fusion_hidden_size": rng.choice([8, 18]),
        "head_hidden_size": rng.choice([4, 16]),
        "number_output_channels": 1 if seed == 4 else rng.choice([8, 32]),
        "readout_type": ["project", "project", "ignore", "add", "project"][seed],
        "bins_strategy": bins,
        "norm_strategy": norm,
    }


def reference_of(values: dict[str, Any], *, seed: int) -> Any:
    config = transformers.CHMv2Config(**values, **EAGER)
    return randomize(REFERENCE(config), seed=seed, std=0.2)


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size_hw", SIZES_HW.values(), ids=SIZES_HW)
@pytest.mark.parametrize("seed", range(5))
@torch.inference_mode()
def test_chmv2_equals_the_reference_both_ways(
    seed: int, size_hw: tuple[int, int], tmp_path: Path
) -> None:
    values = draw(seed)
    reference = reference_of(values, seed=seed)
    x = pixels(2, 3, *size_hw, seed=seed)
    assert_depth_equal_both_ways(reference, x, folder=tmp_path, model_class=CHMv2ForDepthEstimation)


def test_an_empty_config_means_the_public_model() -> None:
    ours, theirs = CHMv2Config(), transformers.CHMv2Config()
    for name in ("hidden_size", "num_hidden_layers", "num_register_tokens", "key_bias"):
        assert getattr(ours.backbone_config, name) == getattr(theirs.backbone_config, name)
    assert list(ours.backbone_config.out_indices) == list(theirs.backbone_config.out_indices)
    assert ours.backbone_config.layer_norm_eps == theirs.backbone_config.layer_norm_eps
    assert list(ours.neck_hidden_sizes) == list(theirs.post_process_channels)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bins_strategy": "even"}, "bins_strategy"),
        ({"norm_strategy": "hard"}, "norm_strategy"),
        ({"min_depth": 0}, "min_depth"),
        ({"max_depth": 0}, "max_depth"),
        ({"readout_type": "first"}, "readout_type"),
        ({"number_output_channels": 0}, "number_output_channels"),
        ({"backbone_config": {"model_type": "dinov2"}}, "dinov3_vit"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        CHMv2Config(**draw(0) | change)


def test_it_learns_heights_from_labels() -> None:
    model = randomize(CHMv2ForDepthEstimation(CHMv2Config(**draw(0))), seed=2)
    output = model.train()(pixels(2, 3, 64, 64), labels=torch.rand(2, 30, 40) * 20)
    output.loss.backward()
    assert model.neck.convs[0].weight.grad.abs().sum() > 0


# --- the processor -------------------------------------------------------------------------------


def photograph(hw: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


@pytest.mark.parametrize("hw", [(64, 64), (70, 99), (33, 16), (31, 130)])
def test_the_processor_equals_the_reference_to_the_bit(hw: tuple[int, int]) -> None:
    """By the arithmetic of its torchvision backend, and by itself where that is installed."""
    image = photograph(hw)
    ours = CHMv2ImageProcessor.from_dict(PUBLISHED)(image, return_tensors="pt").pixel_values
    mean, std = (
        torch.tensor(PUBLISHED[f"image_{name}"]) * (1 / (1 / 255)) for name in ("mean", "std")
    )
    planes = torch.from_numpy(image).permute(2, 0, 1).float()
    planes = (planes - mean[:, None, None]) / std[:, None, None]
    rows, columns = (-side % 16 for side in hw)
    sides = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    assert torch.equal(ours[0], F.pad(planes, sides))
    try:
        theirs = transformers.CHMv2ImageProcessor(**PUBLISHED)
    except ImportError:
        return
    assert torch.equal(ours, theirs(image, return_tensors="pt").pixel_values)


def test_heights_are_resized_from_corner_to_corner() -> None:
    height_m = torch.rand(1, 6, 8, generator=torch.Generator().manual_seed(1))
    [found] = CHMv2ImageProcessor().post_process_depth_estimation(
        {"predicted_depth": height_m}, target_sizes=[(11, 29)]
    )
    expected = F.interpolate(height_m[None], (11, 29), mode="bilinear", align_corners=True)[0, 0]
    assert torch.equal(found["predicted_depth"], expected)
    assert found["predicted_depth"][0, 0] == height_m[0, 0, 0]


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chmv2")
    model = randomize(CHMv2ForDepthEstimation(CHMv2Config(**draw(0))), seed=7)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PUBLISHED))
    return folder


def write_geotiff(path: Path, hw: tuple[int, int]) -> None:
    """A photograph from above, half a metre a pixel, its corner at (500000, 4100000) of UTM 11N."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, kind, values in (
        (33550, TiffTags.DOUBLE, (0.5, 0.5, 0.0)),
        (33922, TiffTags.DOUBLE, (0.0, 0.0, 0.0, 500000.0, 4100000.0, 0.0)),
        (34735, TiffTags.SHORT, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32611)),
    ):
        tags.tagtype[tag] = kind
        tags[tag] = values
    Image.fromarray(photograph(hw)).save(path, tiffinfo=tags)


def test_a_geotiff_becomes_a_geotiff_of_heights(folder: Path, tmp_path: Path) -> None:
    write_geotiff(tmp_path / "forest.tif", (70, 99))
    words = ("forest.tif", "-m", folder, "-o", "out/", "-f", "tiff,color", *PLAIN)
    done = run_dpt("depth", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out/forest.tiff") as stored:
        height_m = np.asarray(stored)
        assert stored.tag_v2[33550] == (0.5, 0.5, 0.0)
        assert stored.tag_v2[33922][3:5] == (500000.0, 4100000.0)
        assert stored.tag_v2[34735][-1] == 32611
    assert height_m.shape == (70, 99)
    said = json.loads((tmp_path / "out/forest.json").read_text())
    assert (said["kind"], said["unit"], said["polarity"]) == (
        "height_m", "metre", "large is high",
    )  # fmt: skip
    # The reference's numbers: its processor's pixels, its model, the padding's part left out.
    reference = load_reference(REFERENCE, folder)
    with Image.open(tmp_path / "forest.tif") as image:
        x = CHMv2ImageProcessor.from_pretrained(folder)(image, return_tensors="pt").pixel_values
    with torch.inference_mode():
        whole = reference(x).predicted_depth
        whole = F.interpolate(whole[None], x.shape[-2:], mode="bilinear", align_corners=True)[0, 0]
    assert np.abs(height_m - whole[5:75, 6:105].numpy()).max() <= 1e-4 * float(whole.max())
    with Image.open(tmp_path / "out/forest.png") as drawn:  # tall is bright
        bright = np.asarray(drawn.convert("L")).astype(float)
    assert np.corrcoef(bright.ravel(), height_m.ravel())[0, 1] > 0.5


@pytest.mark.parametrize(
    "options", [["-f", "ply"], ["-f", "mm"], ["-f", "normals"], ["--anchor", "3,4=2"]]
)
def test_heights_are_not_taken_for_distances(
    folder: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(photograph((64, 64))).save(tmp_path / "a.png")
    words = (tmp_path / "a.png", "-m", folder, "-o", tmp_path / "out/", *options, *PLAIN)
    assert main(["depth", *map(str, words)]) == 2
    assert "heights above the ground" in capsys.readouterr().err


def test_a_folder_is_loaded_with_its_own_processor(folder: Path) -> None:
    loaded = load_model(folder, device="cpu")
    assert loaded.kind == "height_m"
    assert not loaded.is_metric
    assert isinstance(loaded.processor, CHMv2ImageProcessor)
    assert isinstance(AutoImageProcessor.from_pretrained(folder), CHMv2ImageProcessor)
    assert loaded.processor.network_hw((1000, 700)) == (1008, 704)


def test_stored_heights_are_evaluated_as_metres(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against measured heights without alignment: a perfect prediction has no error."""
    Image.fromarray(photograph((64, 64))).save(tmp_path / "a.png")
    words = (tmp_path / "a.png", "-m", folder, "-o", tmp_path / "out/", "-f", "npy", *PLAIN)
    assert main(["depth", *map(str, words)]) == 0
    np.save(tmp_path / "measured.npy", np.load(tmp_path / "out/a.npy"))
    (tmp_path / "pairs.csv").write_text("image,target,kind\na.png,measured.npy,depth_m\n")
    words = (tmp_path / "pairs.csv", "--predictions", tmp_path / "out", "--json")
    capsys.readouterr()
    assert main(["eval", "depth", *map(str, words)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert '"abs_rel": 0.0' in json.dumps(report)


def test_a_publishers_own_licence_is_shown_with_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    [entry] = entries_for("chmv2")
    show_licence(hub_name("chmv2"), entry.licence)
    assert "DINOv3 licence" in caplog.text
    assert "https://ai.meta.com" in caplog.text
