"""On a real NVIDIA GPU: the same results as on the CPU, batches that fit, memory that ends."""

import json
import subprocess

import numpy as np
import pytest
import torch
from depth_anything_3_folder import save_authors_folder
from depth_anything_3_nested_folder import save_authors_nested
from depth_anything_3_views_folder import save_authors_views
from optimizable import MODELS, build, dinov3, pixels_for, predict
from parity import difference, randomize
from PIL import Image
from process import DPT, environment
from tiny import draw_blurred, save_both, small_backbone
from tiny_depth_pro import random_model
from video_depth import save_original

from dptcli import (
    CHMv2Config,
    CHMv2ForDepthEstimation,
    CHMv2ImageProcessor,
    DepthProImageProcessor,
    GLPNConfig,
    GLPNForDepthEstimation,
    GLPNImageProcessor,
    Tipsv2DptConfig,
    Tipsv2DptForDepthEstimation,
    Tipsv2DptImageProcessor,
)
from dptcli.fast.optimize import optimize
from dptcli.fast.precision import keep_tail_float32, native_dtype
from dptcli.fast.tensorcores import ConvRelu
from dptcli.inputs.find import find_images
from dptcli.pipeline import Options, open_pipeline
from dptcli.results.plan import plan_outputs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_both(tmp_path_factory.mktemp("models"))


@pytest.fixture
def photos(tmp_path):
    return draw_blurred(tmp_path / "photos", 40, size=(160, 120))


@pytest.fixture
def no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("no_tf32")
def test_float32_is_the_cpus_result(name, optimized):
    model, pixels = build(name), pixels_for(name)
    expected = predict(model, pixels)
    model = model.to(GPU)
    found = predict(optimize(model) if optimized else model, pixels.to(GPU))
    assert difference(found.cpu(), expected) <= 2e-4


TIPS = small_backbone(model_type="tipsv2_vision_model")
HEIGHTS = {"post_process_channels": [8] * 4, "fusion_hidden_size": 8, "head_hidden_size": 8}
RANDOM = {
    "depth pro": (random_model, lambda: DepthProImageProcessor(size=128)),
    "glpn": (
        lambda: GLPNForDepthEstimation(
            GLPNConfig(depths=[1] * 4, hidden_sizes=[8, 16, 40, 32], decoder_hidden_size=16)
        ),
        GLPNImageProcessor,
    ),
    "tipsv2": (
        lambda: Tipsv2DptForDepthEstimation(
            Tipsv2DptConfig(backbone_config=TIPS, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8)
        ),
        lambda: Tipsv2DptImageProcessor(size=56),
    ),
    "chmv2": (
        lambda: CHMv2ForDepthEstimation(
            CHMv2Config(backbone_config=dinov3(return_class_token=True), **HEIGHTS)
        ),
        CHMv2ImageProcessor,
    ),
}
AUTHORS = {
    "depth anything 3, mono": lambda folder: save_authors_folder(folder, name="da3mono-large"),
    "depth anything 3, metric": lambda folder: save_authors_folder(folder, name="da3metric-large"),
    "depth anything 3, any views": save_authors_views,
    "depth anything 3, nested": save_authors_nested,
    "video depth anything": save_original,
}


@pytest.mark.parametrize("name", [*AUTHORS, *RANDOM])
@pytest.mark.usefixtures("no_tf32")
def test_each_family_gives_what_the_cpu_gives(name, tmp_path):
    if name in AUTHORS:
        folder = AUTHORS[name](tmp_path)
    else:
        make, processor = RANDOM[name]
        folder = tmp_path / "model"
        model = make()
        if name != "depth pro":  # which is drawn, and lifted off zero, where it is made
            randomize(model, seed=1, std=0.15)
        model.save_pretrained(folder)
        processor().save_pretrained(folder)
    photo = np.asarray(Image.linear_gradient("L").resize((90, 60)).convert("RGB"))
    maps = []
    for device in ("cpu", GPU.type):
        options = Options(sky="keep")  # a pixel at the threshold may fall either way
        pipeline = open_pipeline(
            folder, task="depth", device=device, dtype="float32", size=112, options=options
        )
        maps.append(torch.from_numpy(pipeline.predict_one(photo).values))
    assert maps[0].std() > 0
    assert difference(maps[1], maps[0]) <= 2e-4


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_as_near_as_the_plain_form(name):
    dtype = torch.bfloat16
    plain, pixels = build(name), pixels_for(name)
    expected = predict(plain, pixels)
    narrow = plain.to(GPU, dtype)
    keep_tail_float32(narrow)
    unoptimized = difference(predict(narrow, pixels.to(GPU, dtype)).cpu(), expected)
    found = predict(optimize(narrow), pixels.to(GPU, dtype))
    assert found.dtype is torch.float32
    assert difference(found.cpu(), expected) <= max(2 * unoptimized, 0.02)


