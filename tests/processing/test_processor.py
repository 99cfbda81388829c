"""DPTImageProcessor on its own ground: values refused, sizes bounded, every mode, labels."""

import logging
import subprocess
import sys
from enum import Enum, StrEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dptcli.errors import ConfigError, ImageError
from dptcli.model.families.zoedepth.processor import ZoeDepthImageProcessor
from dptcli.processing.processor import DPTImageProcessor


def picture(height=30, width=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


BAD_VALUES = [
    ("do_resize", "yes"), ("do_rescale", 1), ("do_normalize", "true"), ("do_pad", 0),
    ("keep_aspect_ratio", "no"), ("do_reduce_labels", 2), ("do_convert_rgb", "RGB"),
    ("size", 0), ("size", -384), ("size", 384.0), ("size", True), ("size", "384"), ("size", []),
    ("size", [384]), ("size", (1, 2, 3)), ("size", {"height": 384}),
    ("size", {"shortest_edge": 384}),
    ("size", {"height": 0, "width": 3}), ("size", {"height": "3", "width": 3}),
    ("size", {"height": 3, "width": 3, "depth": 3}),
    ("resample", -1), ("resample", 6), ("resample", "cubic"), ("resample", 2.0),
    ("resample", True),
    ("ensure_multiple_of", 0), ("ensure_multiple_of", -14), ("ensure_multiple_of", 1.5),
    ("size_divisor", 0), ("size_divisor", "14"), ("size_divisor", 14.0),
    ("rescale_factor", 0), ("rescale_factor", -1.0), ("rescale_factor", float("nan")),
    ("rescale_factor", float("inf")), ("rescale_factor", "1/255"), ("rescale_factor", True),
    ("image_mean", []), ("image_mean", "0.5"), ("image_mean", [0.5, None, 0.5]),
    ("image_mean", [0.5, float("nan"), 0.5]), ("image_mean", [0.5, 0.5]), ("image_mean", {"r": 1}),
    ("image_std", 0), ("image_std", [0.5, 0.0, 0.5]), ("image_std", [0.5, -0.5, 0.5]),
    ("max_long_side", -1), ("max_long_side", 2.5), ("max_long_side", "big"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD_VALUES, ids=[f"{n}={v!r}" for n, v in BAD_VALUES])
def test_wrong_values_are_refused_by_field_value_and_what_is_allowed(name, value):
    with pytest.raises(ConfigError, match=r"allowed|give both") as caught:
        DPTImageProcessor(**{name: value})
    assert name in str(caught.value) or name.startswith("image_")
    with pytest.raises(ConfigError):
        DPTImageProcessor()(picture(), **{name: value})
    with pytest.raises(ConfigError):
        setattr(DPTImageProcessor(), name, value)


def test_padding_without_a_divisor_is_refused_when_it_is_needed():
    ours = DPTImageProcessor(do_pad=True)
    with pytest.raises(ConfigError, match="size_divisor"):
        ours(picture())
    assert ours(picture(), size_divisor=100, return_tensors="np").pixel_values.shape[2:] == (
        400,
        400,
    )


@pytest.mark.parametrize("kind", ["tf", "jax", "mlx", "torch", 3])
def test_other_frameworks_tensors_are_refused(kind):
    with pytest.raises(ConfigError, match=r"return_tensors.*'np' or 'pt'"):
        DPTImageProcessor()(picture(), return_tensors=kind)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data_format", "none"),
        ("data_format", "HWC"),
        ("input_data_format", "CHW"),
        ("data_format", 3),
    ],
)
def test_wrong_data_formats_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        DPTImageProcessor()(picture(), **{name: value})


