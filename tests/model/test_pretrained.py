"""Models as the document loads and saves them: its keywords, other heads, other names."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_changing_config import SMALL
from torch import nn

from dptcli import (
    AutoBackbone,
    Dinov2Backbone,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    DPTImageProcessor,
    DPTModel,
)
from dptcli.errors import ConfigError, ModelError

PIXELS = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)


@pytest.fixture
def depth(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    DPTForDepthEstimation(DPTConfig(**SMALL)).save_pretrained(tmp_path / "depth")
    return tmp_path / "depth"


@pytest.fixture
def segments(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    DPTForSemanticSegmentation(DPTConfig(**SMALL)).save_pretrained(tmp_path / "segments")
    return tmp_path / "segments"


KEYWORDS: dict[str, Any] = {
    "torch_dtype": None,
    "dtype": "auto",
    "device_map": {"": "cpu"},
    "low_cpu_mem_usage": True,
    "revision": "main",
    "token": False,
    "cache_dir": None,
    "subfolder": "",
    "use_safetensors": True,
    "variant": None,
    "trust_remote_code": False,
    "attn_implementation": "eager",
    "output_loading_info": False,
    "state_dict": None,
    "force_download": False,
    "quantization_config": None,
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_the_documents_keywords_are_taken(name: str, depth: Path) -> None:
    model = DPTForDepthEstimation.from_pretrained(
        pretrained_model_name_or_path=depth, **{name: KEYWORDS[name]}
    )
    assert name not in model.config.to_dict() or name == "dtype"


@pytest.mark.parametrize(
    ("keyword", "said"),
    [
        ({"quantization_config": object()}, "load_model"),
        ({"attn_implementation": "flash_attention_2"}, "sdpa or eager"),
        ({"device_map": {"neck": 0, "head": 1}}, "one device"),
        ({"proxies": {"https": "x"}}, "HTTPS_PROXY"),
    ],
)
def test_what_is_not_done_is_refused_with_the_remedy(
    keyword: dict[str, Any], said: str, depth: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        DPTForDepthEstimation.from_pretrained(depth, **keyword)


def test_a_configuration_is_given_whole_or_by_its_place(depth: Path) -> None:
    config = DPTConfig.from_pretrained(depth, output_attentions=True)
    assert DPTForDepthEstimation.from_pretrained(depth, config=config).config.output_attentions
    assert DPTForDepthEstimation.from_pretrained(depth, config=str(depth)).config.num_labels == 2
    with pytest.raises(ConfigError, match="num_labels: cannot stand beside config="):
        DPTForDepthEstimation.from_pretrained(depth, config=config, num_labels=3)
    state = DPTForDepthEstimation.from_pretrained(depth).state_dict()
    bare = DPTForDepthEstimation.from_pretrained(None, config=config, state_dict=state)
    assert torch.equal(bare.state_dict()["head.head.0.weight"], state["head.head.0.weight"])


def test_dtype_auto_keeps_the_files(depth: Path) -> None:
    whole = DPTForDepthEstimation.from_pretrained(depth)
    whole.half().save_pretrained(depth)
    assert DPTForDepthEstimation.from_pretrained(depth, dtype="auto").dtype == torch.float16
    state = {name: tensor.bfloat16() for name, tensor in whole.state_dict().items()}
    whole.config.dtype = None
    whole.config.save_pretrained(depth)  # a file that does not say its dtype
    loaded = DPTForDepthEstimation.from_pretrained(depth, state_dict=state, torch_dtype="auto")
    assert loaded.dtype == torch.bfloat16


def test_another_number_of_classes_keeps_the_rest_and_says_what_is_new(
    segments: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ModelError, match="ignore_mismatched_sizes=True"):
        DPTForSemanticSegmentation.from_pretrained(segments, num_labels=7)
    torch.manual_seed(1)
    model, info = DPTForSemanticSegmentation.from_pretrained(
        segments, num_labels=7, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert model(PIXELS).logits.shape[1] == 7
    old, new = load_file(segments / "model.safetensors"), model.state_dict()
    fresh = {name for name in new if not torch.equal(old[name], new[name])}
    heads = {f"{head}.head.4.{kind}" for head in ("head", "auxiliary_head") for kind in ("weight",)}
    biases = {name.replace("weight", "bias") for name in heads}
    assert heads <= fresh <= heads | biases
    assert {name for name, _, _ in info["mismatched_keys"]} == heads | biases
    assert info["missing_keys"] == set()
    assert "head.head.4.weight is (2, 16, 1, 1), must be (7, 16, 1, 1)" in caplog.text
    model.save_pretrained(segments)
    again = DPTForSemanticSegmentation.from_pretrained(segments)
    assert torch.equal(again(PIXELS).logits, model(PIXELS).logits)


def test_a_head_is_put_on_a_bare_models_file(tmp_path: Path) -> None:
    bare = DPTModel(DPTConfig(**SMALL), add_pooling_layer=False).eval()
    bare.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="missing: neck"):
        DPTForDepthEstimation.from_pretrained(tmp_path)
    model = DPTForDepthEstimation.from_pretrained(tmp_path, strict=False)
    assert torch.equal(model.base_model(PIXELS).last_hidden_state, bare(PIXELS).last_hidden_state)
    norm = model.neck.fusion_stage.layers[1]
    assert float(norm.projection.weight.detach().abs().max()) > 0


def test_one_tasks_file_starts_the_others_training(depth: Path) -> None:
    model, info = DPTForSemanticSegmentation.from_pretrained(
        depth, num_labels=4, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {name.partition(".")[0] for name in info["missing_keys"]} == {
        "auxiliary_head",
        "head",
    }
    assert "head.head.1.running_var" in info["missing_keys"]
    assert bool((model.head.head[1].running_var == 1).all())  # first values of the layer itself
    same = DPTForDepthEstimation.from_pretrained(depth).state_dict()
    assert torch.equal(model.state_dict()["neck.convs.0.weight"], same["neck.convs.0.weight"])


def test_the_auxiliary_head_may_be_left_out_and_put_back(
    segments: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = DPTForSemanticSegmentation.from_pretrained(segments, use_auxiliary_head=False)
    assert bare.auxiliary_head is None
    assert not caplog.records
    bare.save_pretrained(segments)
    with pytest.raises(ModelError, match=r"missing: auxiliary_head"):
        DPTForSemanticSegmentation.from_pretrained(segments, use_auxiliary_head=True)


class WithConfidence(DPTForDepthEstimation):
    """A user's own model with one more layer."""

    def __init__(self, config: DPTConfig) -> None:
        super().__init__(config)
        self.confidence = nn.Linear(2, 1)
        self.register_buffer("table", torch.arange(3.0), persistent=False)


