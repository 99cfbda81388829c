"""DPTConfig holds the reference document's parameters, checks them, and keeps what it is given."""

import json
from pathlib import Path
from typing import Any

import pytest

from dptcli import Dinov2Config, DPTConfig
from dptcli.errors import ConfigError, ModelError

# The signature in the reference document (transformers 4.37.2). For a model that is not hybrid
# the document's implementation empties backbone_featmap_shape and neck_ignore_stages.
DOCUMENTED = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "image_size": 384,
    "patch_size": 16,
    "num_channels": 3,
    "is_hybrid": False,
    "qkv_bias": True,
    "backbone_out_indices": [2, 5, 8, 11],
    "readout_type": "project",
    "reassemble_factors": [4, 2, 1, 0.5],
    "neck_hidden_sizes": [96, 192, 384, 768],
    "fusion_hidden_size": 256,
    "head_in_index": -1,
    "use_batch_norm_in_fusion_residual": False,
    "use_bias_in_fusion_residual": None,
    "add_projection": False,
    "use_auxiliary_head": True,
    "auxiliary_loss_weight": 0.4,
    "semantic_loss_ignore_index": 255,
    "semantic_classifier_dropout": 0.1,
    "backbone_featmap_shape": None,
    "neck_ignore_stages": [],
    "backbone_config": None,
}


def test_defaults_are_the_documents() -> None:
    values = DPTConfig().to_dict()
    assert {name: values[name] for name in DOCUMENTED} == DOCUMENTED
    assert values["model_type"] == "dpt"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hidden_size": 100}, "hidden_size: 100 is not a multiple"),
        ({"hidden_size": 0}, "hidden_size: 0 must be a whole number of at least 1"),
        ({"hidden_size": "768"}, "hidden_size: '768'"),
        ({"num_hidden_layers": True}, "num_hidden_layers: True"),
        ({"readout_type": "sum"}, "must be one of ignore, add, project"),
        ({"hidden_act": "swish2"}, "hidden_act: 'swish2'"),
        ({"hidden_dropout_prob": 1.5}, "must be a number from 0 to 1"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps: nan"),
        ({"image_size": [384]}, "image_size: [384]"),
        ({"patch_size": -16}, "patch_size: -16"),
        ({"backbone_out_indices": [2, 5, 8]}, "must be 4 different layers"),
        ({"backbone_out_indices": [2, 5, 8, 8]}, "must be 4 different layers"),
        ({"backbone_out_indices": [2, 5, 8, 12]}, "from 0 to 11"),
        ({"reassemble_factors": [4, 2, 1]}, "reassemble_factors: [4, 2, 1]"),
        ({"reassemble_factors": [4, 2, 1, 0.3]}, "0.3 must be a whole number"),
        ({"reassemble_factors": [4, 2, 1, 1.5]}, "1.5 must be a whole number"),
        ({"neck_hidden_sizes": []}, "neck_hidden_sizes"),
        ({"head_in_index": 4}, "from -4 to 3"),
        ({"auxiliary_loss_weight": -1}, "auxiliary_loss_weight: -1"),
        ({"num_labels": 0}, "num_labels: 0"),
        ({"num_labels": 3, "id2label": {0: "a"}}, "num_labels: 3 does not fit the 1 names"),
        ({"id2label": {1: "a", 2: "b"}}, "must count from 0 to 1"),
        ({"depth_estimation_type": "absolute"}, "must be one of relative, depth, metric"),
        ({"model_type": "vit"}, "model_type: 'vit' is not for DPTConfig"),
        ({"backbone_config": {"model_type": "dinov3"}}, "model_type 'dinov3' must be one of"),
        ({"backbone_config": 5}, "backbone_config: 5"),
        ({"is_hybrid": True, "readout_type": "add"}, "does not fit is_hybrid"),
        ({"is_hybrid": "false"}, "is_hybrid: 'false' must be true or false"),
        ({"use_auxiliary_head": 1}, "use_auxiliary_head: 1 must be true or false"),
        ({"use_bias_in_fusion_residual": "no"}, "use_bias_in_fusion_residual: 'no'"),
        ({"output_attentions": "x"}, "output_attentions: 'x'"),
        ({"semantic_loss_ignore_index": 1.5}, "semantic_loss_ignore_index: 1.5"),
        ({"reassemble_factors": 4}, "reassemble_factors: 4 must be a list"),
        ({"neck_hidden_sizes": 5}, "neck_hidden_sizes: 5 must be a list"),
        ({"backbone_out_indices": 3}, "backbone_out_indices: 3 must be a list"),
        ({"id2label": {"a": "x"}}, "id2label: ['a'] must be whole numbers"),
        ({"id2label": ["a", "b"]}, "id2label: ['a', 'b'] must be a dictionary"),
        ({"is_hybrid": True, "backbone_featmap_shape": [1]}, "backbone_featmap_shape: [1]"),
        ({"image_size": 8}, "image_size: 8 is less than one patch of 16"),
    ],
)
def test_wrong_values_are_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        DPTConfig(**wrong)
    assert said in str(refused.value)


