"""`dpt depth --format`, then `dpt restore` and `dpt info`: the values come back, and say what."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from tiny import save_varied

import dptcli
from dptcli.cli import main
from dptcli.depth.depthmap import DepthMap
from dptcli.depth.rawfiles import RAW_WRITERS
from dptcli.errors import ImageError
from dptcli.evaluation.predictions import StoredPredictions
from dptcli.results.restore import describe, restore

MAPS = {
    "png16": "a.depth16.png",
    "tiff": "a.tiff",
    "pfm": "a.pfm",
    "npy": "a.npy",
    "npz": "a.npz",
    "mm": "a.depth-mm.png",
    "x256": "a.depth-x256.png",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    metric = {"depth_estimation_type": "metric", "max_depth": 10.0}
    return {
        "relative": str(save_varied(folder / "relative")),
        "metric": str(save_varied(folder / "metric", **metric)),
    }


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for index, name in enumerate(["a.jpg", "b.jpg", "c.png"]):
        pixels = np.random.default_rng(index).integers(0, 256, (30 + index, 40, 3), np.uint8)
        Image.fromarray(pixels).save(f"in/{name}")


def depth(*words, model):
    return main(["depth", *map(str, words), "-m", model, "-q"])


@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_every_map_format_gives_the_models_depth_back(models, kind):
    names = [name for name in MAPS if kind == "metric" or name not in {"mm", "x256"}]
    assert depth("in", "-o", "out", "-f", ",".join(["color", *names]), model=models[kind]) == 0
    expected = dptcli.predict_depth("in/a.jpg", model=models[kind])
    for name in names:
        found = restore(Path("out") / MAPS[name])
        assert found.values.dtype == np.float32
        # Beyond the stated half level only float32's own rounding.
        error = np.nanmax(np.abs(found.values - expected))
        assert error <= found.max_error * 1.001 + 1e-6 * np.abs(expected).max(), name
        assert found.facts["kind"] == ("depth_m" if kind == "metric" else "inverse_depth")


def test_the_sidecar_says_what_the_values_are(models):
    words = ("in/a.jpg", "-o", "out", "-f", "png16,npy", "--dtype", "float32")
    assert depth(*words, model=models["relative"]) == 0
    facts = json.loads(Path("out/a.json").read_text())
    assert facts["kind"] == "inverse_depth"
    assert facts["polarity"] == "large is near"
    assert facts["source"] == "in/a.jpg"
    assert facts["model"] == models["relative"]
    assert facts["model_hash"].startswith("blake2b:")
    assert facts["model_dtype"] == "float32"
    assert (facts["network_hw"], facts["source_hw"]) == ([64, 64], [30, 40])
    values = np.load("out/a.npy")
    assert (facts["min"], facts["max"]) == (values.min(), values.max())
    assert set(facts["files"]) == {"a.depth16.png", "a.npy"}
    assert facts["dpt"] == dptcli.__version__


def test_the_hash_follows_the_weights_and_not_the_name(models, tmp_path):
    from dptcli.weights.fingerprint import weights_hash

    same = tmp_path / "copy"
    same.mkdir()
    for path in Path(models["relative"]).iterdir():
        (same / path.name).write_bytes(path.read_bytes())
    assert weights_hash(same) == weights_hash(Path(models["relative"]))
    weights = bytearray((same / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (same / "model.safetensors").write_bytes(weights)
    assert weights_hash(same) != weights_hash(Path(models["relative"]))


def test_one_file_takes_its_format_from_its_ending(models):
    for name in ("d.npy", "d.tif", "d.jpeg", "d.webp", "d.pfm", "d.npz", "d.ply", "d.glb"):
        assert depth("in/a.jpg", "-o", f"x{name}/{name}", model=models["relative"]) == 0
        made = {path.name for path in Path(f"x{name}").iterdir()}
        assert made == {name, "d.json"}


def test_several_formats_share_the_stem_of_the_named_file(models):
    assert depth("in/a.jpg", "-o", "x/d.png", "-f", "npy,color", model=models["relative"]) == 0
    assert {path.name for path in Path("x").iterdir()} == {"d.png", "d.npy", "d.json"}
    assert depth("in/a.jpg", "-o", "y/d.png", "-f", "png16", model=models["relative"]) == 0
    assert cv2.imread("y/d.png", cv2.IMREAD_UNCHANGED).dtype == np.uint16
    assert restore(Path("y/d.png")).facts["source"] == "in/a.jpg"


def test_collisions_between_formats_are_refused_before_work_starts(models, capsys):
    Image.new("RGB", (8, 8)).save("in/a.depth16.jpg")
    assert depth("in", "-o", "out", "-f", "color,png16", model=models["relative"]) == 2
    assert "would both be written to 'out/a.depth16.png'" in capsys.readouterr().err
    assert not Path("out").exists()


def test_skip_existing_adds_only_the_formats_that_are_missing(models):
    model = models["relative"]
    assert depth("in", "-o", "out", "-f", "png16", model=model) == 0
    before = Path("out/a.depth16.png").stat().st_mtime_ns
    assert depth("in", "-o", "out", "-f", "png16,npy", "--skip-existing", model=model) == 0
    assert Path("out/a.depth16.png").stat().st_mtime_ns == before
    assert set(json.loads(Path("out/a.json").read_text())["files"]) == {"a.depth16.png", "a.npy"}


def test_metres_are_refused_from_a_model_without_them(models, capsys):
    assert depth("in", "-o", "out", "-f", "mm", model=models["relative"]) == 2
    assert "take a metric model" in capsys.readouterr().err
    assert not Path("out").exists()


def test_dpt_eval_reads_what_dpt_depth_writes(models):
    from dptcli.evaluation.maps import read_map

    assert depth("in", "-o", "out", "-f", "color,png16", model=models["relative"]) == 0
    stored = read_map(Path("out/a.depth16.png"))
    assert stored.facts["kind"] == "inverse_depth"
    assert StoredPredictions is not None


def test_restore_writes_an_array_and_says_how_exact_it_is(models, capsys):
    assert depth("in/a.jpg", "-o", "out", "-f", "png16,npy", model=models["relative"]) == 0
    assert main(["restore", "out/a.depth16.png", "-o", "back.npy"]) == 0
    assert "inverse_depth" in capsys.readouterr().out
    np.testing.assert_allclose(np.load("back.npy"), np.load("out/a.npy"), atol=1e-4)
    assert main(["restore", "out/a.depth16.png", "-o", "back.npy"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["restore", "out/a.npy", "--overwrite"]) == 2


def test_a_colour_picture_is_not_restored_but_its_sibling_is_named(models):
    assert depth("in/a.jpg", "-o", "out", "-f", "color,npy,ply", model=models["relative"]) == 0
    with pytest.raises(ImageError, match=r"colour picture.*its values are in out/a\.npy"):
        restore(Path("out/a.png"))
    with pytest.raises(ImageError, match=r"holds no values.*its values are in out/a\.npy"):
        restore(Path("out/a.ply"))


def test_what_cannot_be_restored_is_refused_by_name(models):
    Image.fromarray(np.zeros((4, 5), np.uint16)).save("plain.png")
    with pytest.raises(ImageError, match=r"plain\.png does not say what its levels mean"):
        restore(Path("plain.png"))
    Path("folder").mkdir()
    with pytest.raises(ImageError, match="folder is a folder; name one of its files"):
        restore(Path("folder"))
    with pytest.raises(ImageError, match=r"nowhere\.npy does not exist"):
        restore(Path("nowhere.npy"))
    Path("a.json").write_text("[]")
    np.save("a.npy", np.zeros((3, 4)))
    with pytest.raises(ImageError, match="must hold an object"):
        restore(Path("a.npy"))
    words = ["in/a.jpg", "-o", "g.png", "--grayscale", "--gamma", "2"]
    assert depth(*words, model=models["relative"]) == 0
    with pytest.raises(ImageError, match="made for the eye"):
        restore(Path("g.png"))


def test_info_tells_photographs_from_results(models, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save("turned.jpg", exif=exif)
    about = describe(Path("turned.jpg"))
    assert (about["is"], about["width"], about["mode"]) == ("image", 20, "RGB")
    assert about["exif_orientation"].startswith("6 ")
    assert (
        depth("in/a.jpg", "-o", "out", "-f", "color,npy,png16,ply,normals", model=models["metric"])
        == 0
    )
    assert describe(Path("out/a.normals.png"))["is"] == "surface normals"
    for name in ("a.png", "a.npy", "a.depth16.png"):
        about = describe(Path("out") / name)
        assert about["is"] == "depth in metres"
        assert about["model_hash"].startswith("blake2b:")
    assert describe(Path("out/a.ply"))["num_points"] == 1200
    capsys.readouterr()
    assert main(["info", "out/a.npy", "turned.jpg"]) == 0
    assert "depth in metres" in capsys.readouterr().out
    assert main(["info", "out/a.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "depth_m"


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("name", ["x.png", "x.npy", "x.pfm", "x.bin"])
def test_info_names_what_it_cannot_read(name, content, capsys):
    Path(name).write_bytes(content)
    assert main(["info", name]) == 1
    assert name in capsys.readouterr().err
    assert main(["info", "nowhere"]) == 1


def test_a_foreign_tiffs_description_is_not_believed(tmp_path):
    path = tmp_path / "microscope.tif"
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = json.dumps({"scale": 4.0, "first": 1, "last": 2, "shape": [3, 4]})
    Image.fromarray(values).save(path, tiffinfo=tags)
    np.testing.assert_array_equal(restore(path).values, values)


def test_what_was_too_far_for_a_format_is_absent_and_widens_no_error(tmp_path):
    values = np.array([[1.5, 1000.0], [2.25, 3.0]], np.float32)
    facts = {"dpt": "1", "kind": "depth_m", "min": 1.5, "max": 1000.0}
    depth = DepthMap(values, "depth_m", (1.5, 1000.0), facts=facts)
    with (tmp_path / "a.depth-mm.png").open("wb") as stream:
        RAW_WRITERS["mm"](stream, depth)
    found = restore(tmp_path / "a.depth-mm.png")
    assert found.max_error == pytest.approx(0.0005)
    assert np.isnan(found.values[0, 1])
    np.testing.assert_allclose(found.values[1], [2.25, 3], atol=0.0006)
