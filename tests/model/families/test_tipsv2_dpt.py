"""TIPSv2-DPT equals the reference both ways, whole and task by task, on random models."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from parity import assert_close, load_reference, randomize
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import dptcli
from dptcli import (
    AutoBackbone,
    AutoImageProcessor,
    Tipsv2DptConfig,
    Tipsv2DptForDensePrediction,
    Tipsv2DptImageProcessor,
)
from dptcli.cli import main
from dptcli.errors import ConfigError, ModelError
from dptcli.pipeline import Options
from dptcli.running.together import open_together
from dptcli.weights.load import load_model

EAGER = {"attn_implementation": "eager"}  # the fused attention keeps no weights
PLAIN = ("--device", "cpu", "--dtype", "float32")
SIZES_HW = {"square": (56, 56), "landscape": (45, 71), "portrait": (84, 30)}
TASKS = {
    "Tipsv2DptForDensePrediction": ("predicted_depth", "normals", "segmentation_logits"),
    "Tipsv2DptForDepthEstimation": ("predicted_depth",),
    "Tipsv2DptForNormalEstimation": ("normals",),
    "Tipsv2DptForSemanticSegmentation": ("logits",),
}


def draw(seed: int) -> dict[str, Any]:
    """A random TIPSv2-DPT of five classes."""
    rng = random.Random(seed)
    num_layers = rng.choice([4, 5])
    return {
        "backbone_config": {
            "model_type": "tipsv2_vision_model",
            "hidden_size": rng.choice([24, 40]),
            "num_attention_heads": rng.choice([1, 2, 4]),
            "num_hidden_layers": num_layers,
            "mlp_ratio": rng.choice([2, 2.5]),
            "image_size": 56,
            "patch_size": 14,
            "num_register_tokens": rng.choice([1, 2]),
            "use_swiglu_ffn": seed % 2 == 1,
            "out_indices": sorted(rng.sample(range(1, num_layers + 1), 4)),
            "reshape_hidden_states": False,
        },
        "neck_hidden_sizes": [rng.choice([8, 12]) for _ in range(4)],
        "fusion_hidden_size": rng.choice([8, 18]),
        "num_depth_bins": rng.choice([8, 32]),
        "depth_decoder_activation": rng.choice(["relu", "gelu"]),
        "num_labels": 5,
    }


def reference_of(values: dict[str, Any], *, seed: int) -> Any:
    config = transformers.Tipsv2DptConfig(**values, **EAGER)
    return randomize(transformers.Tipsv2DptForDensePrediction(config), seed=seed, std=0.2)


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size_hw", SIZES_HW.values(), ids=SIZES_HW)
@pytest.mark.parametrize("seed", range(2))
@torch.inference_mode()
def test_whole_files_equal_the_reference_both_ways_and_task_by_task(
    seed: int, size_hw: tuple[int, int], tmp_path: Path
) -> None:
    values = draw(seed)
    whole = reference_of(values, seed=seed)
    whole.save_pretrained(tmp_path / "theirs")
    x = pixels(2, 3, *size_hw, seed=seed)
    expected = whole(x)
    for name, outputs in TASKS.items():
        ours = getattr(dptcli, name).from_pretrained(tmp_path / "theirs")
        found = ours(x)
        ours.save_pretrained(tmp_path / name)
        back = load_reference(getattr(transformers, name), tmp_path / name)(x)
        for output in outputs:
            theirs = expected["segmentation_logits" if output == "logits" else output]
            assert_close(found[output], theirs)
            assert_close(back[output], theirs)


@torch.inference_mode()
def test_states_and_attentions_equal_the_reference(tmp_path: Path) -> None:
    values = draw(0)
    whole = reference_of(values, seed=3)
    whole.save_pretrained(tmp_path)
    x = pixels(1, 3, 56, 70)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    expected = whole(x, **wanted)
    found = Tipsv2DptForDensePrediction.from_pretrained(tmp_path)(x, **wanted)
    for name in ("hidden_states", "attentions"):
        for mine, theirs in zip(found[name], expected[name], strict=True):
            assert_close(mine, theirs)


@pytest.mark.parametrize("gated", [False, True])
@torch.inference_mode()
def test_the_encoder_alone_equals_the_reference_both_ways(gated: bool, tmp_path: Path) -> None:
    values = draw(int(gated))["backbone_config"] | {"reshape_hidden_states": True}
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    reference = randomize(transformers.AutoBackbone.from_config(config), seed=2, std=0.2)
    reference.save_pretrained(tmp_path / "theirs")
    ours = AutoBackbone.from_pretrained(tmp_path / "theirs")
    x = pixels(2, 3, 45, 84)
    expected = reference(x).feature_maps
    for mine, theirs in zip(ours(x).feature_maps, expected, strict=True):
        assert_close(mine, theirs)
    ours.save_pretrained(tmp_path / "ours")
    back = load_reference(type(reference), tmp_path / "ours")
    assert_close(back(x).feature_maps[-1], expected[-1])


def test_an_empty_config_means_the_base_model() -> None:
    ours, theirs = Tipsv2DptConfig(), transformers.Tipsv2DptConfig()
    for name in ("hidden_size", "num_hidden_layers", "num_register_tokens", "image_size"):
        assert getattr(ours.backbone_config, name) == getattr(theirs.backbone_config, name)
    assert list(ours.backbone_config.out_indices) == list(theirs.backbone_config.out_indices)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"backbone_config": {"model_type": "dinov2"}}, "tipsv2_vision_model"),
        ({"backbone_repo": "google/tipsv2-b14"}, "another repository"),
        ({"num_depth_bins": 0}, "num_depth_bins"),
        ({"max_depth": 0}, "max_depth"),
        ({"readout_activation": "tan"}, "readout_activation"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Tipsv2DptConfig(**draw(0) | change)


@pytest.mark.parametrize("task", ["DepthEstimation", "SemanticSegmentation"])
def test_it_learns_from_labels(task: str) -> None:
    model_class = getattr(dptcli, f"Tipsv2DptFor{task}")
    model = randomize(model_class(Tipsv2DptConfig(**draw(0))), seed=2).train()
    labels = torch.rand(2, 30, 40) * 5 + 0.5
    labels = labels if task == "DepthEstimation" else labels.long().clamp(max=4)
    model(pixels(2, 3, 56, 56), labels=labels).loss.backward()
    assert model.neck.convs[0].weight.grad.abs().sum() > 0


# --- the processor -------------------------------------------------------------------------------


def photograph(hw: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


@pytest.mark.parametrize("hw", [(448, 448), (480, 640), (200, 90)])
def test_the_processor_equals_the_reference_to_the_bit(hw: tuple[int, int]) -> None:
    """By the arithmetic of its torchvision backend, and by itself where that is installed."""
    image = photograph(hw)
    ours = Tipsv2DptImageProcessor()(image, return_tensors="pt").pixel_values
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    if hw != (448, 448):
        planes = F.interpolate(planes, (448, 448), mode="bilinear", antialias=True)
    assert torch.equal(ours, planes * (1 / 255))
    try:
        theirs = transformers.Tipsv2DptImageProcessor()
    except ImportError:
        return
    assert torch.equal(ours, theirs(image, return_tensors="pt").pixel_values)


def test_results_are_brought_to_size_as_the_reference_does() -> None:
    generator = torch.Generator().manual_seed(1)
    outputs = {
        "predicted_depth": torch.rand(1, 6, 8, generator=generator),
        "normals": torch.randn(1, 3, 6, 8, generator=generator),
    }
    processor = Tipsv2DptImageProcessor()
    [depth] = processor.post_process_depth_estimation(outputs, target_sizes=[(11, 29)])
    expected = F.interpolate(outputs["predicted_depth"][None], (11, 29), mode="bilinear")[0, 0]
    assert torch.equal(depth["predicted_depth"], expected)
    [normals] = processor.post_process_normal_estimation(outputs, target_sizes=[(11, 29)])
    unit = F.normalize(outputs["normals"], dim=1)
    expected = F.interpolate(unit, (11, 29), mode="bilinear")[0]
    assert torch.equal(normals["normals"], expected)


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model as the reference saves it, with names for its classes."""
    folder = tmp_path_factory.mktemp("tipsv2")
    names = ("wall", "sky", "floor", "tree", "door")
    whole = reference_of(draw(0) | {"id2label": dict(enumerate(names))}, seed=7)
    whole.save_pretrained(folder)
    processor = {"image_processor_type": "Tipsv2DptImageProcessor", "size": [56, 56]}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@torch.inference_mode()