def test_unknown_keys_are_kept_and_written_back(tmp_path: Path) -> None:
    config = DPTConfig(my_note="from 2021", transformers_version="4.18.0")
    assert config.my_note == "from 2021"
    config.save_pretrained(tmp_path / "new" / "folder")
    written = json.loads((tmp_path / "new" / "folder" / "config.json").read_text())
    assert written["my_note"] == "from 2021"
    assert DPTConfig.from_pretrained(tmp_path / "new" / "folder") == config
    with pytest.raises(AttributeError, match="no_such_key"):
        _ = config.no_such_key


def test_unknown_words_beside_a_file_are_left_out_and_shared_ones_kept(tmp_path: Path) -> None:
    DPTConfig().save_pretrained(tmp_path)
    given = {"hf_api_key": "hf_secret", "output_attentions": True, "problem_type": "depth"}
    config = DPTConfig.from_pretrained(tmp_path, **given)
    assert "secret" not in config.to_json_string()
    assert config.output_attentions
    assert config.problem_type == "depth"


def test_labels_agree_in_every_spelling() -> None:
    named = DPTConfig(id2label={"0": "sky", "1": "ground", "2": "tree"})
    assert named.num_labels == 3
    assert named.id2label == {0: "sky", 1: "ground", 2: "tree"}
    assert named.label2id == {"sky": 0, "ground": 1, "tree": 2}
    assert DPTConfig(num_labels=150).id2label[149] == "LABEL_149"
    assert DPTConfig().num_labels == 2
    assert DPTConfig(label2id={"a": 0, "b": 1, "c": 2}).id2label == {0: "a", 1: "b", 2: "c"}


def test_an_override_replaces_what_says_the_same_otherwise(tmp_path: Path) -> None:
    DPTConfig(id2label={0: "sky", 1: "ground", 2: "tree"}).save_pretrained(tmp_path)
    assert DPTConfig.from_pretrained(tmp_path).num_labels == 3
    fewer = DPTConfig.from_pretrained(tmp_path, num_labels=2)
    assert fewer.label2id == {"LABEL_0": 0, "LABEL_1": 1}
    assert fewer.replace(num_labels=5).num_labels == 5
    renamed = DPTConfig.from_pretrained(tmp_path, id2label={0: "a", 1: "b"})
    assert renamed.label2id == {"a": 0, "b": 1}
    assert DPTConfig.from_pretrained(tmp_path, label2id={"u": 0}).id2label == {0: "u"}


def test_stages_are_chosen_anew_as_in_the_documents_example(tmp_path: Path) -> None:
    """A file of the reference names its last stage in both ways."""
    transformers = pytest.importorskip("transformers")
    transformers.Dinov2Config(num_hidden_layers=4).save_pretrained(tmp_path)
    wanted = ["stage1", "stage2", "stage3", "stage4"]
    config = Dinov2Config.from_pretrained(
        tmp_path, out_features=wanted, reshape_hidden_states=False
    )
    assert (list(config.out_features), list(config.out_indices)) == (wanted, [1, 2, 3, 4])
    assert list(config.replace(out_indices=[2]).out_features) == ["stage2"]


