"""One COCO file of a run: every photograph once, whatever runs made it."""

import io
import json
import subprocess

import numpy as np
import pytest
from PIL import Image
from process import WAIT_S, environment, warm_dpt
from tiny import save_tiny

from dptcli.segments.dataset import write_dataset
from dptcli.segments.regions import coco, image_id


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "segment", task="segment")


@pytest.fixture
def photos(tmp_path):
    for name in ("a/1.png", "b/1.png", "2.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (8, 12, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(path)
    return tmp_path / "photos"


def started(*words):
    return subprocess.Popen(
        [*warm_dpt(), "segment", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def segment(*words):
    with started(*words) as process:
        _, errors = process.communicate(timeout=WAIT_S)
    return process.returncode, errors


def read(path):
    content = json.loads(path.read_bytes())
    ids = [one["id"] for one in content["images"]]
    assert len(set(ids)) == len(ids)
    numbers = [one["id"] for one in content["annotations"]]
    assert len(set(numbers)) == len(numbers)
    assert {one["image_id"] for one in content["annotations"]} <= set(ids)
    return content, sorted(one["file_name"] for one in content["images"])


def test_one_file_holds_every_photograph_by_its_name_below_the_inputs_folder(photos, model):
    out = photos.parent / "out"
    code, errors = segment(photos, "-o", out, "-m", model, "--dataset")
    assert code == 0, errors
    content, names = read(out / "coco.json")
    assert names == ["2.png", "a/1.png", "b/1.png"]
    alone, _ = read(out / "a" / "1.coco.json")
    assert alone["images"][0] in content["images"]
    own = [a for a in content["annotations"] if a["image_id"] == alone["images"][0]["id"]]
    assert [a["segmentation"] for a in own] == [a["segmentation"] for a in alone["annotations"]]


def test_runs_of_parts_at_once_join_all_parts(photos, model):
    out = photos.parent / "out"
    words = ("-o", out, "-m", model, "--also", "polygons", "--dataset", "--root", photos)
    parts = [started(photos / name, *words) for name in ("a", "b/1.png", "2.png")]
    for part in parts:
        with part:
            _, errors = part.communicate(timeout=WAIT_S)
        assert part.returncode == 0, errors
    assert read(out / "polygons.json")[1] == ["2.png", "a/1.png", "b/1.png"]
    assert not (out / "coco.json").exists()


def test_a_run_that_goes_on_joins_what_was_done_before_and_one_with_nothing_to_do_too(
    photos, model
):
    out = photos.parent / "out"
    assert segment(photos / "a", "-o", out, "--root", photos, "-m", model, "--also", "coco")[0] == 0
    assert not (out / "coco.json").exists()
    (out / ".0123456701234567.dpt-tmp").write_bytes(b'{"info"')  # of a run that was killed
    words = (photos, "-o", out, "-m", model, "--dataset")
    assert segment(*words)[0] == 0
    whole = (out / "coco.json").read_bytes()
    assert read(out / "coco.json")[1] == ["2.png", "a/1.png", "b/1.png"]
    (out / "coco.json").unlink()
    assert segment(*words)[0] == 0
    assert json.loads((out / "coco.json").read_bytes()) == json.loads(whole)


def test_a_file_of_that_name_that_is_not_ours_stays(photos, model):
    out = photos.parent / "out"
    out.mkdir()
    (out / "coco.json").write_text("{}")
    code, errors = segment(photos, "-o", out, "-m", model, "--dataset")
    assert code == 2
    assert "coco.json" in errors
    assert (out / "coco.json").read_text() == "{}"
    assert not list(out.glob("*.png"))
    assert segment(photos, "-o", out, "-m", model, "--dataset", "--overwrite")[0] == 0
    assert len(read(out / "coco.json")[1]) == 3


def test_one_result_file_is_no_folder_of_results(photos, model):
    code, errors = segment(photos / "2.png", "-o", photos / "x.png", "-m", model, "--dataset")
    assert code == 2
    assert "folder" in errors


def joined(tmp_path, *contents):
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / f"{number}.coco.json")
        paths[-1].write_text(content if isinstance(content, str) else json.dumps(content))
    stream = io.BytesIO()
    left_out = write_dataset(stream, [*paths, tmp_path / "gone.coco.json"])
    return json.loads(stream.getvalue()), left_out


def test_ids_that_happen_to_be_the_same_are_told_apart(tmp_path):
    one, other = (coco(np.zeros((2, 3), int), {0: "x"}, file_name=name) for name in "ab")
    other = json.loads(json.dumps(other).replace(str(image_id("b")), str(image_id("a"))))
    content, left_out = joined(tmp_path, one, other)
    assert [image["id"] for image in content["images"]] == [image_id("a"), image_id("a") + 1]
    assert [a["image_id"] for a in content["annotations"]] == [image_id("a"), image_id("a") + 1]
    assert left_out == 1  # what is gone


def test_what_does_not_belong_together_is_left_out_and_counted(tmp_path):
    labels = np.eye(3, dtype=int)
    first = coco(labels, {0: "x", 1: "y"}, file_name="a")
    renamed = coco(labels, {0: "x", 1: "z"}, file_name="b")
    more = coco(labels, {1: "y", 7: "w"}, file_name="c\udcff")
    content, left_out = joined(tmp_path, first, renamed, first, "[]", "{", more)
    assert [image["file_name"] for image in content["images"]] == ["a", "c\udcff"]
    assert [category["id"] for category in content["categories"]] == [0, 1, 7]
    assert left_out == 5


def test_nothing_to_join_is_an_empty_data_set(tmp_path):
    content, _ = joined(tmp_path)
    assert (content["images"], content["annotations"], content["categories"]) == ([], [], [])
