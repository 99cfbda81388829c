"""The loop: equal to its parts done one by one, isolated failures, bounded memory, timings."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from site_on_loopback import serving
from tiny import LABELS, save_tiny

import dptcli
from dptcli.errors import ConfigError, ImageError, ModelError, UsageError
from dptcli.inputs.find import find_images
from dptcli.pipeline import Options, Pipeline, open_pipeline
from dptcli.processing.target_size import parse_target_size
from dptcli.records.report import STAGES
from dptcli.results.plan import plan_outputs
from dptcli.weights.load import load_model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {task: save_tiny(folder / task, task=task) for task in ("depth", "segment")}


@pytest.fixture
def photos(tmp_path):
    """Five photographs of three shapes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index, size in enumerate([(40, 30), (30, 40), (40, 30), (50, 50), (40, 30)]):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


def jobs_of(folder):
    return plan_outputs(find_images([folder]), str(folder.parent / "out")).jobs


def collect(pipeline, jobs):
    """Run without writing: {file name: values} and the report."""
    found = {}

    def save(job, prediction):
        found[job.source.path.name] = prediction.values
        return {}

    report = pipeline.run(jobs, save=save)
    return found, report


def by_hand(model_folder, path, task):
    """What the public classes give, one step after the other."""
    loaded = load_model(model_folder, task=task)
    rgb = np.asarray(Image.open(path).convert("RGB"))
    inputs = loaded.processor(rgb, return_tensors="pt")
    with torch.inference_mode():
        outputs = loaded.model(**inputs)
    sizes = [rgb.shape[:2]]
    if task == "depth":
        return loaded.processor.post_process_depth_estimation(outputs, sizes)[0]["predicted_depth"]
    return loaded.processor.post_process_semantic_segmentation(outputs, sizes)[0]


@pytest.mark.processor
@pytest.mark.parametrize("task", ["depth", "segment"])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_every_batch_size_gives_what_the_classes_give_one_by_one(models, photos, task, batch_size):
    options = Options(batch_size=batch_size)
    found, report = collect(
        open_pipeline(models[task], task=task, dtype="float32", options=options), jobs_of(photos)
    )
    assert report.num_done == 5
    for path in photos.iterdir():
        expected = np.asarray(by_hand(models[task], path, task))
        if task == "depth":
            np.testing.assert_allclose(found[path.name], expected, rtol=1e-4, atol=1e-5)
        else:
            assert (found[path.name] == expected).mean() > 0.999  # a tie may fall either way


@pytest.mark.processor
def test_images_of_every_network_size_are_batched_with_their_like(tmp_path, photos):
    keep = {"keep_aspect_ratio": True, "ensure_multiple_of": 16}
    folder = save_tiny(tmp_path / "model", task="depth", processor=keep)
    pipeline = open_pipeline(folder, task="depth", options=Options(batch_size=2))
    shapes = []
    forward = pipeline.loaded.model.forward
    pipeline.loaded.model.forward = lambda pixels: shapes.append(pixels.shape) or forward(pixels)
    found, _ = collect(pipeline, jobs_of(photos))
    assert len(found) == 5
    assert sorted(shape[0] for shape in shapes) == [1, 1, 1, 2]


@pytest.mark.processor
@pytest.mark.parametrize(
    ("spec", "expected"),
    [("original", (30, 40)), ("model", (64, 64)), ("12x20", (12, 20)), ("15", (15, 20))],
)
@pytest.mark.parametrize("task", ["depth", "segment"])
def test_results_have_the_size_that_is_asked_for(models, photos, task, spec, expected):
    pipeline = open_pipeline(
        models[task], task=task, options=Options(target_size=parse_target_size(spec))
    )
    prediction = pipeline.predict_one(photos / "0.png")
    assert prediction.values.shape == expected
    assert prediction.values.dtype == (np.float32 if task == "depth" else np.uint8)


