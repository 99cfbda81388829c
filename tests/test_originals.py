"""Files of isl-org/DPT and Depth-Anything: recognised, renamed strictly, converted, run directly.

The synthetic files are spelled out here by hand, name by name as the authors' code saves them, so
that the key tables are checked against something else than themselves.
"""

import json
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from parity import assert_close, load_reference
from PIL import Image
from process import DPT, environment
from torch import Tensor

from dptcli import DepthAnythingForDepthEstimation, DPTForDepthEstimation, load_model
from dptcli.cli import main
from dptcli.errors import ModelError
from dptcli.weights.convert import convert_original
from dptcli.weights.original_configs import ADE, DEPTH_ANYTHING_KINDS, DPT_KINDS
from dptcli.weights.original_keys import DEPTH_ANYTHING, DPT_HYBRID, DPT_VIT, rename
from dptcli.weights.originals import KINDS, read_original

WIDTH, HIDDEN, FUSED = 64, 96, 16
NECK = (8, 12, 16, 20)
MIDAS, KITTI = "dpt_large-midas-2f21e586.pt", "dpt_hybrid_kitti-cb926ef4.pt"
NYU, ADE20K = "dpt_hybrid_nyu-2ce69ec7.pt", "dpt_large-ade20k-b12dca68.pt"
V2 = "depth_anything_v2_vits.pth"