BAD_IMAGES = {
    "nothing": ([], ConfigError),
    "None": (None, ConfigError),
    "a path of no image": (str(Path(__file__).parent / "no image.jpg"), ImageError),
    "a broken data URL": ("data:image/png;base64,not", ImageError),
    "a list with None": ([picture(), None], ConfigError),
    "five axes": (np.zeros((1, 1, 4, 4, 3)), ConfigError),
    "one axis": (np.zeros(4), ConfigError),
    "no pixels": (np.zeros((0, 4, 3), np.uint8), ImageError),
    "two channels": (np.zeros((9, 9, 2), np.uint8), ImageError),
    "NaN": (np.full((9, 9, 3), np.nan), ImageError),
    "infinity": (np.full((9, 9, 3), np.inf), ImageError),
    "too large": (np.full((9, 9, 3), 300.0), ImageError),
    "negative": (np.full((9, 9, 3), -1), ImageError),
    "between scales": (np.full((9, 9, 3), 1.5), ImageError),
    "text": (np.full((9, 9, 3), "x"), ImageError),
    "booleans": (np.zeros((9, 9, 3), bool), ImageError),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_what_is_no_image_is_refused(kind):
    images, error = BAD_IMAGES[kind]
    with pytest.raises(error, match="image"):
        DPTImageProcessor()(images)


@pytest.mark.parametrize(
    "array",
    [picture().astype(np.float32), picture()[..., :2], picture()[None], picture()[..., 0]],
    ids=["float", "two channels", "batch", "grey"],
)
def test_prepare_takes_rgb_bytes_alone(array):
    with pytest.raises(ImageError, match=r"must be RGB, uint8 \(height, width, 3\)"):
        DPTImageProcessor().prepare(array)


@pytest.mark.parametrize(
    ("source_hw", "options", "expected"),
    [
        ((480, 640), {}, (384, 384)),
        ((480, 640), {"keep_aspect_ratio": True}, (384, 512)),
        ((480, 640), {"keep_aspect_ratio": True, "size": 518, "ensure_multiple_of": 14},
         (518, 686)),
        ((400, 3000), {"keep_aspect_ratio": True}, (384, 2880)),
        ((400, 4200), {"keep_aspect_ratio": True}, (384, 4032)),
        ((400, 40000), {"keep_aspect_ratio": True}, (41, 4096)),
        ((400, 40000), {"keep_aspect_ratio": True, "max_long_side": 0}, (384, 38400)),
        ((400, 3000), {"keep_aspect_ratio": True, "max_long_side": 1000}, (133, 1000)),
        ((400, 3000), {"keep_aspect_ratio": True, "max_long_side": 1000, "ensure_multiple_of": 32},
         (128, 992)),
        ((400, 3000), {"keep_aspect_ratio": True, "max_long_side": 5}, (51, 384)),
        ((3000, 100), {"keep_aspect_ratio": True, "ensure_multiple_of": 32}, (384, 32)),
        ((3000, 1), {"keep_aspect_ratio": True}, (384, 1)),
        ((50000, 50), {"keep_aspect_ratio": True, "size": 64, "ensure_multiple_of": 14},
         (4088, 14)),
        ((480, 640), {"size": 3, "ensure_multiple_of": 14}, (14, 14)),
        ((480, 640), {"do_resize": False}, (480, 640)),
        ((480, 640), {"do_resize": False, "do_pad": True, "size_divisor": 14}, (490, 644)),
    ],
    ids=str,
)  # fmt: skip
def test_the_network_sees_these_sizes(source_hw, options, expected):
    assert DPTImageProcessor(**options).network_hw(source_hw) == expected


def test_a_limited_long_side_is_said_in_the_log(caplog):
    ours = DPTImageProcessor(keep_aspect_ratio=True)
    with caplog.at_level(logging.WARNING, logger="dptcli"):
        ours.network_hw((400, 3000))
        assert not caplog.records
        ours.network_hw((400, 40000))
    assert "max_long_side=4096 makes it 41×4096" in caplog.text


@pytest.mark.parametrize(
    "mode", ["L", "LA", "P", "PA", "RGBA", "CMYK", "1", "I;16", "I", "F", "YCbCr"]
)
def test_every_pillow_mode_becomes_three_channels(mode):
    grey = Image.fromarray(np.full((20, 30), 100, np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 30), 100 * 256 + 7, np.uint16))
    elif mode == "PA":
        image = grey.convert("LA").convert("PA")
    else:
        image = grey.convert(mode)
    ours = DPTImageProcessor(do_resize=False, do_rescale=False, do_normalize=False)
    (values,) = ours(image).pixel_values
    assert values.shape == (3, 20, 30)
    if mode == "1":
        assert set(np.unique(values)) <= {0, 255}
    else:
        assert np.abs(values.astype(int) - 100).max() <= 1