def expected_of(folder: Path, image: np.ndarray) -> Any:
    x = Tipsv2DptImageProcessor.from_pretrained(folder)(image, return_tensors="pt").pixel_values
    return load_reference(transformers.Tipsv2DptForDensePrediction, folder)(x)


def dpt(*words: object) -> None:
    assert main([*map(str, words), *PLAIN]) == 0


def test_one_folder_gives_depth_and_classes(folder: Path, tmp_path: Path) -> None:
    image = photograph((70, 90))
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = expected_of(folder, image)
    dpt("depth", tmp_path / "a.png", "-m", folder, "-o", tmp_path / "out/", "-f", "npy")
    depth_m = F.interpolate(expected.predicted_depth[None], (70, 90), mode="bilinear")[0, 0]
    np.testing.assert_allclose(np.load(tmp_path / "out/a.npy"), depth_m.numpy(), rtol=1e-4)
    assert json.loads((tmp_path / "out/a.json").read_text())["kind"] == "depth_m"
    dpt("segment", tmp_path / "a.png", "-m", folder, "-o", tmp_path / "seen/")
    logits = F.interpolate(expected.segmentation_logits, (70, 90), mode="bilinear")[0]
    with Image.open(tmp_path / "seen/a.png") as mask:
        same = np.asarray(mask) == logits.argmax(0).numpy()
    assert same.mean() > 0.999  # a tie may fall either way


