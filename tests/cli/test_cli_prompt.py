"""`dpt depth --prompt`: the reference's numbers, gaps, folders, tiles, going on, clear refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from process import run_dpt
from prompted import by_hand, draw_photos, millimetres, save_prompted
from tiny import save_tiny
from transformers.models.prompt_depth_anything import (
    image_processing_pil_prompt_depth_anything as reference_processing,
)

import dptcli
from dptcli.cli import main
from dptcli.depth.complete import complete
from dptcli.depth.prompts import Prompts
from dptcli.inputs.find import find_images
from dptcli.pipeline import Options, open_pipeline

REFERENCE_PROCESSOR = reference_processing.PromptDepthAnythingImageProcessorPil
PLAIN = ["--device", "cpu", "--dtype", "float32", "-f", "npy"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_prompted(tmp_path_factory.mktemp("models") / "prompted")


def save_map(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def test_one_photograph_gives_the_references_numbers(model: Path, tmp_path: Path) -> None:
    photo = draw_photos(tmp_path / "photos", [(90, 67)]) / "0.png"
    prompt = save_map(tmp_path / "lidar.png", millimetres((12, 16)))
    out = tmp_path / "depth.npy"
    done = run_dpt("depth", photo, "-m", model, "--prompt", prompt, "-o", out, *PLAIN)
    assert done.returncode == 0, done.stderr
    reference = transformers.PromptDepthAnythingForDepthEstimation.from_pretrained(model)
    processor = REFERENCE_PROCESSOR.from_pretrained(model)
    expected = by_hand(reference, processor, photo, millimetres((12, 16)))
    np.testing.assert_allclose(np.load(out), expected, rtol=1e-4)
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["kind"] == "depth_m"
    assert facts["unit"] == "metre"
    assert facts["prompt"] == str(prompt)
    assert facts["prompt_hw"] == [12, 16]
    assert facts["prompt_measured"] == 1


def test_the_scale_of_levels_is_that_of_anchors(model: Path, tmp_path: Path) -> None:
    photo = draw_photos(tmp_path / "photos", [(80, 60)]) / "0.png"
    prompt = save_map(tmp_path / "lidar.png", millimetres((12, 16)))
    floats = millimetres((12, 16)) * (1 / 256)
    np.save(tmp_path / "lidar.npy", floats)
    depths = []
    for words in ([prompt, "--anchor-scale", "256"], [tmp_path / "lidar.npy"]):
        out = tmp_path / f"{len(depths)}.npy"
        assert (
            main(["depth", *map(str, [photo, "-m", model, "-o", out, *PLAIN, "--prompt", *words])])
            == 0
        )
        depths.append(np.load(out))
    np.testing.assert_allclose(depths[0], depths[1], rtol=1e-5)
    assert depths[0].min() > floats.min() - 1e-3


def test_a_sparse_map_is_completed_before_the_network_sees_it(model: Path, tmp_path: Path) -> None:
    photo = draw_photos(tmp_path / "photos", [(64, 48)]) / "0.png"
    sparse = millimetres((48, 64), share=0.1)
    prompt = save_map(tmp_path / "lidar.png", sparse)
    out = tmp_path / "depth.npy"
    assert (
        main(["depth", *map(str, [photo, "-m", model, "-o", out, *PLAIN, "--prompt", prompt])]) == 0
    )
    processor = dptcli.AutoImageProcessor.from_pretrained(model)
    ours = dptcli.PromptDepthAnythingForDepthEstimation.from_pretrained(model)
    filled = complete(sparse * 0.001)
    expected = by_hand(ours, processor, photo, filled * 1000)
    np.testing.assert_allclose(np.load(out), expected, rtol=1e-4)
    assert np.load(out).min() > 1  # never drawn to the 0 of a gap
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["prompt_measured"] == pytest.approx(0.1, abs=0.02)


def test_a_folder_has_one_map_for_each_photograph_and_a_missing_one_is_named(
    model: Path, tmp_path: Path
) -> None:
    photos = draw_photos(tmp_path / "photos", [(60, 50), (60, 50), (50, 70)])
    for name, hw in (("0", (10, 12)), ("2", (14, 10))):
        save_map(tmp_path / "lidar" / f"{name}.png", millimetres(hw, seed=int(name)))
    words = ["depth", photos, "-m", model, "--prompt", tmp_path / "lidar", *PLAIN]
    done = run_dpt(*words, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert f"{photos / '1.png'} has no prompt" in done.stderr.replace("\n", " ")
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.npy")) == ["0", "2"]
    pattern = tmp_path / "lidar" / "{name}.png"
    words[words.index(tmp_path / "lidar")] = pattern
    assert run_dpt(*words, "-o", tmp_path / "same").returncode == 1
    for name in ("0.npy", "2.npy"):
        np.testing.assert_array_equal(
            np.load(tmp_path / "out" / name), np.load(tmp_path / "same" / name)
        )


def test_a_run_goes_on_by_the_content_of_each_map(model: Path, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos", [(60, 50), (60, 50)])
    for name in ("0", "1"):
        save_map(tmp_path / "lidar" / f"{name}.png", millimetres((10, 12)))
    words = [photos, "-m", model, "-o", tmp_path / "out", *PLAIN, "--prompt", tmp_path / "lidar"]

    def done_again() -> set[str]:
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.npy")}
        assert main(["depth", *map(str, words)]) == 0
        after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.npy")}
        return {path.stem for path in after if after[path] != before.get(path)}

    assert done_again() == {"0", "1"}
    assert done_again() == set()
    save_map(tmp_path / "lidar" / "1.png", millimetres((10, 12), seed=3))
    assert done_again() == {"1"}
    moved = (tmp_path / "lidar").rename(tmp_path / "moved")  # the same content elsewhere
    words[-1] = moved
    assert done_again() == set()


@pytest.fixture
def prompts(tmp_path: Path) -> Prompts:
    """Maps of two sizes for four photographs of two shapes."""
    draw_photos(tmp_path / "photos", [(60, 50), (60, 50), (50, 70), (60, 50)])
    for index, hw in enumerate([(10, 12), (20, 24), (14, 10), (10, 12)]):
        save_map(tmp_path / "lidar" / f"{index}.png", millimetres(hw, seed=index))
    return Prompts(str(tmp_path / "lidar"))


def predicted(model: Path, photos: Path, options: Options) -> dict[str, np.ndarray]:
    """Each photograph's depth from a run of the loop."""
    from dptcli.results.plan import plan_outputs

    pipeline = open_pipeline(
        model, task="depth", device="cpu", dtype="float32", prompted=True, options=options
    )
    found: dict[str, np.ndarray] = {}

    def save(job, prediction):
        found[job.source.path.name] = prediction.values
        return {}

    report = pipeline.run(
        plan_outputs(find_images([photos]), str(photos.parent / "out")).jobs, save=save
    )
    assert not report.failed
    return found


