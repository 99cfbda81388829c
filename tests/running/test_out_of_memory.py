"""Where memory or half precision ends: smaller batches, tiles, float32; then that image by name."""

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from process import NEEDS_PROC, environment
from tiny import draw_blurred, save_both

from dptcli.errors import ImageError, ModelError, UsageError
from dptcli.inputs.find import find_images
from dptcli.pipeline import Options, Pipeline, open_pipeline
from dptcli.results.plan import plan_outputs
from dptcli.running import room
from dptcli.running.batches import BatchSizes, fitting, is_out_of_memory
from dptcli.weights.load import load_model

ALLOCATION = (
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"
)
ENDS = {
    "cpu": RuntimeError(ALLOCATION),
    "windows": RuntimeError(
        "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"
    ),
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    "onednn": RuntimeError("could not create a memory object"),
    "thread": RuntimeError("can't start new thread"),
    "onednn primitive": RuntimeError("could not create a primitive"),
    "python": MemoryError(),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_both(tmp_path_factory.mktemp("models"))


@pytest.fixture
def jobs(tmp_path):
    folder = draw_blurred(tmp_path / "photos", 5, size=(320, 240))
    return plan_outputs(find_images([folder]), str(tmp_path / "out")).jobs


def limited(pipeline, most, error):
    """Let the network's memory end above `most` pixels a batch; returns the shapes that ran."""
    forward, ran = pipeline.loaded.model.forward, []

    def run(pixels):
        if pixels.shape[0] * pixels.shape[2] * pixels.shape[3] > most:
            raise error
        ran.append(tuple(pixels.shape))
        return forward(pixels)

    pipeline.loaded.model.forward = run
    return ran


def raiser(error):
    def fail(*_args, **_named):
        raise error

    return fail


def collect(pipeline, jobs):
    found = {}

    def save(job, prediction):
        found[job.source.path.name] = prediction.values
        return {}

    return found, pipeline.run(jobs, save=save)


@pytest.mark.parametrize("error", ENDS.values(), ids=ENDS)
def test_every_devices_way_to_say_it_is_understood(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    unsupported = "could not create a primitive descriptor for the matmul primitive"
    assert not is_out_of_memory(RuntimeError(unsupported))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("error", ENDS.values(), ids=ENDS)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(models, jobs, caplog, error):
    plain, _ = collect(open_pipeline(models["depth"], task="depth", dtype="float32"), jobs)
    pipeline = open_pipeline(
        models["depth"], task="depth", dtype="float32", options=Options(batch_size=4)
    )
    ran = limited(pipeline, 2 * 64 * 64, error)
    found, report = collect(pipeline, jobs * 3)
    assert report.num_done == 15
    assert not report.failed
    for name, values in found.items():
        np.testing.assert_allclose(values, plain[name], rtol=1e-4, atol=1e-5)
    assert {shape[0] for shape in ran} <= {1, 2}
    assert sum(shape[0] for shape in ran) == 15
    # It is learned once, and said with what to do.
    assert caplog.text.count("memory ended") == 1
    assert "--batch-size 2" in caplog.text


@pytest.mark.parametrize("task", ["depth", "segment"])
def test_an_image_that_does_not_fit_is_done_in_tiles(models, jobs, caplog, task):
    options = Options(batch_size=2)
    whole = open_pipeline(models[task], task=task, size=(240, 320), options=options)
    expected, _ = collect(whole, jobs)
    pipeline = open_pipeline(models[task], task=task, size=(240, 320), options=options)
    ran = limited(pipeline, 180 * 180, ENDS["cpu"])
    found, report = collect(pipeline, jobs)
    assert report.num_done == 5
    assert not report.failed
    assert all(height % 16 == 0 and width % 16 == 0 for *_, height, width in ran)
    # A tile's size is found once; later images go to it at once.
    assert len({shape[2:] for shape in ran}) == 2  # the tiles, and the whole picture, smaller
    assert caplog.text.count("tiles of") == 1
    assert "--size" in caplog.text
    for name, values in found.items():
        assert values.shape == (240, 320)
        if task == "depth":
            # A random network makes other noise of every tile; the level is the whole's.
            assert values.mean() == pytest.approx(expected[name].mean(), rel=0.1)


@pytest.mark.parametrize(("size", "named"), [(99_999, "99999"), ((20_000, 9), "20000x9")])
def test_a_size_that_alone_fills_the_memory_is_refused_before_the_first_image(
    models, monkeypatch, size, named
):
    monkeypatch.setattr(room, "available_bytes", lambda: 2_000_000)
    with pytest.raises(UsageError, match=f"--size {named}: .* are free"):
        open_pipeline(models["depth"], task="depth", size=size)
    open_pipeline(models["depth"], task="depth", size=300)


def test_memory_that_ends_before_the_network_is_said_in_words(models, jobs, monkeypatch):
    pipeline = open_pipeline(models["depth"], task="depth", dtype="float32")
    monkeypatch.setattr(type(pipeline.loaded.processor), "prepare", raiser(MemoryError()))
    _, report = collect(pipeline, jobs[:1])
    [outcome] = report.failed
    assert outcome.error.endswith("00.png: memory ended; take a smaller --size or --target-size")


def test_an_image_that_fits_not_even_in_tiles_fails_by_name_and_the_others_go_on(models, jobs):
    Image.new("RGB", (640, 480), "red").save(jobs[2].source.path)
    loaded = load_model(models["depth"], task="depth")
    processor = loaded.processor.with_size(1)
    processor.do_resize = False  # the network sees every photograph at its own size
    pipeline = Pipeline(replace(loaded, processor=processor))
    forward = loaded.model.forward

    def run(pixels):
        if pixels.shape[2:] != (240, 320):
            raise ENDS["cuda"]
        return forward(pixels)

    loaded.model.forward = run
    found, report = collect(pipeline, jobs)
    assert len(found) == 4
    [outcome] = report.failed
    assert outcome.error.startswith(outcome.job.source.name)
    assert "480×640" in outcome.error
    assert "--size" in outcome.error


def test_another_error_is_not_taken_for_the_end_of_memory(models, jobs):
    pipeline = open_pipeline(models["depth"], task="depth", size=(240, 320))
    limited(pipeline, 0, RuntimeError("a bug"))
    _, report = collect(pipeline, jobs[:1])
    assert report.failed[0].error.endswith("RuntimeError: a bug")


def test_a_single_prediction_takes_the_same_ladder(models, jobs):
    pipeline = open_pipeline(models["depth"], task="depth", size=(240, 320))
    limited(pipeline, 180 * 180, ENDS["python"])
    assert pipeline.predict_one(jobs[0].source.path).values.shape == (240, 320)
    pipeline = open_pipeline(models["depth"], task="depth", size=(240, 320))
    limited(pipeline, 1, ENDS["python"])
    with pytest.raises(ImageError, match="240×320"):
        pipeline.predict_one(jobs[0].source.path)


def test_a_thread_in_which_onednn_failed_once_is_left(models, jobs):
    pipeline = open_pipeline(models["depth"], task="depth", size=(240, 320))
    forward, failed = pipeline.loaded.model.forward, threading.local()

    def fails_ever_after(pixels, **options):
        if pixels[0, 0].numel() > 180 * 180 or getattr(failed, "once", False):
            failed.once = True
            raise ENDS["onednn primitive"]
        return forward(pixels, **options)

    pipeline.loaded.model.forward = fails_ever_after
    found, report = collect(pipeline, jobs)
    assert len(found) == 5
    assert not report.failed


CHILD = """
import resource, sys
import torch
torch.set_num_threads(1)
from dptcli.pipeline import open_pipeline
pipeline = open_pipeline(sys.argv[1], task="depth", size=(1600, 1600))
small = open_pipeline(sys.argv[1], task="depth")
small.predict_one(sys.argv[2])  # what is loaded once
with open("/proc/self/statm") as statm:
    taken = int(statm.read().split()[0]) * resource.getpagesize()
limit = taken + 400 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
values = pipeline.predict_one(sys.argv[2]).values
print(values.shape, bool(torch.isfinite(torch.from_numpy(values)).all()))
"""


@NEEDS_PROC
def test_a_process_whose_memory_is_limited_finishes_in_tiles(models, jobs):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(models["depth"]), str(jobs[0].source.path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "(240, 320) True"
    assert "trying tiles" in done.stderr


class Overflows(torch.nn.Module):
    """A network that gives infinity for bright pictures, unless it computes in float32."""

    def __init__(self, model, dtype):
        super().__init__()
        self.model, self.dtype, self.config = model, dtype, model.config
        self.runs = 0

    def forward(self, pixels):
        self.runs += 1
        output = self.model(pixels)
        if self.dtype is not torch.float32:
            bright = pixels.float().mean((1, 2, 3)) > 0.9
            output.predicted_depth[bright] = torch.inf
        return output


def test_what_half_precision_cannot_hold_is_done_again_in_float32(models, jobs, caplog):
    caplog.set_level("DEBUG", logger="dptcli")
    Image.new("RGB", (320, 240), "white").save(jobs[1].source.path)
    Image.new("RGB", (320, 240), "white").save(jobs[3].source.path)
    expected, _ = collect(open_pipeline(models["depth"], task="depth", dtype="float32"), jobs)
    loaded = load_model(models["depth"], task="depth", dtype="bfloat16")
    model = Overflows(loaded.model, torch.bfloat16)
    pipeline = Pipeline(replace(loaded, model=model))
    found, report = collect(pipeline, jobs)
    assert report.num_done == 5
    assert pipeline.network.num_redone == 2
    assert caplog.text.count("overflows in bfloat16") == 1
    assert "--dtype float32" in caplog.text
    assert "images that were done again in float32: 2" in caplog.text
    assert "network: 1 at 64×64 in" in caplog.text
    for name, values in found.items():
        exact = name in {"01.png", "03.png"}
        np.testing.assert_allclose(values, expected[name], rtol=1e-5 if exact else 0.1)


def test_broken_weights_are_not_taken_for_overflow(models, jobs):
    loaded = load_model(models["depth"], task="depth", dtype="bfloat16")
    next(iter(loaded.model.parameters())).data.fill_(torch.nan)
    with pytest.raises(ModelError, match="NaN or infinity"):
        collect(Pipeline(loaded), jobs)


def test_auto_takes_single_images_on_the_cpu_and_what_fits_on_a_gpu(models, jobs):
    sizes = BatchSizes("auto", torch.device("cpu"))
    assert sizes.of((3, 64, 64)) == sizes.largest == 1
    assert fitting(bytes_each=2**30, bytes_free=20 * 2**30) == 16
    assert fitting(bytes_each=2**30, bytes_free=2**20) == 1
    assert fitting(bytes_each=1, bytes_free=2**40) == 32
    pipeline = open_pipeline(models["depth"], task="depth", options=Options(batch_size="auto"))
    found, _ = collect(pipeline, jobs)
    assert len(found) == 5


def test_auto_measures_one_image_on_a_gpu_and_gathers_what_fits(monkeypatch):
    sizes = BatchSizes("auto", torch.device("cuda"))
    shape = (3, 64, 64)
    gib = 2**30
    taken = {
        "memory_allocated": 5 * gib,
        "max_memory_allocated": 7 * gib,
        "memory_reserved": 8 * gib,
    }
    for name, value in taken.items():
        monkeypatch.setattr(torch.cuda, name, lambda _device, value=value: value)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (17 * gib, 80 * gib))
    assert sizes.of(shape) == 1
    with sizes.watching(shape, 1):
        pass
    # 17 GiB free and 3 reserved but unused, 2 GiB an image, a fifth left free.
    assert sizes.of(shape) == sizes.largest == 8
    sizes.failed(shape, 8)
    assert sizes.of(shape) == 4
