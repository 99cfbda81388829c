"""Maps brought back to the picture's size: crop, depth, labels in bounded memory, target sizes."""

import random
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from logits import draw_logits
from process import NEEDS_PROC, PEAK_KIB, environment

from dptcli.errors import ConfigError, ModelError, UsageError
from dptcli.processing.postprocess import crop_padding, label_map, resize_depth, target_hw
from dptcli.processing.processor import DPTImageProcessor
from dptcli.processing.target_size import parse_target_size


def one_shot_labels(logits, hw):
    return F.interpolate(logits[None], size=hw, mode="bilinear", align_corners=False)[0].argmax(0)


KINDS = ("noise", "ties", "regions", "large", "near")


@pytest.mark.parametrize("seed", range(60))
def test_labels_in_bands_are_exactly_those_of_one_shot(seed):
    rng = random.Random(seed)
    shape = (rng.choice([1, 2, 3, 5, 19]), rng.randint(1, 70), rng.randint(1, 70))
    hw = (rng.randint(1, 300), rng.randint(1, 300))
    logits = draw_logits(KINDS[seed % len(KINDS)], shape, seed)
    max_bytes = rng.choice([1_000, 10_000, 500_000, 2**27])
    labels = label_map(logits, hw, max_bytes=max_bytes)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), one_shot_labels(logits, hw))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_half_a_megapixel_are_exactly_those_of_one_shot(kind, threads):
    logits = draw_logits(kind, (12, 60, 80), 3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        labels = label_map(logits, (809, 613), max_bytes=2**22)
        assert torch.equal(labels.long(), one_shot_labels(logits, (809, 613)))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_labels_in_other_precisions_are_those_of_one_shot(dtype):
    logits = draw_logits("regions", (9, 31, 23), 1).to(dtype)
    labels = label_map(logits, (301, 299), max_bytes=10_000)
    assert torch.equal(labels.long(), one_shot_labels(logits, (301, 299)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_labels_beside_values_that_are_not_finite_are_those_of_one_shot(value):
    logits = torch.randn((6, 20, 30), generator=torch.Generator().manual_seed(0))
    logits[2, 5:9, 10:20] = value
    labels = label_map(logits, (333, 350))
    assert torch.equal(labels.long(), one_shot_labels(logits, (333, 350)))


def test_labels_of_views_and_of_many_classes_are_those_of_one_shot():
    logits = torch.randn((300, 20, 24), generator=torch.Generator().manual_seed(0))
    labels = label_map(logits, (200, 190))
    assert labels.dtype == torch.int64
    assert torch.equal(labels, one_shot_labels(logits, (200, 190)))
    view = logits.permute(0, 2, 1)[::2]
    expected = one_shot_labels(view.contiguous(), (200, 190))
    assert torch.equal(label_map(view, (200, 190)).long(), expected)


@NEEDS_PROC
@pytest.mark.parametrize(
    ("kind", "hw"), [("regions", (3000, 4000)), ("noise", (3000, 700))], ids=["12 MP", "noise"]
)
def test_150_classes_at_12_megapixels_stay_under_a_gigabyte(kind, hw):
    # A process of its own: its peak is then this step's. Resizing at once would take 7.2 GB.
    # In noise every class takes part everywhere: the most memory per band, and the slowest.
    program = f"""{PEAK_KIB}
import torch
torch.set_num_threads(2)
from logits import draw_logits
from dptcli.processing.postprocess import label_map
logits = draw_logits({kind!r}, (150, 120, 160), 0)
before = peak_kib()
labels = label_map(logits, {hw})
assert labels.shape == {hw}
print(before, peak_kib())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    before_kib, peak_kib = map(int, done.stdout.split())
    assert (peak_kib - before_kib) / 2**20 < 0.7
    assert peak_kib / 2**20 < 1.0


@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 0, 4), (4, 4)], ids=str)
def test_logits_without_classes_or_pixels_are_refused(shape):
    with pytest.raises(ModelError, match="logits have shape"):
        label_map(torch.zeros(shape), (8, 8))


@pytest.mark.parametrize("hw", [(0, 5), (5, -1)], ids=str)
def test_sizes_without_pixels_are_refused(hw):
    with pytest.raises(ConfigError, match="target size"):
        label_map(torch.zeros(2, 4, 4), hw)
    with pytest.raises(ConfigError, match="target size"):
        resize_depth(torch.zeros(4, 4), hw)


def test_depth_is_resized_bicubically_in_float32():
    depth = torch.rand((37, 53), generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(depth[None, None], (90, 41), mode="bicubic", align_corners=False)[0, 0]
    assert torch.equal(resize_depth(depth, (90, 41)), expected)
    half = resize_depth(depth.bfloat16(), (90, 41))
    assert half.dtype == torch.float32
    assert resize_depth(depth, (37, 53)) is depth


@pytest.mark.parametrize(
    ("source_hw", "hw"),
    [((77, 103), (1500, 1001)), ((3, 300), (1100, 1003)), ((1, 5), (1024, 1024))],
    ids=str,
)
def test_a_large_depth_map_has_the_values_of_torchs_own_bicubic(source_hw, hw):
    depth = 5 + torch.randn(source_hw, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(depth[None, None], hw, mode="bicubic", align_corners=False)[0, 0]
    resized = resize_depth(depth, hw)
    assert resized.dtype == torch.float32
    # Sums in another order: a few roundings of values around 10.
    torch.testing.assert_close(resized, expected, rtol=0, atol=1e-5)
    depth[0, 0] = torch.nan
    holes = F.interpolate(depth[None, None], hw, mode="bicubic", align_corners=False)[0, 0].isnan()
    assert torch.equal(resize_depth(depth, hw).isnan(), holes)


@pytest.mark.parametrize("hw", [(133, 171), (1100, 1300)], ids=["torch's kernel", "ours"])
def test_bicubic_overshoot_is_clamped_where_asked(hw):
    # A near object before a far background: bicubic dips below 0 beside it, the uint8 wrap of old.
    depth = torch.zeros(20, 20)
    depth[5:15, 5:15] = 100.0
    plain = resize_depth(depth, hw)
    assert plain.min() < -1
    assert plain.max() > 101
    clamped = resize_depth(depth, hw, clamp_overshoot=True)
    assert clamped.min() == 0
    assert clamped.max() == 100
    inside = (plain >= 0) & (plain <= 100)
    assert torch.equal(clamped[inside], plain[inside])


class WithoutBicubic(torch.Tensor):
    """A tensor of a device that cannot resize, as MPS could not: only its .cpu() copy can."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is F.interpolate:
            raise NotImplementedError("upsample_bicubic2d is not implemented for this device")
        if func is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_device_without_bicubic_resizes_on_the_cpu():
    depth = torch.rand((12, 9), generator=torch.Generator().manual_seed(0))
    result = resize_depth(depth.as_subclass(WithoutBicubic), (30, 40))
    assert torch.equal(result.as_subclass(torch.Tensor), resize_depth(depth, (30, 40)))


def ramp(hw):
    """Each pixel holds its own centre's place: 1000 × its share of the height + of the width."""
    rows = (torch.arange(hw[0]) + 0.5) / hw[0]
    columns = (torch.arange(hw[1]) + 0.5) / hw[1]
    return rows[:, None] * 1000 + columns[None]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("prediction_hw", [(490, 644), (576, 736), (245, 322), (70, 92)], ids=str)
def test_the_padding_is_cut_off_where_it_lies_in_a_prediction_of_any_size(prediction_hw, mode):
    # 480×640 padded to multiples of 14; DPT over DINOv2 predicts 576×736 for it.
    padding, network_hw = (5, 5, 2, 2), (490, 644)
    cropped = crop_padding(ramp(prediction_hw), padding=padding, network_hw=network_hw, mode=mode)
    assert cropped.shape == (480, 640)
    # Each picture pixel must hold its own place in the padded input.
    expected = ramp(network_hw)[5:485, 2:642]
    inner = (slice(10, -10), slice(10, -10))  # bicubic and bilinear flatten a ramp at its ends
    # One row of the input counts 1000 / 490. Torch's bicubic (a = -0.75) bends a ramp.
    row = 1000 / 490
    tolerance = 0.01 * row if mode == "bilinear" else 0.1 * row * max(490 / prediction_hw[0], 1)
    assert (cropped - expected)[inner].abs().max() < tolerance


def test_a_prediction_of_the_inputs_size_is_cut_without_a_copy():
    prediction = torch.arange(2 * 9 * 8.0).reshape(2, 9, 8)
    cropped = crop_padding(prediction, padding=(1, 2, 0, 3), network_hw=(9, 8))
    assert torch.equal(cropped, prediction[:, 1:7, 0:5])
    assert cropped.untyped_storage().data_ptr() == prediction.untyped_storage().data_ptr()


def test_without_padding_the_prediction_stays_as_it_is():
    prediction = torch.rand(2, 3, 7, 9)
    assert crop_padding(prediction, padding=(0, 0, 0, 0), network_hw=(14, 14)) is prediction


def test_leading_axes_survive_the_crop():
    prediction = torch.rand(2, 3, 8, 8)
    cropped = crop_padding(prediction, padding=(1, 0, 0, 1), network_hw=(16, 16))
    assert cropped.shape == (2, 3, 15, 15)


@pytest.mark.parametrize("padding", [(5, 5, 0, 0), (-1, 0, 0, 0)], ids=str)
def test_padding_that_leaves_nothing_is_refused(padding):
    with pytest.raises(ConfigError, match="padding is"):
        crop_padding(torch.rand(10, 10), padding=padding, network_hw=(10, 10))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("480x640", (480, 640)),
        (" 480 X 640 ", (480, 640)),
        ("480×640", (480, 640)),
        ("1x65535", (1, 65535)),
        ("original", (3000, 4000)),
        ("ORIGINAL", (3000, 4000)),
        ("model", (384, 512)),
        ("480", (480, 640)),
        ("1", (1, 1)),
        ("3000", (3000, 4000)),
    ],
)
def test_target_sizes_mean_these_pixels(spec, expected):
    assert target_hw((3000, 4000), (384, 512), spec) == expected
    assert target_hw((3000, 4000), (384, 512), parse_target_size(spec)) == expected


@pytest.mark.parametrize(
    ("source_hw", "short", "expected"),
    [((4000, 3000), "480", (640, 480)), ((7, 7), "5", (5, 5)), ((3, 1000), "1", (1, 333))],
    ids=str,
)
def test_the_short_side_keeps_the_aspect(source_hw, short, expected):
    assert target_hw(source_hw, (1, 1), short) == expected


@pytest.mark.parametrize(
    "text",
    ["", "0", "-5", "480x", "x640", "0x640", "480x0", "480x640x3", "48.5", "big", "65536", "1e3",
     "1x65536", "480,640", "٣"],
)  # fmt: skip
def test_words_that_are_no_size_are_refused_by_name(text):
    with pytest.raises(UsageError, match="--target-size is") as caught:
        parse_target_size(text)
    assert repr(text) in str(caught.value)


def test_a_short_side_that_makes_an_endless_long_side_is_refused():
    with pytest.raises(UsageError, match="long side"):
        target_hw((1, 10_000), (1, 1), "500")


def test_target_sizes_are_read_without_torch():
    program = "import sys, dptcli.processing.target_size; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def outputs(**values):
    return SimpleNamespace(**values)


TARGETS = [(300, 200), (7, 5), (48, 64)]


@pytest.mark.parametrize(
    "targets",
    [TARGETS, torch.tensor(TARGETS), np.array(TARGETS), None],
    ids=["list", "pt", "np", "none"],
)
def test_segmentation_is_post_processed_to_the_references_labels(targets):
    logits = torch.randn((3, 11, 48, 64), generator=torch.Generator().manual_seed(0))
    result = DPTImageProcessor().post_process_semantic_segmentation(outputs(logits=logits), targets)
    sizes = [(48, 64)] * 3 if targets is None else TARGETS
    assert [m.dtype for m in result] == [torch.int64] * 3
    for labels, one, hw in zip(result, logits, sizes, strict=True):
        assert torch.equal(labels, one_shot_labels(one, hw))


@pytest.mark.parametrize(
    "targets", [TARGETS, torch.tensor(TARGETS), None], ids=["list", "pt", "none"]
)
def test_post_processing_equals_the_installed_references(targets):
    reference = pytest.importorskip("transformers.models.dpt.image_processing_pil_dpt")
    theirs, ours = reference.DPTImageProcessorPil(), DPTImageProcessor()
    generator = torch.Generator().manual_seed(0)
    made = outputs(
        logits=torch.randn((3, 11, 48, 64), generator=generator),
        predicted_depth=torch.rand((3, 48, 64), generator=generator),
    )
    # Theirs, given a tensor, hands numpy's numbers to torch, which refuses them.
    sizes = targets.tolist() if isinstance(targets, torch.Tensor) else targets
    pairs = zip(
        ours.post_process_semantic_segmentation(made, targets),
        theirs.post_process_semantic_segmentation(made, sizes),
        strict=True,
    )
    assert all(torch.equal(ours_map, their_map) for ours_map, their_map in pairs)
    for ours_map, their_map in zip(
        ours.post_process_depth_estimation(made, targets),
        theirs.post_process_depth_estimation(made, sizes),
        strict=True,
    ):
        assert torch.equal(ours_map["predicted_depth"], their_map["predicted_depth"])


def test_depth_of_one_row_keeps_its_two_axes():
    made = outputs(predicted_depth=torch.rand(1, 8, 8))
    (result,) = DPTImageProcessor().post_process_depth_estimation(made, [(1, 5)])
    assert result["predicted_depth"].shape == (1, 5)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("post_process_semantic_segmentation", "logits"),
        ("post_process_depth_estimation", "predicted_depth"),
    ],
)
def test_post_processing_refuses_other_outputs_and_other_counts(method, name):
    shape = (2, 3, 8, 8) if name == "logits" else (2, 8, 8)
    run = getattr(DPTImageProcessor(), method)
    with pytest.raises(ConfigError, match=f"no {name}"):
        run(outputs(something=torch.zeros(shape)))
    with pytest.raises(ConfigError, match="1 sizes for 2"):
        run(outputs(**{name: torch.zeros(shape)}), [(4, 4)])
    assert len(run({name: torch.zeros(shape)}, [(4, 4), (5, 5)])) == 2


@pytest.mark.parametrize("sizes", [[5, 7], [(1, 2, 3), (4, 5, 6)], 5, [(1, None)] * 2], ids=str)
def test_sizes_that_are_no_pairs_are_refused_by_name(sizes):
    outputs = {"predicted_depth": torch.rand(2, 4, 4)}
    with pytest.raises(ConfigError, match=r"target_sizes is .*one \(height, width\) for each"):
        DPTImageProcessor().post_process_depth_estimation(outputs, sizes)
