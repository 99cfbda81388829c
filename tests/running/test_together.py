"""`dpt depth --with-segments`: the backbone runs once, and both results are those of two runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from process import run_dpt
from shared_backbone import PHOTO, saved

from dptcli.errors import ModelError
from dptcli.model.dpt import DPTForDepthEstimation
from dptcli.pipeline import Options, Pipeline
from dptcli.processing.target_size import TargetSize
from dptcli.running.together import TogetherPipeline
from dptcli.segments.masks import describe_segments
from dptcli.weights.load import LoadedModel, load_model


@pytest.fixture
def pair(tmp_path: Path) -> tuple[LoadedModel, LoadedModel]:
    return saved(tmp_path / "depth", "depth"), saved(tmp_path / "segment", "segment")


@pytest.mark.processor
@pytest.mark.parametrize("target", ["original", "model"])
def test_both_results_equal_those_of_two_runs(
    pair: tuple[LoadedModel, LoadedModel], target: str
) -> None:
    options = Options(target_size=TargetSize(target))
    depth, segment = (Pipeline(loaded, options=options).predict_one(PHOTO) for loaded in pair)
    both = TogetherPipeline(*pair, options=options).predict_one(PHOTO)
    np.testing.assert_array_equal(both.values, depth.values)
    assert both.labels is not None
    np.testing.assert_array_equal(both.labels, segment.values)
    assert both.limits == depth.limits
    assert len(np.unique(both.labels)) == 2


@pytest.mark.processor
def test_tiles_give_what_they_give_in_two_runs(pair: tuple[LoadedModel, LoadedModel]) -> None:
    options = Options(tile=30)
    depth, segment = (Pipeline(loaded, options=options).predict_one(PHOTO) for loaded in pair)
    both = TogetherPipeline(*pair, options=options).predict_one(PHOTO)
    assert both.network_hw == depth.network_hw
    np.testing.assert_allclose(both.values, depth.values, rtol=1e-4, atol=1e-5)
    assert both.labels is not None
    assert (both.labels == segment.values).mean() > 0.99


@pytest.mark.processor
def test_overflow_is_done_again_in_float32_by_both(
    pair: tuple[LoadedModel, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = TogetherPipeline(*pair).predict_one(PHOTO)
    narrow = [load_model(loaded.folder, task=loaded.task, dtype="bfloat16") for loaded in pair]
    pipeline = TogetherPipeline(*narrow)
    forward = pipeline.loaded.model.forward

    def overflowing(pixels: torch.Tensor) -> object:
        output = forward(pixels)
        output.predicted_depth[:, 0] = torch.inf
        return output

    monkeypatch.setattr(pipeline.loaded.model, "forward", overflowing)
    found = pipeline.predict_one(PHOTO)
    assert pipeline.network.num_redone == 1
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-5)
    assert found.labels is not None
    assert expected.labels is not None
    assert (found.labels == expected.labels).mean() > 0.99


def test_the_backbone_runs_once(pair: tuple[LoadedModel, LoadedModel]) -> None:
    runs: list[str] = []
    for loaded in pair:
        backbone = loaded.model.backbone
        assert isinstance(backbone, torch.nn.Module)
        assert isinstance(backbone.encoder, torch.nn.Module)
        backbone.encoder.register_forward_hook(lambda *_, task=loaded.task: runs.append(task))
    TogetherPipeline(*pair).predict_one(PHOTO)
    assert runs == ["depth"]
    for loaded in pair:
        Pipeline(loaded).predict_one(PHOTO)
    assert runs == ["depth", "depth", "segment"]


def test_different_backbones_are_refused(pair: tuple[LoadedModel, LoadedModel]) -> None:
    depth, segment = pair
    with torch.no_grad():
        next(p for n, p in segment.model.named_parameters() if "layer.1" in n).add_(1e-3)
    with pytest.raises(ModelError, match=r"different backbones \(.*layer\.1.*; run `dpt depth`"):
        TogetherPipeline(depth, segment)


def test_models_that_see_different_pixels_are_refused(tmp_path: Path) -> None:
    depth = saved(tmp_path / "depth", "depth")
    other = saved(tmp_path / "segment", "segment", size=56)
    with pytest.raises(ModelError, match="different pixels"):
        TogetherPipeline(depth, other)


def test_two_depth_models_are_refused(pair: tuple[LoadedModel, LoadedModel]) -> None:
    with pytest.raises(ModelError, match="is a DPTForDepthEstimation, not"):
        TogetherPipeline(pair[0], pair[0])


def test_areas_and_medians_of_classes_equal_the_hand_worked_ones() -> None:
    depth = np.array([[0.0, 1.0, 2.0], [4.0, np.nan, 10.0]])
    labels = np.array([[0, 0, 0], [1, 1, 2]])
    found = describe_segments(depth, labels, {0: "sky", 1: "ground"})
    assert [(item["class"], item["area"], item["median_depth"]) for item in found] == [
        ("sky", 0.5, 1.0),
        ("ground", pytest.approx(1 / 3, abs=1e-6), 4.0),
        ("2", pytest.approx(1 / 6, abs=1e-6), 10.0),
    ]
    assert [item["relative_depth"] for item in found] == [0.1, 0.4, 1.0]


def test_the_command_tells_areas_and_writes_masks(
    pair: tuple[LoadedModel, LoadedModel], tmp_path: Path
) -> None:
    assert isinstance(pair[0].model, DPTForDepthEstimation)
    for name in ("a", "b"):
        Image.fromarray(PHOTO).save(tmp_path / f"{name}.png")
    out = tmp_path / "out"
    models = ("-m", tmp_path / "depth", "--segment-model", tmp_path / "segment")
    found = run_dpt("depth", tmp_path / "a.png", tmp_path / "b.png", "-o", out, *models,
                "-f", "npy", "--with-segments", "--masks", "--json")  # fmt: skip
    assert found.returncode == 0, found.stderr
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    segments = next(line for line in lines if line.get("input", "").endswith("a.png"))["segments"]
    assert sum(item["area"] for item in segments) == pytest.approx(1, abs=1e-4)
    assert json.loads((out / "a.json").read_text())["segments"] == segments
    mask, depth = np.asarray(Image.open(out / "a.mask.png")), np.load(out / "a.npy")
    for item in segments:
        own = depth[mask == item["id"]]
        assert item["area"] == pytest.approx(own.size / mask.size, abs=1e-6)
        assert item["median_depth"] == pytest.approx(float(np.median(own)), rel=1e-6)
    names = json.loads((out / "labels.json").read_text())["labels"]
    assert names[str(segments[0]["id"])] == segments[0]["class"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--masks",), "--masks needs --with-segments"),
        (("--segment-model", "x"), "--segment-model needs --with-segments"),
        (("--with-segments", "--range", "global"), "--range global"),
        (("--with-segments", "--sequence"), "for photographs"),
    ],
    ids=["masks", "model", "global", "clip"],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    found = run_dpt("depth", tmp_path, "-o", tmp_path / "out", *options)
    assert found.returncode == 2
    assert reason in found.stderr


def test_the_builtin_models_share_their_backbone() -> None:
    depth = load_model("dpt-small", task="depth", device="cpu")
    segment = load_model("dpt-small", task="segment", device="cpu")
    assert TogetherPipeline(depth, segment).loaded.labels[0] == "sky"