@pytest.mark.parametrize("name", ["vit, project", "depth anything", "zoedepth"])
def test_bfloat16_keeps_thousands_of_levels(name):
    model = build(name).to(GPU, torch.bfloat16)
    keep_tail_float32(model)
    depth = predict(optimize(model), pixels_for(name, batch=1).to(GPU, torch.bfloat16))
    assert depth.unique().numel() > 2000


def test_convolutions_are_fused_with_their_relu():
    model = optimize(build("vit, project").to(GPU, torch.bfloat16))
    predict(model, pixels_for("vit, project").to(GPU, torch.bfloat16))
    fused = [
        module.is_fused
        for module in model.modules()
        if isinstance(module, ConvRelu) and module.relu
    ]
    assert any(fused)


def run(*words):
    return subprocess.run(
        [*DPT, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=300,
    )


@pytest.mark.parametrize("task", ["depth", "segment"])
@pytest.mark.parametrize("batch_size", ["1", "7", "auto"])
def test_the_command_gives_what_the_cpu_gives(models, photos, tmp_path, task, batch_size):
    found = {}
    form = ["--format", "npy"] if task == "depth" else []
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        words = [photos, "-o", out, "-m", models[task], "--dtype", "float32", *form]
        done = run(task, *words, "--device", device, "--batch-size", batch_size)
        assert done.returncode == 0, done.stderr
        found[device] = sorted(path for path in out.glob("*.*") if path.suffix in {".npy", ".png"})
        assert len(found[device]) == 40
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        if task == "depth":
            np.testing.assert_allclose(np.load(ours), np.load(theirs), rtol=1e-2)
        else:
            same = np.array(Image.open(ours)) == np.array(Image.open(theirs))
            assert same.mean() > 0.99


def test_the_default_is_the_gpu_in_its_own_dtype_with_what_fits(models, photos, tmp_path):
    done = run("depth", photos, "-o", tmp_path / "out", "-m", models["depth"], "-v")
    assert done.returncode == 0, done.stderr
    name = str(native_dtype(GPU)).removeprefix("torch.")
    assert f"cuda, {name}" in done.stderr
    assert "batch size for 64×64: 32" in done.stderr


def collect(pipeline, photos, out):
    found = {}

    def save(job, prediction):
        found[job.source.name] = prediction.values
        return {}

    report = pipeline.run(plan_outputs(find_images([photos]), str(out)).jobs, save=save)
    assert not report.failed
    return found


def test_memory_that_ends_takes_smaller_batches_and_then_tiles(models, photos, tmp_path, caplog):
    def opened():
        options = Options(batch_size=16)
        return open_pipeline(
            models["depth"], task="depth", device="cuda", dtype="float32", size=1024,
            options=options,
        )  # fmt: skip

    whole = collect(opened(), photos, tmp_path / "whole")
    torch.cuda.empty_cache()
    pipeline = opened()
    total = torch.cuda.get_device_properties(GPU).total_memory
    for free_mib, said in ((600, "memory ended at a batch of"), (96, "trying tiles of")):
        limit = torch.cuda.memory_reserved() + free_mib * 2**20
        torch.cuda.set_per_process_memory_fraction(limit / total)
        try:
            found = collect(pipeline, photos, tmp_path / "limited")
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert said in caplog.text
        for name, values in found.items():
            assert values.shape == whole[name].shape
            assert np.isfinite(values).all()
            if free_mib == 600:
                np.testing.assert_allclose(values, whole[name], rtol=1e-2)
        torch.cuda.empty_cache()


def test_the_benchmark_names_the_gpu_and_its_memory(models, photos):
    words = [models["depth"], "-i", photos, "--rounds", "1", "--batch-size", "8", "--json"]
    done = run("bench", *words, "--against", "transformers")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ours, theirs = found["contenders"]
    assert ours["gpu"] == torch.cuda.get_device_name()
    assert ours["device_peak_mib"] > 0
    assert theirs["device_peak_mib"] > 0
    assert found["matrix_gflop_per_s"] > 5000