def test_a_subclass_with_a_new_layer_loads_and_saves(depth: Path) -> None:
    with pytest.raises(ModelError, match=r"2 missing: confidence\.weight"):
        WithConfidence.from_pretrained(depth)
    model = WithConfidence.from_pretrained(depth, strict=False)
    assert float(model.confidence.weight.detach().abs().max()) > 0
    model.save_pretrained(depth)
    again = WithConfidence.from_pretrained(depth)
    assert torch.equal(again.confidence.weight, model.confidence.weight)
    assert again.table.tolist() == [0, 1, 2]


def test_what_is_left_over_is_named(depth: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = load_file(depth / "model.safetensors")
    state["stray"] = torch.zeros(2)
    del state["neck.convs.0.weight"]
    with caplog.at_level(logging.WARNING):
        DPTForDepthEstimation.from_pretrained(depth, state_dict=state, strict=False)
    assert "1 missing: neck.convs.0.weight; 1 unexpected: stray" in caplog.text


def test_files_are_chosen_by_variant_kind_and_subfolder(depth: Path) -> None:
    model = DPTForDepthEstimation.from_pretrained(depth)
    model.half().save_pretrained(depth / "sub", variant="fp16", max_shard_size="50kB")
    assert (depth / "sub" / "model.safetensors.index.fp16.json").exists()
    half = DPTForDepthEstimation.from_pretrained(
        depth, subfolder="sub", variant="fp16", dtype="auto"
    )
    assert half.dtype == torch.float16
    with pytest.raises(OSError, match=r"has no weights.*model\.bf16\.safetensors"):
        DPTForDepthEstimation.from_pretrained(depth, variant="bf16")
    with pytest.raises(OSError, match="has no weights"):
        DPTForDepthEstimation.from_pretrained(depth, use_safetensors=False)


def test_saving_takes_the_documents_keywords(depth: Path, tmp_path: Path) -> None:
    model = DPTForDepthEstimation.from_pretrained(depth)
    written: list[Path] = []

    def write(state: dict[str, torch.Tensor], path: Path) -> None:
        written.append(path)
        torch.save(state, path)

    state = {name: torch.ones_like(tensor) for name, tensor in model.state_dict().items()}
    model.save_pretrained(
        save_directory=depth, state_dict=state, safe_serialization=False, save_function=write
    )
    assert len(written) == 1
    assert not (depth / "model.safetensors").exists()  # which loading would prefer
    ones = DPTForDepthEstimation.from_pretrained(depth)
    assert bool((ones.neck.convs[0].weight == 1).all())
    model.save_pretrained(tmp_path / "none", is_main_process=False)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ConfigError, match="hf upload"):
        model.save_pretrained(tmp_path / "none", push_to_hub=True)


