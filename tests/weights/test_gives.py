"""What a checkpoint gives is known in one place, and everything that asks gets one answer."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from process import run_dpt
from tiny import save_tiny, save_varied
from tiny_catalogue import into_cache, save_row

from dptcli import DepthAnythingForDepthEstimation, DPTConfig, DPTForDepthEstimation
from dptcli.cli import eval as measure
from dptcli.cli import main
from dptcli.depth.facts import model_facts
from dptcli.errors import ModelError, UsageError
from dptcli.evaluation.metrics import own_protocol
from dptcli.export import Exported, describe
from dptcli.kinds import in_metres, kind_of_type
from dptcli.model.families import families
from dptcli.model.families.family import Family
from dptcli.weights.catalog import CATALOG, entries_for
from dptcli.weights.convert import convert_original
from dptcli.weights.gives import entry_of
from dptcli.weights.load import load_model

PUBLISHED = [entry for entry in CATALOG if entry.repository is not None]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


def lay(name: str, cache: Path) -> Path:
    """A tiny model in the place of a catalogued one; the snapshot's folder."""
    [entry] = entries_for(name)
    assert entry.repository is not None
    return into_cache(save_row(entry, cache.parent / "made"), entry.repository, cache)


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.name)
def test_list_run_sidecar_eval_and_export_agree_on_every_row(entry, cache: Path) -> None:
    snapshot = lay(entry.name, cache)
    if entry.task == "segment":
        assert (entry.gives, load_model(snapshot, device="cpu").task) == ("labels", "segment")
        return
    kind = kind_of_type(entry.gives)
    files = snapshot if entry.original is None else snapshot / entry.original
    for source in (entry.name, entry.repository, files):
        loaded = load_model(source, task="depth", device="cpu", dtype="float32", offline=True)
        assert model_facts(loaded)["kind"] == loaded.kind == kind
    request = measure.Request(
        pairs=[], model=entry.name, gives=None, offline=True, size=None, device="cpu",
        dtype="float32", predictions=None, to=None, runtime="torch", camera=None,
    )  # fmt: skip
    assert measure._depth_source(request, [], kind=None, scale=None, prompts=None).kind == kind
    exported = Exported(Path("x.onnx"), None, 14, (), 0.0)
    told = describe(loaded, exported, opset=17, output_name="predicted_depth")
    assert told["output"]["kind"] == kind
    assert entry.range_m is None or in_metres(kind)


def test_the_ranges_of_metric_models_are_told() -> None:
    ranges = {entry.name: entry.range_m for entry in PUBLISHED if entry.range_m is not None}
    assert len([name for name in ranges if name.startswith("dinov2")]) == 8
    assert ranges["dinov2-giant-nyu"] == (0.001, 10)
    assert ranges["dinov2-small-kitti"] == (0.001, 80)
    assert ranges["depth-anything-v2-metric-outdoor-base"] == (0, 80)
    assert ranges["zoedepth-kitti"] == (0.001, 10)
    assert "0.001 to 10 metres" in said_by_dpt("models", "show", "dinov2-base-nyu")


def test_python_classes_know_it_too_and_save_it(cache: Path, tmp_path: Path) -> None:
    lay("dinov2-small-nyu", cache)
    model = DPTForDepthEstimation.from_pretrained("dinov2-small-nyu", local_files_only=True)
    assert model.config.depth_estimation_type == "metric"
    assert DPTConfig.from_pretrained("dinov2-small-nyu").depth_estimation_type == "metric"
    model.save_pretrained(tmp_path / "copy")
    said = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert said["depth_estimation_type"] == "metric"


def test_a_metric_head_is_built_where_the_file_does_not_ask_for_it(cache: Path) -> None:
    lay("depth-anything-v2-metric-indoor-small", cache)
    name = "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"
    model = DepthAnythingForDepthEstimation.from_pretrained(name, local_files_only=True)
    with torch.inference_mode():
        depth_m = model(torch.randn(1, 3, 56, 56)).predicted_depth
    assert 0 < depth_m.min() <= depth_m.max() < 20  # a sigmoid's, not a ReLU's
    assert model.config.max_depth == 20


def test_what_the_file_says_goes_before_the_catalogue(cache: Path) -> None:
    snapshot = lay("dinov2-small-nyu", cache)
    path = snapshot / "config.json"
    values = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps({**values, "depth_estimation_type": "relative"}))
    assert load_model(snapshot, device="cpu").kind == "inverse_depth"


def test_a_copy_of_dinov2s_head_is_known_by_its_projection(tmp_path: Path, cache: Path) -> None:
    snapshot = lay("dinov2-base-kitti", cache)
    for name, projects in (("projects", True), ("plain", False)):
        values = json.loads((snapshot / "config.json").read_text())
        values["add_projection"] = projects
        DPTForDepthEstimation(DPTConfig(**values)).save_pretrained(tmp_path / name)
        (tmp_path / name / "config.json").write_text(json.dumps(values))
        processor = (snapshot / "preprocessor_config.json").read_text()
        (tmp_path / name / "preprocessor_config.json").write_text(processor)
    assert load_model(tmp_path / "projects", device="cpu").kind == "depth_m"
    assert load_model(tmp_path / "plain", device="cpu").kind == "inverse_depth"