def test_transparency_lies_over_white():
    image = np.zeros((5, 6, 4), np.uint8)
    image[:, 3:, 3] = 255
    ours = DPTImageProcessor(do_resize=False, do_normalize=False)
    for given, scale in ((Image.fromarray(image), 1), (image, 1), (image / 255.0, 255)):
        values = ours(given, do_convert_rgb=True).pixel_values[0] * scale
        assert np.allclose(values[:, :, :3], 1, atol=1e-6)
        assert np.allclose(values[:, :, 3:], 0, atol=1e-6)


def test_grey_arrays_become_three_equal_channels():
    grey = picture()[..., 0]
    for given in (grey, grey[..., None], grey[None], torch.from_numpy(grey)):
        (values,) = DPTImageProcessor()(given).pixel_values
        assert values.shape == (3, 384, 384)
        assert np.array_equal(values[0], values[2])


@pytest.mark.parametrize("channels", [1, 4])
def test_an_arrays_channels_stay_where_nothing_needs_three(channels):
    image = np.random.default_rng(0).integers(0, 256, (20, 24, channels), dtype=np.uint8)
    for ours in (
        DPTImageProcessor(size=12, image_mean=0.5, image_std=0.5),
        DPTImageProcessor(size=12, do_normalize=False),
    ):
        assert ours(image).pixel_values[0].shape == (channels, 12, 12)
        assert ours(image, do_convert_rgb=True).pixel_values[0].shape == (3, 12, 12)
        assert ours(Image.fromarray(image.squeeze())).pixel_values[0].shape == (3, 12, 12)


def test_sizes_and_means_change_in_place_and_are_checked_where_they_are_used():
    ours, other = DPTImageProcessor(), DPTImageProcessor()
    ours.size["height"] = 16
    ours.image_mean[0] = 0.25
    values = ours(np.zeros((30, 40, 3), np.uint8)).pixel_values[0]
    assert values.shape == (3, 16, 384)
    assert values[0, 0, 0] == -0.5
    assert ours.to_dict()["size"] == {"height": 16, "width": 384}
    assert other == DPTImageProcessor()
    ours.size["height"] = -1
    with pytest.raises(ConfigError, match="size is -1"):
        ours(np.zeros((30, 40, 3), np.uint8))


def test_other_numbers_of_channels_follow_the_means():
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 5), dtype=np.uint8)
    ours = DPTImageProcessor(size=12, image_mean=[0.5] * 5, image_std=[0.2] * 5)
    (values,) = ours(image).pixel_values
    assert values.shape == (5, 12, 12)
    alone = DPTImageProcessor(size=12, image_mean=[0.5], image_std=[0.2])(
        image[..., 3]
    ).pixel_values[0]
    assert np.array_equal(values[3], alone[0])


def test_untouched_bytes_stay_bytes_and_prepare_gives_floats():
    ours = DPTImageProcessor(do_rescale=False, do_normalize=False, size=16)
    assert ours(picture()).pixel_values[0].dtype == np.uint8
    assert ours.prepare(picture()).pixel_values.dtype == np.float32


def test_inputs_are_not_changed():
    image, labels = picture(), picture()[..., 0]
    before = image.copy(), labels.copy()
    DPTImageProcessor(do_reduce_labels=True)(image, labels)
    assert np.array_equal(image, before[0])
    assert np.array_equal(labels, before[1])


@pytest.mark.parametrize("kind", [None, "np", "pt"])
def test_results_come_as_asked(kind):
    result = DPTImageProcessor(size=16)([picture(), picture(9, 9)], return_tensors=kind)
    assert result.pixel_values is result["pixel_values"]
    assert list(result) == ["pixel_values"]
    expected = {None: list, "np": np.ndarray, "pt": torch.Tensor}[kind]
    assert isinstance(result.pixel_values, expected)
    assert len(result.pixel_values) == 2
    with pytest.raises(AttributeError):
        _ = result.labels


def test_enums_of_other_libraries_are_understood():
    class Kind(Enum):
        PYTORCH = "pt"

    class Channel(StrEnum):
        LAST = "channels_last"

    result = DPTImageProcessor(size=16, resample=Image.Resampling.BILINEAR)(
        picture(), return_tensors=Kind.PYTORCH, data_format=Channel.LAST
    )
    assert result.pixel_values.shape == (1, 16, 16, 3)
    assert result.pixel_values.is_contiguous()


