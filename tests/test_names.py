"""from_pretrained takes names as the reference does: from the cache, or from a hub on loopback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, Repository, serve
from process import WAIT_S, environment
from tiny import save_tiny

from dptcli import (
    AutoBackbone,
    AutoImageProcessor,
    Dinov2Config,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    DPTImageProcessor,
    ZoeDepthImageProcessor,
)
from dptcli.errors import ModelError

# As in the reference document's examples; a process, since the client reads its environment once.
EXAMPLE = """
import sys
import numpy as np, torch
from dptcli import AutoBackbone, AutoImageProcessor, Dinov2Config, DPTConfig
from dptcli import DPTForDepthEstimation, DPTModel

config = Dinov2Config.from_pretrained(
    "owner/backbone", out_features=["stage1", "stage2"], reshape_hidden_states=False
)
print(list(config.out_features))
print(type(AutoBackbone.from_pretrained("owner/backbone", out_indices=[1])).__name__)
image_processor = AutoImageProcessor.from_pretrained("owner/model")
model = DPTForDepthEstimation.from_pretrained("owner/model")
bare = DPTModel.from_pretrained("owner/model@main", add_pooling_layer=False)
assert DPTConfig.from_pretrained("owner/model") == model.config
inputs = image_processor(images=np.zeros((50, 70, 3), np.uint8), return_tensors="pt")
with torch.no_grad():
    print(tuple(model(**inputs).predicted_depth.shape), tuple(bare(**inputs)[0].shape))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    save_tiny(tmp_path / "model", task="depth")
    # The architectures tell the hub's models from others.
    backbone = AutoBackbone.from_config(
        {
            "model_type": "dinov2",
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
        }
    )
    backbone.save_pretrained(tmp_path / "backbone")
    DPTImageProcessor().save_pretrained(tmp_path / "backbone")
    with serve() as hub:
        for name in ("model", "backbone"):
            hub.repositories[f"owner/{name}"] = Repository.of(tmp_path / name)
        yield hub


def test_the_documents_examples_run_by_name_and_then_offline(hub: Hub, tmp_path: Path) -> None:
    settings = {"HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1,localhost"}
    for changes in ({"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}, {"HF_HUB_OFFLINE": "1"}):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", EXAMPLE],
            env=environment(**settings, **changes),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            "['stage1', 'stage2']",
            "Dinov2Backbone",
            "(1, 64, 64) (1, 17, 32)",
        ]


def test_built_in_models_load_by_their_name() -> None:
    assert DPTForDepthEstimation.from_pretrained("dpt-small").config.fusion_hidden_size == 64
    named = DPTForSemanticSegmentation.from_pretrained("dpt-small").config.id2label
    assert named[0] == "sky"
    assert AutoImageProcessor.from_pretrained("dpt-small").config.ensure_multiple_of == 14


def test_the_processor_follows_its_file(tmp_path: Path) -> None:
    DPTImageProcessor().save_pretrained(tmp_path / "dpt")
    ZoeDepthImageProcessor().save_pretrained(tmp_path / "zoe")
    old = tmp_path / "old"
    old.mkdir()
    old.joinpath("preprocessor_config.json").write_text(
        json.dumps({"feature_extractor_type": "DPTFeatureExtractor", "size": 32})
    )
    for name, kind in {
        "dpt": DPTImageProcessor,
        "zoe": ZoeDepthImageProcessor,
        "old": DPTImageProcessor,
    }.items():
        assert type(AutoImageProcessor.from_pretrained(tmp_path / name)) is kind
    with pytest.raises(TypeError, match="from_pretrained"):
        AutoImageProcessor()


def test_names_that_nobody_knows_are_refused_in_one_line() -> None:
    for load in (
        DPTForDepthEstimation.from_pretrained,
        Dinov2Config.from_pretrained,
        AutoImageProcessor.from_pretrained,
        AutoBackbone.from_pretrained,
    ):
        with pytest.raises(ModelError, match="is not in the cache, and offline mode") as refused:
            load("owner/unheard-of")
        assert "\n" not in str(refused.value)
