"""Tiny models for the reference's tests, and their inputs: ours, or its own as the control."""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import types
import unittest
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch

CONTROL = bool(os.environ.get("DPT_REFERENCE_CONTROL"))
IS_4 = importlib.metadata.version("transformers").startswith("4.")
SIDE = 32
NECK = {"neck_hidden_sizes": [16, 16, 16, 32], "fusion_hidden_size": 8}


def _stages() -> list[str]:
    return [f"stage{index}" for index in range(1, 5)]


def named(name: str) -> Any:
    """A public class of ours, or the reference's of that name."""
    module = importlib.import_module("transformers" if CONTROL else "dptcli")
    if CONTROL and name.endswith("ImageProcessor"):
        return getattr(module, f"{name}Pil", getattr(module, name))  # Pillow's has its own name
    return getattr(module, name)


def is_ours(name: str) -> bool:
    """Whether we have a public class of that name."""
    return hasattr(importlib.import_module("dptcli"), name)


def processors_of(case: type[unittest.TestCase]) -> dict[str, Any]:
    """The processor that a case is about, {backend: class}, where we have it."""
    name = case.__name__.replace("ImageProcessing", "ImageProcessor").removesuffix("Test")
    return {"pil": named(name)} if name.endswith("ImageProcessor") and is_ours(name) else {}


class AsWeHaveIt:
    """A case of theirs on what we have: its processor, and BEiT without a pyramid of its own."""

    def setUp(self) -> None:
        super().setUp()
        if getattr(self, "image_processing_classes", None):  # of the reference's registry
            self.image_processing_classes = processors_of(type(self))
        tester = getattr(self, "model_tester", None)
        if hasattr(tester, "add_fpn"):
            tester.add_fpn = False


def lend_private_names() -> None:
    """Give our classes, for these tests alone, what they reach through to what they test."""
    from dptcli.model.base_config import Config
    from dptcli.model.pretrained import Pretrained

    Config.is_encoder_decoder = False
    Config.sub_configs = {}
    Pretrained._from_config = classmethod(lambda cls, config, **_attention: cls(config))


class OneResult:
    """One result a test: thousands of subtests, one a parameter, would only be counted."""

    def subTest(self, *_about: Any, **_named: Any) -> Any:  # noqa: N802  # unittest's name
        return contextlib.nullcontext()


def _no_datasets(*_asked: Any, **_named: Any) -> Any:
    raise unittest.SkipTest("needs the package datasets")


@contextlib.contextmanager
def exchanged() -> Iterator[None]:
    """While it lasts, the reference's package gives our classes under their names."""
    import _pytest.doctest
    import _pytest.pathlib

    import dptcli

    if not hasattr(_pytest.doctest, "import_path"):  # which older versions take from there
        _pytest.doctest.import_path = _pytest.pathlib.import_path
    theirs = importlib.import_module("transformers")
    names = [] if CONTROL else [name for name in dir(dptcli) if hasattr(theirs, name)]
    # Its package may put another module in its own place while parts of it are first loaded.
    theirs = sys.modules["transformers"]
    with contextlib.ExitStack() as stack:
        if importlib.util.find_spec("datasets") is None:  # for the pictures of a few tests
            absent = types.ModuleType("datasets")
            absent.load_dataset = _no_datasets  # type: ignore[attr-defined]
            # Not mock.patch.dict: that would forget every other module that is first imported
            # meanwhile, and some of torch's cannot be imported twice.
            sys.modules["datasets"] = absent
            stack.callback(sys.modules.pop, "datasets")
        for name in names:
            if isinstance(getattr(dptcli, name), type):
                stack.enter_context(mock.patch.object(theirs, name, getattr(dptcli, name)))
        yield


@dataclass
class Tester:
    """What the reference's tests ask of a model's tester."""

    config_class: Any
    config_values: dict[str, Any]
    model_classes: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 2
    num_channels: int = 3
    image_size: int = SIDE
    num_labels: int = 3
    is_training: bool = True

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["attributes"][name]
        except KeyError:
            raise AttributeError(name) from None

    def get_config(self) -> Any:
        return self.config_class(**self.config_values)

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, Any]]:
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch_size, self.num_channels, self.image_size, self.image_size)
        return self.get_config(), {"pixel_values": torch.rand(shape, generator=generator)}

    def prepare_config_and_inputs(self) -> tuple[Any, Any, Any]:
        config, inputs = self.prepare_config_and_inputs_for_common()
        return config, inputs["pixel_values"], None


