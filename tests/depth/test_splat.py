"""Depth for trainers of Gaussian splats, fitted to the points of a model that pycolmap writes."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sparse_model import HW, NAMES, UNIT, true_depth, write_model, write_photographs
from tiny import save_tiny

from dptcli.cli import main
from dptcli.depth.colmap_files import read_images
from dptcli.depth.depthmap import DepthMap
from dptcli.depth.sparse import read_sparse
from dptcli.depth.splat import fit_to_sparse, write_params, write_splat
from dptcli.errors import UsageError
from dptcli.running.answer import Answer
from dptcli.running.network import Network
from dptcli.running.seen import seen_of

pytest.importorskip("pycolmap")
KEYS = [name.removesuffix(".png") for name in NAMES]
FAR_M = 8.0


def inverse(depth_m):
    """Its own share of its range, as a relative model gives it."""
    near = 1 / depth_m
    return (near - near.min()) / np.ptp(near)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    size = {"height": HW[0], "width": HW[1]}
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return save_tiny(folder, task="depth", processor={"size": size})


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("scene") / "sparse" / "0")


@pytest.fixture
def scene(tmp_path, sparse, monkeypatch):
    """photographs/ that show their own inverse depth, sparse/0, and a network that reads it off."""

    def read_off(_network, images):
        grey = [torch.from_numpy(np.asarray(seen_of(image).pixels)).mean(0) for image in images]
        return [Answer(FAR_M * (one * 0.5 + 0.5)) for one in grey]

    monkeypatch.setattr(Network, "run", read_off)
    shutil.copytree(sparse, tmp_path / "sparse" / "0")
    write_photographs(tmp_path / "images", inverse)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(model, *words):
    words = [str(word) for word in words]
    return main(["depth", *words, "-m", str(model), "--dtype", "float32"])


def params(scene):
    return json.loads((scene / "sparse" / "0" / "depth_params.json").read_bytes())


def trained_on(scene, key):
    """1 / depth in the model's unit, as trainers take it from the PNG and the JSON."""
    with Image.open(scene / "depths" / f"{key}.png") as picture:
        assert picture.mode == "I;16"
        value = np.asarray(picture).astype(np.float32) / 2**16
    entry = params(scene)[key]
    return value * entry["scale"] + entry["offset"]


def check_true(scene, *, middle=0.01):
    assert list(params(scene)) == KEYS
    for number, key in enumerate(KEYS):
        exact = 1 / (UNIT * true_depth(number))
        errors = np.abs(trained_on(scene, key) / exact - 1)
        assert np.median(errors) < middle
        assert np.quantile(errors, 0.99) < 4 * middle


def test_scale_and_offset_make_true_inverse_depth_of_the_pngs(scene, model):
    assert run(model, "images", "--colmap", "sparse/0", "-o", "depths") == 0
    check_true(scene)
    for key in KEYS:
        entry = params(scene)[key]
        assert entry["num_points"] > 100
        assert 0.05 < entry["num_outliers"] / entry["num_points"] < 0.3
        assert entry["median_error"] < 0.02
        sidecar = json.loads((scene / "depths" / f"{key}.json").read_bytes())
        assert {**entry, **sidecar["colmap"]} == sidecar["colmap"]
        assert sidecar["camera"]["fx"] == 110
        assert sidecar["files"][f"{key[2:]}.png"]["kind"] == "inverse_depth"


def test_text_and_binary_files_say_the_same(sparse, tmp_path):
    write_model(tmp_path / "text", text=True)
    binary, text = read_sparse(str(sparse)), read_sparse(str(tmp_path / "text"))
    assert list(binary.images) == list(text.images) == list(NAMES)
    for one, other in zip(binary.images.values(), text.images.values(), strict=True):
        assert one.camera == other.camera
        assert len(one.depth) > 100
        np.testing.assert_allclose(one.xy, other.xy, atol=1e-3)
        np.testing.assert_allclose(one.depth, other.depth, rtol=1e-5)


def test_a_model_of_metres_is_scaled_alone(scene, model):
    write_photographs(scene / "images", lambda depth_m: depth_m / FAR_M)
    assert run(model, "images", "--colmap", "sparse/0", "-o", "depths", "--gives", "metres") == 0
    check_true(scene)
    sidecar = json.loads((scene / "depths" / f"{KEYS[0]}.json").read_bytes())
    assert (sidecar["kind"], sidecar["unit"]) == ("depth_m", "metre")