@pytest.mark.parametrize("word", ["metres", "depth", "inverse"])
def test_the_option_overrides_the_file_and_is_kept(tmp_path: Path, word: str) -> None:
    folder = save_varied(tmp_path / "foreign")
    kind = {"metres": "depth_m", "depth": "depth", "inverse": "inverse_depth"}[word]
    loaded = load_model(folder, device="cpu", gives=word)
    assert loaded.kind == kind
    plain, pixels = load_model(folder, device="cpu"), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(
            loaded.model(pixels).predicted_depth, plain.model(pixels).predicted_depth
        )
    loaded.model.save_pretrained(folder)
    assert load_model(folder, device="cpu").kind == kind


def test_an_override_that_means_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--gives 'feet' must be inverse, depth, metres or height"):
        load_model("dpt-small", task="depth", gives="feet")
    folder = save_tiny(tmp_path, task="segment")
    with pytest.raises(ModelError, match="gives classes"):
        load_model(folder, device="cpu", gives="metres")
    path = save_tiny(tmp_path / "depth", task="depth") / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "gives": "feet"}))
    with pytest.raises(ModelError, match="gives: 'feet' must be one of inverse, depth, metres"):
        load_model(path.parent, device="cpu")


def said_by_dpt(*words: object, **changes: str) -> str:
    """What `dpt` says on stderr."""
    done = run_dpt(*words, **changes)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_dpt_itself_follows_the_option(tmp_path: Path) -> None:
    model = save_varied(tmp_path / "foreign")
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    words = ("depth", tmp_path / "a.png", "-m", model, "--dtype", "float32", "-o")
    assert "--gives metres" in said_by_dpt(*words, tmp_path / "no", "-f", "mm")
    said_by_dpt(*words, tmp_path / "out/", "-f", "mm,color,npy", "--gives", "metres")
    facts = json.loads((tmp_path / "out" / "a.json").read_text())
    assert (facts["kind"], facts["unit"], facts["polarity"]) == ("depth_m", "metre", "large is far")
    values = np.load(tmp_path / "out" / "a.npy")
    shown = np.asarray(Image.open(tmp_path / "out" / "a.png").convert("L")).astype(int)
    near, far = (np.unravel_index(f(values), values.shape) for f in (np.argmin, np.argmax))
    assert shown[near] > shown[far] + 50, "inferno: near is bright"


def test_a_known_wrong_number_is_said_on_every_run(cache: Path, caplog) -> None:
    snapshot = lay("zoedepth-kitti", cache)
    with caplog.at_level(logging.WARNING):
        load_model(snapshot, device="cpu")
    [line] = [record.getMessage() for record in caplog.records]
    assert "the authors' value is 80" in line
    assert "dpt convert zoedepth-kitti FOLDER --max-depth 80" in line
    caplog.clear()
    lay_again = cache.parent / "fixed"
    convert_original(snapshot, lay_again, max_depth_m=80.0)
    caplog.clear()
    fixed = load_model(lay_again, device="cpu")
    assert not caplog.records
    assert fixed.model.config.domains[0].max_depth_m == 80
    assert fixed.kind == "depth_m"


def test_a_largest_depth_is_refused_where_there_is_none(cache: Path, tmp_path: Path) -> None:
    snapshot = lay("dpt-large", cache)
    said = said_by_dpt("convert", snapshot, tmp_path / "new", "--max-depth", "80")
    assert "has no largest depth" in said
    assert not (tmp_path / "new").exists()


def test_each_kind_is_compared_in_its_own_space() -> None:
    assert own_protocol("depth_m").align == "none"
    assert (own_protocol("depth").align, own_protocol("depth").space) == ("scale-shift", "depth")
    assert own_protocol("inverse_depth").space == own_protocol("disparity").space == "disparity"


@pytest.mark.parametrize("family", families(), ids=lambda family: family.title)
def test_what_all_of_a_familys_models_give_is_what_its_classes_say(
    family: Family, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for architecture, task in family.tasks.items():
        config = family.model_class(architecture).config_class
        fixed = "depth_estimation_type" in get_type_hints(config) and not any(
            field.name == "depth_estimation_type" for field in dataclasses.fields(config)
        )
        assert family.gives == (config.depth_estimation_type if fixed else None)
        (tmp_path / "config.json").write_text(
            json.dumps({"model_type": config.model_type, "architectures": [architecture]})
        )
        for name in ("model.safetensors", "preprocessor_config.json"):
            (tmp_path / name).touch()
        assert main(["models", "show", str(tmp_path), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)[0]["gives"]
        assert shown == ("labels" if task == "segment" else family.gives or shown)


def test_a_row_is_found_from_a_snapshot_alone(tmp_path: Path) -> None:
    root = tmp_path / "models--facebook--dpt-dinov2-small-nyu"
    found = entry_of(root / "snapshots" / "abc")
    assert found is not None
    assert found.name == "dinov2-small-nyu"
    assert entry_of(root) is None
    assert entry_of(tmp_path) is None
