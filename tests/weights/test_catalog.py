"""The catalogue: its facts are those of the models, and `dpt models` tells them well."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from hub_server import Repository, serve
from process import run_dpt
from tiny import save_tiny

from dptcli import DPTConfig, DPTForDepthEstimation, DPTImageProcessor
from dptcli.errors import MissingModelError, ModelError
from dptcli.model.families import families
from dptcli.weights.catalog import CATALOG, entries_for, find_model
from dptcli.weights.load import load_model

LARGE_VIT = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "backbone_out_indices": [5, 11, 17, 23],
    "neck_hidden_sizes": [256, 512, 1024, 1024],
}
# size: (width, layers, heads, neck of DPT, neck and fusion width of Depth Anything)
DINOV2 = {
    "small": (384, 12, 6, [48, 96, 192, 384], [48, 96, 192, 384], 64),
    "base": (768, 12, 12, [96, 192, 384, 768], [96, 192, 384, 768], 128),
    "large": (1024, 24, 16, [128, 256, 512, 1024], [256, 512, 1024, 1024], 256),
    "giant": (1536, 40, 24, [192, 384, 768, 1536], [], 0),
}
SWINV2 = {
    "tiny": (256, 96, [2, 2, 6, 2], [3, 6, 12, 24], 16),
    "base": (384, 128, [2, 2, 18, 2], [4, 8, 16, 32], 24),
    "large": (384, 192, [2, 2, 18, 2], [6, 12, 24, 48], 24),
}


def beit(size: str, image_size: int) -> dict:
    large = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    }
    step = 6 if size == "large" else 3
    return {
        "model_type": "beit",
        "image_size": image_size,
        "use_relative_position_bias": True,
        "reshape_hidden_states": False,
        "out_features": [f"stage{step * index}" for index in range(1, 5)],
        **(large if size == "large" else {}),
    }


def dinov2(size: str) -> dict:
    width, layers, heads, *_ = DINOV2[size]
    return {
        "model_type": "dinov2",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": 518,
        "patch_size": 14,
        "out_indices": [layers // 4 * index for index in range(1, 5)],
        "reshape_hidden_states": False,
        "use_swiglu_ffn": size == "giant",
    }


def any_views(size: str) -> dict:
    """Depth Anything 3's networks for any views; the giant's neck is as wide as the large one's."""
    width, *_, sizes, fusion = DINOV2[size]
    return {
        "backbone_config": {
            **dinov2(size),
            "model_type": "dinov2_views",
            "views_start": {"large": 8, "giant": 13}.get(size, 4),
            "use_mask_token": False,
        },
        "reassemble_hidden_size": 2 * width,
        "neck_hidden_sizes": sizes or DINOV2["large"][4],
        "fusion_hidden_size": fusion or 256,
    }