def test_photographs_of_another_size_are_scaled_and_of_another_shape_refused(scene, model, capfd):
    write_photographs(scene / "images", inverse, hw=(2 * HW[0], 2 * HW[1]))
    Image.new("RGB", HW).save(scene / "images" / NAMES[1])
    assert run(model, "images", "--colmap", "sparse/0", "-o", "depths") == 1
    errors = capfd.readouterr().err
    assert "128 × 96 pixels, and it has 96 × 128" in errors
    assert "failed: images/a/1.png: " in errors
    assert "1 of the model's 3 images have no depth in depths yet, the first is a/1.png" in errors
    assert list(params(scene)) == [KEYS[0], KEYS[2]]
    exact = 1 / (UNIT * true_depth(0, (2 * HW[0], 2 * HW[1])))
    assert np.median(np.abs(trained_on(scene, KEYS[0]) / exact - 1)) < 0.01


def test_a_photograph_that_the_model_does_not_hold_is_left_out_by_name(scene, model, capfd):
    shutil.copy(scene / "images" / NAMES[0], scene / "images" / "b" / "more.png")
    assert run(model, "images", "--colmap", "sparse/0", "-o", "depths", "--json") == 0
    told = capfd.readouterr()
    assert "not in the COLMAP model sparse/0 (images/b/more.png)" in told.err
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert {line["status"]: line["input"] for line in lines}["left_out"] == "images/b/more.png"
    done = [line for line in lines if line["status"] == "done"]
    assert [line["colmap"]["image"] for line in done] == list(NAMES)
    assert not (scene / "depths" / "b" / "more.png").exists()
    assert run(model, "images/b", "--colmap", "sparse/0", "-o", "others") == 2
    assert "holds none of the 2 photographs: its images are called 'a/0.png'" in (
        capfd.readouterr().err
    )


def test_too_few_points_make_a_depth_that_trainers_leave_out(scene, model, capfd):
    write_model(scene / "poor", per_view=3)
    assert run(model, "images", "--colmap", "poor", "-o", "depths") == 1
    assert "no photograph's depth fits its points" in capfd.readouterr().err
    assert not (scene / "poor" / "depth_params.json").exists()
    write_model(scene / "poor")
    images = [row for row in read_images(scene / "poor" / "images.bin") if row.name == NAMES[1]]
    text = "1 1 0 0 0 0 0 0 3 a/0.png\n\n" + "".join(  # one that sees nothing, and one that does
        f"2 {' '.join(map(str, [*row.quaternion, *row.shift]))} 3 a/1.jpg\n"
        + " ".join(f"{x} {y} {n}" for (x, y), n in zip(row.xy, row.points, strict=True))
        for row in images
    )
    write_model(scene / "mixed", text=True)
    (scene / "mixed" / "images.txt").write_text(f"# Image list\n{text}\n")
    assert run(model, "images", "--colmap", "mixed", "-o", "depths") == 0
    assert "a/0.png: it sees 0 points, and 10 are needed" in capfd.readouterr().err
    found = json.loads((scene / "mixed" / "depth_params.json").read_bytes())
    assert [found[key]["scale"] > 0 for key in ("a/0", "a/1")] == [False, True]
    assert (found["a/0"]["scale"], found["a/0"]["median_error"]) == (0, None)
    assert (scene / "depths" / "a" / "0.png").exists()


def test_parts_and_a_run_that_goes_on_give_all_entries(scene, model):
    words = ("images", "--colmap", "sparse/0", "-o", "depths")
    for part in ("1/3", "2/3", "3/3"):
        assert run(model, *words, "--shard", part) in (0, 1)
    check_true(scene)
    whole = params(scene)
    (scene / "sparse" / "0" / "depth_params.json").unlink()
    assert run(model, *words) == 0
    assert params(scene) == whole
    (scene / "depths" / "a" / "1.png").unlink()
    assert run(model, *words) == 0
    check_true(scene)


def test_what_was_fitted_to_another_model_is_done_again_and_not_joined(scene, model):
    assert run(model, "images", "--colmap", "sparse/0", "-o", "depths") == 0
    before = params(scene)
    write_model(scene / "sparse" / "0", per_view=100)
    assert run(model, "images/a", "--root", "images", "--colmap", "sparse/0", "-o", "depths") == 0
    assert list(params(scene)) == KEYS[:2]
    assert params(scene)[KEYS[0]] != before[KEYS[0]]
    assert run(model, "images", "--colmap", "sparse/0", "-o", "depths") == 0
    check_true(scene)