def test_an_unreadable_image_fails_by_name_and_the_others_are_done(models, photos):
    (photos / "1.png").write_bytes(b"no image")
    (photos / "9.png").write_bytes(b"")
    found, report = collect(open_pipeline(models["depth"], task="depth"), jobs_of(photos))
    assert set(found) == {"0.png", "2.png", "3.png", "4.png"}
    assert report.num_done == 4
    assert [outcome.job.source.path.name for outcome in report.failed] == ["1.png", "9.png"]
    assert all(outcome.job.source.name in outcome.error for outcome in report.failed)


@pytest.mark.processor
def test_a_failed_batch_is_tried_again_one_by_one(models, photos, caplog):
    pipeline = open_pipeline(models["depth"], task="depth", options=Options(batch_size=5))
    forward = pipeline.loaded.model.forward

    def picky(pixels):
        if len(pixels) > 1:
            raise RuntimeError("one at a time, please")
        return forward(pixels)

    pipeline.loaded.model.forward = picky
    found, report = collect(pipeline, jobs_of(photos))
    assert len(found) == 5
    assert not report.failed
    assert "trying one by one" in caplog.text


def test_an_image_that_the_network_refuses_sinks_no_other(models, photos):
    Image.new("RGB", (40, 30), (255, 255, 255)).save(photos / "2.png")
    pipeline = open_pipeline(models["depth"], task="depth", options=Options(batch_size=3))
    forward = pipeline.loaded.model.forward

    def picky(pixels):
        if (pixels == 1).flatten(1).all(1).any():
            raise RuntimeError("white!\nsecond line")
        return forward(pixels)

    pipeline.loaded.model.forward = picky
    _, report = collect(pipeline, jobs_of(photos))
    assert report.num_done == 4
    assert report.failed[0].error.endswith("2.png: RuntimeError: white!")


def test_a_failed_write_sinks_no_other(models, photos):
    def save(job, _prediction):
        if job.source.path.name == "3.png":
            raise ImageError("cannot write 3.png: No space left on device")
        return {}

    report = open_pipeline(models["depth"], task="depth").run(jobs_of(photos), save=save)
    assert report.num_done == 4
    assert report.failed[0].error == "cannot write 3.png: No space left on device"


def test_every_stage_is_timed_on_every_run(models, photos):
    _, report = collect(open_pipeline(models["depth"], task="depth"), jobs_of(photos))
    assert tuple(report.stage_s) == STAGES
    assert all(report.stage_s[stage] > 0 for stage in STAGES)
    assert report.elapsed_s > 0


def test_reading_and_writing_stay_within_a_few_images_of_the_network(models, photos):
    jobs = jobs_of(photos) * 20
    options = Options(num_readers=2, num_writers=1)
    pipeline = Pipeline(load_model(models["depth"], task="depth"), options=options)
    alive, most, lock = 0, 0, threading.Lock()
    decode = pipeline.decode

    def counted(source):
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return decode(source)

    def save(_job, _prediction):
        nonlocal alive
        with lock:
            alive -= 1
        return {}

    pipeline.decode = counted
    assert pipeline.run(jobs, save=save).num_done == 100
    assert most <= 8


def test_an_interrupt_ends_the_run_and_its_threads(models, photos):
    before = threading.active_count()
    written = []

    def save(job, _prediction):
        written.append(job)
        return {}

    def interrupt(_outcome):
        raise KeyboardInterrupt

    pipeline = open_pipeline(models["depth"], task="depth")
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(jobs_of(photos) * 20, save=save, on_done=interrupt)
    assert len(written) < 10
    assert threading.active_count() <= before + pipeline.num_readers


def test_the_photograph_is_handed_on_only_when_asked(models, photos):
    pipeline = open_pipeline(models["segment"], task="segment", options=Options(keep_rgb=True))
    assert pipeline.predict_one(photos / "0.png").rgb.shape == (30, 40, 3)
    plain = open_pipeline(models["segment"], task="segment")
    assert plain.predict_one(photos / "0.png").rgb is None


