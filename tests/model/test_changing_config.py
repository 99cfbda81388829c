"""Configurations in hand: changed by assignment and checked there, read and written, no secrets."""

import copy
import inspect
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from dptcli import Dinov2Config, DPTConfig, DPTForSemanticSegmentation, DPTImageProcessor
from dptcli.errors import ConfigError

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [8, 16, 24, 32],
    "fusion_hidden_size": 16,
}


def test_an_assigned_value_counts_and_a_wrong_one_is_refused_as_at_construction() -> None:
    config = DPTConfig()
    config.readout_type = "add"
    config.output_hidden_states = True
    assert (config.readout_type, config.to_dict()["output_hidden_states"]) == ("add", True)
    with pytest.raises(ConfigError) as built:
        DPTConfig(hidden_size=100)
    with pytest.raises(ConfigError) as assigned:
        config.hidden_size = 100
    assert str(assigned.value) == str(built.value)
    assert config.hidden_size == 768


def test_values_that_only_fit_together_are_changed_together() -> None:
    config = DPTConfig()
    config.update({"hidden_size": 100, "num_attention_heads": 10})
    assert (config.hidden_size, config.num_attention_heads) == (100, 10)
    with pytest.raises(ConfigError, match="hidden_size"):
        config.update({"hidden_size": 64, "num_attention_heads": 3})
    assert config.hidden_size == 100


def test_what_says_the_same_follows_an_assignment() -> None:
    config = DPTConfig(id2label={0: "sky", 1: "ground"})
    config.num_labels = 3
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    config.id2label = {0: "a", 1: "b"}
    assert (config.num_labels, config.label2id) == (2, {"a": 0, "b": 1})
    stages = Dinov2Config(num_hidden_layers=4)
    stages.out_features = ["stage1", "stage3"]
    assert stages.out_indices == [1, 3]
    stages.out_indices = None
    assert stages.out_features == ["stage4"]
    with pytest.raises(ConfigError, match="stage_names: follows"):
        stages.stage_names = ["stem"]


def test_lists_are_lists_and_what_they_hold_is_checked_when_a_model_is_built() -> None:
    config = DPTConfig(**{**SMALL, "neck_hidden_sizes": (8, 16, 24, 32)})
    assert config.neck_hidden_sizes == [8, 16, 24, 32]
    config.neck_hidden_sizes[0] = 0
    with pytest.raises(ConfigError, match="neck_hidden_sizes: 0"):
        DPTForSemanticSegmentation(config)


def test_a_model_follows_what_it_looks_up_and_the_log_names_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = DPTForSemanticSegmentation(DPTConfig(**SMALL))
    model.config.output_hidden_states = True
    model.config.id2label = {0: "sky", 1: "ground"}
    assert not caplog.records
    assert len(model(torch.zeros(1, 3, 32, 32)).hidden_states) == 5
    with caplog.at_level(logging.WARNING):
        copy.deepcopy(model.config).num_labels = 5  # no model is built of the copy
        assert not caplog.records
        model.config.num_labels = 5
    assert "num_labels: the model that was built" in caplog.text


@pytest.mark.parametrize(
    "twin",
    [copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))],
    ids=["copy", "pickle"],
)
def test_a_configuration_survives_copies(twin: Any) -> None:
    config = DPTConfig(**SMALL, note="x")
    config._remark = 1
    again = twin(config)
    assert again.to_dict() == config.to_dict()
    assert again._remark == 1
    again.readout_type = "ignore"
    assert config.readout_type == "project"


def test_help_shows_every_parameter_with_its_default() -> None:
    shown = inspect.signature(DPTConfig).parameters
    assert shown["hidden_size"].default == 768
    assert {"id2label", "auxiliary_loss_weight", "output_attentions", "kwargs"} <= shown.keys()


def test_dictionaries_and_files_come_as_the_document_has_them(tmp_path: Path) -> None:
    config = DPTConfig(**SMALL)
    assert config.to_diff_dict() == {**SMALL, "model_type": "dpt"}
    config.to_json_file(tmp_path / "config.json", use_diff=True)
    assert json.loads((tmp_path / "config.json").read_text()) == config.to_diff_dict()
    values, rest = DPTConfig.get_config_dict(tmp_path, token="hf_x", foo=1)
    assert (values, rest) == (config.to_diff_dict(), {"foo": 1})
    again, unused = DPTConfig.from_pretrained(
        tmp_path, return_unused_kwargs=True, num_labels=3, foo=1
    )
    assert (again.num_labels, unused) == (3, {"foo": 1})
    assert DPTConfig.from_pretrained(tmp_path / "config.json") == config


def test_a_dtype_is_written_by_its_name_and_a_stale_one_goes(tmp_path: Path) -> None:
    config = DPTConfig(torch_dtype="float16", dtype="bfloat16")
    assert (config.dtype, config.torch_dtype) == (torch.bfloat16, torch.bfloat16)
    config.torch_dtype = torch.float16
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["dtype"], "torch_dtype" in written) == ("float16", False)


@pytest.mark.parametrize("kind", [DPTConfig, DPTImageProcessor])
def test_how_a_file_was_reached_is_never_written(kind: Any, tmp_path: Path) -> None:
    kind().save_pretrained(tmp_path / "plain")
    path = next((tmp_path / "plain").iterdir())
    path.write_text(json.dumps({**json.loads(path.read_text()), "token": "hf_OLD"}))
    read = kind.from_pretrained(
        tmp_path, subfolder="plain", token="hf_NEW", revision="v2", cache_dir="/elsewhere"
    )
    read.save_pretrained(tmp_path / "again")
    kind(use_auth_token="hf_THIRD").save_pretrained(tmp_path / "third")
    for written in (*tmp_path.glob("again/*"), *tmp_path.glob("third/*")):
        assert "hf_" not in written.read_text()
        assert not {"token", "revision", "cache_dir"} & json.loads(written.read_text()).keys()
    with pytest.raises(ConfigError, match="hf upload"):
        kind().save_pretrained(tmp_path / "no", push_to_hub=True)
