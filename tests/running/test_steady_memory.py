"""Memory over a long run: what image 2,000 takes is what image 500 took."""

import statistics
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from process import NEEDS_PROC, environment
from tiny import save_tiny, save_varied

# Every shape differs from the one before, so that nothing gets by on buffers of one size.
CHILD = """
import sys
import torch
torch.set_num_threads(1)
from dptcli.depth.colormaps import depth_lut
from dptcli.depth.facts import model_facts
from dptcli.depth.outputs import DepthOutputs
from dptcli.depth.picture import Look
from dptcli.inputs.find import find_images
from dptcli.pipeline import Options, open_pipeline
from dptcli.results.plan import plan_outputs

model, photos, out, num_images = sys.argv[1:]
pipeline = open_pipeline(model, task="depth", options=Options(batch_size=2))
jobs = plan_outputs(find_images([photos]), out, existing="overwrite").jobs
outputs = DepthOutputs(look=Look(lut=depth_lut()))
facts = model_facts(pipeline.loaded)
done = 0

def resident_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

def on_done(outcome):
    global done
    done += 1
    assert outcome.error is None, outcome.error
    if done % 100 == 0:
        print(done, f"{resident_mib():.1f}", flush=True)

many = (jobs[index % len(jobs)] for index in range(int(num_images)))
pipeline.run(many, save=lambda job, found: outputs.save(job, found, facts), on_done=on_done)
"""


def resident_mib(tmp_path, num_images, *, shrink=1):
    """Run so many images through `dpt depth`'s own parts; {images done: MiB resident}."""
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for index in range(20):
        size = (200 + 19 * (index % 7)) // shrink, (150 + 27 * (index % 5)) // shrink
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(photos / f"{index}.jpg")
    keep = {"keep_aspect_ratio": True, "ensure_multiple_of": 16}
    model = save_varied(tmp_path / "model", processor=keep)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, (model, photos, tmp_path / "out", num_images))],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    lines = (line.split() for line in done.stdout.splitlines())
    return {int(count): float(mib) for count, mib in lines}


def growth_mib(taken, *, start):
    """The median growth in 100 images from `start` on.

    A leak grows in every hundred. Where threads wait for a busy processor, a small block may come
    to lie in the midst of a large free one: a step, once.
    """
    counts = [count for count in sorted(taken) if count >= start]
    return statistics.median(taken[after] - taken[before] for before, after in pairwise(counts))


@NEEDS_PROC
def test_memory_is_the_same_at_image_200_and_at_image_700(tmp_path):
    taken = resident_mib(tmp_path, 700)
    # A leak of 10 KiB an image would show, an eighth of a photograph.
    assert growth_mib(taken, start=200) <= 1, taken
    assert taken[700] <= 1.2 * taken[200], taken


@pytest.mark.slow
@NEEDS_PROC
def test_memory_is_the_same_at_image_500_and_at_image_2000(tmp_path):
    taken = resident_mib(tmp_path, 2_000, shrink=2)
    print(f"resident MiB: {taken[500]} at image 500, {taken[2_000]} at image 2,000")
    # A leak of 2 KiB an image would show, an eighteenth of a photograph's pixels.
    assert growth_mib(taken, start=500) <= 0.2, taken
    assert taken[2_000] <= 1.2 * taken[500], taken


LOADS = """
import sys
from pathlib import Path
import torch
from dptcli.weights.load import load_model

def peak_mib():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

load_model(sys.argv[1], task="depth", device="cpu", dtype="bfloat16")  # what is loaded once
before = peak_mib()
load_model(sys.argv[2], task="depth", device="cpu", dtype="bfloat16")
print(peak_mib() - before)
"""


@NEEDS_PROC
@pytest.mark.parametrize("linked", [False, True])
def test_a_file_that_is_narrowed_does_not_stay_in_memory_beside_its_copy(tmp_path, linked):
    wide = {"hidden_size": 768, "num_hidden_layers": 8, "num_attention_heads": 4}
    model = save_tiny(tmp_path / "model", task="depth", intermediate_size=3072, **wide)
    weights = model / "model.safetensors"
    file_mib = weights.stat().st_size / 2**20
    assert file_mib > 200
    if linked:  # as the hub's cache does, whose files are named by their hashes
        weights.symlink_to(weights.rename(tmp_path / "0123abcd"))
    words = [
        sys.executable,
        "-c",
        LOADS,
        str(save_tiny(tmp_path / "tiny", task="depth")),
        str(model),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment())
    # Half of it is the copy, and a page or two of the file are at hand.
    assert 0.45 * file_mib < float(done.stdout) < 0.7 * file_mib