@pytest.mark.processor
@pytest.mark.parametrize("size", [32, (48, 80), 40])
def test_another_network_size_lands_on_the_patch_grid(models, photos, size):
    pipeline = open_pipeline(models["depth"], task="depth", size=size)
    height, width = pipeline.decode(photos / "0.png").prepared.network_hw
    assert height % 16 == 0
    assert width % 16 == 0
    assert abs(height - (size if isinstance(size, int) else size[0])) <= 8
    assert pipeline.predict_one(photos / "0.png").values.shape == (30, 40)


@pytest.mark.processor
def test_depth_of_a_file_an_array_and_bytes_is_the_same(models, photos):
    path = photos / "1.png"
    loaded = load_model(models["depth"], task="depth", optimized=True)
    from_path = dptcli.predict_depth(path, model=loaded)
    assert from_path.dtype == np.float32
    assert from_path.shape == (40, 30)
    for image in (str(path), path.read_bytes(), np.array(Image.open(path))):
        np.testing.assert_array_equal(dptcli.predict_depth(image, model=loaded), from_path)
    np.testing.assert_array_equal(dptcli.predict_depth(path, model=models["depth"]), from_path)


@pytest.mark.processor
def test_depth_and_classes_of_addresses_and_lists(models, photos):
    loaded = load_model(models["depth"], task="depth", optimized=True)
    paths = [photos / "0.png", photos / "1.png"]
    one_by_one = [dptcli.predict_depth(path, model=loaded) for path in paths]
    with serving(photos) as address:
        given = [f"{address}/0.png", np.array(Image.open(paths[1]))]
        found = dptcli.predict_depth(given, model=loaded)
        np.testing.assert_array_equal(dptcli.predict_depth(given[0], model=loaded), one_by_one[0])
        classes = dptcli.predict_segments((given[0], str(paths[1])), model=models["segment"])
        with pytest.raises(ImageError, match="404"):
            dptcli.predict_depth(f"{address}/absent.png", model=loaded)
    for mine, expected in zip(found, one_by_one, strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert [one.shape for one in classes] == [(30, 40), (40, 30)]
    assert dptcli.predict_depth([], model=loaded) == []
    with pytest.raises(UsageError, match="1 maps for 2 images"):
        dptcli.predict_depth(paths, model=loaded, prompt=[np.ones((2, 2))])


@pytest.mark.processor
def test_segments_are_class_ids(models, photos):
    labels = dptcli.predict_segments(photos / "1.png", model=models["segment"])
    assert labels.shape == (40, 30)
    assert labels.max() < len(LABELS)
    small = dptcli.predict_segments(
        photos / "1.png", model=models["segment"], target_size="model", size=(32, 64)
    )
    assert small.shape == (32, 64)


def test_a_model_of_the_other_task_is_refused(models, photos):
    with pytest.raises(ModelError, match="segment"):
        dptcli.predict_depth(photos / "1.png", model=models["segment"])
    loaded = load_model(models["segment"], task="segment")
    with pytest.raises(ModelError, match="segment"):
        dptcli.predict_depth(photos / "1.png", model=loaded)


def test_arrays_that_are_no_photograph_are_refused(models):
    loaded = load_model(models["depth"], task="depth")
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises((ImageError, ConfigError)):
            dptcli.predict_depth(wrong, model=loaded)


def test_a_wrong_target_size_is_refused_before_the_model_loads():
    with pytest.raises(UsageError, match="12q"):
        dptcli.predict_depth(Path("x.jpg"), model="no-such-model", target_size="12q")


def test_metric_models_say_so(tmp_path):
    folder = save_tiny(tmp_path, task="depth", depth_estimation_type="metric", max_depth=10.0)
    loaded = load_model(folder, task="depth")
    assert loaded.is_metric
    assert not replace(
        loaded, model=load_model(save_tiny(tmp_path / "r", task="depth")).model
    ).is_metric