def test_batches_give_what_one_by_one_gives(model: Path, tmp_path: Path, prompts: Prompts) -> None:
    photos = tmp_path / "photos"
    single = predicted(model, photos, Options(prompts=prompts))
    batched = predicted(model, photos, Options(prompts=prompts, batch_size=4))
    assert len(single) == 4
    for name, depth_m in single.items():
        np.testing.assert_allclose(batched[name], depth_m, rtol=1e-5)


def test_tiles_see_their_part_of_the_map(model: Path, tmp_path: Path) -> None:
    photo = draw_photos(tmp_path / "photos", [(400, 300)]) / "0.png"
    save_map(tmp_path / "lidar.png", millimetres((48, 64)))
    options = Options(prompts=Prompts(str(tmp_path / "lidar.png")), tile=100)
    pipeline = open_pipeline(
        model, task="depth", device="cpu", dtype="float32", prompted=True, options=options
    )
    forward, seen = pipeline.loaded.model.forward, []

    def watched(pixel_values, prompt_depth):
        seen.append(prompt_depth[0, 0])
        return forward(pixel_values, prompt_depth)

    pipeline.loaded.model.forward = watched
    [source] = find_images([photo])
    sample = pipeline.decode(source)
    values = pipeline.finish(pipeline.predict([sample])[0], sample).values
    assert values.shape == (300, 400)
    whole, *tiles = seen
    assert whole.shape == (48, 64)
    assert len(tiles) > 8
    assert all(tile.shape[0] < 24 and tile.shape[1] < 24 for tile in tiles)
    # The map is of a wall above and a floor below: tiles of the upper edge see the wall alone.
    assert tiles[0].min() > 4.5
    assert tiles[-1].max() < 2.5
    plain = predicted(model, photo.parent, Options(prompts=options.prompts))["0.png"]
    assert np.abs(values / plain - 1).mean() < 0.1


