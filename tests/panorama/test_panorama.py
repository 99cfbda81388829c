"""`dpt depth` of panoramas: known by their XMP or by --panorama, written without a seam."""

import json
from dataclasses import dataclass

import around
import numpy as np
import pytest
from gpano import part, xmp
from PIL import Image
from process import run_dpt
from tiny import save_tiny, save_varied

from dptcli import load_model, predict_depth
from dptcli.cli import main
from dptcli.errors import ImageError, UsageError

HW = (96, 192)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_varied(tmp_path_factory.mktemp("model") / "depth")


@pytest.fixture(scope="module")
def room():
    """A drawn room's colours in every direction, RGB uint8 (H, W, 3)."""
    return around.colour(around.rays(HW))


@pytest.fixture
def pano(tmp_path, room):
    """The same as a file whose XMP says what it is."""
    Image.fromarray(room).save(tmp_path / "pano.jpg", quality=95, xmp=xmp())
    return tmp_path / "pano.jpg"


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def dpt(capsys):
    """Run `dpt depth` in this process."""

    def run(*words):
        code = main(["depth", *map(str, words)])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def facts_of(path):
    return json.loads(path.with_suffix(".json").read_text())


def test_a_file_that_says_so_is_a_panorama_and_the_run_says_how_to_switch_that_off(dpt, pano):
    # Pillow itself finds what the file says.
    with Image.open(pano) as stored:
        assert b'ProjectionType="equirectangular"' in stored.info["xmp"]
    out = pano.parent / "out"
    done = run_dpt("depth", pano, "-o", out, "-f", "color,npy", "--size", "56", "--json")
    assert done.returncode == 0, done.stderr
    assert "pano.jpg is a panorama by its XMP: seen as 16 views" in done.stderr
    assert "--no-panorama" in done.stderr
    assert "--no-panorama" in json.loads(done.stdout)["notes"][0]
    depth, facts = np.load(out / "pano.npy"), facts_of(out / "pano.npy")
    with Image.open(out / "pano.png") as picture:
        assert picture.size == HW[::-1]
    assert depth.shape == HW
    steps = np.abs(np.roll(depth, -1, 1) - depth).mean(0)
    assert steps[-1] <= 1.5 * np.median(steps)
    assert facts["projection"] == "equirectangular"
    assert facts["values"] == "inverse of the distance along the ray"
    assert facts["panorama"]["by"] == "XMP"
    assert len(facts["panorama"]["views"]) == 16
    assert {"yaw_deg", "pitch_deg", "scale", "shift"} == facts["panorama"]["views"][0].keys()
    assert facts["panorama"]["views_apart"]["median"] < 0.5
    assert "camera" not in facts

    plain = pano.parent / "plain"
    done = dpt(pano, "-o", plain, "-f", "npy", "--size", "56", "--no-panorama")
    assert done.returncode == 0, done.stderr
    assert "panorama" not in done.stderr
    assert "projection" not in facts_of(plain / "pano.npy")


