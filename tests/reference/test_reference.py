"""The tests that the reference runs over every model, run over ours: the imports are exchanged.

With DPT_REFERENCE_CONTROL=1 the same tests run over the reference's own classes, the control.
"""

import unittest
import warnings
from typing import Any, ClassVar

import pytest

# They are hundreds, of someone else's making: in .ci/run where the distribution can be had.
pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

import testers  # noqa: E402
from left_out import left_out_of  # noqa: E402
from source import fetch  # noqa: E402

if not testers.CONTROL:
    testers.lend_private_names()
WHY_NOT = fetch("1")
if WHY_NOT is not None:
    pytest.skip(f"the reference's own tests: {WHY_NOT}", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of marks that only the reference's own set-up knows
    from reference_tests import test_image_processing_common as image_tests
    from reference_tests.test_backbone_common import BackboneTesterMixin
    from reference_tests.test_configuration_common import ConfigTester
    from reference_tests.test_image_processing_common import (
        ImageProcessingTestMixin,
        prepare_image_inputs,
    )
    from reference_tests.test_modeling_common import ModelTesterMixin
image_tests.AutoImageProcessor = testers.named("AutoImageProcessor")


class Models(testers.OneResult, ModelTesterMixin):
    """What every family's case shares."""

    test_resize_embeddings = False
    tester: ClassVar[Any]

    def setUp(self) -> None:
        self.model_tester = self.tester
        self.config_tester = ConfigTester(
            self,
            config_class=self.tester.config_class,
            has_text_modality=False,
            common_properties=[],
            **self.tester.config_values,
        )

    def test_config(self) -> None:
        tester = self.config_tester
        tester.create_and_test_config_to_json_string()
        tester.create_and_test_config_to_json_file()
        tester.create_and_test_config_from_and_save_pretrained()
        tester.create_and_test_config_from_and_save_pretrained_subfolder()
        tester.check_config_can_be_init_without_params()


@left_out_of
class DPTModelTest(Models, unittest.TestCase):
    """A DPT over its plain ViT."""

    tester = testers.dpt()
    all_model_classes = tester.model_classes


@left_out_of
class DPTAutoBackboneTest(Models, unittest.TestCase):
    """A DPT over DINOv2."""

    tester = testers.dpt_over_dinov2()
    all_model_classes = tester.model_classes


@left_out_of
class DPTHybridTest(Models, unittest.TestCase):
    """A hybrid."""

    tester = testers.hybrid()
    all_model_classes = tester.model_classes


@left_out_of
class DepthAnythingTest(Models, unittest.TestCase):
    """Depth Anything."""

    tester = testers.depth_anything()
    all_model_classes = tester.model_classes


@left_out_of
class ZoeDepthTest(Models, unittest.TestCase):
    """ZoeDepth over BEiT."""

    tester = testers.zoedepth()
    all_model_classes = tester.model_classes


class Backbones(testers.OneResult, BackboneTesterMixin):
    """What every backbone's case shares."""

    tester: ClassVar[Any]

    def setUp(self) -> None:
        self.model_tester = self.tester


def _backbone_case(name: str) -> type[unittest.TestCase]:
    tester = testers.backbone(name)
    values = {
        "tester": tester,
        "all_model_classes": tester.model_classes,
        "config_class": tester.config_class,
        "has_attentions": name != "Bit",
        "__doc__": f"{name} as a backbone.",
    }
    return left_out_of(type(f"{name}BackboneTest", (Backbones, unittest.TestCase), values))


BeitBackboneTest = _backbone_case("Beit")
BitBackboneTest = _backbone_case("Bit")
Dinov2BackboneTest = _backbone_case("Dinov2")
Swinv2BackboneTest = _backbone_case("Swinv2")
VitDetBackboneTest = _backbone_case("VitDet")


class Images:
    """What the tests of processors ask for pictures with."""

    batch_size = 3
    num_channels = 3
    values: ClassVar[dict[str, Any]] = {
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.5, 0.5, 0.5],
        "size": {"height": 18, "width": 18},
        "do_resize": True,
        "do_normalize": True,
    }

    def prepare_image_processor_dict(self) -> dict[str, Any]:
        return dict(self.values)

    def expected_output_image_shape(self, _images: Any) -> tuple[int, int, int]:
        return self.num_channels, 18, 18

    def prepare_image_inputs(self, **wanted: Any) -> Any:
        wanted = {"equal_resolution": False, "numpify": False, "torchify": False, **wanted}
        return prepare_image_inputs(
            batch_size=self.batch_size,
            num_channels=self.num_channels,
            min_resolution=30,
            max_resolution=60,
            **wanted,
        )


class Processors(testers.OneResult, ImageProcessingTestMixin):
    """What every processor's case shares."""

    processor_class: ClassVar[Any]

    def setUp(self) -> None:
        self.image_processor_tester = Images()

    @property
    def image_processing_classes(self) -> dict[str, Any]:
        return {"pil": self.processor_class}

    @property
    def image_processor_dict(self) -> dict[str, Any]:
        return self.image_processor_tester.prepare_image_processor_dict()


@left_out_of
class DPTImageProcessorTest(Processors, unittest.TestCase):
    """DPT's processor."""

    processor_class = testers.named("DPTImageProcessor")


@left_out_of
class ZoeDepthImageProcessorTest(Processors, unittest.TestCase):
    """ZoeDepth's processor."""

    processor_class = testers.named("ZoeDepthImageProcessor")

    def setUp(self) -> None:
        super().setUp()
        tester = self.image_processor_tester
        tester.values = {
            **tester.values,
            "do_pad": False,
            "keep_aspect_ratio": False,
            "ensure_multiple_of": 1,
        }
