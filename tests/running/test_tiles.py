"""Tiles: every pixel covered, no seams, the whole's scale, the tiles' details, for both tasks."""

import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from process import run_dpt
from tiny import save_tiny, save_varied

from dptcli.model.families.zoedepth.processor import ZoeDepthImageProcessor
from dptcli.pipeline import Options, open_pipeline
from dptcli.processing.processor import DPTImageProcessor
from dptcli.running.canvas import make_canvas
from dptcli.running.tiles import places, predict_tiled, shrunk, smaller_tile


def waves(hw):
    """A smooth scene (H, W) with large forms and fine ones."""
    rows, columns = (torch.linspace(0, 1, size) for size in hw)
    slow = 2 + torch.sin(5 * rows)[:, None] + columns[None]
    fine = 0.1 * torch.sin(90 * rows)[:, None] * torch.sin(120 * columns)[None]
    return slow + fine


def moody(tiles):
    """A network that sees depth exactly, but each tile at a scale, shift and drift of its own."""
    maps = []
    for tile in tiles:
        own = float(tile[0].sum()) % 1  # any number that differs from tile to tile
        drift = own * torch.linspace(0, 0.3, tile.shape[-1])
        maps.append((0.5 + own) * tile[0] + 3 * own + drift)
    return maps


def steps_at(joined, edges):
    """The mean step from each column to the next: at the edges, and everywhere else."""
    steps = joined.diff(dim=1).abs().mean(0)
    at = torch.zeros(len(steps), dtype=torch.bool)
    at[[edge - 1 for edge in edges if 0 < edge < joined.shape[1]]] = True
    return steps[at], steps[~at]


@pytest.mark.parametrize(("length", "tile"), [(100, 40), (41, 40), (40, 40), (1000, 96), (97, 96)])
def test_tiles_cover_a_side_evenly_and_overlap(length, tile):
    starts = places(length, tile)
    assert starts[0] == 0
    assert starts[-1] + tile == length
    steps = [b - a for a, b in itertools.pairwise(starts)]
    assert all(step <= 0.75 * tile + 1 for step in steps)
    assert not steps or max(steps) - min(steps) <= 1


@pytest.mark.parametrize("hw", [(300, 400), (257, 611), (96, 1000)], ids=str)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_scene_from_tiles_has_the_wholes_scale_the_tiles_details_and_no_seams(hw, batch_size):
    scene = waves(hw)
    canvas = scene.expand(3, -1, -1)
    whole = F.interpolate(scene[None, None], (24, 32), mode="bilinear", antialias=True)[0, 0]
    joined = predict_tiled(moody, canvas, whole, tile_hw=(96, 112), fit=True, batch_size=batch_size)
    assert joined.shape == hw
    assert joined.isfinite().all()
    error = (joined - scene).abs()
    assert error.mean() < 0.02  # the scene spans 3; a tile alone is off by up to 4
    assert error.max() < 0.5  # at the edges and corners too
    # The details, which the whole does not have.
    coarse = F.interpolate(whole[None, None], hw, mode="bicubic")[0, 0]
    assert error.mean() < 0.5 * (coarse - scene).abs().mean()
    edges = [start + off for start in places(hw[1], 112) for off in (0, 112)]
    at, elsewhere = steps_at(joined, edges)
    assert at.max() < elsewhere.max()
    assert at.mean() < 1.5 * elsewhere.mean()


def test_a_smooth_ramp_from_tiles_has_no_seam():
    ramp = torch.linspace(0, 1, 700).expand(500, 700)
    whole = F.interpolate(ramp[None, None], (40, 56), mode="bilinear", antialias=True)[0, 0]
    joined = predict_tiled(moody, ramp.expand(3, -1, -1), whole, tile_hw=(128, 160), fit=True)
    steps = joined.diff(dim=1).mean(0)[20:-20]
    # Everywhere one step of 1/699; a seam would be a step of another size, or backwards.
    assert steps.min() > 0.5 / 699
    assert steps.max() < 2 / 699


def test_a_tile_that_contradicts_the_whole_gives_way_to_it():
    scene = waves((200, 300))
    whole = F.interpolate(scene[None, None], (50, 75), mode="bilinear", antialias=True)[0, 0]

    def inverted(tiles):
        return [-5 * tile[0] for tile in tiles]

    canvas = scene.expand(3, -1, -1)
    joined = predict_tiled(inverted, canvas, whole, tile_hw=(96, 96), fit=True)
    assert np.corrcoef(joined.flatten(), scene.flatten())[0, 1] > 0.95

    def flat(tiles):
        return [torch.full(tile.shape[1:], 7.0) for tile in tiles]

    joined = predict_tiled(flat, canvas, whole, tile_hw=(96, 96), fit=True)
    assert (joined - scene).abs().mean() < 0.2


def test_logits_are_shared_by_tiles_and_the_whole_and_kept_within_the_bytes_given():
    generator = torch.Generator().manual_seed(0)
    scene = F.interpolate(
        torch.randn((1, 5, 6, 8), generator=generator), (240, 320), mode="bicubic"
    )[0]
    canvas = scene[:3]
    whole = F.interpolate(scene[None], (60, 80), mode="bilinear", antialias=True)[0]

    def see(tiles):
        # The tile's place is found by its first pixels: a network that sees all five classes.
        found = []
        for tile in tiles:
            at = (canvas.unfold(1, 96, 1).unfold(2, 96, 1)[:, :, :, 0, 0] == tile[:, :1, :1]).all(0)
            y, x = at.nonzero()[0].tolist()
            found.append(scene[:, y : y + 96, x : x + 96])
        return found

    joined = predict_tiled(see, canvas, whole, tile_hw=(96, 96), fit=False)
    assert joined.shape == (5, 240, 320)
    assert (joined.argmax(0) == scene.argmax(0)).float().mean() > 0.99
    small = predict_tiled(
        see, canvas, whole, tile_hw=(96, 96), fit=False, most_bytes=4 * 5 * 240 * 320 // 3
    )
    assert small.shape == (5, 120, 160)
    enlarged = F.interpolate(small[None], (240, 320), mode="bilinear")[0]
    assert (enlarged.argmax(0) == scene.argmax(0)).float().mean() > 0.97


