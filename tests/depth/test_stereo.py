"""Two views of a photograph: against a scene whose second view is exact, and as files."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from raycast import depth_m, photograph, psnr
from tiny import save_varied

from dptcli.cli import main
from dptcli.depth.depthmap import DepthMap
from dptcli.depth.lens import Lens
from dptcli.depth.secondeye import crisp, second_view
from dptcli.depth.stereo import Stereo, write_stereo

HW, FOCAL, IPD_MM = (180, 320), 280.0, 63.0


@pytest.fixture(scope="module")
def scene():
    left, right = (photograph(eye, HW, FOCAL) for eye in (0.0, IPD_MM / 1000))
    metres = depth_m(0.0, HW, FOCAL)
    limits = float(metres.min()), float(metres.max())
    lens = Lens.middle(FOCAL, HW, "--focal")
    return DepthMap(metres, "depth_m", limits, rgb=left, lens=lens), right


def written(depth, layout, **options):
    stream = io.BytesIO()
    facts = write_stereo(stream, depth, layout=layout, stereo=Stereo(**options, lossless=True))
    with Image.open(io.BytesIO(stream.getvalue())) as picture:
        return np.asarray(picture.convert("RGB")), facts


def views(depth, **options):
    picture, facts = written(depth, "sbs", **options)
    left, right = np.hsplit(picture, 2)
    return left, right, facts


def test_the_second_view_is_what_the_second_eye_sees(scene):
    depth, exact = scene
    left, _, facts = views(depth, ipd_mm=IPD_MM, convergence=0.0)
    assert np.array_equal(left, depth.rgb)
    # With the farthest thing in the screen, all has moved by its disparity less.
    screen = FOCAL * IPD_MM / 1000 / depth.limits[1]
    moved = np.asarray(FOCAL * IPD_MM / 1000 / depth.values, np.float32)
    ours, holes = second_view(depth.rgb, crisp(moved, blur_px=1))
    assert facts["disparity_px"] == pytest.approx([0, float(moved.max()) - screen], abs=0.01)
    # Left as it is the photograph is 18 dB from the right eye's view, best moved as a whole 22.
    assert psnr(depth.rgb, exact) < 19
    assert psnr(ours, exact) > 30
    assert psnr(ours, exact, ~holes) > 34
    assert psnr(ours, exact, holes) > 16
    assert 0.01 < holes.mean() < 0.05
    assert facts["share_filled"] == pytest.approx(holes.mean(), abs=0.02)


def test_a_soft_depth_edge_leaves_no_halo(scene):
    depth, exact = scene
    moved = np.asarray(FOCAL * IPD_MM / 1000 / depth.values, np.float32)
    coarse = Image.fromarray(moved).resize((HW[1] // 4, HW[0] // 4), Image.Resampling.BOX)
    soft = np.asarray(coarse.resize(HW[::-1], Image.Resampling.BICUBIC))
    raw, raw_holes = second_view(depth.rgb, soft)
    ours, holes = second_view(depth.rgb, crisp(soft, blur_px=4))
    assert psnr(ours, exact, ~holes) > psnr(raw, exact, ~raw_holes) + 2


def test_what_a_resize_overshot_moves_no_farther_than_the_nearest_thing():
    metres = np.full((30, 60), 9.0, np.float32)
    metres[:, 20:40] = 1.0
    metres[:, 20] = metres[:, 39] = 0.2  # the ringing of a bicubic edge
    metres[:, 21] = -0.3
    rgb = np.zeros((30, 60, 3), np.uint8)
    lens = Lens.middle(50.0, (30, 60), "--focal")
    depth = DepthMap(metres, "depth_m", (1.0, 9.0), rgb=rgb, lens=lens)
    moved = Stereo(ipd_mm=100.0).disparity(depth, convergence=0.0)
    assert moved[:, 20:40] == pytest.approx(5 - 5 / 9)
    assert moved.max() == pytest.approx(5 - 5 / 9)


def test_what_is_uncovered_is_filled_from_the_background():
    rgb = np.full((20, 60, 3), (0, 200, 0), np.uint8)
    rgb[:, 20:40] = (200, 0, 0)
    moved = np.zeros((20, 60), np.float32)
    moved[:, 20:40] = 8
    right, holes = second_view(rgb, moved)
    expected = np.full((20, 60, 3), (0, 200, 0), np.uint8)
    expected[:, 12:32] = (200, 0, 0)
    wrong = (right != expected).any(-1)
    assert not wrong[:, :31].any()
    assert not wrong[:, 33:].any()
    assert holes[:, 32:39].all()
    assert holes.sum() <= 20 * 10


@pytest.mark.parametrize(
    ("layout", "hw"),
    [
        ("sbs", (180, 640)),
        ("sbs-half", (180, 320)),
        ("tb", (360, 320)),
        ("tb-half", (180, 320)),
        ("anaglyph", (180, 320)),
        ("vr180", (880, 1760)),
    ],
)
def test_layouts_have_the_sizes_that_players_expect(scene, layout, hw):
    picture, facts = written(scene[0], layout)
    assert picture.shape == (*hw, 3)
    assert (facts["height"], facts["width"]) == hw
    assert facts["layout"] == layout


def test_red_of_an_anaglyph_is_the_left_eyes_and_cyan_the_rights(scene):
    depth, _ = scene
    left, right, _ = views(depth)
    picture, _ = written(depth, "anaglyph")
    for channel, own, other in ((0, left, right), (1, right, left)):
        alike = [
            np.corrcoef(picture[..., channel].ravel(), view.mean(-1).ravel())[0, 1]
            for view in (own, other)
        ]
        assert alike[0] > alike[1] + 0.1


def test_vr180_puts_a_direction_where_a_headset_looks_for_it(scene):
    depth, _ = scene
    picture, facts = written(depth, "vr180", strength=0.001)
    side = facts["height"]
    rng = np.random.default_rng(0)
    for _ in range(50):
        row, column = rng.integers(5, HW[0] - 5), rng.integers(5, HW[1] - 5)
        x, y = (column + 0.5 - HW[1] / 2) / FOCAL, (row + 0.5 - HW[0] / 2) / FOCAL
        longitude, latitude = np.arctan(x), np.arctan2(y, np.hypot(x, 1))
        at = [int((angle / np.pi + 0.5) * side) for angle in (latitude, longitude)]
        seen = picture[at[0], at[1]].astype(int)
        around = depth.rgb[row - 1 : row + 2, column - 1 : column + 2].reshape(-1, 3)
        assert np.abs(seen - around).sum(-1).min() < 40
    assert not picture[0].any()  # what the camera did not see


def test_more_strength_moves_farther_and_convergence_says_what_stays(scene):
    depth, _ = scene
    for strength, convergence in ((0.02, 0.0), (0.04, 0.5), (0.03, 1.0)):
        _, _, facts = views(depth, strength=strength, convergence=convergence)
        low, high = facts["disparity_px"]
        assert high - low == pytest.approx(strength * HW[1], rel=1e-3)
        assert low == pytest.approx(-convergence * strength * HW[1], abs=1e-2)


def test_the_command_names_files_as_players_want_them(tmp_path):
    model = save_varied(tmp_path / "model")
    photo = photograph(0.0, (60, 90), 80.0)
    Image.fromarray(photo).save(tmp_path / "a.png")
    out = tmp_path / "out"
    words = ["depth", str(tmp_path / "a.png"), "-o", str(out), "-m", str(model), "-q"]
    assert main([*words, "-f", "sbs,sbs-half,tb,tb-half,anaglyph,vr180,color"]) == 0
    names = {path.name for path in out.iterdir()} - {".dpt"}
    endings = ("LRF", "LR", "TBF", "TB", "anaglyph", "180x180_LR")
    assert names == {*(f"a_{ending}.jpg" for ending in endings), "a.json", "a.png"}
    with Image.open(out / "a_LRF.jpg") as both:
        left = np.asarray(both)[:, :90]
    assert psnr(left, photo) > 30
    told = json.loads((out / "a.json").read_text())["files"]["a_LRF.jpg"]
    assert told["kind"] == "stereo"
    assert told["layout"] == "sbs"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-f sbs --strength 0.5", "must be above 0 and at most 0.2"),
        ("-f sbs --strength wide", "--strength 'wide' must be a number"),
        ("-f sbs --strength 3% --ipd 63", "leave one out"),
        ("-f tb --convergence 2", "must be from 0"),
        ("-f npy --ipd 63", "add -f sbs, tb, anaglyph or vr180"),
        ("-f sbs --ipd 63", "--ipd is in millimetres, and model"),
    ],
)
def test_what_makes_no_sense_is_refused(words, said, tmp_path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    model = save_varied(tmp_path / "model")
    line = ["depth", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "-m", str(model)]
    assert main([*line, *words.split()]) == 2
    assert said in capsys.readouterr().err