def configuration(name: str) -> dict:
    """What the repository's config.json says, as far as it decides the number of parameters."""
    words = name.split("-")
    neck = [256, 512, 1024, 1024]
    if name == "chmv2":
        return {}
    if name == "tipsv2-base":
        return {"num_labels": 150}
    if name == "depth-pro":
        encoder = {**dinov2("large"), "patch_size": 16, "image_size": 384, "use_mask_token": False}
        names = ("image", "patch", "fov")
        return {"use_fov_model": True, **{f"{name}_model_config": encoder for name in names}}
    if name == "dpt-large":
        return LARGE_VIT
    if name == "dpt-large-ade":
        return {**LARGE_VIT, "use_batch_norm_in_fusion_residual": True, "num_labels": 150}
    if name == "hybrid-midas":
        factors, neck = [1, 1, 1, 0.5], [256, 512, 768, 768]
        return {"is_hybrid": True, "reassemble_factors": factors, "neck_hidden_sizes": neck}
    if words[0] == "beit":
        sizes = neck if words[1] == "large" else [96, 192, 384, 768]
        return {"backbone_config": beit(words[1], int(words[2])), "neck_hidden_sizes": sizes}
    if words[0] == "swinv2":
        image_size, embed_dim, depths, num_heads, window_size = SWINV2[words[1]]
        backbone = {
            "model_type": "swinv2",
            "image_size": image_size,
            "embed_dim": embed_dim,
            "depths": depths,
            "num_heads": num_heads,
            "window_size": window_size,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
        }
        sizes = [embed_dim * 2**stage for stage in range(4)]
        return {"backbone_config": backbone, "neck_hidden_sizes": sizes}
    if words[0] == "dinov2":
        return {
            "backbone_config": dinov2(words[1]),
            "neck_hidden_sizes": DINOV2[words[1]][3],
            "use_bias_in_fusion_residual": False,
            "add_projection": True,
        }
    if words[-1] == "nested":
        return {"views_config": any_views("giant"), "metric_config": {}}
    if words[:3] == ["depth", "anything", "3"] and len(words) == 4:
        return any_views(words[3])
    if words[:3] == ["depth", "anything", "3"]:
        return {"depth_estimation_type": "metric" if "metric" in words else "depth"}
    if words[0] in ("depth", "distill", "video"):
        width, *_, sizes, fusion = DINOV2[words[-1]]
        return {
            "backbone_config": dinov2(words[-1]),
            "reassemble_hidden_size": width,
            "patch_size": 14,
            "neck_hidden_sizes": sizes,
            "fusion_hidden_size": fusion,
        }
    if words[0] == "prompt":
        return configuration(f"depth-anything-{'large' if words[3] == 'vitl' else 'small'}")
    if words[0] == "glpn":
        return {"depths": [3, 8, 27, 3], "hidden_sizes": [64, 128, 320, 512]}
    room = {"name": "nyu", "n_bins": 64, "min_depth": 0.001, "max_depth": 10.0}
    road = {**room, "name": "kitti", "max_depth": 80.0}
    one = {"backbone_config": beit("large", 384), "neck_hidden_sizes": neck}
    if name != "zoedepth-nyu-kitti":
        return {**one, "bin_configurations": [room]}
    return {
        **one,
        "bin_configurations": [room, road],
        "num_patch_transformer_layers": 4,
        "patch_transformer_hidden_size": 128,
        "patch_transformer_intermediate_size": 1024,
        "patch_transformer_num_attention_heads": 4,
    }


PUBLISHED = [entry for entry in CATALOG if entry.repository is not None]


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.name)
def test_the_number_of_parameters_is_the_models_own(entry) -> None:
    *_, model_class = [  # of several for one file, the last is all of it
        family.model_class(name)
        for family in families()
        for name, task in family.tasks.items()
        if entry in family.catalogue() and task == entry.task
    ]
    with torch.device("meta"):  # names and shapes, no memory
        model = model_class(model_class.config_class.from_dict(configuration(entry.name)))
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.parameters


@pytest.mark.parametrize("task", ["depth", "segment"])
def test_the_built_in_models_are_what_the_catalogue_says(task: str) -> None:
    loaded = load_model("dpt-small", task=task, device="cpu")
    [entry] = [entry for entry in entries_for("dpt-small") if entry.task == task]
    assert sum(parameter.numel() for parameter in loaded.model.parameters()) == entry.parameters
    assert set(loaded.processor.size.values()) == {int(entry.input_size)}


def test_every_name_is_one_model_of_a_task() -> None:
    seen = {(entry.name, entry.task) for entry in CATALOG}
    assert len(seen) == len(CATALOG)
    assert len({entry.repository for entry in PUBLISHED}) == len(PUBLISHED)


@pytest.mark.parametrize(
    "name", ["depth-anything-v2-base", "depth-anything/Depth-Anything-V2-Large-hf"]
)
def test_non_commercial_licences_are_flagged(name: str) -> None:
    assert all(entry.is_non_commercial for entry in entries_for(name))
    assert not entries_for("depth-anything-v2-small")[0].is_non_commercial


def test_a_name_for_the_other_task_is_refused() -> None:
    with pytest.raises(ModelError, match="'dpt-large' is for `dpt depth`, not for `dpt segment`"):
        find_model("dpt-large", task="segment")


def test_a_folder_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dpt-large").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("dpt-large", task=None) == Path("dpt-large")


