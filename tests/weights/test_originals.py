"""Files of isl-org/DPT, Depth-Anything and PromptDA: known by their tensors, converted, run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from original_files import (
    ADE20K,
    FILES,
    KITTI,
    MIDAS,
    NYU,
    PROMPTDA,
    V2,
    WIDTH,
    depth_anything_file,
    dpt_file,
    pixels,
    promptda_file,
    saved,
)
from parity import assert_close, load_reference
from PIL import Image
from process import run_dpt

from dptcli import (
    DepthAnythingForDepthEstimation,
    DPTForDepthEstimation,
    PromptDepthAnythingImageProcessor,
    load_model,
)
from dptcli.cli import main
from dptcli.errors import ModelError
from dptcli.model.families.depth_anything.originals import KINDS as DEPTH_ANYTHING_KINDS
from dptcli.model.families.depth_anything.originals import TABLE as DEPTH_ANYTHING
from dptcli.model.families.dpt.originals import ADE, DPT_HYBRID, DPT_KINDS, DPT_VIT
from dptcli.model.families.original import rename
from dptcli.model.families.prompt_depth_anything.originals import PROMPT_TABLE
from dptcli.weights.convert import convert_original
from dptcli.weights.originals import formats, read_original


@pytest.mark.parametrize("name", FILES)
def test_every_tensor_of_a_file_finds_its_place(name: str, tmp_path: Path) -> None:
    loaded = load_model(saved(tmp_path, name), device="cpu")
    file = FILES[name]()
    given = sum(value.numel() for key, value in file.items() if ".model.head." not in key)
    assert sum(value.numel() for value in loaded.model.state_dict().values()) == given
    assert loaded.task == ("segment" if "ade" in name else "depth")
    assert not loaded.model.training


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            "pretrained.act_postprocess1.3.weight",
            "neck.reassemble_stage.layers.0.projection.weight",
        ),
        (
            "pretrained.act_postprocess4.0.project.0.bias",
            "neck.reassemble_stage.readout_projects.3.0.bias",
        ),
        ("scratch.refinenet4.out_conv.bias", "neck.fusion_stage.layers.0.projection.bias"),
        (
            "scratch.refinenet1.resConfUnit2.conv1.weight",
            "neck.fusion_stage.layers.3.residual_layer2.convolution1.weight",
        ),
        ("scratch.layer3_rn.weight", "neck.convs.2.weight"),
        (
            "pretrained.model.blocks.11.mlp.fc2.bias",
            "dpt.encoder.layer.11.output.dense.bias",
        ),
    ],
)
def test_numbered_parts_keep_their_order(theirs: str, ours: str) -> None:
    file = dpt_file()
    renamed, unknown = rename(file, DPT_VIT)
    assert not unknown
    assert torch.equal(renamed[ours], file[theirs])


def test_query_key_and_value_are_cut_in_that_order() -> None:
    file = depth_anything_file()
    renamed, _ = rename(file, DEPTH_ANYTHING)
    whole = file["pretrained.blocks.5.attn.qkv.weight"]
    for index, part in enumerate(("query", "key", "value")):
        cut = renamed[f"backbone.encoder.layer.5.attention.attention.{part}.weight"]
        assert torch.equal(cut, whole[index * WIDTH : (index + 1) * WIDTH])


def test_no_two_rows_of_a_table_lead_to_one_place() -> None:
    for table in (DPT_VIT, DPT_HYBRID, DEPTH_ANYTHING, PROMPT_TABLE):
        theirs, ours = zip(*table, strict=True)
        assert len(set(theirs)) == len(theirs)
        assert len({name for name in ours if name}) == len([name for name in ours if name])


@pytest.mark.parametrize("name", [MIDAS, ADE20K, V2, PROMPTDA])
@torch.inference_mode()
def test_a_converted_folder_gives_the_reference_the_same_numbers(name: str, tmp_path: Path) -> None:
    """The reference reads the folder strictly and answers what the file run directly answers."""
    path = saved(tmp_path, name)
    done = convert_original(path, tmp_path / "model")
    assert done.num_parameters > 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    reference_class = getattr(transformers, config["architectures"][0])
    reference = load_reference(reference_class, tmp_path / "model")
    side = 64 if "dpt" in name else 56  # the trained grid, which the reference takes as it is
    x = [pixels(1, 3, side, side)]
    x += [torch.rand(1, 1, 9, 12) + 1] if name == PROMPTDA else []
    assert_close(load_model(path, device="cpu").model(*x)[0], reference(*x)[0])


@pytest.mark.parametrize(
    ("name", "scale", "shift"), [(KITTI, 6.016e-5, 0.00579), (NYU, 3.05e-4, 0.1378)]
)
@torch.inference_mode()
def test_kitti_and_nyu_files_give_metres(
    name: str, scale: float, shift: float, tmp_path: Path
) -> None:
    """depth_m = 1 / (scale · x + shift) for the x that the same tensors give as a MiDaS file."""
    path = saved(tmp_path, name)
    metric = load_model(path, device="cpu")
    assert metric.is_metric
    relative = load_model(path, device="cpu", kind="midas")
    assert not relative.is_metric
    x = pixels(1, 3, 64, 96)
    inverse_depth = relative.model(x).predicted_depth
    assert inverse_depth.max() > 0
    assert_close(metric.model(x).predicted_depth, 1 / (scale * inverse_depth + shift))
    metric.model.save_pretrained(tmp_path / "again")
    again = DPTForDepthEstimation.from_pretrained(tmp_path / "again")
    assert torch.equal(again(x).predicted_depth, metric.model(x).predicted_depth)


@torch.inference_mode()
def test_the_least_inverse_depth_is_bounded(tmp_path: Path) -> None:
    model = load_model(saved(tmp_path, NYU), device="cpu").model
    model.head.scale, model.head.shift = 1.0, 0.0
    model.head.head[4].bias.fill_(-1e6)  # the ReLU gives zero everywhere
    assert torch.all(model(pixels(1, 3, 64, 64)).predicted_depth == 1e8)


@pytest.mark.parametrize(
    ("name", "size", "multiple"),
    [
        (MIDAS, (384, 384), 32),
        (KITTI, (352, 1216), 32),
        (NYU, (480, 640), 32),
        (ADE20K, (480, 480), 32),
        (V2, (518, 518), 14),
    ],
)
def test_preprocessing_is_the_authors(
    name: str, size: tuple[int, int], multiple: int, tmp_path: Path
) -> None:
    convert_original(saved(tmp_path, name), tmp_path / "model")
    values = json.loads((tmp_path / "model" / "preprocessor_config.json").read_text())
    assert (values["size"]["height"], values["size"]["width"]) == size
    assert values["ensure_multiple_of"] == multiple
    assert values["keep_aspect_ratio"] is True
    assert values["resample"] == 3
    assert values["image_std"] == ([0.5] * 3 if multiple == 32 else [0.229, 0.224, 0.225])


def test_segmentation_files_name_the_classes(tmp_path: Path) -> None:
    labels = load_model(saved(tmp_path, ADE20K), device="cpu").labels
    assert len(labels) == len(set(labels.values())) == 150
    assert (labels[0], labels[2], labels[12], labels[149]) == ("wall", "sky", "person", "flag")
    other = saved(tmp_path, "dpt_large-own.pt", dict(dpt_file(num_labels=3)))
    assert load_model(other, device="cpu").labels == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}


@pytest.mark.parametrize(
    ("name", "kind", "taps", "max_depth"),
    [
        (V2, "depth-anything-v2", [3, 6, 9, 12], 1),
        ("depth_anything_vits14.pth", "depth-anything-v1", [9, 10, 11, 12], 1),
        (
            "depth_anything_v2_metric_hypersim_vits.pth",
            "depth-anything-v2-indoor",
            [3, 6, 9, 12],
            20,
        ),
        (
            "depth_anything_v2_metric_vkitti_vits.pth",
            "depth-anything-v2-outdoor",
            [3, 6, 9, 12],
            80,
        ),
    ],
)
@torch.inference_mode()
def test_depth_anything_is_told_by_its_name(
    name: str, kind: str, taps: list[int], max_depth: int, tmp_path: Path
) -> None:
    path = saved(tmp_path, name, dict(depth_anything_file()))
    assert read_original(path).kind == kind
    loaded = load_model(path, device="cpu")
    assert isinstance(loaded.model, DepthAnythingForDepthEstimation)
    assert list(loaded.model.config.backbone_config.out_indices) == taps
    assert loaded.model.config.max_depth == max_depth
    assert loaded.is_metric == (max_depth > 1)
    # A renamed file says it by option, and gives the same.
    renamed = path.rename(tmp_path / "renamed.pth")
    again = load_model(renamed, device="cpu", kind=kind)
    x = pixels(1, 3, 70, 56)
    assert torch.equal(again.model(x)[0], loaded.model(x)[0])


def test_a_renamed_depth_anything_asks_for_its_kind(tmp_path: Path) -> None:
    path = saved(tmp_path, "mine.pth", dict(depth_anything_file()))
    with pytest.raises(ModelError, match="--kind"):
        load_model(path, device="cpu")


def test_a_renamed_dpt_is_relative_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path, "mine.pt", dict(dpt_file()))
    assert not load_model(path, device="cpu").is_metric
    assert "taken for inverse depth" in caplog.text


def test_a_kind_of_other_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fit the kinds kitti, nyu, midas, not 'ade'"):
        load_model(saved(tmp_path, MIDAS), device="cpu", kind="ade")


def test_every_kind_has_its_own_name() -> None:
    names = [kind.name for layout in formats() for kind in layout.kinds]
    assert {kind.name for kind in (*DPT_KINDS, ADE, *DEPTH_ANYTHING_KINDS)} <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("wrap", ["model", "state_dict"])
def test_training_state_around_the_tensors_is_left_out(wrap: str, tmp_path: Path) -> None:
    file = {f"module.{name}": tensor for name, tensor in dpt_file().items()}
    path = saved(tmp_path, MIDAS, {wrap: file, "optimizer": {"lr": 0.1}, "epoch": 3})
    assert load_model(path, device="cpu").task == "depth"


def test_a_prompted_model_is_read_with_its_own_processor(tmp_path: Path) -> None:
    """As the authors' training saved it: every name begins with their module's."""
    file = {f"pipeline.{name}": tensor for name, tensor in promptda_file().items()}
    file |= {"pipeline._mean": torch.rand(1, 3, 1, 1), "pipeline._std": torch.rand(1, 3, 1, 1)}
    loaded = load_model(saved(tmp_path, PROMPTDA, {"state_dict": file}), device="cpu")
    assert isinstance(loaded.processor, PromptDepthAnythingImageProcessor)
    assert loaded.takes_prompt
    assert loaded.is_metric
    assert loaded.processor.network_hw((1440, 1920)) == (756, 1008)


def test_a_file_of_the_old_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / MIDAS
    torch.save(dict(dpt_file()), path, _use_new_zipfile_serialization=False)
    assert load_model(path, device="cpu").task == "depth"


def test_convert_writes_what_depth_then_reads(tmp_path: Path) -> None:
    """The commands as a user runs them; the folder and the file itself give the same picture."""
    path = saved(tmp_path, NYU)
    picture = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture)
    done = run_dpt("convert", path, tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert "depth in metres" in done.stdout
    for model, out in ((tmp_path / "model", "a.png"), (path, "b.png")):
        small = ["--size", "64x64", "-q"]
        assert (
            main(["depth", str(picture), "-m", str(model), "-o", str(tmp_path / out), *small]) == 0
        )
    pictures = [np.asarray(Image.open(tmp_path / out)) for out in ("a.png", "b.png")]
    assert np.array_equal(*pictures)
