"""What the models do where the reference fails, or where there is nothing to compare with."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from parity import assert_close, randomize
from process import NEEDS_PROC, PEAK_KIB, environment

import dptcli
from dptcli import (
    AutoBackbone,
    Dinov2Backbone,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    DPTModel,
)
from dptcli.errors import ConfigError, DptError, ModelError, ShapeError
from dptcli.model.layers import resize_positions

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [8, 8, 12, 12],
    "fusion_hidden_size": 8,
}
DINOV2: dict[str, Any] = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 7,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
    "reshape_hidden_states": False,
}


@pytest.mark.parametrize("input_hw", [(24, 56), (72, 16), (41, 50)], ids=str)
@torch.inference_mode()
def test_plain_vit_takes_any_shape(input_hw: tuple[int, int], tmp_path: Path) -> None:
    """The reference's forward crashes here, but its parts know the answer when told the grid."""
    reference = randomize(
        transformers.DPTForDepthEstimation(transformers.DPTConfig(**SMALL)), seed=1
    )
    reference.save_pretrained(tmp_path)
    ours = DPTForDepthEstimation.from_pretrained(tmp_path)
    x = torch.randn(2, 3, *input_hw, generator=torch.Generator().manual_seed(2))
    states = reference.dpt(x, output_hidden_states=True).hidden_states[1:]
    fused = reference.neck(list(states), input_hw[0] // 8, input_hw[1] // 8)
    assert_close(ours(x).predicted_depth, reference.head(fused))


@torch.inference_mode()
def test_segmentation_takes_a_backbone(tmp_path: Path) -> None:
    """The reference ignores backbone_config here; its parts, put together, know the answer."""
    depth = randomize(
        transformers.DPTForDepthEstimation(
            transformers.DPTConfig(
                backbone_config=transformers.Dinov2Config(**DINOV2),
                neck_hidden_sizes=[8, 8, 12, 12],
                fusion_hidden_size=8,
            )
        ),
        seed=3,
    )
    ours = randomize(
        DPTForSemanticSegmentation(
            DPTConfig(
                backbone_config=DINOV2,
                neck_hidden_sizes=[8, 8, 12, 12],
                fusion_hidden_size=8,
                num_labels=5,
            )
        ),
        seed=4,
    )
    depth.save_pretrained(tmp_path)
    shared = DPTForDepthEstimation.from_pretrained(tmp_path)
    ours.backbone.load_state_dict(shared.backbone.state_dict())
    ours.neck.load_state_dict(shared.neck.state_dict())
    x = torch.randn(1, 3, 35, 49, generator=torch.Generator().manual_seed(5))
    fused = depth.neck(list(depth.backbone(x).feature_maps), 5, 7)
    logits = ours(x).logits
    assert logits.shape == (1, 5, fused[-1].shape[2] * 2, fused[-1].shape[3] * 2)
    assert_close(logits, ours.head(fused))


@torch.inference_mode()
def test_projection_before_the_head_equals_the_reference_and_follows_the_width(
    tmp_path: Path,
) -> None:
    wide = {**SMALL, "add_projection": True, "fusion_hidden_size": 256}
    reference = randomize(
        transformers.DPTForDepthEstimation(transformers.DPTConfig(**wide)), seed=6, std=0.03
    )
    reference.save_pretrained(tmp_path)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    ours = DPTForDepthEstimation.from_pretrained(tmp_path)
    assert_close(ours(x).predicted_depth, reference(x).predicted_depth)
    # The reference hard-codes 256 channels and fails on any other width.
    narrow = DPTForDepthEstimation(DPTConfig(**SMALL, add_projection=True))
    assert narrow(x).predicted_depth.shape == (1, 64, 64)


def test_no_auxiliary_head_leaves_the_main_loss() -> None:
    """The reference raises UnboundLocalError here."""
    with_head = DPTForSemanticSegmentation(DPTConfig(**SMALL, auxiliary_loss_weight=0.0)).eval()
    without = DPTForSemanticSegmentation(DPTConfig(**SMALL, use_auxiliary_head=False)).eval()
    state = {k: v for k, v in with_head.state_dict().items() if not k.startswith("auxiliary")}
    without.load_state_dict(state)
    x, labels = torch.randn(1, 3, 32, 32), torch.randint(0, 2, (1, 32, 32))
    assert without(x, labels=labels).loss == with_head(x, labels=labels).loss


def test_activation_selu_and_a_function_run() -> None:
    """The document lists selu; the reference has no such name."""
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(8))
    by_name = randomize(DPTForDepthEstimation(DPTConfig(**SMALL, hidden_act="selu")), seed=9)
    given = DPTForDepthEstimation(DPTConfig(**SMALL, hidden_act=torch.nn.functional.selu)).eval()
    given.load_state_dict(by_name.state_dict())
    assert torch.equal(given(x).predicted_depth, by_name(x).predicted_depth)


