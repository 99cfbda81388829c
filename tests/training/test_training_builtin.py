"""The built-in models: they load strictly, share one backbone and see a real photograph."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import SAMPLES
from safetensors.torch import load_file
from written_pairs import write_pairs

from dptcli.model.layers import GrowBilinear
from dptcli.training.builtin import main
from dptcli.training.builtin_model import (
    FOLDERS,
    LOGITS,
    begin_finer,
    blend_head,
    builtin_config,
    save_builtin,
    start_model,
    take_head,
    tell_parts,
)
from dptcli.training.classes import (
    CLASSES,
    FOLDED,
    KIND_OF,
    KINDS,
    RENDERED,
    meanings_of,
    parts,
)
from dptcli.weights.catalog import BUILTIN_FOLDER
from dptcli.weights.load import LoadedModel, load_model

LIMIT_MB = 60


def predict(loaded: LoadedModel, path: Path) -> torch.Tensor:
    rgb = np.asarray(Image.open(path).convert("RGB"))
    inputs = loaded.processor(rgb, return_tensors="pt")
    with torch.inference_mode():
        output = loaded.model(inputs["pixel_values"])
    values: torch.Tensor = output[0][0].float()
    return values


@pytest.fixture(scope="module")
def depth() -> LoadedModel:
    return load_model("dpt-small", task="depth", device="cpu")


@pytest.fixture(scope="module")
def segment() -> LoadedModel:
    return load_model("dpt-small", task="segment", device="cpu")


def test_the_floor_before_the_camera_is_nearer_than_the_far_wall(depth: LoadedModel) -> None:
    inverse = predict(depth, SAMPLES / "room.jpg")
    assert torch.isfinite(inverse).all()
    assert (inverse >= 0).all()
    height = len(inverse)
    assert inverse[-height // 8 :].median() > 1.3 * inverse[height // 3 : height // 2].median()


def test_sky_and_ground_are_told_apart(segment: LoadedModel) -> None:
    labels = predict(segment, SAMPLES / "city.jpg").argmax(dim=0)
    sky = labels == list(segment.labels.values()).index("sky")
    height, width = labels.shape
    # Open sky between two tall buildings, a flat roof below.
    assert sky[: height // 8, int(0.47 * width) : int(0.55 * width)].float().mean() > 0.8
    assert sky[-height // 8 :].float().mean() < 0.05


def test_both_tasks_share_one_backbone_file() -> None:
    files = sorted(BUILTIN_FOLDER.rglob("*.safetensors"))
    assert sum(path.name == "backbone.safetensors" for path in files) == 1
    total = sum(path.stat().st_size for path in BUILTIN_FOLDER.rglob("*") if path.is_file())
    assert total < LIMIT_MB * 1e6


def test_a_saved_builtin_folder_loads_strictly(tmp_path: Path) -> None:
    source = BUILTIN_FOLDER / FOLDERS["depth"] / "backbone.safetensors"
    (tmp_path / FOLDERS["depth"]).mkdir()
    shutil.copy(source, tmp_path / FOLDERS["depth"])
    for task in FOLDERS:
        model = start_model(task, tmp_path, seed=0)
        folder = save_builtin(model, task, tmp_path)
        loaded = load_model(folder, task=task, device="cpu").model
        for name, value in model.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("share", [0.5, 0.4])
def test_a_blended_head_is_the_mean_of_two(share: float) -> None:
    source = BUILTIN_FOLDER / FOLDERS["depth"]
    model = start_model("depth", BUILTIN_FOLDER, seed=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    blend_head(model, source / "head.safetensors", share)
    other = load_file(source / "head.safetensors")
    for name, value in model.state_dict().items():
        theirs = other.get(name, before[name]).float()
        expected = (1 - share) * before[name] + share * theirs
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_a_head_of_the_eight_kinds_begins_as_sure_of_each_with_its_parts() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(len(KINDS), 5, 1, 1, generator=generator)
    bias = torch.randn(len(KINDS), generator=generator)
    seen = torch.randn(7, 5, generator=generator)
    wide = tell_parts({f"{LOGITS}weight": weight, f"{LOGITS}bias": bias, "neck": bias})
    assert wide["neck"] is bias

    def probabilities(state: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = seen @ state[f"{LOGITS}weight"].flatten(1).T + state[f"{LOGITS}bias"]
        return logits.softmax(dim=1)

    before = probabilities({f"{LOGITS}weight": weight, f"{LOGITS}bias": bias})
    after = probabilities(wide)
    assert after.shape == (7, len(CLASSES))
    for place, kind in enumerate(KINDS):
        torch.testing.assert_close(after[:, list(parts(kind))].sum(dim=1), before[:, place])
    assert tell_parts(wide) is wide


def test_what_frames_tell_counts_as_a_class_of_the_model_and_of_its_kind() -> None:
    assert builtin_config("segment").id2label == dict(enumerate(CLASSES))
    assert {FOLDED.get(name, name) for name in RENDERED} == set(CLASSES)
    for name, meaning in zip(RENDERED, meanings_of(RENDERED, Path("frames")), strict=True):
        assert KIND_OF[CLASSES[meaning]] == KIND_OF[name], name


def test_a_teacher_of_kinds_is_for_the_backbone_that_it_learnt_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path, count=2)
    (tmp_path / "classes.txt").write_text("\n".join(RENDERED) + "\n")
    words = f"--tasks segment --go-on --builtin {BUILTIN_FOLDER} --keep-kinds {BUILTIN_FOLDER}"
    words += f" --backbone-rate 1e-5 --work {tmp_path / 'run'} -o {tmp_path / 'new'} --steps 1"
    assert main([str(tmp_path), *words.split()]) == 2
    assert "a teacher of groups needs the backbone that it learnt on" in capsys.readouterr().err


def test_both_tasks_learn_together_and_the_backbone_with_them(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    write_pairs(tmp_path / "frames", count=2)
    (tmp_path / "frames" / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    words = ["--together", "--go-on", "--builtin", str(BUILTIN_FOLDER), "-o", str(tmp_path / "new")]
    numbers = "--backbone-rate 1e-3 --variants 0 --steps 1 --batch-size 2 --warmup 1 --hold-out 0"
    numbers += f" --shapes 42x56 --levels 1 --work {tmp_path / 'run'}"
    assert main([str(tmp_path / "frames"), *words, *numbers.split()]) == 0
    changed = load_file(tmp_path / "new" / FOLDERS["depth"] / "backbone.safetensors")
    before = load_file(BUILTIN_FOLDER / FOLDERS["depth"] / "backbone.safetensors")
    assert changed.keys() == before.keys()
    assert any(not value.equal(before[name]) for name, value in changed.items())
    for task in FOLDERS:
        loaded = load_model(tmp_path / "new" / FOLDERS[task], task=task, device="cpu").model
        weight = "backbone.encoder.layer.11.mlp.fc1.weight"
        torch.testing.assert_close(
            loaded.state_dict()[weight].float(), changed[weight].float(), rtol=0, atol=0
        )


def test_finer_maps_that_begin_anew_are_the_coarse_one_enlarged() -> None:
    model = start_model("segment", BUILTIN_FOLDER, seed=3).eval()
    take_head(model, BUILTIN_FOLDER / FOLDERS["segment"])
    pixels = torch.randn(1, 3, 56, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = model.features(pixels).maps
        before = model.neck(maps)
        begin_finer(model, 1)
        after = model.neck(maps)
    torch.testing.assert_close(after[1], before[1])
    for level in (2, 3):
        enlarged = GrowBilinear()(after[level - 1])
        torch.testing.assert_close(after[level], enlarged, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(after[level], before[level], atol=1e-2)
