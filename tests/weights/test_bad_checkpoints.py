"""Broken model folders: each is refused in one line that names the file and the remedy."""

import json
import math
import os
import pickle
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import randomize
from PIL import Image
from process import run_dpt
from safetensors.torch import load_file, save_file

from dptcli.errors import ModelError
from dptcli.model.config import DPTConfig
from dptcli.model.dpt import DPTForDepthEstimation, DPTForSemanticSegmentation
from dptcli.processing.processor import DPTImageProcessor
from dptcli.weights.load import load_model

TINY = DPTConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=32,
    backbone_out_indices=(0, 1),
    reassemble_factors=(2, 1),
    neck_hidden_sizes=(8, 8),
    fusion_hidden_size=8,
)
WEIGHTS = "model.safetensors"
PROCESSOR = "preprocessor_config.json"
BIAS = "head.head.0.bias"
Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with everything in its place."""
    folder = tmp_path_factory.mktemp("whole")
    randomize(DPTForDepthEstimation(TINY), seed=0).save_pretrained(folder)
    DPTImageProcessor(size=32).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(folder, **options)
    message = str(caught.value)
    assert "\n" not in message, "one line"
    return message


def change_config(**values: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return spoil


def change_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Spoil:
    def spoil(folder: Path) -> None:
        state = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
        change(state)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})

    return spoil


def write(name: str, content: bytes) -> Spoil:
    return lambda folder: void((folder / name).write_bytes(content))


def void(_: object) -> None:
    """Make a function of a call with a result."""


def remove(*names: str) -> Spoil:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def truncate(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 100)


def lie_about_the_header_length(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 60) + content[8:])


def lie_about_an_offset(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    last = max(name for name in header if name != "__metadata__")
    header[last]["data_offsets"] = [0, 1 << 50]
    changed = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(
        struct.pack("<Q", len(changed)) + changed + content[8 + length :]
    )


def lie_in_an_index(folder: Path) -> None:
    names = list(load_file(folder / WEIGHTS))
    change_tensors(lambda state: void(state.pop(BIAS)))(folder)
    (folder / WEIGHTS).rename(folder / "shard.safetensors")
    index = {"weight_map": dict.fromkeys(names, "shard.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def index_to(file_name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        index = {"weight_map": {"head.head.0.weight": file_name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return spoil


# what is wrong -> (how it is made, what the message says)
BROKEN: dict[str, tuple[Spoil, str]] = {
    "truncated": (truncate, "is not a whole safetensors file"),
    "empty": (write(WEIGHTS, b""), "is not a whole safetensors file"),
    "a web page": (write(WEIGHTS, b"<html>404</html>"), "is not a whole safetensors file"),
    "a lying length": (lie_about_the_header_length, "is not a whole safetensors file"),
    "a lying offset": (lie_about_an_offset, "is not a whole safetensors file"),
    "a lying index": (lie_in_an_index, f"lacks the tensor '{BIAS}' that the index promises"),
    "an absent shard": (index_to("absent.safetensors"), "absent.safetensors: no such file"),
    "a shard elsewhere": (index_to("../../outside.safetensors"), "no such file"),
    "a shard in /etc": (index_to("/etc/passwd"), "'/etc/passwd' points outside the model's folder"),
    "a missing tensor": (
        change_tensors(lambda state: void(state.pop(BIAS))),
        f"1 missing: {BIAS}",
    ),
    "an unexpected tensor": (
        change_tensors(lambda state: state.update(surprise=torch.zeros(1))),
        "1 unexpected: surprise",
    ),
    "a misshapen tensor": (
        change_tensors(lambda state: state.update({BIAS: torch.zeros(5)})),
        f"1 misshapen: {BIAS} is (5,), must be (4,)",
    ),
    "a tensor of whole numbers": (
        change_tensors(lambda state: state.update({BIAS: torch.zeros(4, dtype=torch.int8)})),
        f"{BIAS} holds whole numbers",
    ),
    "no weights": (remove(WEIGHTS), "has no weights; a model is a folder with config.json"),
    "no config": (remove("config.json"), "has no config.json"),
    "no processor": (remove(PROCESSOR), "has no preprocessor_config.json, which says how"),
    "an empty folder": (remove(WEIGHTS, "config.json", PROCESSOR), "has no config.json"),
    "half a config": (write("config.json", b"{"), "config.json: cannot be read as JSON"),
    "no text": (write("config.json", b"\xff\xfe"), "config.json: cannot be read as JSON"),
    "deep brackets": (write("config.json", b"[" * 99_999), "config.json: cannot be read as JSON"),
    "a list": (write("config.json", b"[]"), "config.json: holds a list, not an object"),
    "an empty object": (write("config.json", b"{}"), "architectures [] must name one of"),
    "another model": (change_config(architectures=["Bert"]), "architectures ['Bert'] must name"),
    "a number as architectures": (
        change_config(architectures=5),
        "architectures [] must name one of",
    ),
    "another type": (change_config(model_type="bert"), "config.json: model_type: 'bert'"),
    "odd width": (change_config(hidden_size=17), "config.json: hidden_size: 17"),
    "a word as width": (change_config(hidden_size="wide"), "config.json: hidden_size: 'wide'"),
    "a number as a list": (change_config(neck_hidden_sizes=5), "config.json"),
    "a word as a list": (change_config(backbone_out_indices="ab"), "config.json"),
    "a list as labels": (change_config(id2label=["sky"]), "config.json"),
    "null as a factor": (change_config(reassemble_factors=[None, 1]), "config.json"),
    "a number as a backbone": (change_config(backbone_config=7), "backbone_config: 7"),
    "one layer too many": (change_config(num_hidden_layers=3), "missing: dpt.encoder.layer.2"),
    "half a processor": (write(PROCESSOR, b"{"), PROCESSOR),
    "a list as a processor": (write(PROCESSOR, b"[]"), PROCESSOR),
    "a word as a size": (write(PROCESSOR, b'{"size": "large"}'), PROCESSOR),
}


@pytest.mark.parametrize("wrong", BROKEN)
def test_a_broken_folder_is_refused_in_one_line(folder: Path, wrong: str) -> None:
    spoil, said = BROKEN[wrong]
    spoil(folder)
    message = refusal(folder)
    assert said in message
    assert str(folder) in message


ABSURD = {
    "num_hidden_layers": 10**9,
    "hidden_size": 10**7,
    "intermediate_size": 10**9,
    "image_size": 10**6,
    "patch_size": 10**6,
    "neck_hidden_sizes": [10**7, 10**7],
    "fusion_hidden_size": 10**8,
    "num_labels": 10**9,
    "reassemble_factors": [10**6, 1],
    "backbone_config": {"model_type": "dinov2", "num_hidden_layers": 10**9},
    "bin_configurations": [{"n_bins": 10**12}],
}


@pytest.mark.parametrize("key", ABSURD)
def test_absurd_sizes_are_refused_before_time_or_memory_is_taken(folder: Path, key: str) -> None:
    change_config(**{key: ABSURD[key]})(folder)
    start_s = time.perf_counter()
    message = refusal(folder)
    assert time.perf_counter() - start_s < 1
    assert "config.json" in message
    assert "beyond the" in message


def test_sizes_that_only_the_weights_contradict_take_no_memory(folder: Path) -> None:
    # 500 layers of 16000 would be 4 TB; on the meta device they are names and shapes.
    change_config(num_hidden_layers=500, hidden_size=16_000, intermediate_size=64_000)(folder)
    assert "misshapen" in refusal(folder)


class Evil:
    """An object whose unpickling calls a function."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "old format"])