def test_labels_train_both_tasks() -> None:
    """A few steps of gradient descent lower each loss."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    depth = torch.rand(2, 32, 32) + 0.5
    classes = torch.randint(0, 2, (2, 32, 32))
    for model, labels in (
        (DPTForDepthEstimation(DPTConfig(**SMALL)), depth),
        (DPTForDepthEstimation(DPTConfig(**SMALL, depth_estimation_type="metric")), depth),
        (DPTForSemanticSegmentation(DPTConfig(**SMALL)), classes),
    ):
        randomize(model, seed=1).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(12):
            loss = model(x, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0], type(model).__name__


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 4, 32, 32), "must be (batch, 3, height, width)"),
        ((3, 32, 32), "must be (batch, 3, height, width)"),
        ((1, 3, 7, 32), "less than one patch of 8x8"),
    ],
)
def test_wrong_inputs_are_refused(shape: tuple[int, ...], said: str) -> None:
    model = DPTForDepthEstimation(DPTConfig(**SMALL))
    with pytest.raises(ShapeError) as refused:
        model(torch.zeros(shape))
    assert said in str(refused.value)


def test_wrong_head_masks_and_classes_are_refused() -> None:
    model = DPTForSemanticSegmentation(DPTConfig(**SMALL, num_labels=1))
    with pytest.raises(ShapeError, match="head_mask"):
        model(torch.zeros(1, 3, 32, 32), head_mask=torch.ones(3, 2))
    for mask in (torch.ones(1), torch.ones(3), torch.ones(4, 3)):
        with pytest.raises(ShapeError, match=r"must be \(2,\) or \(4, 2\)"):
            model(torch.zeros(1, 3, 32, 32), head_mask=mask)
    with pytest.raises(ShapeError, match="pixel_values: None"):
        model()
    with pytest.raises(ConfigError, match="num_labels: 1"):
        model(torch.zeros(1, 3, 32, 32), labels=torch.zeros(1, 32, 32))
    few = DPTConfig(
        backbone_config={**DINOV2, "out_features": ["stage4"]}, neck_hidden_sizes=[8, 8, 8, 8]
    )
    with pytest.raises(ConfigError, match="the backbone's 1 out_features"):
        DPTForDepthEstimation(few)
    with pytest.raises(ConfigError, match=r"must begin with \[256, 512\]"):
        DPTForDepthEstimation(DPTConfig(is_hybrid=True))


def test_outputs_read_as_attributes_keys_and_positions() -> None:
    output = DPTForDepthEstimation(DPTConfig(**SMALL))(torch.zeros(1, 3, 32, 32))
    assert output["predicted_depth"] is output.predicted_depth is output[0]
    assert list(output) == ["predicted_depth"]
    assert "loss" not in output
    assert output.get("loss") is None
    assert len(output.to_tuple()) == 1
    with pytest.raises(KeyError):
        _ = output["loss"]
    as_tuple = DPTForDepthEstimation(DPTConfig(**SMALL, return_dict=False))
    assert isinstance(as_tuple(torch.zeros(1, 3, 32, 32)), tuple)


@pytest.mark.parametrize("kind", ["dpt", "dinov2", "beit", "vitdet", "swinv2"])
@torch.inference_mode()
def test_positions_may_be_learned_on_a_grid_that_is_not_square(kind: str, tmp_path: Path) -> None:
    if kind == "dpt":
        model = DPTModel(DPTConfig(**{**SMALL, "image_size": [32, 64]}))
        own = model.embeddings.position_embeddings
    else:
        sizes = {"image_size": [32, 64], "patch_size": 8, "num_hidden_layers": 2}
        width = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2}
        values = width if kind == "swinv2" else {"hidden_size": 16, "num_attention_heads": 2}
        absolute = {
            "beit": {"use_absolute_position_embeddings": True},
            "vitdet": {"pretrain_image_size": [32, 64]},
            "swinv2": {"use_absolute_embeddings": True},
        }
        if kind == "swinv2":
            sizes.pop("num_hidden_layers")
        model = AutoBackbone.from_config(
            {"model_type": kind, **sizes, **values, **absolute.get(kind, {})}
        )
        own = model.embeddings.position_embeddings
    assert own.shape[1] == 1 + 4 * 8
    randomize(model, seed=0)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    for input_hw in [(32, 64), (64, 32), (40, 48)]:
        x = torch.randn(1, 3, *input_hw, generator=torch.Generator().manual_seed(1))
        first = model(x, return_dict=False)[0]
        found = again(x, return_dict=False)[0]
        pairs = zip(first, found, strict=True) if isinstance(first, tuple) else [(first, found)]
        assert all(torch.equal(one, other) and one.isfinite().all() for one, other in pairs)


def test_positions_of_any_grid_are_resized_as_an_image_is() -> None:
    positions = torch.randn(1, 1 + 3 * 5, 4, generator=torch.Generator().manual_seed(0))
    assert resize_positions(positions, (3, 5), learned_hw=(3, 5), mode="bicubic") is positions
    found = resize_positions(positions, (7, 2), learned_hw=(3, 5), mode="bilinear")
    grid = positions[0, 1:].reshape(3, 5, 4).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(grid, size=(7, 2), mode="bilinear")
    assert torch.equal(found[0, 0], positions[0, 0])
    assert torch.equal(found[0, 1:], expected[0].flatten(1).T)


def test_loading_takes_the_documents_options_and_refuses_unknown_ones(tmp_path: Path) -> None:
    DPTModel(DPTConfig(**SMALL)).save_pretrained(tmp_path)
    assert DPTModel.from_pretrained(tmp_path).pooler is not None
    assert DPTModel.from_pretrained(tmp_path, add_pooling_layer=False).pooler is None
    half = DPTModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16, local_files_only=True)
    assert half.dtype == torch.bfloat16
    assert not {"torch_dtype", "local_files_only"} & half.config.to_dict().keys()
    changed = DPTModel.from_pretrained(tmp_path, output_hidden_states=True)
    assert changed.config.output_hidden_states
    with pytest.raises(ModelError, match="low_cpu_memory_usage: neither a value"):
        DPTModel.from_pretrained(tmp_path, low_cpu_memory_usage=True)


def test_a_module_works_as_activation() -> None:
    model = DPTModel(DPTConfig(**{**SMALL, "hidden_act": torch.nn.GELU()})).eval()
    named = DPTModel(DPTConfig(**{**SMALL, "hidden_act": "gelu"})).eval()
    named.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(model(x).last_hidden_state, named(x).last_hidden_state)


@torch.inference_mode()
def test_bare_parts_load_from_a_whole_models_folder(tmp_path: Path) -> None:
    """As in the document's example, which loads DPTModel from a depth checkpoint."""
    whole = randomize(DPTForDepthEstimation(DPTConfig(**SMALL)), seed=1)
    whole.save_pretrained(tmp_path / "vit")
    bare = DPTModel.from_pretrained(tmp_path / "vit")
    x = torch.randn(1, 3, 32, 32)
    found = bare(x, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(found, whole(x, output_hidden_states=True).hidden_states[-1])

    over = randomize(
        DPTForDepthEstimation(DPTConfig(backbone_config=DINOV2, neck_hidden_sizes=[8] * 4)), seed=2
    )
    over.save_pretrained(tmp_path / "dinov2")
    backbone = Dinov2Backbone.from_pretrained(tmp_path / "dinov2")
    x = torch.randn(1, 3, 28, 28)
    assert torch.equal(backbone(x).feature_maps[0], over.backbone(x).feature_maps[0])


def test_auto_backbone_is_not_built_itself() -> None:
    with pytest.raises(TypeError, match="from_config"):
        AutoBackbone()
    with pytest.raises(ConfigError, match="did you mean 'dinov2'"):
        AutoBackbone.from_config({"model_type": "dinov"})
    chosen = AutoBackbone.from_config(DINOV2, out_indices=[2])
    assert chosen.out_features == ["stage2"]


@pytest.mark.parametrize("sharded", [False, True], ids=["one-file", "sharded"])
def test_tensors_that_do_not_fit_are_all_listed(sharded: bool, tmp_path: Path) -> None:
    model = DPTForDepthEstimation(DPTConfig(**SMALL))
    model.save_pretrained(tmp_path, max_shard_size="20KB" if sharded else "1GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == sharded
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1, "weights are as readable as config.json"
    with pytest.raises(ModelError) as refused:
        DPTForSemanticSegmentation.from_pretrained(tmp_path, fusion_hidden_size=10)
    message = str(refused.value)
    for said in ("missing: head.head.1", "unexpected: head.head.0.bias", "misshapen:", "more"):
        assert said in message
    assert isinstance(refused.value, DptError)
    again = DPTForDepthEstimation.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_saving_again_replaces_the_other_layout(tmp_path: Path) -> None:
    for seed, size in enumerate(["1GB", "20KB", "1GB"]):
        model = randomize(DPTForDepthEstimation(DPTConfig(**SMALL)), seed=seed)
        model.save_pretrained(tmp_path, max_shard_size=size)
        again = DPTForDepthEstimation.from_pretrained(tmp_path).state_dict()
        assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


@NEEDS_PROC
def test_loading_makes_no_second_copy(tmp_path: Path) -> None:
    """Loading raises the peak by less than half of the weights: they stay mapped to the file."""
    config = DPTConfig(**{**SMALL, "hidden_size": 512, "intermediate_size": 8192})
    DPTForDepthEstimation(config).save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    script = PEAK_KIB + (
        "import sys\n"
        "from dptcli import DPTForDepthEstimation as Model, DPTConfig\n"
        "Model(DPTConfig(hidden_size=12, num_hidden_layers=1, backbone_out_indices=[0],\n"
        "    neck_hidden_sizes=[8]))\n"
        "before = peak_kib(); Model.from_pretrained(sys.argv[1])\n"
        "print((peak_kib() - before) * 1024)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert size > 100e6
    assert int(run.stdout) < size / 2


def test_public_names_resolve_and_unknown_ones_do_not() -> None:
    for name in dptcli.__all__:
        assert getattr(dptcli, name) is not None
    with pytest.raises(AttributeError, match="DPTForEverything"):
        _ = dptcli.DPTForEverything
