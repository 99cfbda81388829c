"""`dpt eval` and `dpt serve` in another runtime than PyTorch."""

import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import photograph, serving
from tiny import save_both

from dptcli.cli import main
from dptcli.runtimes.choice import write_choice

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_both(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Folders of the user's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def rooms(tmp_path):
    """Two photographs with depth."""
    draw, folder = np.random.default_rng(0), tmp_path / "rooms"
    folder.mkdir()
    for index in range(2):
        Image.fromarray(draw.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / f"{index}.png")
        depth = draw.integers(500, 9000, (48, 64)).astype(np.uint16)
        Image.fromarray(depth).save(folder / f"{index}.depth.png")
    rows = [f"{index}.png,{index}.depth.png,depth_m,1000" for index in range(2)]
    (folder / "pairs.csv").write_text("\n".join(["image,target,kind,scale", *rows]))
    return folder


def measured(capsys, *words):
    assert main(["eval", *map(str, words), "--dtype", "float32", "--json", "-q"]) == 0
    return json.loads(capsys.readouterr().out)


def test_eval_measures_what_another_runtime_predicts(models, rooms, capsys):
    by_torch = measured(capsys, "depth", rooms, "-m", models["depth"])
    other = measured(capsys, "depth", rooms, "-m", models["depth"], "--runtime", "onnxruntime")
    assert other["runtime"] == "onnxruntime"
    assert "runtime" not in by_torch
    assert other["mean"]["scores"] == pytest.approx(by_torch["mean"]["scores"], rel=1e-3)


def test_eval_takes_what_was_found_fastest_here(models, rooms, capsys):
    found = {"device": "auto", "dtype": "float32", "size": None}
    write_choice(str(models["depth"]), "depth", "onnxruntime", {}, **found)
    assert measured(capsys, "depth", rooms, "-m", models["depth"])["runtime"] == "onnxruntime"
    by_torch = measured(capsys, "depth", rooms, "-m", models["depth"], "--runtime", "torch")
    assert "runtime" not in by_torch


def test_eval_refuses_a_runtime_by_name(rooms, capsys):
    assert main(["eval", "depth", str(rooms), "--runtime", "caffe"]) == 2
    assert "--runtime 'caffe' must be one of" in capsys.readouterr().err


def test_a_server_answers_from_another_runtime(models):
    answers = {}
    for runtime in ("torch", "onnxruntime"):
        words = ("-m", models["depth"], "--dtype", "float32", "--runtime", runtime)
        with serving(*words) as server:
            sent = {"image": ("photo.png", photograph(1))}
            answer = httpx.post(
                f"{server.url}/depth", files=sent, data={"format": "npy"}, timeout=60
            )
            assert answer.status_code == 200, answer.text
            answers[runtime] = np.load(io.BytesIO(answer.content))
    np.testing.assert_allclose(answers["onnxruntime"], answers["torch"], rtol=1e-3, atol=1e-4)
    assert (answers["onnxruntime"] != answers["torch"]).any()  # not PyTorch under another name
