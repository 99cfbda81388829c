"""--refine-edges: depth's edges on the photograph's edges, and nothing else."""

import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from places import SAMPLES
from tiny import save_varied

from dptcli.cli import main
from dptcli.depth import guided
from dptcli.depth.guided import refine_edges

NETWORK = (60, 80)


def soft_step(hw=(240, 320), at=150, softness=30, lo=1.0, hi=3.0):
    """Inverse depth that rises from lo to hi around column `at`, as a coarse network gives it."""
    across = lo + (hi - lo) / (1 + np.exp(-(np.arange(hw[1]) - at) / softness * 4))
    return np.tile(across.astype(np.float32), (hw[0], 1))


def two_colours(hw=(240, 320), at=160):
    photo = np.full((*hw, 3), (200, 60, 40), np.uint8)
    photo[:, at:] = (40, 90, 160)
    return photo


@pytest.mark.parametrize("kind", ["inverse_depth", "depth_m"])
def test_a_soft_edge_moves_to_the_photographs_edge_and_becomes_sharp(kind):
    soft = soft_step()
    values = soft if kind == "inverse_depth" else 1 / soft
    refined = refine_edges(values, two_colours(), kind=kind, network_hw=NETWORK)
    inverse = refined if kind == "inverse_depth" else 1 / refined
    jump = np.diff(inverse[120])
    assert jump.argmax() == 159
    assert jump.max() > 0.35 * 2 > 8 * np.diff(soft[120]).max()  # 2: the whole step
    assert soft.min() <= inverse.min() + 1e-5
    assert inverse.max() - 1e-5 <= soft.max()


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_a_plane_stays_a_plane_where_the_photograph_has_no_edge(colour):
    rows, columns = np.mgrid[0:240, 0:320].astype(np.float32)
    plane = 1 + rows / 240 + columns / 640
    photo = np.full((240, 320, 3), colour, np.uint8)
    refined = refine_edges(plane, photo, kind="inverse_depth", network_hw=NETWORK)
    # Up to the border, but for half a pixel of the grid, which is 8 pixels here.
    inside = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(refined[inside], plane[inside], atol=1e-4)


def test_texture_leaves_no_trace_where_depth_is_flat():
    photo = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    flat = np.full((240, 320), 2.5, np.float32)
    refined = refine_edges(flat, photo, kind="inverse_depth", network_hw=NETWORK)
    np.testing.assert_allclose(refined, flat, atol=1e-6)


def test_unknown_pixels_stay_unknown_and_spoil_no_others():
    values = soft_step()
    values[10:20, 10:20] = np.nan
    values[0, 0] = np.inf
    refined = refine_edges(values, two_colours(), kind="inverse_depth", network_hw=NETWORK)
    np.testing.assert_array_equal(np.isfinite(refined), np.isfinite(values))
    metres = 1 / soft_step()
    metres[5, 5], metres[6, 6] = 0, -2
    refined = refine_edges(metres, two_colours(), kind="depth_m", network_hw=NETWORK)
    assert (refined[5, 5], refined[6, 6]) == (0, -2)
    assert (refined > 0).sum() == refined.size - 2


@pytest.mark.parametrize("sky_m", [200.0, np.nan], ids=["far", "unknown"])
def test_what_stands_before_the_sky_keeps_its_depth(sky_m):
    rows, columns = np.mgrid[0:240, 0:320]
    sky = rows < 90 + 20 * (columns // 40 % 2)  # a stepped roof
    house = (5 + rows / 240 + columns / 640).astype(np.float32)
    photo = np.where(sky[..., None], np.uint8([150, 180, 220]), np.uint8([120, 90, 80]))
    # The photograph's edge is not the mask's: haze, or a network's coarse mask.
    photo = np.asarray(Image.fromarray(photo).resize((40, 30)).resize((320, 240)))
    values = np.where(sky, np.float32(sky_m), house)
    refined = refine_edges(values, photo, kind="depth_m", network_hw=NETWORK, apart=sky)
    np.testing.assert_array_equal(refined[sky], values[sky])
    assert np.abs(refined - house)[~sky].max() < 0.1
    mixed = refine_edges(np.where(sky, 200, house), photo, kind="depth_m", network_hw=NETWORK)
    assert np.abs(mixed - house)[~sky].max() > 1, "which is what it guards against"
    # Far from the sky nothing is another than without one.
    alone = refine_edges(house, photo, kind="depth_m", network_hw=NETWORK)
    away = slice(110 + guided.REACH * 240 // NETWORK[0], None)
    np.testing.assert_allclose(refined[away], alone[away], atol=1e-5)


def test_an_edge_before_the_sky_moves_to_the_photographs_too():
    soft, photo = soft_step(), two_colours()
    sky = np.zeros(soft.shape, bool)
    sky[:60] = True
    photo[:60] = 230
    values = np.where(sky, np.float32(0), soft)
    refined = refine_edges(values, photo, kind="inverse_depth", network_hw=NETWORK, apart=sky)
    for row in (64, 120):
        assert np.diff(refined[row]).argmax() == 159


@pytest.mark.parametrize("hw", [(1, 1), (1, 50), (2, 2), (3, 200), (9, 7)])
def test_every_size_is_taken_and_the_photograph_may_have_another(hw):
    values = np.random.default_rng(0).random(hw, dtype=np.float32)
    photo = np.random.default_rng(1).integers(0, 256, (33, 21, 3), dtype=np.uint8)
    refined = refine_edges(values, photo, kind="inverse_depth", network_hw=NETWORK)
    assert refined.shape == hw
    assert refined.min() >= values.min()
    assert refined.max() <= values.max()


def test_bands_give_what_the_whole_gives(monkeypatch):
    values, photo = soft_step(), two_colours()
    whole = refine_edges(values, photo, kind="inverse_depth", network_hw=NETWORK)
    monkeypatch.setattr(guided, "_BAND_PIXELS", 320 * 7)
    banded = refine_edges(values, photo, kind="inverse_depth", network_hw=NETWORK)
    np.testing.assert_allclose(banded, whole, atol=1e-5)  # sums of float32 in another order


def test_twelve_megapixels_take_little_more_memory_than_their_result():
    values = np.tile(np.linspace(1, 2, 4000, dtype=np.float32), (3000, 1))
    photo = np.zeros((3000, 4000, 3), np.uint8)
    tracemalloc.start()
    refined = refine_edges(values, photo, kind="inverse_depth", network_hw=(308, 406))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < refined.nbytes + 64 * 2**20


def test_the_command_refines_every_format_and_says_so(tmp_path):
    model = save_varied(tmp_path / "model")
    with Image.open(SAMPLES / "coffee.png") as photo:
        photo.resize((150, 100)).save(tmp_path / "coffee.png")
    for name, more in (("plain", []), ("refined", ["--refine-edges"])):
        words = [str(tmp_path / "coffee.png"), "-m", str(model), "-f", "npy,color", *more]
        assert main(["depth", *words, "-o", str(tmp_path / name) + "/"]) == 0
    plain, refined = (np.load(tmp_path / name / "coffee.npy") for name in ("plain", "refined"))
    assert np.abs(plain - refined).max() > 0.01
    facts = json.loads((tmp_path / "refined" / "coffee.json").read_text())
    assert "guided filter" in facts["edges"]
    assert "edges" not in json.loads((tmp_path / "plain" / "coffee.json").read_text())
    pictures = [(tmp_path / name / "coffee.png").read_bytes() for name in ("plain", "refined")]
    assert pictures[0] != pictures[1]