def test_an_auto_backbone_takes_the_same_keywords(tmp_path: Path) -> None:
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Backbone(config).save_pretrained(tmp_path)
    stages = config.replace(out_features=["stage1", "stage2"])
    found = AutoBackbone.from_pretrained(tmp_path, config=stages, torch_dtype=torch.float16)
    assert (found.out_features, found.dtype) == (["stage1", "stage2"], torch.float16)
    found = AutoBackbone.from_pretrained(tmp_path, out_indices=[1, 3], dtype="float64")
    assert (found.out_features, found.dtype) == (["stage1", "stage3"], torch.float64)
    with pytest.raises(ModelError, match="stages: neither a value"):
        AutoBackbone.from_pretrained(tmp_path, stages=[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_half_precision_backbone_takes_the_processors_float32(dtype: torch.dtype) -> None:
    backbone = {"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 4}
    backbone |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    backbone |= {"out_indices": [1, 2, 3, 4]}
    config = DPTConfig(backbone_config=backbone, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8)
    model = DPTForDepthEstimation(config).eval().to(dtype)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 28, 28)).predicted_depth.dtype == dtype


def test_parts_are_reached_by_the_documents_names() -> None:
    model = DPTForDepthEstimation(DPTConfig(**SMALL))
    assert (model.base_model, model.base_model_prefix) == (model.dpt, "dpt")
    assert model.get_input_embeddings() is model.dpt.embeddings.patch_embeddings
    assert (model.main_input_name, model.can_generate()) == ("pixel_values", False)
    total = sum(weight.numel() for weight in model.parameters())
    assert model.num_parameters() == total
    model.dpt.requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == total - model.dpt.num_parameters()
    embedded = sum(weight.numel() for weight in model.get_input_embeddings().parameters())
    assert model.num_parameters(exclude_embeddings=True) == total - embedded


def test_what_is_missing_is_an_oserror_too(tmp_path: Path) -> None:
    for call in (
        lambda: DPTForDepthEstimation.from_pretrained(tmp_path / "absent"),
        lambda: DPTConfig.from_pretrained(tmp_path),
        lambda: DPTImageProcessor.from_pretrained(tmp_path),
        lambda: DPTModel.from_pretrained("nobody/nothing", local_files_only=True),
    ):
        with pytest.raises(OSError) as raised:  # noqa: PT011  # as the document's users catch it
            call()
        assert isinstance(raised.value, ModelError)
    with pytest.raises(ValueError, match="NaN"):
        DPTImageProcessor()(np.full((4, 4, 3), np.nan))