def test_a_padded_photographs_map_lies_under_its_pixels(model: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    photo = draw_photos(tmp_path / "photos", [(60, 50)]) / "0.png"
    save_map(tmp_path / "lidar.png", millimetres((50, 60)))
    options = Options(prompts=Prompts(str(tmp_path / "lidar.png")))
    pipeline = open_pipeline(
        model, task="depth", device="cpu", dtype="float32", prompted=True, options=options
    )
    padding = dptcli.PromptDepthAnythingImageProcessor(
        do_resize=False, do_pad=True, size_divisor=14
    )
    pipeline = type(pipeline)(replace(pipeline.loaded, processor=padding), options=options)
    seen = []
    forward = pipeline.loaded.model.forward
    pipeline.loaded.model.forward = lambda x, prompt_depth: (
        seen.append(prompt_depth[0, 0]) or forward(x, prompt_depth)
    )
    [source] = find_images([photo])
    pipeline.predict([pipeline.decode(source)])
    known = torch.from_numpy(millimetres((50, 60)) * 0.001).float()
    assert seen[0].shape == (56, 70)
    torch.testing.assert_close(seen[0][3:53, 5:65], known)


def test_from_python_a_prompt_is_an_array(model: Path, tmp_path: Path) -> None:
    photo = draw_photos(tmp_path / "photos", [(60, 50)]) / "0.png"
    metres = millimetres((10, 12)) * 0.001
    depth_m = dptcli.predict_depth(photo, model=model, prompt=metres, device="cpu")
    assert depth_m.shape == (50, 60)
    assert metres.min() < depth_m.mean() < metres.max()
    with pytest.raises(dptcli.errors.ImageError, match="another shape"):
        dptcli.predict_depth(photo, model=model, prompt=metres.T, device="cpu")
    with pytest.raises(dptcli.errors.UsageError, match="--prompt"):
        dptcli.predict_depth(photo, model=model, device="cpu")


def test_what_cannot_be_meant_is_refused_in_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = draw_photos(tmp_path / "photos", [(60, 50), (60, 50)])
    plain = save_tiny(tmp_path / "plain", task="depth")
    one = save_map(tmp_path / "lidar.png", millimetres((10, 12)))
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    for words, said in (
        ([photos / "0.png", "-m", model], "give --prompt"),
        ([photos / "0.png", "-m", plain, "--prompt", one], "takes no --prompt"),
        ([photos, "-m", model, "--prompt", one], "one map and there are 2 photographs"),
        ([photos, "-m", model, "--prompt", tmp_path / "empty"], "no photograph has a map"),
        ([photos, "-m", model, "--prompt", tmp_path / "gone"], "does not exist"),
        ([photos / "0.png", "-m", model, "--prompt", one, "--with-segments"], "--with-segments"),
        ([photos / "0.png", "-m", model, "--prompt", one, "--anchor-scale", "0"], "above 0"),
    ):
        assert main(["depth", *map(str, words), "-o", str(out)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("where", ["lidar", "lidar/{name}.png"])
def test_eval_measures_what_a_run_with_the_same_maps_writes(
    model: Path, tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = draw_photos(tmp_path / "images", [(90, 67), (64, 48)])
    for index in range(2):
        save_map(tmp_path / "lidar" / f"{index}.png", millimetres((12, 16), seed=index))
    words = [photos, "-m", model, "--prompt", tmp_path / "lidar", "-o", tmp_path / "out", *PLAIN]
    assert main(["depth", *map(str, words)]) == 0
    (tmp_path / "depth").mkdir()
    for index in range(2):  # what was written is the truth, but for a tenth
        np.save(tmp_path / f"depth/{index}.npy", 1.1 * np.load(tmp_path / f"out/{index}.npy"))
    capsys.readouterr()
    words = [tmp_path, "-m", model, "--prompt", tmp_path / where, "--json", *PLAIN[:4]]
    assert main(["eval", "depth", *map(str, words)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["mean"]["scores"]["abs_rel"] == pytest.approx(1 - 1 / 1.1, abs=1e-5)
    assert report["prompt"] == str(tmp_path / where)


def test_of_several_sets_each_has_a_folder_of_maps(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("rooms", "streets"):
        draw_photos(tmp_path / name / "images", [(60, 50)])
        (tmp_path / name / "depth").mkdir()
        np.save(tmp_path / name / "depth/0.npy", np.full((50, 60), 2, np.float32))
    save_map(tmp_path / "lidar/streets/0.png", millimetres((10, 12)))
    words = [tmp_path / "rooms", tmp_path / "streets", "-m", model, "--prompt", tmp_path / "lidar"]
    assert main(["eval", "depth", *map(str, words), *PLAIN[:4]]) == 1
    said = capsys.readouterr()
    assert "has no prompt" in said.err
    assert "streets" in said.out


def test_eval_refuses_maps_that_it_could_not_use(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_photos(tmp_path / "images", [(60, 50), (60, 50)])
    (tmp_path / "depth").mkdir()
    for index in range(2):
        np.save(tmp_path / f"depth/{index}.npy", np.full((50, 60), 2, np.float32))
    one = save_map(tmp_path / "lidar.png", millimetres((10, 12)))
    for words, said in (
        (["-m", model], "give --prompt"),
        (["-m", model, "--prompt", one], "one map and there are 2 photographs"),
        (["--prompt", one, "--predictions", tmp_path / "depth"], "leave it or --predictions out"),
    ):
        assert main(["eval", "depth", str(tmp_path), *map(str, words)]) == 2
        assert said in capsys.readouterr().err


def test_bench_runs_with_one_map_for_all_photographs(model: Path, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos", [(60, 50), (60, 50)])
    one = save_map(tmp_path / "lidar.png", millimetres((10, 12)))
    words = ("bench", model, "-i", photos, "--rounds", "1", "--device", "cpu", "--json", "--quiet")
    done = run_dpt(*words, "--prompt", one, "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["contenders"][0]["network_hw"] == [42, 56]
    refused = run_dpt(*words, "--prompt", one, "--against", "transformers")
    assert "leave out --against" in refused.stderr