@pytest.mark.parametrize("hw", [(768, 1024), (64, 20_000), (20_000, 64), (400, 400)], ids=str)
def test_tiles_for_lack_of_memory_shrink_to_what_a_network_can_judge(hw):
    tile_hw, seen = smaller_tile(hw, multiple=16), []
    while tile_hw is not None:
        assert tile_hw[0] % 16 == 0
        assert tile_hw[1] % 16 == 0
        assert tile_hw[0] <= hw[0]
        assert tile_hw[1] <= hw[1]
        seen.append(tile_hw[0] * tile_hw[1])
        tile_hw = smaller_tile(tile_hw, multiple=16)
    areas = [hw[0] * hw[1], *seen]
    assert len(seen) >= 2
    assert all(later < 0.6 * earlier for earlier, later in itertools.pairwise(areas))
    assert seen[-1] >= 128 * 128
    small = shrunk(torch.rand(3, *hw), pixels=seen[0], multiple=16)
    assert small.shape[1] % 16 == 0
    assert small.shape[2] % 16 == 0
    assert small.shape[1] * small.shape[2] <= 1.5 * seen[0]


PROCESSORS = {
    "square": DPTImageProcessor(size=64),
    "aspect": DPTImageProcessor(size=64, keep_aspect_ratio=True, ensure_multiple_of=16),
    "padded": DPTImageProcessor(size=64, do_pad=True, size_divisor=16),
    "zoe": ZoeDepthImageProcessor(size=64, ensure_multiple_of=32),
}


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=PROCESSORS)
@pytest.mark.parametrize("hw", [(300, 400), (301, 211), (65, 3000), (10, 900)], ids=str)
@pytest.mark.parametrize("tile", ["auto", 90, 200])
def test_a_canvas_has_room_for_whole_tiles_on_the_patch_grid(processor, hw, tile):
    picture = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    canvas = make_canvas(processor, picture, tile, multiple=16)
    assert canvas is not None
    height, width = canvas.prepared.network_hw
    assert canvas.tile_hw[0] % 16 == 0
    assert canvas.tile_hw[1] % 16 == 0
    assert canvas.tile_hw[0] <= height
    assert canvas.tile_hw[1] <= width
    assert canvas.prepared.padding == (0, 0, 0, 0)
    assert canvas.prepared.source_hw == hw
    if min(hw) >= 200:  # the scale along both sides is the same, but for roundings
        assert height / hw[0] == pytest.approx(width / hw[1], rel=0.1)


def test_a_picture_within_one_tile_is_not_cut():
    picture = np.zeros((80, 90, 3), np.uint8)
    assert make_canvas(PROCESSORS["square"], picture, 100, multiple=16) is None


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    coarse = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    Image.fromarray(coarse).resize((333, 250), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize("task", ["depth", "segment"])
@pytest.mark.parametrize("options", [{}, {"batch_size": 4}], ids=["one", "batches"])
def test_both_tasks_run_in_tiles_and_give_the_photographs_size(tmp_path, photo, task, options):
    folder = save_tiny(tmp_path / "m", task=task)
    pipeline = open_pipeline(folder, task=task, options=Options(tile=100, **options))
    shapes = []
    forward = pipeline.loaded.model.forward
    pipeline.loaded.model.forward = lambda x: shapes.append(tuple(x.shape)) or forward(x)
    prediction = pipeline.predict_one(photo)
    assert prediction.values.shape == (250, 333)
    assert prediction.network_hw == (160, 214)
    assert {shape[1:] for shape in shapes} == {(3, 64, 64)}
    assert sum(shape[0] for shape in shapes) == 1 + 3 * 5
    assert max(shape[0] for shape in shapes) == options.get("batch_size", 1)


def test_a_run_of_dpt_with_tiles_is_near_the_run_without(tmp_path, photo):
    folder = save_varied(tmp_path / "m")
    words = ["depth", photo, "-m", folder, "-f", "npy", "--dtype", "float32"]
    for name, extra in (("plain", []), ("tiled", ["--tile"])):
        done = run_dpt(*words, "-o", tmp_path / f"{name}.npy", *extra)
        assert done.returncode == 0, done.stderr
    plain, tiled = (np.load(tmp_path / f"{name}.npy") for name in ("plain", "tiled"))
    assert plain.shape == tiled.shape == (250, 333)
    assert not np.array_equal(plain, tiled)
    # A random network makes noise of details; tiles keep the whole's level.
    assert tiled.mean() == pytest.approx(plain.mean(), rel=0.05)
    facts = json.loads((tmp_path / "tiled.json").read_text())
    assert facts["network_hw"][0] > 100


@pytest.mark.parametrize("value", ["12", "0", "-5", "1.5", "huge", "63"])
def test_tile_sizes_that_make_no_sense_are_refused(value, tmp_path):
    done = run_dpt("depth", "x.jpg", "-o", tmp_path / "y.png", f"--tile={value}")
    assert done.returncode == 2
    assert value in done.stderr
    assert len(done.stderr.splitlines()) == 1