def _vit(num_layers: int = 4) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
        "image_size": SIDE,
    }


def _described(num_layers: int, patches: int) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
        "seq_length": patches + 1,
    }


def dpt() -> Tester:
    """The plain ViT, its bare model and both tasks."""
    values = {**_vit(), "intermediate_size": 37, "patch_size": 16, **NECK}
    values["backbone_out_indices"] = [0, 1, 2, 3]
    classes = ("DPTModel", "DPTForDepthEstimation", "DPTForSemanticSegmentation")
    return _tester("DPTConfig", values, classes, _described(4, 4))


def _dinov2(**stages: Any) -> dict[str, Any]:
    return named("Dinov2Config")(
        **_vit(), intermediate_size=37, patch_size=16, reshape_hidden_states=False, **stages
    ).to_dict()


def dpt_over_dinov2() -> Tester:
    """A DPT for depth over DINOv2."""
    backbone = _dinov2(out_features=_stages())
    values = {"backbone_config": backbone, **NECK}
    return _tester("DPTConfig", values, ("DPTForDepthEstimation",), _described(4, 4))


def hybrid() -> Tester:
    """A hybrid, its bare model and both tasks."""
    stem = {
        "global_padding": "same",
        "layer_type": "bottleneck",
        "depths": [3, 4, 9],
        "out_features": ["stage1", "stage2", "stage3"],
        "embedding_dynamic_padding": True,
        "hidden_sizes": [16, 16, 32, 32],
        "num_groups": 2,
    }
    values = {**_vit(), "intermediate_size": 37, "patch_size": 16, **NECK}
    values |= {"backbone_out_indices": [0, 1, 2, 3], "is_hybrid": True}
    values["backbone_config"] = named("BitConfig")(**stem).to_dict()
    values["backbone_featmap_shape"] = [1, 32, 20, 20]
    classes = ("DPTModel", "DPTForDepthEstimation", "DPTForSemanticSegmentation")
    return _tester("DPTConfig", values, classes, _described(4, 4))


def depth_anything() -> Tester:
    """Depth Anything over DINOv2."""
    backbone = _dinov2(out_features=_stages())
    values = {"backbone_config": backbone, "reassemble_hidden_size": 32, "patch_size": 16, **NECK}
    return _tester(
        "DepthAnythingConfig", values, ("DepthAnythingForDepthEstimation",), _described(4, 4)
    )


def zoedepth() -> Tester:
    """ZoeDepth over BEiT."""
    backbone = named("BeitConfig")(
        **_vit(),
        intermediate_size=37,
        patch_size=16,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    ).to_dict()
    values = {"backbone_config": backbone, "bottleneck_features": 8, "num_relative_features": 4}
    return _tester(
        "ZoeDepthConfig", {**values, **NECK}, ("ZoeDepthForDepthEstimation",), _described(4, 4)
    )


def backbone(name: str) -> Tester:
    """One backbone alone."""
    values: dict[str, Any] = {**_vit(), "patch_size": 4}
    if name == "Bit":
        values = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 2, 1], "num_groups": 1}
        values["embedding_size"] = 8
    if name == "Swinv2":
        values = {"image_size": SIDE, "patch_size": 4, "embed_dim": 16, "depths": [1, 2, 1]}
        values |= {"num_heads": [2, 2, 4], "window_size": 2}
    if name in ("Beit", "Bit", "Swinv2"):
        values["out_features"] = ["stage1", "stage2"]
    if name == "Beit":
        values["reshape_hidden_states"] = True
    return _tester(f"{name}Config", values, (f"{name}Backbone",), {})


def _tester(
    config: str, values: dict[str, Any], models: tuple[str, ...], attributes: dict[str, Any]
) -> Tester:
    return Tester(named(config), values, tuple(named(model) for model in models), attributes)
