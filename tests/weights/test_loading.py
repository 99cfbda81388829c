"""Loading: every layout of the hub gives the same numbers, old files included."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from parity import randomize
from safetensors.torch import load_file, save_file
from tiny import save_tiny

from dptcli import AutoImageProcessor, DPTForDepthEstimation, DPTForSemanticSegmentation
from dptcli.weights.load import load_model, non_finite

pytestmark = pytest.mark.processor  # see pyproject.toml

WEIGHTS = "model.safetensors"
SPARE = "neck.fusion_stage.layers.0.residual_layer1."


@pytest.fixture(scope="module", params=["depth", "segment"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights everywhere."""
    folder = save_tiny(
        tmp_path_factory.mktemp("whole"),
        task=request.param,
        use_batch_norm_in_fusion_residual=request.param == "segment",
    )
    task_class = DPTForDepthEstimation if request.param == "depth" else DPTForSemanticSegmentation
    randomize(task_class.from_pretrained(folder), seed=1).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def outputs(folder: Path) -> torch.Tensor:
    """What the model says of one fixed input."""
    loaded = load_model(folder, device="cpu")
    pixels = torch.linspace(-1, 1, 3 * 64 * 96).reshape(1, 3, 64, 96)
    with torch.inference_mode():
        output = loaded.model(pixels)
    assert output[0].abs().max() > 0
    return output[0]


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def replace_weights(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Write the tensors anew; contiguous copies, as safetensors wants them."""
    copies = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    save_file(copies, folder / WEIGHTS, metadata={"format": "pt"})


def write_shards(folder: Path, *, suffix: str) -> None:
    """Two shards and their index, as the reference names them."""
    state = state_of(folder)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    weight_map = {}
    for number, names in enumerate((list(state)[::2], list(state)[1::2]), start=1):
        file_name = f"{stem}-0000{number}-of-00002.{suffix}"
        part = {name: state[name] for name in names}
        weight_map.update(dict.fromkeys(names, file_name))
        if suffix == "safetensors":
            save_file(part, folder / file_name)
        else:
            torch.save(part, folder / file_name)
    (folder / WEIGHTS).unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_give_the_same_output(whole: Path, folder: Path, suffix: str) -> None:
    write_shards(folder, suffix=suffix)
    assert torch.equal(outputs(folder), outputs(whole))


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "before torch 1.6"])
def test_an_old_pickle_gives_the_same_output(whole: Path, folder: Path, new_format: bool) -> None:
    path = folder / "pytorch_model.bin"
    torch.save(state_of(folder), path, _use_new_zipfile_serialization=new_format)
    (folder / WEIGHTS).unlink()
    assert torch.equal(outputs(folder), outputs(whole))


def test_safetensors_go_before_a_pickle(whole: Path, folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert torch.equal(outputs(folder), outputs(whole))


def test_half_precision_files_are_computed_in_float32(folder: Path) -> None:
    replace_weights(folder, {name: t.half() for name, t in state_of(folder).items()})
    loaded = load_model(folder, device="cpu")
    assert {tensor.dtype for tensor in loaded.model.parameters()} == {torch.float32}


def test_names_of_older_files_are_known(whole: Path, folder: Path) -> None:
    state = state_of(folder)
    old = {
        name.replace("norm_before.weight", "norm_before.gamma").replace(
            "norm_after.bias", "norm_after.beta"
        ): tensor
        for name, tensor in state.items()
    }
    assert old.keys() != state.keys()
    old["backbone.encoder.layer.0.attention.relative_position_index"] = torch.zeros(2)
    old["dpt.embeddings.mask_token"] = torch.zeros(1)
    old["neck.convs.0.num_batches_tracked"] = torch.zeros(())
    replace_weights(folder, old)
    assert torch.equal(outputs(folder), outputs(whole))


def test_the_unit_that_never_runs_may_be_absent_without_a_word(
    whole: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {name: t for name, t in state_of(folder).items() if not name.startswith(SPARE)}
    assert len(state) < len(state_of(folder))
    replace_weights(folder, state)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(outputs(folder), outputs(whole))
    assert not caplog.records


def test_tensors_that_are_not_finite_are_named(folder: Path) -> None:
    state = state_of(folder)
    name = "neck.convs.1.weight"
    state[name][0, 0, 0, 0] = float("nan")
    replace_weights(folder, state)
    assert non_finite(load_model(folder, device="cpu").model) == [name]


def test_links_as_in_the_hubs_cache_are_followed(whole: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123abcd"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for path in whole.iterdir():
        (blobs / path.name[::-1]).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(blobs / path.name[::-1])
    assert torch.equal(outputs(snapshot), outputs(whole))


def test_a_shard_may_lie_in_the_folder_beside(whole: Path, folder: Path) -> None:
    beside = folder.parent / "shared"
    beside.mkdir()
    names = list(state_of(folder))
    (folder / WEIGHTS).rename(beside / WEIGHTS)
    index = {"weight_map": dict.fromkeys(names, f"../shared/{WEIGHTS}")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(outputs(folder), outputs(whole))


def test_the_newer_file_of_the_whole_processing_will_do(whole: Path, folder: Path) -> None:
    values = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": values}))
    assert load_model(folder).processor == load_model(whole).processor
    assert AutoImageProcessor.from_pretrained(folder) == load_model(whole).processor