def test_a_panorama_that_is_turned_has_its_depth_turned(model, room):
    loaded = load_model(model, task="depth", dtype="float32")
    straight, turned = (
        predict_depth(np.roll(room, step, 1), model=loaded, panorama=True)
        for step in (0, HW[1] // 4)
    )
    assert straight.shape == HW
    spread = np.ptp(straight)
    assert spread > 0
    assert np.abs(np.roll(straight, HW[1] // 4, 1) - turned).max() < 0.03 * spread


def test_a_model_of_depth_keeps_its_unit_and_formats_of_metres_take_it(dpt, model, pano):
    out = pano.parent / "out"
    words = ("-m", model, "--gives", "metres", "-f", "npy,mm,npz,exr,tiff,pfm,png16")
    done = dpt(pano, "-o", out, *words)
    assert done.returncode == 0, done.stderr
    depth, facts = np.load(out / "pano.npy"), facts_of(out / "pano.npy")
    assert (facts["kind"], facts["values"]) == ("depth_m", "distance along the ray")
    assert "shift" not in facts["panorama"]["views"][0]
    scales = [view["scale"] for view in facts["panorama"]["views"]]
    assert np.exp(np.log(scales).mean()) == pytest.approx(1, abs=1e-3)
    with Image.open(out / "pano.depth-mm.png") as stored:
        assert np.abs(np.asarray(stored) / 1000 - depth).max() <= 0.0006
    with np.load(out / "pano.npz") as stored:
        assert "intrinsics" not in stored


def test_known_distances_make_metres_along_the_rays(dpt, model, pano):
    inverse = predict_depth(str(pano), model=str(model), panorama=True, dtype="float32")
    places = [np.unravel_index(np.argsort(inverse, None)[rank], HW) for rank in (-20, 9000, 20)]
    words = [f"--anchor={x},{y}={metres}" for (y, x), metres in zip(places, (1, 2, 3), strict=True)]
    out = pano.parent / "out"
    done = dpt(pano, "-o", out, "-m", model, "-f", "npy", "--dtype", "float32", *words)
    assert done.returncode == 0, done.stderr
    facts, metres = facts_of(out / "pano.npy"), np.load(out / "pano.npy")
    assert (facts["kind"], facts["values"]) == ("depth_m", "distance along the ray")
    assert metres[places[0]] < metres[places[1]] < metres[places[2]]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("-f", "sbs"), "--format sbs"),
        (("-f", "npy,normals"), "--format normals"),
        (("-f", "confidence", "--confidence"), "--confidence"),
        (("--views",), "--views"),
        (("--with-segments",), "--with-segments"),
        (("--fov", "70"), "--fov"),
        (("--prompt", "lidar.png"), "--prompt"),
        (("--sky", "mask", "--with-segments"), "--with-segments"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_does_not_go_with_panoramas_is_refused_by_name(dpt, pano, words, named):
    done = dpt(pano, "-o", pano.parent / "out", "--panorama", *words)
    assert done.returncode == 2
    assert f"{named} does not go with --panorama" in done.stderr


def test_a_panorama_in_a_run_for_plain_photographs_is_one_and_that_is_said(dpt, model, pano):
    done = dpt(pano, "-o", pano.parent / "out", "-m", model, "-f", "sbs")
    assert done.returncode == 0, done.stderr
    assert "is a panorama by its XMP, and with --format sbs taken as a plain picture" in done.stderr


def test_another_shape_is_refused_with_its_size(dpt, model, tmp_path, room):
    Image.fromarray(room[:60]).save(tmp_path / "wide.png")
    done = dpt(tmp_path / "wide.png", "-o", tmp_path / "out", "-m", model, "--panorama")
    assert done.returncode == 1
    assert "wide.png has 192 × 60 pixels" in done.stderr
    assert "twice as wide as high" in done.stderr


def test_a_file_of_another_shape_that_says_it_is_a_panorama_is_a_plain_picture(
    dpt, model, tmp_path, room
):
    Image.fromarray(room[:60]).save(tmp_path / "wide.jpg", xmp=xmp())
    done = dpt(tmp_path / "wide.jpg", "-o", tmp_path / "out", "-m", model)
    assert done.returncode == 0
    assert "192 × 60 pixels, not twice as wide as high" in done.stderr


def test_a_part_is_taken_for_one_when_asked_and_lies_where_its_tags_say(dpt, model, tmp_path, room):
    top, left = 24, 30
    shown = room[top:72, left:130]
    tags = part((960, 1920), (480, 1000), top=240, left=300)  # of the file before it was shrunk
    Image.fromarray(shown).save(tmp_path / "part.jpg", quality=95, xmp=xmp(**tags))
    out = tmp_path / "out"
    done = dpt(tmp_path / "part.jpg", "-o", out, "-m", model, "-f", "npy,glb", "--panorama")
    assert done.returncode == 0, done.stderr
    assert np.load(out / "part.npy").shape == shown.shape[:2]
    told = facts_of(out / "part.npy")["panorama"]
    assert told["shows_deg"] == {"left": -123.75, "right": 63.75, "top": 45.0, "bottom": -45.0}
    assert len(told["views"]) < 16

    done = dpt(tmp_path / "part.jpg", "-o", tmp_path / "plain", "-m", model)
    assert done.returncode == 0
    assert "is a part of a panorama by its XMP: --panorama takes it as one" in done.stderr


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (part((960, 1920), (480, 700)), "by its XMP another shape, 700 × 480"),
        (part((960, 1920), (480, 1920), top=600), "which cannot be"),
        (part((192, 384), (96, 192), left=200), "which cannot be"),
        (part((9600, 19200), (192, 384)), "less than 10°"),
    ],
    ids=["cropped since", "too low", "too far right", "tiny"],
)
def test_a_part_that_cannot_be_is_refused_by_name(dpt, model, tmp_path, room, tags, reason):
    Image.fromarray(room).save(tmp_path / "part.jpg", xmp=xmp(**tags))
    done = dpt(tmp_path / "part.jpg", "-o", tmp_path / "out", "-m", model, "--panorama")
    assert done.returncode == 1
    assert reason in done.stderr


def test_batches_and_tiles_work_as_for_other_photographs(dpt, model, pano):
    out = pano.parent
    for name, words in {
        "one": (),
        "seven": ("--batch-size", "7"),
        "tiles": ("--tile", "64"),
    }.items():
        done = dpt(pano, "-o", out / name, "-m", model, "-f", "npy", "--dtype", "float32", *words)
        assert done.returncode == 0, done.stderr
    one, seven, tiles = (np.load(out / name / "pano.npy") for name in ("one", "seven", "tiles"))
    assert np.allclose(one, seven, atol=1e-3 * np.ptp(one))
    assert tiles.shape == one.shape


def test_one_range_over_the_run_keeps_panoramas_without_a_seam(dpt, model, pano):
    out = pano.parent
    for name, words in {"own": (), "run": ("--range", "global")}.items():
        done = dpt(pano, "-o", out / name / "", "-m", model, "-f", "npy,color", *words)
        assert done.returncode == 0, done.stderr
    assert np.allclose(np.load(out / "own/pano.npy"), np.load(out / "run/pano.npy"), atol=1e-5)


def test_a_target_size_is_kept(dpt, model, pano):
    out = pano.parent / "out"
    done = dpt(pano, "-o", out, "-m", model, "-f", "npy", "--target-size", "50x100")
    assert done.returncode == 0, done.stderr
    assert np.load(out / "pano.npy").shape == (50, 100)


def test_heights_from_above_are_no_panorama(dpt, tmp_path, pano):
    folder = save_tiny(tmp_path / "heights", task="depth")
    done = dpt(pano, "-o", tmp_path / "out", "-m", folder, "--gives", "height", "--panorama")
    assert done.returncode == 2
    assert "gives heights above the ground" in done.stderr


def test_python_refuses_what_the_command_refuses(model, room):
    with pytest.raises(ImageError, match="192 × 60 pixels"):
        predict_depth(room[:60], model=str(model), panorama=True)
    with pytest.raises(UsageError, match="panoramas"):
        predict_depth(room, model=str(model), panorama=True, prompt=np.ones((4, 8)))