def test_each_task_loads_its_own_part(folder: Path) -> None:
    counts = {}
    for task in ("depth", "segment", None):
        loaded = load_model(folder, task=task, device="cpu")
        counts[task] = loaded.model.num_parameters()
        assert loaded.task == (task or "depth")
        assert isinstance(loaded.processor, Tipsv2DptImageProcessor)
    assert counts["depth"] < counts[None]
    assert isinstance(load_model(folder, device="cpu").model, Tipsv2DptForDensePrediction)
    assert isinstance(AutoImageProcessor.from_pretrained(folder), Tipsv2DptImageProcessor)


def test_a_converted_folder_is_whole(folder: Path, tmp_path: Path) -> None:
    assert main(["convert", str(folder), str(tmp_path / "copy"), "--max-depth", "20"]) == 0
    whole = load_reference(transformers.Tipsv2DptForDensePrediction, tmp_path / "copy")
    assert whole.config.max_depth == 20
    assert load_model(tmp_path / "copy", task="segment", device="cpu").labels[1] == "sky"


def test_one_run_gives_depth_classes_and_the_networks_own_normals(
    folder: Path, tmp_path: Path
) -> None:
    image = photograph((70, 90))
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = expected_of(folder, image)
    words = ("depth", tmp_path / "a.png", "-m", folder, "-f", "npy,normals")
    dpt(*words, "-o", tmp_path / "alone/")
    dpt(*words, "-o", tmp_path / "both/", "--with-segments", "--masks")
    unit = F.normalize(expected.normals, dim=1)
    unit = F.normalize(F.interpolate(unit, (70, 90), mode="bilinear"), dim=1)[0]
    depth_m = F.interpolate(expected.predicted_depth[None], (70, 90), mode="bilinear")[0, 0]
    for name in ("alone", "both"):
        out = tmp_path / name
        np.testing.assert_allclose(np.load(out / "a.npy"), depth_m.numpy(), rtol=1e-4)
        with Image.open(out / "a.normals.png") as stored:
            found = np.asarray(stored).transpose(2, 0, 1) / 127.5 - 1
        assert np.abs(found - unit.numpy()).max() < 1.01 / 127.5
        [about] = (
            facts
            for path, facts in json.loads((out / "a.json").read_text())["files"].items()
            if path.endswith("normals.png")
        )
        assert about["by"] == "the network"
    logits = F.interpolate(expected.segmentation_logits, (70, 90), mode="bilinear")[0]
    with Image.open(tmp_path / "both/a.mask.png") as mask:
        assert (np.asarray(mask) == logits.argmax(0).numpy()).mean() > 0.999
    segments = json.loads((tmp_path / "both/a.json").read_text())["segments"]
    assert {entry["class"] for entry in segments} <= {"wall", "sky", "floor", "tree", "door"}


def test_the_encoder_runs_once_for_all_three(folder: Path) -> None:
    options = Options(normals=True)
    pipeline = open_together(folder, folder, device="cpu", dtype="float32", options=options)
    calls = []
    model = pipeline.loaded.model
    model.depth.backbone.embeddings.register_forward_hook(lambda *_: calls.append(1))
    prediction = pipeline.predict_one(photograph((70, 90)))
    assert len(calls) == 1
    assert prediction.labels.shape == prediction.values.shape == (70, 90)
    assert prediction.normals.shape[0] == 3


def test_the_publishers_own_layout_is_taken_or_told(folder: Path, tmp_path: Path) -> None:
    """Its architecture has another name; without the encoder the file is of no use."""
    shutil.copytree(folder, tmp_path / "named")
    values = json.loads((folder / "config.json").read_text())
    named = tmp_path / "named" / "config.json"
    named.write_text(json.dumps(values | {"architectures": ["TIPSv2DPTModel"]}))
    for task in ("depth", "segment"):
        assert load_model(tmp_path / "named", task=task, device="cpu").task == task
    older = {"model_type": "tipsv2_dpt", "architectures": ["TIPSv2DPTModel"], "embed_dim": 768}
    named.write_text(json.dumps(older | {"backbone_repo": "google/tipsv2-b14"}))
    with pytest.raises(ModelError, match="another repository"):
        load_model(tmp_path / "named", task="depth", device="cpu")


def test_every_part_of_a_file_is_verified(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "verify", str(folder), "--json"]) == 0
    checks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [check["task"] for check in checks if check["name"] == "values"] == ["depth", "segment"]
    broken = shutil.copytree(folder, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    name = next(name for name in tensors if "segmentation" in name)
    tensors[name] = torch.full_like(tensors[name], torch.nan)
    save_file(tensors, broken / "model.safetensors")
    assert main(["models", "verify", str(broken)]) == 2
    assert "FAILED values" in capsys.readouterr().out