def test_parameters_that_dpt_did_not_write_stay(scene, model, capfd):
    theirs = scene / "sparse" / "0" / "depth_params.json"
    theirs.write_text('{"a/0": {"scale": 1, "offset": 0}}')
    assert run(model, "images", "--colmap", "sparse/0", "-o", "depths") == 2
    assert "depth_params.json' is not as dpt wrote it" in capfd.readouterr().err
    assert "num_points" not in theirs.read_text()
    assert not (scene / "depths").exists()
    assert run(model, "images", "--colmap", "sparse/0", "-o", "depths", "--overwrite") == 0
    check_true(scene)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "depth.png"], "name a folder"),
        (["-o", "depths", "--suffix", "_depth"], "--suffix names depth otherwise"),
        (["-o", "depths", "--anchor", "3,3=2"], "--anchor makes metres"),
        (["-o", "depths", "--fov", "60"], "both say how wide"),
        (["-o", "depths", "-f", "npy"], "belong together"),
        (["-o", "depths", "-f", "splat,color"], "are both NAME.png"),
        (["-o", "depths", "--sequence"], "for photographs"),
    ],
)
@pytest.mark.usefixtures("scene")
def test_what_trainers_would_not_find_is_refused(model, capfd, words, said):
    assert run(model, "images", "--colmap", "sparse/0", *words) == 2
    assert said in capfd.readouterr().err


def test_folders_that_hold_no_whole_model_are_refused(scene):
    with pytest.raises(UsageError, match="did you mean sparse/0"):
        read_sparse("sparse")
    images = scene / "sparse" / "0" / "images.bin"
    images.write_bytes(images.read_bytes()[:-40])
    with pytest.raises(UsageError, match=r"images\.bin ends before its time"):
        read_sparse("sparse/0")
    (scene / "sparse" / "0" / "points3D.bin").unlink()
    with pytest.raises(UsageError, match=r"points3D\.bin is missing"):
        read_sparse("sparse/0")


@pytest.mark.parametrize(
    ("lens", "numbers", "said"),
    [
        ("OPENCV", [110, 111, 64, 48, 0.1, 0, 0, 0], "distortion is ignored"),
        ("SIMPLE_RADIAL", [110, 64, 48, 0], None),
        ("OPENCV_FISHEYE", [110, 111, 64, 48, 0, 0, 0, 0], "'OPENCV_FISHEYE' is none of"),
    ],
)
def test_lenses_are_taken_as_far_as_they_are_pinholes(tmp_path, caplog, lens, numbers, said):
    folder = write_model(tmp_path / "0", model=lens, params=numbers)
    if "FISHEYE" in lens:
        with pytest.raises(UsageError, match=said):
            read_sparse(str(folder))
        return
    camera = read_sparse(str(folder)).images[NAMES[0]].camera
    assert (camera.fx, camera.fy) == (110, numbers[1] if lens == "OPENCV" else 110)
    assert (camera.cx, camera.cy) == (64, 48)
    assert (said is not None) == ("distortion is ignored" in caplog.text)


def test_scales_that_trainers_would_not_take_are_told(sparse, tmp_path, caplog):
    model, files = read_sparse(str(sparse)), []
    for number, (name, scale) in enumerate(zip(NAMES, (0.2, 0.03, 0.25), strict=True)):
        about = {"scale": scale, "offset": 0, "num_points": 9, "num_outliers": 0}
        about |= {"image": name, "model": model.digest, "median_error": 0.1}
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps({"colmap": about}))
    write_params(io.BytesIO(), files, model, tmp_path)
    assert "1 scale of 5 times the others' median or more" in caplog.text
    assert "that of a/1;" in caplog.text


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_a_fit_does_not_depend_on_the_models_unit(sparse, unit):
    seen = read_sparse(str(sparse)).images[NAMES[0]]
    scaled = replace(seen, depth=seen.depth * np.float32(unit))
    values = (1 / true_depth(0)).astype(np.float32)
    fit = fit_to_sparse(values, "inverse_depth", scaled, HW)
    assert fit.factor == pytest.approx(1 / (UNIT * unit), rel=0.01)
    assert fit.shift == pytest.approx(0, abs=0.01 * fit.factor)
    assert fit.median_error < 0.02


def test_what_has_no_value_and_what_is_beyond_infinity_is_as_far_as_can_be(sparse):
    seen = read_sparse(str(sparse)).images[NAMES[0]]
    values = (3 * (1 / true_depth(0)) + 1).astype(np.float32)
    values[:2], values[2:4] = np.nan, -1
    fit = fit_to_sparse(values, "inverse_depth", seen, HW)
    assert fit.first == 0
    stream = io.BytesIO()
    write_splat(stream, DepthMap(values, "inverse_depth", (-1, 3), sparse_fit=fit))
    levels = np.asarray(Image.open(stream))
    assert (levels[:4] == 0).all()
    assert (levels[4:] > 0).all()