def test_a_backbone_configuration_of_the_reference_is_taken() -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.Dinov2Config(num_hidden_layers=4, hidden_size=24, num_attention_heads=2)
    config = DPTConfig(backbone_config=theirs)
    assert isinstance(config.backbone_config, Dinov2Config)
    assert config.backbone_width == 24


def test_replace_makes_a_checked_copy() -> None:
    config = DPTConfig()
    assert config.replace(readout_type="add").readout_type == "add"
    assert config.readout_type == "project"
    with pytest.raises(ConfigError):
        config.replace(readout_type="sum")


def test_a_backbone_is_named_by_its_folder_or_on_the_hub(tmp_path: Path) -> None:
    Dinov2Config(num_hidden_layers=4, hidden_size=24, num_attention_heads=2).save_pretrained(
        tmp_path
    )
    stages = {"out_indices": [1, 2, 3, 4]}
    config = DPTConfig(backbone=str(tmp_path), backbone_kwargs=stages, use_timm_backbone=False)
    assert (config.backbone_width, config.backbone_config.out_indices) == (24, [1, 2, 3, 4])
    assert DPTConfig.from_dict(config.to_dict()) == config
    assert "backbone" not in config.to_dict()
    for wrong, said in (
        ({"use_timm_backbone": True}, "transformers backbone"),
        ({"use_pretrained_backbone": True}, r"AutoBackbone\.from_pretrained"),
    ):
        with pytest.raises(ConfigError, match=said):
            DPTConfig(backbone=str(tmp_path), **wrong)
    with pytest.raises(ModelError, match="dinov2-smal"):
        DPTConfig(backbone="dinov2-smal")


def test_null_for_a_switch_keeps_its_default() -> None:
    assert Dinov2Config(qkv_bias=None).qkv_bias is True
    assert DPTConfig(return_dict=None).return_dict is True


def test_null_where_a_backbone_stands_in_keeps_the_default() -> None:
    config = DPTConfig(
        num_hidden_layers=None,
        backbone_out_indices=None,
        backbone_config={"model_type": "dinov2", "out_features": ["stage1", "stage12"]},
    )
    assert config.num_hidden_layers == 12
    assert config.backbone_config.out_indices == [1, 12]


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", "{", "\ufffe"], ids=["empty", "list", "cut", "bom"]
)
def test_broken_files_are_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content, encoding="utf-16")
    with pytest.raises(ModelError, match=r"config\.json"):
        DPTConfig.from_json_file(path)
    with pytest.raises(ModelError, match="no such file"):
        DPTConfig.from_pretrained(tmp_path / "absent")


def test_a_function_works_as_activation_but_cannot_be_written() -> None:
    import torch

    config = DPTConfig(hidden_act=torch.nn.functional.mish)
    with pytest.raises(ConfigError, match="activations by name"):
        config.to_json_string()


@pytest.mark.parametrize(
    ("stages", "features", "indices"),
    [
        ({}, ["stage4"], [4]),
        ({"out_features": ["stem", "stage2"]}, ["stem", "stage2"], [0, 2]),
        ({"out_indices": [1, -1]}, ["stage1", "stage4"], [1, 4]),
        ({"out_features": ["stage2"], "out_indices": [2]}, ["stage2"], [2]),
    ],
)
def test_stages_by_name_and_by_index_agree(
    stages: dict[str, Any], features: list[str], indices: list[int]
) -> None:
    values = Dinov2Config(num_hidden_layers=4, **stages).to_dict()
    assert values["out_features"] == features
    assert values["out_indices"] == indices
    assert values["stage_names"] == ["stem", "stage1", "stage2", "stage3", "stage4"]


@pytest.mark.parametrize(
    "stages",
    [
        {"out_features": ["stage9"]},
        {"out_features": ["stage2", "stage1"]},
        {"out_features": ["stage1", "stage1"]},
        {"out_indices": [5]},
        {"out_indices": [2, 1]},
        {"out_features": ["stage1"], "out_indices": [2]},
    ],
    ids=["unknown", "falling", "twice", "beyond", "falling-index", "disagree"],
)
def test_wrong_stages_are_refused(stages: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="out_"):
        Dinov2Config(num_hidden_layers=4, **stages)
