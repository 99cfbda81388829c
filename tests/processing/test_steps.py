"""The processor as recipes use it: single steps, paths and addresses, batches, scores."""

import base64
import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from site_on_loopback import serving

from dptcli.errors import ConfigError, ImageError
from dptcli.model.families.glpn.processor import GLPNImageProcessor
from dptcli.model.families.zoedepth.processor import ZoeDepthImageProcessor
from dptcli.processing.batch import BatchFeature
from dptcli.processing.processor import DPTImageProcessor


def planes(channels=3, height=30, width=40):
    return np.random.default_rng(0).integers(0, 256, (channels, height, width), dtype=np.uint8)


def reference():
    """The reference's own processor over Pillow, and its kind of size."""
    pytest.importorskip("transformers")
    from transformers.image_utils import SizeDict
    from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

    return DPTImageProcessorPil(), SizeDict


def test_resizing_alone_equals_the_references():
    theirs, size_dict = reference()
    rules = {"keep_aspect_ratio": True, "ensure_multiple_of": 14}
    for image in (planes(), planes().astype(np.float32) / 255, planes(1)):
        expected = theirs.resize(image, size_dict(height=56, width=56), 3, **rules)
        found = DPTImageProcessor().resize(image, {"height": 56, "width": 56}, **rules)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_rescaling_and_normalising_alone_equal_the_references():
    theirs, _ = reference()
    ours = DPTImageProcessor()
    np.testing.assert_array_equal(ours.rescale(planes(), 0.1), theirs.rescale(planes(), 0.1))
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    for image in (planes(), planes() / 255):
        expected = theirs.normalize(image, mean, std)
        np.testing.assert_allclose(ours.normalize(image, mean, std), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [(20, 20), (50, 61), (10, 60), (33, 17)], ids=str)
def test_the_middle_equals_the_references(size):
    theirs, size_dict = reference()
    expected = theirs.center_crop(planes(), size_dict(height=size[0], width=size[1]))
    np.testing.assert_array_equal(DPTImageProcessor().center_crop(planes(), size), expected)


def test_padding_alone_equals_the_references_and_reflects_for_zoedepth():
    theirs, _ = reference()
    found = DPTImageProcessor().pad_image(planes(), 32)
    np.testing.assert_array_equal(found, theirs.pad_image(planes(), 32))
    reflected = ZoeDepthImageProcessor().pad_image(planes())
    rows = (reflected.shape[1] - 30) // 2
    np.testing.assert_array_equal(reflected[:, rows : rows + 30, 13:-13], planes())
    assert reflected[:, 0].min(axis=0).max() > 0


def test_a_step_keeps_the_images_layout_unless_told_otherwise():
    last = np.moveaxis(planes(), 0, -1)
    ours = DPTImageProcessor()
    assert ours.resize(last, 20).shape == (20, 20, 3)
    assert ours.resize(last, 20, data_format="channels_first").shape == (3, 20, 20)
    assert ours.resize(Image.fromarray(last), 20).shape == (20, 20, 3)
    assert ours.resize(planes(), 20, data_format="channels_last").shape == (20, 20, 3)
    np.testing.assert_array_equal(
        ours.resize(last, 20), np.moveaxis(ours.resize(planes(), 20), 0, 2)
    )
    assert DPTImageProcessor(size=8).resize(planes()).shape == (3, 8, 8)
    with pytest.raises(ConfigError, match="size"):
        ours.resize(planes(), 0)
    with pytest.raises(ConfigError, match="keeps each image's own"):
        GLPNImageProcessor().resize(planes(), 20)


@pytest.mark.parametrize("number", range(6))
def test_filters_have_names(number):
    name = Image.Resampling(number).name
    ours = DPTImageProcessor(resample=name.lower(), size=20)
    assert ours.resample == number
    expected = DPTImageProcessor(size=20)(planes(), resample=number).pixel_values
    np.testing.assert_array_equal(ours(planes()).pixel_values, expected)
    np.testing.assert_array_equal(
        DPTImageProcessor(size=20)(planes(), resample=name).pixel_values, expected
    )


