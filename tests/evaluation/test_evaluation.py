"""Evaluation: images make sets, sets make means, failures stay by name, files are found."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dptcli.errors import ImageError, UsageError
from dptcli.evaluation.labelmaps import same_labels
from dptcli.evaluation.measure import (
    ERROR_EDGES,
    DepthPrediction,
    error_histogram,
    evaluate_depth,
    evaluate_segments,
    segment_confusion,
)
from dptcli.evaluation.metrics import DepthProtocol
from dptcli.evaluation.pairs import PairSet, read_depth, read_pairs
from dptcli.evaluation.predictions import StoredPredictions

AS_IT_IS = DepthProtocol(align="none")
HW = (12, 16)


def make_set(folder: Path, targets: list[np.ndarray], *, kind: str = "depth_m") -> PairSet:
    folder.mkdir(parents=True)
    lines = ["image,target,kind,scale"]
    for number, target in enumerate(targets):
        np.save(folder / f"{number}.npy", target)
        Image.new("RGB", target.shape[::-1], (90, 120, 60)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{number}.npy,{kind},1")
    (folder / "pairs.csv").write_text("\n".join(lines))
    return read_pairs(folder, task="segment" if kind == "labels" else "depth")


def depths(*values: float) -> list[np.ndarray]:
    return [np.full(HW, value, np.float32) for value in values]


def always(depth_m: float):
    return lambda _pair: DepthPrediction(np.full(HW, depth_m), "depth_m")


# --- depth ---------------------------------------------------------------------------------------


def test_image_counts_once_in_its_set_and_a_set_once_in_the_mean(tmp_path):
    sets = [make_set(tmp_path / "a", depths(1, 2)), make_set(tmp_path / "b", depths(4))]
    report = evaluate_depth(sets, always(1), protocol=AS_IT_IS)
    assert report.set_mean("a")["abs_rel"] == pytest.approx((0 + 1 / 2) / 2)
    assert report.set_mean("b")["abs_rel"] == pytest.approx(3 / 4)
    assert report.mean()["abs_rel"] == pytest.approx((1 / 4 + 3 / 4) / 2)
    # Flat targets have no order; that does not spoil the other means.
    assert math.isnan(report.mean()["ordinal"])


def test_failed_image_is_named_and_the_others_are_measured(tmp_path):
    pairs = make_set(tmp_path / "a", depths(1, 2, 4))
    pairs.pairs[0].target.unlink()

    def predict(pair):
        if pair.name == "1.png":
            raise ValueError("out of\nluck")
        return always(1)(pair)

    report = evaluate_depth([pairs], predict, protocol=AS_IT_IS)
    assert [result.error for result in report.results] == [
        f"{pairs.pairs[0].target} does not exist; check the path",
        "ValueError: out of",
        None,
    ]
    assert report.mean()["abs_rel"] == pytest.approx(3 / 4)


def test_set_without_any_score_does_not_count_in_the_mean(tmp_path):
    sets = [make_set(tmp_path / "a", depths(2)), make_set(tmp_path / "b", depths(4))]
    sets[1].pairs[0].target.unlink()
    report = evaluate_depth(sets, always(1), protocol=AS_IT_IS)
    assert math.isnan(report.set_mean("b")["abs_rel"])
    assert report.mean()["abs_rel"] == pytest.approx(1 / 2)


def test_wrong_usage_stops_the_run(tmp_path):
    def predict(_pair):
        raise UsageError("no")

    with pytest.raises(UsageError):
        evaluate_depth([make_set(tmp_path / "a", depths(1))], predict)


def test_baseline_is_the_row_fitted_as_the_prediction_is(tmp_path):
    rows = (np.arange(HW[0]) + 0.5)[:, None] / HW[0]
    floor = np.broadcast_to(1 / (0.1 + 0.5 * rows), HW).astype(np.float32)
    report = evaluate_depth([make_set(tmp_path / "a", [floor])], always(3))
    baseline = report.mean(baseline=True)
    assert baseline["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert baseline["ordinal"] == 1.0
    assert report.mean()["ordinal"] == 0.0


def test_baseline_is_fitted_even_where_predictions_are_not(tmp_path):
    report = evaluate_depth([make_set(tmp_path / "a", depths(5))], always(5), protocol=AS_IT_IS)
    assert report.mean(baseline=True)["abs_rel"] == pytest.approx(0)


def test_baseline_counts_the_same_pixels_as_the_prediction(tmp_path):
    values = np.full(HW, 3.0)
    values[:4] = 0  # a depth of 0 is no prediction

    def predict(_pair):
        return DepthPrediction(values, "depth")

    (result,) = evaluate_depth([make_set(tmp_path / "a", depths(2))], predict).results
    assert result.scores.coverage == pytest.approx(8 / 12)
    assert result.baseline.num_pixels == result.scores.num_pixels == 8 * 16


def test_each_image_is_told_when_it_is_done(tmp_path):
    told = []
    sets = [make_set(tmp_path / "a", depths(1, 2))]
    report = evaluate_depth(sets, always(1), on_image=told.append)
    assert told == list(report.results)


@pytest.mark.parametrize("kind", ["inverse_depth", "disparity", "depth", "depth_m"])
def test_prediction_of_either_polarity_takes_the_targets_size(kind):
    ramp = np.broadcast_to(np.linspace(1, 2, 8), (6, 8))
    values = ramp if kind in ("inverse_depth", "disparity") else 1 / ramp
    disparity = DepthPrediction(values, kind).disparity((12, 16))
    assert disparity.shape == (12, 16)
    assert (np.diff(disparity[0, 1:-1]) > 0).all()
    # Depth is interpolated as depth, as the metric protocols do; on this ramp it is 0.5 % off.
    np.testing.assert_allclose(
        disparity[0, 1:-1], np.interp(np.arange(1, 15) / 2 - 0.25, np.arange(8), ramp[0]), rtol=5e-3
    )


def test_standing_prediction_for_a_lying_target_is_refused():
    with pytest.raises(ImageError, match="turn one of them"):
        DepthPrediction(np.ones((16, 12))).disparity((12, 16))
    labels = same_labels(("a",), {}, ignore_index=255)
    with pytest.raises(ImageError, match="turn one of them"):
        segment_confusion(np.zeros((16, 12), int), np.zeros((12, 16), int), labels=labels)


def test_histogram_has_twice_too_far_where_it_belongs():
    shares = error_histogram(np.array([[2.1, 1.05, 99.0]]), np.array([[1.0, 1.0, 1.0]]))
    assert shares.sum() == pytest.approx(1)
    assert shares[np.searchsorted(ERROR_EDGES, np.log2(2.1)) - 1] == pytest.approx(1 / 3)
    assert shares[-1] == pytest.approx(1 / 3)  # far beyond the last edge


# --- segmentation --------------------------------------------------------------------------------


def test_pixels_of_a_set_count_together_and_sets_once_each(tmp_path):
    zeros, ones = np.zeros((2, 4), np.uint8), np.ones((2, 4), np.uint8)
    sets = [
        make_set(tmp_path / "a", [zeros, ones], kind="labels"),
        make_set(tmp_path / "b", [zeros], kind="labels"),
    ]
    labels = same_labels(("x", "y"), {}, ignore_index=255)
    report = evaluate_segments(sets, lambda _pair: zeros, labels=labels)
    first, second, mean = report.set_scores("a"), report.set_scores("b"), report.mean()
    assert (first.miou, first.pixel_accuracy) == pytest.approx((1 / 4, 1 / 2))
    assert (second.miou, second.pixel_accuracy) == (1, 1)
    assert (mean.miou, mean.pixel_accuracy) == pytest.approx((5 / 8, 3 / 4))
    assert mean.iou == pytest.approx((3 / 4, 0))  # y occurs in the first set alone
    assert report.confusion().tolist() == [[16, 0, 0], [8, 0, 0]]
    kept = [result.pixels for result in report.results]
    assert [places.tolist() for places, _ in kept] == [[0], [3], [0]], "of an image not the matrix"


def test_small_prediction_takes_the_targets_size_without_new_classes():
    labels = same_labels(("a", "b", "c"), {}, ignore_index=255)
    prediction = np.array([[0, 2], [0, 2]])
    target = np.repeat([[0, 0, 2, 2]], 4, axis=0)
    confusion = segment_confusion(prediction, target, labels=labels)
    assert confusion.tolist() == [[8, 0, 0, 0], [0, 0, 0, 0], [0, 0, 8, 0]]


def test_failed_mask_is_named(tmp_path):
    pairs = make_set(tmp_path / "a", [np.full((2, 4), 9, np.uint8)], kind="labels")
    labels = same_labels(("x",), {}, ignore_index=255)
    report = evaluate_segments([pairs], lambda _pair: np.zeros((2, 4), int), labels=labels)
    assert "holds class 9" in report.results[0].error
    assert report.mean() is None


# --- predictions made earlier --------------------------------------------------------------------


def test_predictions_are_found_below_their_sets_name(tmp_path):
    sets = [make_set(tmp_path / name, depths(3)) for name in ("a", "b")]
    for name, value in (("a", 3.0), ("b", 6.0)):
        (tmp_path / "out" / name).mkdir(parents=True)
        np.save(tmp_path / "out" / name / "0.npy", np.full(HW, value))
    stored = StoredPredictions(tmp_path / "out", sets, kind="depth_m")
    report = evaluate_depth(sets, stored.depth, protocol=AS_IT_IS)
    assert report.set_mean("a")["abs_rel"] == 0
    assert report.set_mean("b")["abs_rel"] == pytest.approx(1)


def test_predictions_of_one_set_need_no_folder_of_its_name(tmp_path):
    pairs = make_set(tmp_path / "a", depths(3))
    (tmp_path / "out").mkdir()
    Image.fromarray(np.full(HW, 768, np.uint16)).save(tmp_path / "out" / "0.png")
    stored = StoredPredictions(tmp_path / "out", [pairs], kind="depth_m", scale=256)
    np.testing.assert_array_equal(stored.depth(pairs.pairs[0]).values, np.full(HW, 3.0))


def test_values_of_a_run_count_and_not_the_picture_beside_them(tmp_path):
    pairs = make_set(tmp_path / "a", depths(3))
    out = tmp_path / "out"
    out.mkdir()
    Image.new("RGB", HW[::-1], (250, 120, 60)).save(out / "0.png")
    Image.fromarray(np.full(HW, 768, np.uint16)).save(out / "0.depth-x256.png")
    stored = StoredPredictions(out, [pairs], kind="depth_m", scale=256)
    np.testing.assert_array_equal(stored.depth(pairs.pairs[0]).values, np.full(HW, 3.0))
    Image.new("L", HW[::-1], 7).save(out / "0.png")  # and of the classes it is the mask
    np.testing.assert_array_equal(stored.labels(pairs.pairs[0]), np.full(HW, 7))


def test_predictions_made_from_the_images_folder_are_found(tmp_path):
    for folder in ("images", "depth", "out"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", HW[::-1]).save(tmp_path / "images" / "x.png")
    np.save(tmp_path / "depth" / "x.npy", depths(3)[0])
    np.save(tmp_path / "out" / "x.npy", depths(3)[0])
    pairs = read_pairs(tmp_path, task="depth")
    stored = StoredPredictions(tmp_path / "out", [pairs], kind="depth_m")
    np.testing.assert_array_equal(stored.depth(pairs.pairs[0]).values, read_depth(pairs.pairs[0]))


def test_path_out_of_the_set_is_not_followed_out_of_the_predictions(tmp_path):
    make_set(tmp_path / "a", depths(3))
    (tmp_path / "a" / "pairs.csv").write_text(
        "image,target,kind,scale\n../a/0.png,0.npy,depth_m,1\n"
    )
    pairs = read_pairs(tmp_path / "a", task="depth")
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "out" / "0.npy", depths(3)[0])
    assert StoredPredictions(tmp_path / "out", [pairs], kind="depth").depth(pairs.pairs[0])


def test_files_say_what_they_hold_and_the_option_wins(tmp_path):
    pairs = make_set(tmp_path / "a", depths(3))
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "out" / "0.npy", depths(3)[0])
    (tmp_path / "out" / "0.json").write_text(json.dumps({"kind": "depth_m"}))
    assert StoredPredictions(tmp_path / "out", [pairs]).depth_kind() == "depth_m"
    stored = StoredPredictions(tmp_path / "out", [pairs], kind="inverse_depth")
    assert stored.depth(pairs.pairs[0]).kind == stored.depth_kind() == "inverse_depth"


def test_predictions_of_unknown_polarity_ask_for_it(tmp_path):
    pairs = make_set(tmp_path / "a", depths(3))
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "out" / "0.npy", depths(3)[0])
    with pytest.raises(UsageError, match="near or far; give --prediction-kind"):
        StoredPredictions(tmp_path / "out", [pairs]).depth_kind()


def test_one_missing_prediction_is_an_image_that_failed(tmp_path):
    pairs = make_set(tmp_path / "a", depths(3, 3))
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "out" / "1.npy", depths(3)[0])
    stored = StoredPredictions(tmp_path / "out", [pairs], kind="depth")
    report = evaluate_depth([pairs], stored.depth)
    assert [bool(result.error) for result in report.results] == [True, False]
    assert "0.png has no prediction" in report.results[0].error


def test_folder_without_any_prediction_is_refused(tmp_path):
    pairs = make_set(tmp_path / "a", depths(3))
    with pytest.raises(UsageError, match="is no folder"):
        StoredPredictions(tmp_path / "out", [pairs])
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="holds no prediction for any image"):
        StoredPredictions(tmp_path / "out", [pairs])


def test_masks_come_with_the_names_beside_them(tmp_path):
    pairs = make_set(tmp_path / "a", [np.zeros((2, 4), np.uint8)], kind="labels")
    (tmp_path / "out").mkdir()
    Image.fromarray(np.full((2, 4), 1, np.uint8)).save(tmp_path / "out" / "0.png")
    stored = StoredPredictions(tmp_path / "out", [pairs])
    assert stored.label_names() == {}
    (tmp_path / "out" / "labels.json").write_text('{"labels": {"0": "sky", "1": "road"}}')
    assert stored.label_names() == {0: "sky", 1: "road"}
    np.testing.assert_array_equal(stored.labels(pairs.pairs[0]), np.ones((2, 4)))
    (tmp_path / "out" / "labels.json").write_text('{"labels": ["sky"]}')
    with pytest.raises(UsageError, match="does not name classes"):
        stored.label_names()


def test_depth_is_no_mask(tmp_path):
    pairs = make_set(tmp_path / "a", [np.zeros((2, 4), np.uint8)], kind="labels")
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "out" / "0.npy", np.ones((2, 4), np.float32))
    stored = StoredPredictions(tmp_path / "out", [pairs])
    with pytest.raises(ImageError, match="holds no class ids"):
        stored.labels(pairs.pairs[0])
