"""Original files that are broken, dangerous, in the way or not what they are taken for."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from original_files import (
    ADE20K,
    MIDAS,
    dpt_file,
    saved,
)

from dptcli import load_model
from dptcli.cli import main
from dptcli.errors import ModelError
from dptcli.weights.convert import convert_original


def broken(change: Any) -> dict[str, Any]:
    file: dict[str, Any] = dict(dpt_file())
    change(file)
    return file


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (broken(lambda f: f.update({"scratch.extra.weight": torch.ones(2)})), "scratch.extra"),
        (broken(lambda f: f.pop("scratch.refinenet2.out_conv.bias")), "layers.2.projection.bias"),
        (broken(lambda f: f.pop("scratch.layer1_rn.weight")), "layer1_rn.weight"),
        (broken(lambda f: f.pop("pretrained.model.pos_embed")), "pos_embed"),
        (
            broken(lambda f: f.update({"pretrained.model.pos_embed": torch.ones(17)})),
            r"pos_embed' has the shape \(17,\)",
        ),
        (
            broken(lambda f: f.update({"scratch.output_conv.2.weight": torch.ones(9, 8, 3, 3)})),
            "head.head.2.weight",
        ),
        (broken(lambda f: f.update({"epoch": 3})), "more than tensors: epoch"),
        ({"features.0.weight": torch.ones(2)}, r"isl-org's DPT .* features\.0\.weight"),
        ({}, "none"),
        ([torch.ones(2)], "list"),
    ],
    ids=lambda value: value.split(" ")[0] if isinstance(value, str) else "",
)
def test_a_file_that_does_not_fit_is_refused_by_name(file: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        load_model(saved(tmp_path, MIDAS, file), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num_blocks", [3, 13])
def test_an_unknown_depth_is_refused(num_blocks: int, tmp_path: Path) -> None:
    file = dpt_file()
    kept = {}
    for index in range(num_blocks):
        source = f"pretrained.model.blocks.{min(index, 11)}."
        target = f"pretrained.model.blocks.{index}."
        kept |= {
            target + n.removeprefix(source): v for n, v in file.items() if n.startswith(source)
        }
    kept |= {name: value for name, value in file.items() if ".blocks." not in name}
    with pytest.raises(ModelError, match=f"has {num_blocks} blocks"):
        load_model(saved(tmp_path, MIDAS, kept), device="cpu")


class _Command:
    def __reduce__(self) -> Any:
        return os.system, ("touch " + os.environ["DPT_TEST_TRACE"],)


def test_a_file_that_wants_to_run_code_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "ran"
    monkeypatch.setenv("DPT_TEST_TRACE", str(trace))
    path = saved(tmp_path, MIDAS, {**dpt_file(), "extra": _Command()})
    with pytest.raises(ModelError, match=r"would run (posix|nt)\.system"):
        load_model(path, device="cpu")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(_Command()))
    with pytest.raises(ModelError, match=r"raw\.pt"):
        load_model(tmp_path / "raw.pt", device="cpu")
    assert not trace.exists()


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, MIDAS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match="not a whole file"):
        load_model(path, device="cpu")


def test_values_that_are_not_finite_are_found_before_anything_is_written(tmp_path: Path) -> None:
    file = broken(lambda f: f["scratch.output_conv.4.bias"].fill_(float("nan")))
    with pytest.raises(ModelError, match="not finite"):
        convert_original(saved(tmp_path, MIDAS, file), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_model_in_the_way_stays_unless_it_may_go(tmp_path: Path) -> None:
    path = saved(tmp_path, MIDAS)
    convert_original(path, tmp_path / "model")
    with pytest.raises(ModelError, match="holds a model already"):
        convert_original(path, tmp_path / "model")
    convert_original(path, tmp_path / "model", overwrite=True)


def test_the_wrong_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is for `dpt segment`"):
        load_model(saved(tmp_path, ADE20K), task="depth", device="cpu")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["absent.pt", "model"], "no such file"),
        (["notes.txt", "model"], "notes.txt"),
        ([MIDAS, "model", "--kind", "best"], "not 'best'"),
    ],
)
def test_convert_says_what_is_wrong_in_a_line(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, MIDAS)
    (tmp_path / "notes.txt").write_text("not a model")
    assert main(["convert", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "model").exists()
