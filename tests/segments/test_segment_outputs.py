"""`dpt segment`'s files: what each holds, alone and in a run of the command."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from process import run_dpt
from tiny import LABELS, save_tiny

from dptcli.depth.colormaps import palette
from dptcli.gallery.results import find_results
from dptcli.segments.maskfiles import (
    Style,
    write_label_mask,
    write_layer,
    write_legend,
    write_names_json,
    write_overlay,
)
from dptcli.segments.outputs import file_name


def written(write, *args, **options):
    stream = io.BytesIO()
    write(stream, *args, **options)
    stream.seek(0)
    return Image.open(stream)


def facts_of(image):
    return json.loads(image.info["dptcli"])


def test_a_masks_pixels_are_the_class_ids_and_its_palette_their_colours():
    labels = np.arange(150, dtype=np.uint8).reshape(10, 15)
    colors = palette(150)
    image = written(write_label_mask, labels, style=Style(colors))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), labels)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colors[labels])


def test_more_than_256_classes_are_written_with_16_bits():
    labels = np.arange(300, dtype=np.int64).reshape(10, 30)
    image = written(write_label_mask, labels, style=Style(palette(300)))
    assert image.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(image), labels)


@pytest.mark.parametrize("num_labels", [5, 300])
def test_an_overlay_blends_the_photograph_with_the_classes(num_labels):
    labels = np.arange(20).reshape(4, 5) % num_labels
    colors = palette(num_labels)
    rgb = np.full((4, 5, 3), 200, np.uint8)
    pixels = np.asarray(written(write_overlay, labels, rgb=rgb, style=Style(colors, alpha=0.25)))
    np.testing.assert_allclose(pixels, 150 + 0.25 * colors[labels], atol=1)


def test_an_overlay_has_the_size_of_the_labels():
    rgb = np.zeros((40, 60, 3), np.uint8)
    labels = np.zeros((4, 6), np.uint8)
    image = written(write_overlay, labels, rgb=rgb, style=Style(palette(1)))
    assert image.size == (6, 4)


def test_the_names_json_has_a_name_and_a_colour_for_every_id():
    stream = io.BytesIO()
    colors = palette(3)
    write_names_json(stream, {1: "wood", 0: "ciel é", 2: "x"}, colors=colors, model="m")
    content = json.loads(stream.getvalue())
    assert content["labels"] == {"0": "ciel é", "1": "wood", "2": "x"}
    assert content["colors"]["1"] == "#{:02x}{:02x}{:02x}".format(*colors[1])
    assert content["model"] == "m"


@pytest.mark.parametrize(
    ("options", "expected", "mode"),
    [
        ({"kept": (1,)}, [255, 1, 255], "P"),
        ({"first_id": 1}, [1, 2, 3], "P"),
        ({"kept": (0, 2), "first_id": 1}, [1, 0, 3], "P"),
        ({"first_id": 254}, [254, 255, 256], "I;16"),
    ],
    ids=["classes", "offset", "both", "beyond-a-byte"],
)
def test_a_mask_may_leave_classes_out_and_count_from_one(options, expected, mode):
    colors = palette(3)
    image = written(write_label_mask, np.array([[0, 1, 2]]), style=Style(colors, **options))
    assert image.mode == mode
    assert np.asarray(image).tolist() == [expected]
    facts = facts_of(image)
    assert facts["first_id"] == options.get("first_id", 0)
    kept = options.get("kept", (0, 1, 2))
    assert facts.get("left_out") == (None if len(kept) == 3 else 0 if facts["first_id"] else 255)
    if mode == "P":
        shown = np.asarray(image.convert("RGB"))[0]
        for label in range(3):
            assert shown[label].tolist() == (colors[label].tolist() if label in kept else [0, 0, 0])


def test_an_overlay_of_some_classes_leaves_the_rest_of_the_photograph_as_it_is():
    rgb = np.full((1, 2, 3), 200, np.uint8)
    style = Style(palette(2), kept=(1,), alpha=0.5)
    pixels = np.asarray(written(write_overlay, np.array([[0, 1]]), rgb=rgb, style=style))
    assert pixels[0, 0].tolist() == [200] * 3
    np.testing.assert_allclose(pixels[0, 1], 100 + style.colors[1] / 2, atol=1)


def test_a_layer_is_transparent_where_nothing_is_shown():
    labels = np.array([[0, 1, 2]])
    image = written(write_layer, labels, style=Style(palette(3), kept=(1, 2), alpha=0.4))
    assert image.mode == "RGBA"
    pixels = np.asarray(image)[0]
    assert pixels[:, 3].tolist() == [0, 102, 102]
    assert pixels[1, :3].tolist() == palette(3)[1].tolist()


def test_outlines_stand_at_full_strength_between_the_classes():
    labels = np.repeat([[0] * 10 + [1] * 10], 12, 0)
    style = Style(palette(2), alpha=0, outlined=True)
    alpha = np.asarray(written(write_layer, labels, style=style))[..., 3]
    assert alpha[0].tolist() == [0] * 9 + [255] * 2 + [0] * 9
    # A class that is left out has no line of its own.
    style = Style(palette(2), kept=(1,), alpha=0, outlined=True)
    alpha = np.asarray(written(write_layer, labels, style=style))[..., 3]
    assert alpha[0].tolist() == [0] * 10 + [255] + [0] * 9


def test_a_legend_shows_the_colours_of_the_classes_that_are_kept():
    style = Style(palette(4), kept=(1, 2))
    names = {0: "sky", 1: "ground", 2: "gizmo", 3: "unused"}
    image = written(write_legend, {1: 0.6, 0: 0.3, 2: 0.1}, names, style=style)
    assert facts_of(image)["kind"] == "legend"
    colors = {tuple(color) for color in np.asarray(image).reshape(-1, 3).tolist()}
    assert {tuple(style.colors[label].tolist()) for label in (1, 2)} <= colors
    assert tuple(style.colors[0].tolist()) not in colors


def test_a_legend_of_150_classes_is_no_ribbon():
    names = {label: f"class number {label}" for label in range(150)}
    shares = dict.fromkeys(range(150), 1 / 150)
    image = written(write_legend, shares, names, style=Style(palette(150)))
    assert max(image.size) < 3 * min(image.size)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({0: "Door, double door"}, "door"),
        ({0: "../../etc/passwd"}, "class-0"),
        ({0: "traffic light"}, "traffic-light"),
        ({0: "sky", 1: "Sky"}, "sky-0"),
        ({0: "空"}, "空"),
        ({0: "x" * 300}, "x" * 60),
        ({}, "class-0"),
    ],
)
def test_a_class_becomes_a_safe_file_name(names, expected):
    assert file_name(0, names) == expected


# --- the command ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "segment", task="segment")


@pytest.fixture(scope="module")
def everything(tmp_path_factory, model):
    """A run with every kind of file: (OUT, the process)."""
    root = tmp_path_factory.mktemp("run")
    (root / "photos").mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).resize((120, 80)).save(root / "photos" / f"p{index}.png")
    done = segment(
        *(root / "photos", "-o", root / "out", "-m", model, "--overlay", "0.5", "--outlines"),
        *("--also", "mask,legend,split,coco,polygons,scores", "--label-offset", "1"),
    )
    return root / "out", done


def segment(*words):
    return run_dpt("segment", *words)


def test_all_files_stand_beside_the_picture(everything):
    out, done = everything
    assert done.returncode == 0, done.stderr
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    names = {name for name in names if not name.startswith(".dpt/")}
    endings = ("png", "mask.png", "legend.png", "coco.json", "polygons.json", "scores.npz")
    expected = {f"p{index}.{ending}" for index in range(2) for ending in endings}
    rest = names - expected
    assert expected <= names
    assert "labels.json" in rest
    assert all(
        name.split("/")[0] in {"p0.classes", "p1.classes"} for name in rest - {"labels.json"}
    )


def test_the_files_agree_with_each_other(everything):
    out, _ = everything
    with Image.open(out / "p0.mask.png") as image:
        mask = np.asarray(image)
    names = json.loads((out / "labels.json").read_text())["labels"]
    assert names == {str(label + 1): name for label, name in LABELS.items()}
    assert set(np.unique(mask)) <= {1, 2, 3}
    for value in np.unique(mask):
        with Image.open(out / "p0.classes" / f"{names[str(value)]}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), 255 * (mask == value))
            assert json.loads(image.text["dptcli"])["id"] == value
    content = json.loads((out / "p0.coco.json").read_text())
    areas = {one["category_id"]: one["area"] for one in content["annotations"]}
    assert areas == {int(value): int((mask == value).sum()) for value in np.unique(mask)}
    assert content["images"][0]["file_name"] == "p0.png"  # below the inputs' folder
    with np.load(out / "p0.scores.npz") as stored:
        assert stored["names"].tolist() == list(LABELS.values())
        assert dict(zip(stored["ids"].tolist(), stored["names"].tolist(), strict=True)) == {
            int(value): name for value, name in names.items()
        }
        scores = stored["scores"].astype(np.float32)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(0), 1, atol=3e-3)  # float16 has 11 bits


def test_the_gallery_shows_the_mask_and_not_what_stands_beside_it(everything):
    out, _ = everything
    assert [found.path.name for found in find_results(out)] == ["p0.mask.png", "p1.mask.png"]


def test_some_classes_by_name_and_a_layer(tmp_path, model):
    Image.new("RGB", (40, 30), (9, 99, 199)).save(tmp_path / "a.png")
    words = [tmp_path / "a.png", "-m", model, "--classes", "Gizmo,0", "--also", "split"]
    done = segment(*words, "-o", tmp_path / "layer.png", "--layer", "1")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "layer.png") as image:
        assert image.mode == "RGBA"
    assert {path.name for path in (tmp_path / "layer.classes").iterdir()} == {
        "sky.png",
        "gizmo.png",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--overlay", "0.5", "--layer", "1"], "two pictures"),
        (["--layer", "2"], "--layer '2' must be from 0 to 1"),
        (["--label-offset", "-1"], "--label-offset '-1' must be a whole number"),
        (["--also", "maks"], "unknown kind of file 'maks'"),
        (["--also", ""], "names no kind of file"),
        (["--palette", "ade"], "unknown palette 'ade'"),
        (["--palette", "voc"], "has 21 classes and the model 3"),
        (["--classes", "cat"], "the model has no class 'cat'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    tmp_path, model, words, message
):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    done = segment(tmp_path / "a.png", "-o", tmp_path / "out", "-m", model, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_help_has_a_panel_for_each_question_and_fits_80_columns():
    done = run_dpt("segment", "--help", COLUMNS="80", NO_COLOR="1")
    assert done.returncode == 0
    for panel in ("Segmentation picture", "Classes", "Beside the picture"):
        assert f" {panel} " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