@pytest.fixture
def run(tmp_path: Path):
    """Runs `dpt models` with an empty cache of its own."""

    def run(*words: str, code: int = 0, **changes: str) -> subprocess.CompletedProcess[str]:
        # HF_HUB_OFFLINE of the test run would forbid what is tested here.
        changes = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", **changes}
        done = run_dpt("models", *words, **changes)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def test_the_table_fits_80_columns_and_names_every_model(run) -> None:
    lines = run().stdout.splitlines()
    assert max(map(len, lines)) <= 88
    table = [line for line in lines if not line.startswith(("`", "*"))]
    assert max(map(len, table)) <= 80
    text = "\n".join(lines)
    assert all(f" {entry.name} " in text for entry in CATALOG)
    assert "\x1b" not in text, "no colour in a pipe"


def test_json_tells_every_fact(run) -> None:
    facts = json.loads(run("--json").stdout)
    assert [fact["name"] for fact in facts] == [entry.name for entry in CATALOG]
    [large] = [fact for fact in facts if fact["name"] == "depth-anything-v2-large"]
    assert large["repository"] == "depth-anything/Depth-Anything-V2-Large-hf"
    assert large["non_commercial"]
    assert not large["cached"]


def test_show_tells_the_note_and_a_typo_names_the_nearest(run) -> None:
    assert "max_depth 10" in run("show", "zoedepth-kitti").stdout
    message = run("show", "zoedepth-kiti", code=2).stderr
    assert "did you mean 'zoedepth-kitti'?" in message
    assert message.count("\n") == 1


def test_a_folder_is_shown_from_its_config(run, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "mine", task="segment")
    [facts] = json.loads(run("show", str(folder), "--json").stdout)
    assert (facts["task"], facts["backbone"], facts["cached"]) == ("segment", "vit", False)


def test_a_model_is_downloaded_verified_shown_and_removed(run, tmp_path: Path) -> None:
    with serve() as hub:
        # The catalogue's name, so that its licence is told.
        name = "depth-anything-v2-base"
        repository = entries_for(name)[0].repository
        hub.repositories[repository] = Repository.of(save_tiny(tmp_path / "tiny", task="depth"))
        online = {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1,localhost"}
        done = run("download", name, **online)
        assert f"{repository}: licence CC-BY-NC-4.0, not for commercial use" in done.stderr
        folder = Path(done.stdout.strip())
        assert (folder / "model.safetensors").is_file()
        quiet = run("download", name, "--quiet", **online)
        assert not quiet.stderr
    [facts] = json.loads(run("show", name, "--json").stdout)
    assert facts["cached"]
    assert run().stdout.count(f"* {name} ") == 1

    checks = run("verify", name, "--offline").stdout.splitlines()
    assert [line.split(":")[0] for line in checks] == [
        "ok     hashes",
        "ok     weights",
        "ok     values",
        "ok     forward",
    ]
    blob = (folder / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-4:] = b"\x00\x00\xc0\x7f"  # a NaN
    blob.write_bytes(content)
    done = run("verify", name, code=2)
    assert "FAILED hashes: differ for model.safetensors" in done.stdout
    assert "FAILED values: not finite in" in done.stdout
    assert "is broken (hashes, values" in done.stderr

    assert "add --yes" in run("remove", name, code=2).stderr
    assert "MB freed" in run("remove", name, "--yes").stdout
    assert not folder.exists()
    assert "is not in the cache" in run("remove", name, "--yes", code=2).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["remove", "dpt-small", "--yes"], "is built in"),
        (["remove", ".", "--yes"], "is a folder of your own"),
        (["verify", "owner/nothing", "--offline"], "offline mode forbids"),
        (["show", "owner/nothing"], "`dpt models download owner/nothing` fetches it"),
        (["download", "no name"], "unknown model 'no name'"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_said_in_one_line(run, words: list[str], said: str) -> None:
    message = run(*words, code=2).stderr
    assert said in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "read", [DPTForDepthEstimation, DPTConfig, DPTImageProcessor], ids=lambda read: read.__name__
)
def test_from_pretrained_answers_a_slip_with_the_nearest_name(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingModelError, match="unknown model 'dpt-larg'; did you mean 'dpt-la"):
        read.from_pretrained("dpt-larg")
