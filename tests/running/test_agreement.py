"""How sure a network is: its own word, or two passes that agree."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shared_backbone import saved
from tiny import draw_blurred, save_varied
from video_depth import save_original

from dptcli import load_model
from dptcli.cli import main
from dptcli.depth.camera import Camera
from dptcli.errors import UsageError
from dptcli.evaluation.maps import read_map
from dptcli.gallery.results import find_results
from dptcli.kinds import MEANINGS
from dptcli.model.outputs import DepthEstimatorOutput
from dptcli.pipeline import Options, Pipeline, Prediction, open_pipeline
from dptcli.results.restore import restore
from dptcli.running.agreement import agreement

DEPTH = 1 + torch.rand(20, 30, generator=torch.Generator().manual_seed(0)) * 5


@pytest.mark.parametrize("kind", MEANINGS)
def test_alike_is_one_and_confidence_never_leaves_its_range(kind):
    torch.testing.assert_close(agreement(DEPTH, DEPTH, kind), torch.ones_like(DEPTH))
    other = torch.rand(20, 30, generator=torch.Generator().manual_seed(1)) * 9
    found = agreement(DEPTH, other, kind)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert float(found.mean()) < 0.8


def test_metres_are_compared_as_they_are_and_the_rest_after_a_fit():
    torch.testing.assert_close(agreement(DEPTH, DEPTH * 2, "depth_m"), torch.full_like(DEPTH, 0.5))
    torch.testing.assert_close(agreement(DEPTH, DEPTH * 2, "depth"), torch.ones_like(DEPTH))
    torch.testing.assert_close(
        agreement(DEPTH, DEPTH * 2 + 3, "inverse_depth"), torch.ones_like(DEPTH)
    )


def test_one_pixel_that_differs_is_less_sure_by_its_share():
    other = DEPTH.clone()
    other[3, 4] *= 1.25
    found = agreement(DEPTH, other, "depth_m")
    assert float(found[3, 4]) == pytest.approx(0.8)
    assert float(found.sum()) == pytest.approx(found.numel() - 0.2)
    low, high = torch.quantile(DEPTH, torch.tensor([0.02, 0.98])).tolist()
    by_range = float(agreement(DEPTH, other, "inverse_depth")[3, 4])
    assert by_range == pytest.approx(1 - 0.25 * float(DEPTH[3, 4]) / (high - low), abs=0.01)


@pytest.mark.parametrize("kind", MEANINGS)
def test_what_is_not_finite_is_not_sure(kind):
    other = DEPTH.clone()
    other[0, 0], other[0, 1] = torch.nan, torch.inf
    found = agreement(DEPTH, other, kind)
    assert found[0, :2].tolist() == [0, 0]
    assert float(found[1:].min()) == pytest.approx(1, abs=1e-5)
    assert not agreement(torch.full_like(DEPTH, torch.nan), DEPTH, kind).any()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_varied(tmp_path_factory.mktemp("sure") / "model")


def predicted(folder: Path, image: np.ndarray, **options):
    pipeline = open_pipeline(
        folder, task="depth", device="cpu", dtype="float32", options=Options(**options)
    )
    return pipeline.predict_one(image)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (60, 90, 3), np.uint8)


@pytest.mark.parametrize("tile", [None, 48], ids=["whole", "tiles"])
def test_two_passes_leave_depth_as_it_is_and_see_the_mirrored_photograph(model, tile):
    plain = predicted(model, picture(), tile=tile)
    both = predicted(model, picture(), tile=tile, confidence="mirrored")
    mirrored = predicted(model, picture()[:, ::-1].copy(), tile=tile)
    np.testing.assert_array_equal(plain.values, both.values)
    assert plain.confidence is None
    assert both.confidence is not None
    if tile is None:
        plain = predicted(model, picture(), target_size=_own())
        mirrored = predicted(model, picture()[:, ::-1].copy(), target_size=_own())
        expected = agreement(
            torch.from_numpy(plain.values),
            torch.from_numpy(mirrored.values[:, ::-1].copy()),
            "inverse_depth",
        )
        np.testing.assert_allclose(both.confidence, expected.numpy(), atol=1e-4)
    assert 0.2 < both.confidence.mean() < 0.9999


def test_two_passes_of_a_calibrated_model_are_compared_in_metres(model):
    def found(image: np.ndarray, **options) -> Prediction:
        loaded = load_model(model, task="depth", device="cpu", dtype="float32")
        line = {"of": "inverse_depth", "scale": 0.3, "shift": 0.2}
        loaded.model.config = loaded.model.config.replace(calibration=line)
        return Pipeline(loaded, options=Options(target_size=_own(), **options)).predict_one(image)

    metres, sure = found(picture()).values, found(picture(), confidence="mirrored").confidence
    mirrored = found(picture()[:, ::-1].copy()).values[:, ::-1]
    expected = np.minimum(metres, mirrored) / np.maximum(metres, mirrored)
    np.testing.assert_allclose(sure, expected, atol=1e-4)
    assert expected.min() < 0.99


def _own():
    from dptcli.processing.target_size import parse_target_size

    return parse_target_size("model")


def knowing(folder: Path, **options):
    """A pipeline of a network that knows how sure it is, and what camera it sees through."""
    pipeline = open_pipeline(
        folder, task="depth", device="cpu", dtype="float32", options=Options(**options)
    )
    model = pipeline.loaded.model
    forward = model.forward

    class Output(DepthEstimatorOutput):
        predicted_depth: torch.Tensor | None = None
        confidence: torch.Tensor | None = None
        field_of_view: torch.Tensor | None = None

    def told(pixel_values):
        depth = forward(pixel_values).predicted_depth
        fov = torch.full((len(depth),), 90.0)
        return Output(predicted_depth=depth, confidence=1 + depth.exp(), field_of_view=fov)

    model.forward = told
    return pipeline


def test_the_networks_own_word_and_camera_come_through(model):
    found = knowing(model, confidence="network").predict_one(picture())
    alone = knowing(model).predict_one(picture())
    assert alone.confidence is None
    np.testing.assert_array_equal(alone.values, found.values)
    depth = predicted(model, picture(), target_size=_own()).values
    np.testing.assert_allclose(found.confidence, 1 + np.exp(depth), rtol=1e-5)
    assert (found.lens.fx, found.lens.fy) == pytest.approx((45, 45))
    assert found.lens.origin == "the network"
    given = knowing(model, camera=Camera(fov_deg=60)).predict_one(picture())
    assert given.lens.origin == "--fov"


def test_dpt_writes_how_sure_it_is_and_says_whose_word_that_is(model, tmp_path, capsys):
    photos = draw_blurred(tmp_path / "photos", 2, size=(90, 60))
    words = ["depth", photos, "-m", model, "-f", "confidence,npz,png16"]
    assert main([*map(str, words), "-o", str(tmp_path / "refused")]) == 2
    assert "does not say how sure it is; add --confidence" in capsys.readouterr().err
    out = tmp_path / "out"
    assert main([*map(str, words), "--confidence", "-o", str(out)]) == 0
    facts = json.loads((out / "00.json").read_text())
    about = facts["files"]["00.confidence.png"]
    assert facts["confidence"]["by"].startswith("agreement of two passes")
    assert (about["kind"], about["first"], about["last"]) == ("confidence", 0.0, 1.0)
    with Image.open(out / "00.confidence.png") as image:
        levels = np.asarray(image)
        assert image.mode == "I;16"
    arrays = np.load(out / "00.npz")
    assert sorted(arrays) == ["conf", "inverse_depth"]  # 27 mm is a guess: not written as known
    assert arrays["conf"].shape == (1, 60, 90)
    np.testing.assert_allclose(levels / 65535, arrays["conf"][0], atol=about["max_error"] * 1.01)
    restored = restore(out / "00.confidence.png")
    np.testing.assert_allclose(restored.values, arrays["conf"][0], atol=restored.max_error * 1.01)
    np.testing.assert_array_equal(read_map(out / "00.npz").values, arrays["inverse_depth"])
    assert restored.facts["kind"] == "confidence"
    assert len(find_results(out)) == 2
    assert {found.facts["kind"] for found in find_results(out)} == {"inverse_depth"}


def test_an_archive_of_metres_is_what_readers_of_scenes_expect(model, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    words = ["depth", tmp_path / "a.png", "-m", model, "--gives", "metres", "-f", "npz"]
    words += ["--fov", "90", "--confidence", "-o", tmp_path / "a.npz"]
    assert main([*map(str, words)]) == 0
    arrays = np.load(tmp_path / "a.npz")
    assert {name: arrays[name].shape for name in arrays} == {
        "depth_m": (60, 90),
        "depth": (1, 60, 90),
        "conf": (1, 60, 90),
        "intrinsics": (1, 3, 3),
    }
    np.testing.assert_array_equal(arrays["depth"][0], arrays["depth_m"])
    np.testing.assert_allclose(arrays["intrinsics"][0], [[45, 0, 45], [0, 45, 30], [0, 0, 1]])
    assert read_map(tmp_path / "a.npz").facts["kind"] == "depth_m"


def test_an_archive_of_somebody_elses_scene_is_read_by_its_depth(tmp_path):
    depth = np.random.default_rng(0).random((1, 6, 8), np.float32)
    more = {"conf": depth, "extrinsics": np.zeros((1, 3, 4)), "intrinsics": np.zeros((1, 3, 3))}
    np.savez(tmp_path / "scene.npz", depth=depth, **more)
    found = read_map(tmp_path / "scene.npz")
    np.testing.assert_array_equal(found.values, depth[0])
    assert found.facts["kind"] == "depth"


def test_one_range_for_the_run_keeps_how_sure_it_is(model, tmp_path):
    photos = draw_blurred(tmp_path / "photos", 2, size=(90, 60))
    for name, words in (("two", ["--range", "global"]), ("one", [])):
        run = ["depth", photos, "-m", model, "-f", "color,confidence", "--confidence", *words]
        assert main([*map(str, run), "-o", str(tmp_path / name)]) == 0
    for path in sorted((tmp_path / "one").glob("*.confidence.png")):
        twin = tmp_path / "two" / path.name
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(twin)))


def test_classes_come_beside_how_sure_depth_is(tmp_path):
    for task in ("depth", "segment"):
        saved(tmp_path / task, task)
    Image.fromarray(picture()).save(tmp_path / "a.png")
    plain = ["depth", tmp_path / "a.png", "-m", tmp_path / "depth", "-f", "npz", "--confidence"]
    assert main([*map(str, plain), "-o", str(tmp_path / "alone.npz")]) == 0
    both = [*plain, "--with-segments", "--segment-model", tmp_path / "segment"]
    assert main([*map(str, both), "-o", str(tmp_path / "both.npz")]) == 0
    first, second = np.load(tmp_path / "alone.npz"), np.load(tmp_path / "both.npz")
    np.testing.assert_allclose(first["conf"], second["conf"], atol=1e-4)


def test_a_clip_seen_in_windows_is_not_asked_twice(tmp_path):
    path = save_original(tmp_path)
    with pytest.raises(UsageError, match="--confidence"):
        open_pipeline(
            path, task="depth", device="cpu", options=Options(in_order=True, confidence="mirrored")
        )