def test_a_batch_moves_to_a_dtype_but_its_labels_stay_integers():
    ours = DPTImageProcessor(size=16)
    batch = ours(picture(), picture()[..., 0], return_tensors="pt").to(torch.float16)
    assert batch.pixel_values.dtype == torch.float16
    assert batch.labels.dtype == torch.int64


def test_label_maps_keep_their_classes_and_pad_with_the_ignored_label():
    labels = np.random.default_rng(0).choice([3, 70, 1000], (30, 40))
    ours = DPTImageProcessor(size=50, do_pad=True, size_divisor=64)
    result = ours(picture(), labels, return_tensors="np")
    assert result.labels.shape == (1, *result.pixel_values.shape[2:])
    assert set(np.unique(result.labels)) == {3, 70, 255, 1000}
    assert (result.labels[0, :7] == 255).all()
    assert (result.labels[0, 7:57, 7:57] != 255).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((5, 5), np.uint8), r"shape \(5, 5\) for an image of \(30, 40\)"),
        (np.zeros((40, 30), np.uint8), r"shape \(40, 30\) for an image of \(30, 40\)"),
        ("map.png", "images holds a str"),
        (np.zeros((2, 30, 40), np.uint8), "2 maps for 1 images"),
        (Image.new("RGB", (40, 30)), r"allowed: \(H, W\)"),
        ([], "empty"),
    ],
    ids=["size", "turned", "path", "count", "colours", "none"],
)
def test_label_maps_that_do_not_fit_are_refused(labels, message):
    with pytest.raises((ConfigError, ImageError), match=message):
        DPTImageProcessor()(picture(), segmentation_maps=labels)


def test_arrays_are_processed_without_torch():
    program = (
        "import sys, numpy as np; from dptcli.processing.processor import DPTImageProcessor as P;"
        "P()(np.zeros((9, 9, 3), np.uint8), return_tensors='np'); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "processor",
    [
        DPTImageProcessor(size=64),
        DPTImageProcessor(size=64, keep_aspect_ratio=True, ensure_multiple_of=14, resample=2),
        DPTImageProcessor(size=40, do_pad=True, size_divisor=32),
        DPTImageProcessor(do_resize=False, do_pad=True, size_divisor=14, do_normalize=False),
        ZoeDepthImageProcessor(size=64),
    ],
    ids=["plain", "aspect", "padded", "own size", "zoe"],
)
@pytest.mark.parametrize("hw", [(30, 40), (130, 97), (64, 64)], ids=str)
def test_a_pillow_picture_is_prepared_as_its_array_is(processor, hw):
    rgb = picture(*hw)
    expected, found = processor.prepare(rgb), processor.prepare(Image.fromarray(rgb))
    np.testing.assert_array_equal(found.pixel_values, expected.pixel_values)
    for name in ("source_hw", "resized_hw", "padding", "pads_source", "padded_hw"):
        assert getattr(found, name) == getattr(expected, name), name


def test_a_picture_of_another_mode_is_refused():
    with pytest.raises(ImageError, match="mode RGB"):
        DPTImageProcessor().prepare(Image.new("RGBA", (4, 4)))


def test_the_documents_arguments_go_by_position_and_unknown_ones_are_named(caplog):
    processor = DPTImageProcessor(size={"height": 64, "width": 64})
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    by_position = processor.preprocess(picture, True, {"height": 32, "width": 32})
    by_name = processor(picture, do_resize=True, size={"height": 32, "width": 32}, foo=1)
    np.testing.assert_array_equal(by_position["pixel_values"], by_name["pixel_values"])
    assert caplog.messages == ["preprocess: unknown 'foo'"]


@pytest.mark.parametrize("kind", ["array", "picture", "tensor"])
def test_a_mask_of_booleans_is_a_label_map(kind):
    mask = np.zeros((48, 64), bool)
    mask[10:] = True
    given = {
        "array": mask,
        "picture": Image.fromarray(mask),
        "tensor": torch.from_numpy(mask),
    }[kind]
    processor = DPTImageProcessor(size={"height": 48, "width": 64})
    labels = processor(np.zeros((48, 64, 3), np.uint8), given)["labels"][0]
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, mask)


def test_labels_beyond_32_bits_are_refused():
    labels = np.zeros((30, 40), np.int64)
    labels[0, 0] = 2**40
    with pytest.raises(ImageError, match="labels from 0 to 1099511627776"):
        DPTImageProcessor()(picture(), labels)
