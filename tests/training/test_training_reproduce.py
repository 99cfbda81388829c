"""The whole way of the built-in model, at a tiny scale: frames, backbone, stages, resumption."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from written_pairs import write_pairs

from dptcli.errors import UsageError
from dptcli.predict import predict_depth
from dptcli.training import reproduce as module
from dptcli.training.builtin_model import FOLDERS
from dptcli.training.recipe import BOTH, RECIPE, SIZES, Recipe, Stage
from dptcli.training.reproduce import reproduce
from dptcli.weights.load import load_model

OPTIONS = "--batch-size 2 --variants 1 --shapes 42x56 --warmup 1 --checkpoint-every 1 --levels 1 -1"
TINY = Recipe(
    seed=0,
    scenes=((0, 3),),
    samples=1,
    stages=(
        Stage("first", "depth", f"{OPTIONS} --steps 2"),
        Stage(
            "second",
            "depth",
            f"{OPTIONS} --steps 1 --go-on --blend {{runs}}/first/head.safetensors",
        ),
        Stage("classes", "segment", f"{OPTIONS} --steps 1"),
    ),
)


def rendered(out: Path, scenes: tuple[int, int]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_pairs(out, count=scenes[1] - scenes[0])


def heads(models: Path) -> dict[str, dict[str, np.ndarray]]:
    return {task: load_file(models / FOLDERS[task] / "head.safetensors") for task in FOLDERS}


def quiet(_line: str) -> None: ...


def test_frames_become_both_models(tmp_path: Path) -> None:
    models = reproduce(tmp_path, TINY, render=rendered, threads=1, say=quiet)
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(photo)
    assert predict_depth(photo, model=models / FOLDERS["depth"], size=42).shape == (40, 60)
    assert load_model(models / FOLDERS["segment"], task="segment").labels[0] == "sky"


def test_a_run_that_is_cut_short_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = heads(reproduce(tmp_path / "whole", TINY, render=rendered, threads=1, say=quiet))

    class KilledError(Exception):
        pass

    real = module.builtin.save_builtin
    saved: list[str] = []

    def killed(model: object, task: str, folder: Path) -> Path:
        real(model, task, folder)  # type: ignore[arg-type]  # as it comes
        saved.append(task)
        if len(saved) == 2:  # the second stage's head stands, but nothing says so yet
            raise KilledError
        return folder

    with monkeypatch.context() as patch:
        patch.setattr(module.builtin, "save_builtin", killed)
        with pytest.raises(KilledError):
            reproduce(tmp_path / "cut", TINY, render=rendered, threads=1, say=quiet)
    resumed = heads(reproduce(tmp_path / "cut", TINY, render=rendered, threads=1, say=quiet))
    for task, tensors in whole.items():
        for name, value in tensors.items():
            np.testing.assert_array_equal(resumed[task][name], value, err_msg=name)


def test_a_finished_run_does_nothing_again(tmp_path: Path) -> None:
    models = reproduce(tmp_path, TINY, render=rendered, threads=1, say=quiet)
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    reproduce(tmp_path, TINY, render=rendered, threads=1, say=quiet)
    assert before == {path: path.stat().st_mtime_ns for path in models.rglob("*")}


def test_stages_of_photographs_need_them_and_say_so(tmp_path: Path) -> None:
    recipe = Recipe(
        seed=0,
        scenes=((0, 1),),
        samples=1,
        stages=(
            Stage("first", "segment", f"{OPTIONS} --steps 1"),
            Stage(
                "real", "segment", f"{OPTIONS} --steps 1 --go-on", sets=("{photographs}/segment",)
            ),
        ),
    )
    (tmp_path / "train" / "segment" / "coco_stuff").mkdir(parents=True)
    write_pairs(tmp_path / "train" / "segment" / "coco_stuff", count=2)
    said: list[str] = []
    reproduce(tmp_path / "work", recipe, render=rendered, threads=1, say=said.append)
    assert said[-1] == "stage real is left out: it needs --photographs"
    before = heads_file(tmp_path / "work")
    reproduce(
        *(tmp_path / "work", recipe), render=rendered, photographs=tmp_path / "train", threads=1,
        say=quiet,
    )  # fmt: skip
    assert heads_file(tmp_path / "work") != before


def test_stages_of_both_move_both_heads_and_the_backbone_and_are_blended(tmp_path: Path) -> None:
    options = f"{OPTIONS} --go-on --steps 1 --backbone-rate 1e-3"
    first = Stage("one", BOTH, options)
    second = Stage("two", BOTH, f"{options} --seed 5 --blend {{runs}}/one/builtin")
    models = reproduce(tmp_path, TINY, render=rendered, threads=1, say=quiet)
    before = tensors(models)
    for stages in ((first,), (first, second)):
        longer = dataclasses.replace(TINY, stages=(*TINY.stages, *stages))
        reproduce(tmp_path, longer, render=rendered, threads=1, say=quiet)
        after = tensors(models)
        for name in before:
            assert any(not np.array_equal(before[name][k], after[name][k]) for k in before[name])
        before = after
    # The second stage's own end lies as far beyond the mean as the first one's before it.
    one = tensors(tmp_path / "runs" / "one" / "builtin")["backbone.safetensors"]
    name = max(one, key=lambda k: float(np.abs(before["backbone.safetensors"][k] - one[k]).max()))
    moved = np.abs(before["backbone.safetensors"][name].astype(float) - one[name]).max()
    assert 2e-4 < moved < 9e-4  # a step of 1e-3, halved


def test_stages_of_sizes_move_both_tasks_and_keep_their_teacher(tmp_path: Path) -> None:
    sets = tmp_path / "train" / "segment" / "coco_stuff"
    sets.mkdir(parents=True)
    write_pairs(sets, count=2)
    options = (
        "--size 42 --sizes 28 --class-sizes 56 --steps 2 --batch-size 2 --learning-rate 1e-3 "
        "--backbone-rate 1e-3"
    )
    stages = (
        Stage("one", SIZES, options, sets=("{photographs}/segment",)),
        Stage(
            "two",
            SIZES,
            f"{options} --teacher {{runs}}/one/teacher --taught {{runs}}/one/taught",
            sets=("{photographs}/segment",),
        ),
        Stage(
            "three",
            SIZES,
            f"{options} --teacher {{runs}}/one/teacher {{runs}}/one/builtin",
            sets=("{photographs}/segment",),
        ),
    )
    models = reproduce(tmp_path, TINY, render=rendered, threads=1, say=quiet)
    before = tensors(models)
    longer = dataclasses.replace(TINY, stages=(*TINY.stages, *stages))
    reproduce(
        *(tmp_path, longer), render=rendered, photographs=tmp_path / "train", threads=1, say=quiet
    )
    after = tensors(models)
    for name, values in before.items():
        assert any(not np.array_equal(values[key], after[name][key]) for key in values), name
    assert heads(tmp_path / "runs" / "one" / "teacher").keys() == heads(models).keys()
    teacher = tensors(tmp_path / "runs" / "one" / "teacher")
    assert all(np.array_equal(v, teacher[n][k]) for n in before for k, v in before[n].items())
    for name in ("one", "three"):
        assert len(list((tmp_path / "runs" / name / "taught").rglob("*.npy"))) == 4
    assert not (tmp_path / "runs" / "two" / "taught").exists()


def tensors(models: Path) -> dict[str, dict[str, np.ndarray]]:
    """The tensors of every file of weights; the backbone's under its name alone."""
    return {
        path.name if path.name == "backbone.safetensors" else path.parent.name: load_file(path)
        for path in models.rglob("*.safetensors")
    }