def test_half_floats_that_nothing_rescales_equal_the_references():
    theirs, _ = reference()
    image = (planes().astype(np.float16) * np.float16(0.37)).astype(np.float16)
    options = {"do_resize": False, "do_rescale": False, "image_mean": [20.0] * 3}
    expected = theirs(image, **options, return_tensors="np")["pixel_values"]
    found = DPTImageProcessor()(image, **options, return_tensors="np").pixel_values
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_paths_addresses_and_data_urls_are_images(tmp_path):
    picture = Image.fromarray(np.moveaxis(planes(), 0, -1))
    path = tmp_path / "photo.png"
    picture.save(path)
    turned = io.BytesIO()
    picture.convert("L").save(turned, "PNG")
    ours = DPTImageProcessor(size=32)
    expected = ours(picture, return_tensors="np").pixel_values
    inline = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    with serving(tmp_path) as address:
        given = [path, str(path), f"{address}/photo.png", inline]
        found = ours(given, return_tensors="np").pixel_values
        with pytest.raises(ImageError, match="404"):
            ours(f"{address}/absent.png")
    for one in found:
        np.testing.assert_array_equal(one, expected[0])


def test_a_label_map_of_another_size_follows_its_image():
    labels = np.zeros((15, 20), np.uint8)
    labels[:, 10:] = 7
    ours = DPTImageProcessor(size={"height": 60, "width": 80})
    result = ours(planes(), labels, return_tensors="np")
    assert result.labels.shape == (1, 60, 80)
    assert (result.labels[0, :, :40] == 0).all()
    assert (result.labels[0, :, 40:] == 7).all()
    kept = ours(planes(), labels, do_resize=False)
    np.testing.assert_array_equal(kept.labels[0], labels)


@pytest.mark.parametrize("targets", [None, [(9, 14)]], ids=["own size", "resized"])
def test_scores_come_beside_the_labels_as_in_the_reference(targets):
    theirs, _ = reference()
    outputs = BatchFeature(
        logits=torch.randn(1, 5, 6, 8, generator=torch.Generator().manual_seed(0))
    )
    post_process = {"target_sizes": targets, "return_segmentation_scores": True}
    [expected] = theirs.post_process_semantic_segmentation(outputs, **post_process)
    [found] = DPTImageProcessor().post_process_semantic_segmentation(outputs, **post_process)
    assert torch.equal(found.segmentation, expected.segmentation)
    assert torch.equal(found.segmentation_scores, expected.segmentation_scores)
    [plain] = DPTImageProcessor().post_process_semantic_segmentation(outputs, targets)
    assert torch.equal(found["segmentation"], plain)


def test_a_batch_is_handled_as_the_references():
    ours = DPTImageProcessor(size=16)
    batch = ours([planes(), planes()])
    assert batch.data is batch
    assert batch.convert_to_tensors() is batch
    assert isinstance(batch.pixel_values, list)
    batch.convert_to_tensors("pt")
    assert torch.equal(batch.pixel_values, ours([planes()] * 2, return_tensors="pt").pixel_values)
    made = BatchFeature({"labels": [np.zeros(2, int)]}, tensor_type="np")
    assert made.labels.shape == (1, 2)
    tensors = BatchFeature(maps=[torch.zeros(2), torch.zeros(3)], note="kept")
    assert [one.dtype for one in tensors.to(torch.float16)["maps"]] == [torch.float16] * 2
    assert pickle.loads(pickle.dumps(made)).labels.shape == (1, 2)
    with pytest.raises(ConfigError, match="needs one shape"):
        tensors.convert_to_tensors("np")
    with pytest.raises(ConfigError, match="'tf'"):
        batch.convert_to_tensors("tf")