def test_a_pickle_that_wants_to_run_code_is_refused_by_name(
    folder: Path, tmp_path: Path, new_format: bool
) -> None:
    witness = tmp_path / "witness"
    state = {"head.head.0.bias": Evil(os.mkdir, str(witness))}
    remove(WEIGHTS)(folder)
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    message = refusal(folder)
    assert f"loading it would run {os.mkdir.__module__}.mkdir" in message
    assert not witness.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"PK\x03\x04 no zip", pickle.dumps({"a": 1})[:-2], bytes(1000)],
    ids=["empty", "a web page", "half a zip", "half a pickle", "zeros"],
)
def test_what_is_no_pickle_of_tensors_is_refused(folder: Path, content: bytes) -> None:
    remove(WEIGHTS)(folder)
    (folder / "pytorch_model.bin").write_bytes(content)
    assert "pytorch_model.bin: is not a whole file of torch.save" in refusal(folder)


def test_a_truncated_pickle_is_refused(folder: Path) -> None:
    path = folder / "pytorch_model.bin"
    torch.save(load_file(folder / WEIGHTS), path)
    remove(WEIGHTS)(folder)
    os.truncate(path, path.stat().st_size // 2)
    assert "pytorch_model.bin: is not a whole file of torch.save" in refusal(folder)


@pytest.mark.parametrize("state", [[1], {"epoch": 3, "model": {}}], ids=["a list", "a checkpoint"])
def test_a_pickle_of_something_else_is_refused(folder: Path, state: object) -> None:
    remove(WEIGHTS)(folder)
    torch.save(state, folder / "pytorch_model.bin")
    assert "able of tensors" in refusal(folder)


def test_a_depth_model_given_to_segment_is_refused_and_the_reverse(
    folder: Path, tmp_path: Path
) -> None:
    assert "is for `dpt depth`, not for `dpt segment`" in refusal(folder, task="segment")
    other = tmp_path / "other"
    DPTForSemanticSegmentation(TINY).save_pretrained(other)
    DPTImageProcessor(size=32).save_pretrained(other)
    assert "is for `dpt segment`, not for `dpt depth`" in refusal(other, task="depth")


def test_a_file_instead_of_a_folder_is_refused(folder: Path) -> None:
    assert "is a file; a model is a folder" in refusal(folder / WEIGHTS)


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["NaN", "infinity"])
def test_weights_that_are_not_finite_end_a_run_at_the_first_image(
    folder: Path, tmp_path: Path, value: float
) -> None:
    change_tensors(lambda state: state[BIAS].fill_(value))(folder)
    source = tmp_path / "photos"
    source.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30), "gray").save(source / name)
    done = run_dpt("depth", source, "-o", tmp_path / "out", "-m", folder)
    assert done.returncode == 2, done.stderr
    assert f"the weights hold NaN or infinity in {BIAS}; fetch it again" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("out/**/*.png"))


@pytest.mark.parametrize("wrong", ["truncated", "half a config", "no processor", "odd width"])
def test_dpt_depth_says_it_in_one_line_and_exits_with_2(
    folder: Path, tmp_path: Path, wrong: str
) -> None:
    spoil, said = BROKEN[wrong]
    spoil(folder)
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    done = run_dpt("depth", tmp_path / "a.png", "-o", tmp_path / "b.png", "-m", folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "b.png").exists()