def test_stages_after_a_learning_backbone_keep_features_of_their_own() -> None:
    stages = [stage for stage in RECIPE.stages if stage.task != SIZES]  # keeps none
    tasks = [stage.task for stage in stages]
    first = tasks.index(BOTH)
    last = len(tasks) - tasks[::-1].index(BOTH)
    assert set(tasks[first:last]) == {BOTH}
    folders = ["--features" in stage.options for stage in stages]
    assert folders == [False] * last + [True] * (len(tasks) - last)


def heads_file(work: Path) -> bytes:
    return (work / "builtin" / FOLDERS["segment"] / "head.safetensors").read_bytes()


def test_without_frames_nothing_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing was rendered"):
        reproduce(tmp_path, TINY, render=lambda _out, _scenes: None, say=quiet)


def test_the_recipe_begins_both_heads_anew_and_then_goes_on() -> None:
    for task in FOLDERS:
        stages = [stage for stage in RECIPE.stages if stage.task == task]
        assert [("--go-on" in stage.options) for stage in stages] == [
            index > 0 for index in range(len(stages))
        ]


def test_a_stage_learns_from_what_was_taught_where_it_says_on_which_photographs() -> None:
    for stage in RECIPE.stages:
        assert ("{taught}" in stage.sets) == bool(stage.teach), stage.name
