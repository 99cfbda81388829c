"""Depth Anything 3 equals its authors' code, whose numbers for a small model lie in the .npz."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from depth_anything_3_folder import pixels, save_authors_folder, weights
from hub_server import Repository, serve
from parity import assert_close
from PIL import Image, ImageOps
from places import SAMPLES
from process import run_dpt
from safetensors.torch import save_file

from dptcli import (
    AutoImageProcessor,
    DepthAnything3Config,
    DepthAnything3ForDepthEstimation,
    DepthAnything3ImageProcessor,
    load_model,
)
from dptcli.depth.camera import Camera
from dptcli.errors import ConfigError, ModelError
from dptcli.fast.optimize import optimize
from dptcli.pipeline import Options, open_pipeline
from dptcli.processing.sky import sky_far
from dptcli.processing.target_size import parse_target_size
from dptcli.weights.convert import convert_original

EXPECTED = np.load(Path(__file__).with_suffix("").with_name("depth_anything_3.npz"))
SIZES_HW = {"square": (70, 70), "landscape": (42, 84), "portrait": (98, 56)}
NAMES = {"da3mono-large": "depth", "da3metric-large": "depth_m"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mono model's folder as its authors write it."""
    return save_authors_folder(tmp_path_factory.mktemp("da3"), name="da3mono-large")