class File(dict[str, Tensor]):
    """A state dict that is filled with seeded random values by name and shape."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(7)

    def add(self, name: str, *shape: int) -> None:
        self[name] = torch.randn(*shape, generator=self.generator) * 0.1

    def layer(self, name: str, *shape: int, bias: bool = True) -> None:
        """A weight and a bias of as many values as there are outputs."""
        self.add(f"{name}.weight", *shape)
        if bias:
            self.add(f"{name}.bias", shape[0])

    def batch_norm(self, name: str, channels: int) -> None:
        self.layer(name, channels)
        self.add(f"{name}.running_mean", channels)
        self[f"{name}.running_var"] = torch.rand(channels, generator=self.generator) + 0.5
        self[f"{name}.num_batches_tracked"] = torch.tensor(3)


def add_transformer(file: File, prefix: str, *, scales: bool) -> None:
    file.add(f"{prefix}.cls_token", 1, 1, WIDTH)
    file.add(f"{prefix}.pos_embed", 1, 17, WIDTH)
    for block in (f"{prefix}.blocks.{index}" for index in range(12)):
        file.layer(f"{block}.norm1", WIDTH)
        file.layer(f"{block}.attn.qkv", 3 * WIDTH, WIDTH)
        file.layer(f"{block}.attn.proj", WIDTH, WIDTH)
        file.layer(f"{block}.norm2", WIDTH)
        file.layer(f"{block}.mlp.fc1", HIDDEN if not scales else 4 * WIDTH, WIDTH)
        file.layer(f"{block}.mlp.fc2", WIDTH, HIDDEN if not scales else 4 * WIDTH)
        if scales:
            file.add(f"{block}.ls1.gamma", WIDTH)
            file.add(f"{block}.ls2.gamma", WIDTH)
    file.layer(f"{prefix}.norm", WIDTH)


def add_scratch(file: File, prefix: str, *, neck: tuple[int, ...], normed: bool) -> None:
    for stage, channels in enumerate(neck, start=1):
        file.layer(f"{prefix}.layer{stage}_rn", FUSED, channels, 3, 3, bias=False)
    for stage in range(1, 5):
        block = f"{prefix}.refinenet{stage}"
        file.layer(f"{block}.out_conv", FUSED, FUSED, 1, 1)
        for unit in (f"{block}.resConfUnit{number}" for number in (1, 2)):
            for number in (1, 2):
                file.layer(f"{unit}.conv{number}", FUSED, FUSED, 3, 3, bias=not normed)
                if normed:
                    file.batch_norm(f"{unit}.bn{number}", FUSED)


def dpt_file(*, hybrid: bool = False, num_labels: int = 0) -> File:
    """What `torch.save(model.state_dict())` holds for an isl-org DPT."""
    file = File()
    add_transformer(file, "pretrained.model", scales=False)
    file.layer("pretrained.model.head", 1000, WIDTH)
    neck = (128, 128, *NECK[2:]) if hybrid else NECK
    if hybrid:
        stem = "pretrained.model.patch_embed.backbone"
        file.layer(f"{stem}.stem.conv", 32, 3, 7, 7, bias=False)
        file.layer(f"{stem}.stem.norm", 32)
        inputs = 32
        for stage, depth in enumerate((2, 1, 1)):
            for block in (f"{stem}.stages.{stage}.blocks.{index}" for index in range(depth)):
                if block.endswith("0"):
                    file.layer(f"{block}.downsample.conv", 128, inputs, 1, 1, bias=False)
                    file.layer(f"{block}.downsample.norm", 128)
                for number, shape in enumerate(
                    ((32, inputs, 1, 1), (32, 32, 3, 3), (128, 32, 1, 1)), start=1
                ):
                    file.layer(f"{block}.conv{number}", *shape, bias=False)
                    file.layer(f"{block}.norm{number}", shape[0])
                inputs = 128
        file.layer("pretrained.model.patch_embed.proj", WIDTH, 128, 1, 1)
    else:
        file.layer("pretrained.model.patch_embed.proj", WIDTH, 3, 16, 16)
    for stage in range(3 if hybrid else 1, 5):
        post, channels = f"pretrained.act_postprocess{stage}", neck[stage - 1]
        file.layer(f"{post}.0.project.0", WIDTH, 2 * WIDTH)
        file.layer(f"{post}.3", channels, WIDTH, 1, 1)
        kernel = {1: 4, 2: 2, 4: 3}.get(stage)
        if kernel:
            file.layer(f"{post}.4", channels, channels, kernel, kernel)
    add_scratch(file, "scratch", neck=neck, normed=num_labels > 0)
    if num_labels:
        for head in ("scratch.output_conv", "auxlayer"):
            file.layer(f"{head}.0", FUSED, FUSED, 3, 3, bias=False)
            file.batch_norm(f"{head}.1", FUSED)
            file.layer(f"{head}.4", num_labels, FUSED, 1, 1)
    else:
        file.layer("scratch.output_conv.0", FUSED // 2, FUSED, 3, 3)
        file.layer("scratch.output_conv.2", 32, FUSED // 2, 3, 3)
        file.layer("scratch.output_conv.4", 1, 32, 1, 1)
        file["scratch.output_conv.4.bias"] += 2.0  # lifts the last ReLU's input off zero
    return file


def depth_anything_file() -> File:
    """What `torch.save(model.state_dict())` holds for a Depth-Anything."""
    file = File()
    add_transformer(file, "pretrained", scales=True)
    file.add("pretrained.mask_token", 1, WIDTH)
    file.layer("pretrained.patch_embed.proj", WIDTH, 3, 14, 14)
    for stage, channels in enumerate(NECK):
        file.layer(f"depth_head.projects.{stage}", channels, WIDTH, 1, 1)
    for stage, kernel in ((0, 4), (1, 2), (3, 3)):
        channels = NECK[stage]
        file.layer(f"depth_head.resize_layers.{stage}", channels, channels, kernel, kernel)
    add_scratch(file, "depth_head.scratch", neck=NECK, normed=False)
    file.layer("depth_head.scratch.output_conv1", FUSED // 2, FUSED, 3, 3)
    file.layer("depth_head.scratch.output_conv2.0", 32, FUSED // 2, 3, 3)
    file.layer("depth_head.scratch.output_conv2.2", 1, 32, 1, 1)
    file["depth_head.scratch.output_conv2.2.bias"] += 2.0
    return file


FILES = {
    MIDAS: dpt_file,
    KITTI: lambda: dpt_file(hybrid=True),
    NYU: lambda: dpt_file(hybrid=True),
    ADE20K: lambda: dpt_file(num_labels=150),
    V2: depth_anything_file,
}


def saved(folder: Path, name: str, file: Any = None) -> Path:
    path = folder / name
    torch.save(dict(FILES[name]()) if file is None else file, path)
    return path


def pixels(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


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
    for table in (DPT_VIT, DPT_HYBRID, DEPTH_ANYTHING):
        theirs, ours = zip(*table, strict=True)
        assert len(set(theirs)) == len(theirs)
        assert len({name for name in ours if name}) == len([name for name in ours if name])


@pytest.mark.parametrize("name", [MIDAS, ADE20K, V2])
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
    x = pixels(1, 3, side, side)
    assert_close(load_model(path, device="cpu").model(x)[0], reference(x)[0])


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
    assert len(set(KINDS)) == len(KINDS) == len((*DPT_KINDS, ADE, *DEPTH_ANYTHING_KINDS))


@pytest.mark.parametrize("wrap", ["model", "state_dict"])
def test_training_state_around_the_tensors_is_left_out(wrap: str, tmp_path: Path) -> None:
    file = {f"module.{name}": tensor for name, tensor in dpt_file().items()}
    path = saved(tmp_path, MIDAS, {wrap: file, "optimizer": {"lr": 0.1}, "epoch": 3})
    assert load_model(path, device="cpu").task == "depth"


def test_a_file_of_the_old_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / MIDAS
    torch.save(dict(dpt_file()), path, _use_new_zipfile_serialization=False)
    assert load_model(path, device="cpu").task == "depth"


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


def test_convert_writes_what_depth_then_reads(tmp_path: Path) -> None:
    """The commands as a user runs them; the folder and the file itself give the same picture."""
    path = saved(tmp_path, NYU)
    picture = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture)
    done = subprocess.run(
        [*DPT, "convert", str(path), str(tmp_path / "model")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "depth in metres" in done.stdout
    for model, out in ((tmp_path / "model", "a.png"), (path, "b.png")):
        small = ["--size", "64x64", "-q"]
        assert (
            main(["depth", str(picture), "-m", str(model), "-o", str(tmp_path / out), *small]) == 0
        )
    pictures = [np.asarray(Image.open(tmp_path / out)) for out in ("a.png", "b.png")]
    assert np.array_equal(*pictures)


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