@pytest.fixture(scope="module")
def metric(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_authors_folder(tmp_path_factory.mktemp("da3m"), name="da3metric-large")


@pytest.mark.parametrize(
    "optimized",
    [False, pytest.param(True, marks=pytest.mark.processor)],
    ids=["plain", "optimised"],
)
@pytest.mark.parametrize("shape", SIZES_HW)
def test_depth_and_sky_are_the_authors(folder: Path, shape: str, optimized: bool) -> None:
    model = load_model(folder, device="cpu", dtype="float32").model
    if optimized:
        optimize(model)
    with torch.inference_mode():
        output = model(pixels(SIZES_HW[shape]))
    assert_close(output.predicted_depth[0], torch.from_numpy(EXPECTED[f"{shape}_depth"]))
    assert_close(output.sky[0], torch.from_numpy(EXPECTED[f"{shape}_sky"]))


@pytest.mark.parametrize("shape", SIZES_HW)
def test_the_sky_is_as_far_as_the_authors_put_it(shape: str) -> None:
    depth, sky, far = (
        torch.from_numpy(EXPECTED[f"{shape}_{name}"]) for name in ("depth", "sky", "far")
    )
    assert 0.02 < float((sky >= 0.3).float().mean()) < 0.98
    # Versions of torch interpolate a quantile differently in the last digits (2.14: 2e-6).
    torch.testing.assert_close(sky_far(depth, sky >= 0.3), far, rtol=1e-5, atol=0)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_map_of_one_sort_stays_as_it_is(share: float) -> None:
    depth = torch.rand(20, 30)
    assert torch.equal(sky_far(depth, torch.full(depth.shape, share > 0)), depth)


@pytest.mark.parametrize("name", NAMES)
def test_both_networks_are_read_as_they_are_published(tmp_path: Path, name: str) -> None:
    folder = save_authors_folder(tmp_path, name=name)
    loaded = load_model(folder, task="depth", device="cpu")
    assert loaded.kind == NAMES[name]
    assert loaded.model.config.reference_focal_px == (300 if "metric" in name else None)
    assert loaded.processor == DepthAnything3ImageProcessor()
    again = DepthAnything3ForDepthEstimation.from_pretrained(folder)
    for tensor, other in zip(again.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(tensor, other)


def test_a_converted_folder_is_the_same_model(metric: Path, tmp_path: Path) -> None:
    done = convert_original(metric, tmp_path / "hub")
    assert done.kind == "depth_m"
    said = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert (said["model_type"], said["reference_focal_px"]) == ("depth_anything_3", 300)
    assert isinstance(
        AutoImageProcessor.from_pretrained(tmp_path / "hub"), DepthAnything3ImageProcessor
    )


def test_the_authors_folder_names_its_processor_too(metric: Path) -> None:
    found = AutoImageProcessor.from_pretrained(metric)
    assert found == DepthAnything3ImageProcessor()
    config = DepthAnything3Config.from_pretrained(metric)
    assert (config.depth_estimation_type, config.reference_focal_px) == ("metric", 300)


def test_a_repository_without_our_processors_file_is_fetched_whole(
    folder: Path, tmp_path: Path
) -> None:
    with serve() as hub:
        hub.repositories["depth-anything/DA3MONO-LARGE"] = Repository.of(folder)
        changes = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url}
        done = run_dpt(
            "models",
            "download",
            "depth-anything-3-mono-large",
            **changes,
            NO_PROXY="127.0.0.1,localhost",
        )
    assert done.returncode == 0, done.stderr
    assert load_model(Path(done.stdout.strip()), device="cpu").kind == "depth"


def test_a_folder_that_lacks_a_tensor_or_has_too_many_is_refused(tmp_path: Path) -> None:
    folder = save_authors_folder(tmp_path, name="da3mono-large")
    tensors = weights()
    tensors["model.cam_dec.fc.weight"] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"unknown tensors model\.cam_dec"):
        load_model(folder, device="cpu")
    tensors = weights()
    del tensors["model.head.projects.0.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match="1 missing"):
        load_model(folder, device="cpu")


def test_another_of_the_authors_networks_is_refused_by_name(tmp_path: Path) -> None:
    folder = save_authors_folder(tmp_path, name="da3-of-another-year")
    with pytest.raises(ModelError, match="preprocessor_config"):
        load_model(folder, device="cpu")


# --- the processor -------------------------------------------------------------------------------


def as_the_authors(rgb: np.ndarray, *, long_side: int = 504) -> np.ndarray:
    """Their two resizes, by OpenCV itself."""
    height, width = rgb.shape[:2]
    scale = long_side / max(height, width)
    if scale != 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    size = tuple(
        low + 14 if low + 14 - side <= side - low else low
        for side, low in ((side, side // 14 * 14) for side in rgb.shape[1::-1])
    )
    if size != rgb.shape[1::-1]:
        grows = size[0] > rgb.shape[1] or size[1] > rgb.shape[0]
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
    return rgb


@pytest.mark.parametrize(
    "hw",
    [
        (377, 504),
        (504, 376),
        (1000, 800),
        (1008, 756),
        (700, 1511),
        (90, 120),
        (505, 501),
        (33, 510),
    ],
    ids=lambda hw: f"{hw[0]}x{hw[1]}",
)
def test_pictures_are_resized_as_by_opencv(hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (*hw, 3), np.uint8)
    rgb[: hw[0] // 2] = cv2.GaussianBlur(rgb, (0, 0), 3)[: hw[0] // 2]
    processor = DepthAnything3ImageProcessor()
    expected = as_the_authors(rgb)
    planes = processor.prepare(rgb).pixel_values
    assert planes.shape[1:] == expected.shape[:2] == processor.network_hw(hw)
    mean, std = (
        np.reshape(values, (3, 1, 1)) for values in (processor.image_mean, processor.image_std)
    )
    levels = (planes * std + mean) * 255
    difference = np.abs(levels - expected.transpose(2, 0, 1))
    # OpenCV computes a cubic in integers of 11 bits: a level here and there, in each step.
    assert difference.max() < 2.01
    assert (difference > 0.5).mean() < 0.02


def test_a_picture_and_its_array_are_prepared_alike() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (60, 90, 3), np.uint8)
    processor = DepthAnything3ImageProcessor(size=70)
    first, second = processor.prepare(rgb), processor.prepare(Image.fromarray(rgb))
    np.testing.assert_array_equal(first.pixel_values, second.pixel_values)
    values = processor(images=rgb, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(values[0], first.pixel_values)


def test_the_short_side_decides_where_it_is_asked_to() -> None:
    processor = DepthAnything3ImageProcessor(size=140, process_res_method="lower_bound_resize")
    assert processor.network_hw((200, 400)) == (140, 280)
    assert processor.with_size(280).network_hw((200, 400)) == (280, 560)
    assert DepthAnything3ImageProcessor.from_dict(processor.to_dict()) == processor
    with pytest.raises(ConfigError, match="process_res_method is 'crop'"):
        DepthAnything3ImageProcessor(process_res_method="crop")


def test_a_configuration_of_inverse_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match="this network gives depth"):
        DepthAnything3Config(depth_estimation_type="relative")


# --- a run ---------------------------------------------------------------------------------------


def photograph(hw: tuple[int, int] = (90, 120)) -> np.ndarray:
    coarse = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(hw[::-1], Image.Resampling.BICUBIC))


def test_metres_are_in_proportion_to_the_focal_length(metric: Path, tmp_path: Path) -> None:
    loaded = load_model(metric, device="cpu", dtype="float32")
    path = tmp_path / "a.png"
    Image.fromarray(photograph()).save(path)
    found = {}
    for fov in (60.0, 90.0):
        options = Options(camera=Camera(fov_deg=fov), target_size=parse_target_size("model"))
        pipeline = open_pipeline(loaded, task="depth", size=140, options=options)
        found[fov] = pipeline.predict_one(path)
    with torch.inference_mode():
        prepared = loaded.processor.with_size(140).prepare(photograph())
        output = loaded.model(torch.from_numpy(prepared.pixel_values)[None])
    raw = sky_far(output.predicted_depth[0], output.sky[0] >= 0.3).numpy()
    height, width = prepared.network_hw
    for fov, prediction in found.items():
        focal = 60 / np.tan(np.radians(fov) / 2)  # of the 120 pixels of the photograph
        focal_px = focal * (height / 90 + width / 120) / 2
        np.testing.assert_allclose(prediction.values, raw * focal_px / 300, rtol=1e-5)
        assert prediction.facts["metres_by"]["focal_from"] == "--fov"


def dpt(*words: object, cwd: Path) -> str:
    """Run `dpt depth` on the processor; what it says."""
    done = run_dpt("depth", *words, "--dtype", "float32", "--device", "cpu", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_dpt_writes_depth_without_scale_and_its_sky(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    maps = {}
    for sky in ("far", "mask", "keep"):
        words = ("a.png", "-o", f"{sky}/", "-m", folder, "-f", "npy,color", "--size", "140")
        assert "assumed" not in dpt(*words, "--sky", sky, cwd=tmp_path)
        maps[sky] = np.load(tmp_path / sky / "a.npy")
    words = ("a.png", "-o", "twice/", "-m", folder, "-f", "npy", "--size", "140")
    dpt(*words, "--range", "global", cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "twice" / "a.npy"), maps["far"])
    facts = json.loads((tmp_path / "far" / "a.json").read_text())
    assert (facts["kind"], facts["polarity"]) == ("depth", "large is far")
    assert facts["unit"] == "none (the scale is unknown)"
    masked = np.isnan(maps["mask"])
    assert facts["sky"] == {"share": round(float(masked.mean()), 6), "values": "far"}
    assert 0.001 < masked.mean() < 0.9
    inner = ~masked
    np.testing.assert_array_equal(maps["mask"][inner], maps["far"][inner])
    assert np.median(maps["far"][masked]) > np.quantile(maps["keep"][inner], 0.9)
    assert np.ptp(maps["far"][masked]) == 0, "one value, sharp where the sky begins"
    drawn = np.asarray(Image.open(tmp_path / "far" / "a.png").convert("L")).astype(int)
    near, far = (np.unravel_index(f(maps["far"]), drawn.shape) for f in (np.argmin, np.argmax))
    assert drawn[near] > drawn[far] + 50, "near is bright"


def test_dpt_writes_metres_and_says_what_they_rest_on(metric: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 50
    Image.fromarray(photograph()).save(tmp_path / "exif.jpg", exif=exif, quality=95)
    Image.open(tmp_path / "exif.jpg").save(tmp_path / "plain.png", exif=Image.Exif())
    words = ("exif.jpg", "plain.png", "-o", "out/", "-m", metric, "-f", "npy,mm", "--size", "140")
    said = dpt(*words, cwd=tmp_path)
    assert said.count("which is assumed, 27 mm; say it with --fov or --focal") == 1
    facts = {
        name: json.loads((tmp_path / "out" / f"{name}.json").read_text())
        for name in ("exif", "plain")
    }
    assert [facts[name]["metres_by"]["focal_from"] for name in facts] == ["EXIF", "assumed, 27 mm"]
    first, second = (np.load(tmp_path / "out" / f"{name}.npy") for name in facts)
    np.testing.assert_allclose(first, second * 50 / 27, rtol=1e-5)
    assert facts["exif"]["kind"] == "depth_m"


def test_a_model_that_knows_no_sky_says_so(tmp_path: Path) -> None:
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    done = run_dpt("depth", "a.png", "-o", "b.png", "--sky", "mask", cwd=tmp_path)
    assert done.returncode == 2
    assert "does not tell where the sky is" in done.stderr


def test_the_built_in_pair_knows_the_sky_by_its_classes(tmp_path: Path) -> None:
    with Image.open(SAMPLES / "courtyard.jpg") as stored:
        photo = ImageOps.exif_transpose(stored)
        photo.thumbnail((320, 320))
        photo.save(tmp_path / "courtyard.jpg")
    words = (
        "courtyard.jpg",
        "-o",
        tmp_path / "out/",
        "-f",
        "npy,color",
        "--with-segments",
        "--masks",
    )
    dpt(*words, "--sky", "mask", cwd=tmp_path)
    dpt(*words, "--overwrite", "-o", tmp_path / "far/", "--sky", "far", cwd=tmp_path)
    facts = json.loads((tmp_path / "out" / "courtyard.json").read_text())
    [sky] = [item for item in facts["segments"] if item["class"].casefold() == "sky"]
    values, far = (np.load(tmp_path / name / "courtyard.npy") for name in ("out", "far"))
    masked = np.isnan(values)
    assert float(masked.mean()) == pytest.approx(sky["area"], abs=1e-5)
    assert len(np.unique(far[masked])) == 1
    assert far[masked][0] < np.quantile(far[~masked], 0.02)
