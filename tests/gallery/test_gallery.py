"""The gallery's files: what is found, what is read from it, what reaches the page."""

import base64
import hashlib
import html
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from gallery_folder import COLORS, make_folder, ramp, save_photo, save_result
from PIL import Image
from process import run_dpt

from dptcli.depth.colormaps import colorize, depth_lut
from dptcli.depth.depthmap import DepthMap
from dptcli.depth.rawfiles import RAW_WRITERS
from dptcli.errors import UsageError
from dptcli.gallery import build_gallery
from dptcli.gallery.results import Depth, Labels, Picture, find_results, read_result
from dptcli.results.sidecar import sidecar_bytes

HOSTILE = [
    "<script>alert(1)<",
    "\"quotes' & <img src=x onerror=alert(1)>",
    "line\nbreak",
    os.fsdecode(b"bytes \xff\xfe"),
    "-->@@script@@ %2e#?",
    "\u2028 \u202e gnp",
]


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


def data_of(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(text.split('<script type="application/json" id="data">')[1].split("<")[0])


def values_of(page, entry):
    """The values that the viewer unpacks from an entry's script."""
    script = page.with_name("gallery_files").joinpath(f"{entry['id']}.js").read_text()
    text = re.fullmatch(r'dptReceive\("\d+","([A-Za-z0-9+/=]+)"\);\n', script)[1]
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        pixels = np.asarray(image).astype(int)
    return pixels if pixels.ndim == 2 else pixels[..., 0] * 16 + pixels[..., 1]


def test_the_page_knows_every_result_with_its_values(folder):
    built = build_gallery(folder)
    assert (built.page, built.num_results, built.num_unread) == (folder / "gallery.html", 3, 0)
    entries = {entry["name"]: entry for entry in data_of(built.page)["entries"]}
    assert list(entries) == ["a fine", "b metres", "sub/c classes"]
    fine = entries["a fine"]
    levels = values_of(built.page, fine)
    far, near = fine["range"]
    values = far + (near - far) * levels / fine["top"]
    # Half a step of the 4096 that the page keeps.
    np.testing.assert_allclose(values, 2 + 8.0 * ramp() / 65535, atol=8 / 4095 * 0.51)
    metres = entries["b metres"]
    far, near = metres["range"]
    assert (far, near, metres["metres"]) == (8.0, 0.5, True)
    values = far + (near - far) * values_of(built.page, metres) / metres["top"]
    np.testing.assert_allclose(values, 8 - 7.5 * ramp(8) / 255)
    assert entries["sub/c classes"]["shares"] == [[0, 0.5], [1, 0.375], [2, 0.125]]


def test_a_photograph_is_kept_small_beside_the_page(folder, tmp_path):
    save_photo(tmp_path / "photos" / "a fine.jpg", hw=(900, 1200))
    build_gallery(folder, detail=300)
    for ending, side in (("photo", 300), ("thumb", 420)):
        with Image.open(folder / "gallery_files" / f"00000.{ending}.jpg") as image:
            assert image.size == (side, side * 3 // 4)


def test_millimetres_are_read_by_their_scale(tmp_path):
    millimetres = np.array([[0, 500, 4000, 2250]], np.uint16)
    facts = {"kind": "depth_m", "scale": 1000}
    save_result(Image.fromarray(millimetres), tmp_path / "x.depth-mm.png", **facts)
    depth = read_result(find_results(tmp_path)[0])
    assert (depth.far, depth.near) == (4.0, 0.5)
    values = depth.far + (depth.near - depth.far) * depth.levels[0] / (depth.num_levels - 1)
    np.testing.assert_allclose(values, [4.0, 0.5, 4.0, 2.25], atol=1e-3)


def test_colours_of_a_known_colormap_turn_back_into_levels(tmp_path):
    levels = ramp(8)
    for kind, first, last in (("inverse_depth", 0.0, 1.0), ("depth_m", 1.0, 0.0)):
        rgb = colorize(levels / 255, lut=depth_lut("viridis"), lo=0, hi=1)
        path = tmp_path / f"{kind}.png"
        facts = {"kind": kind, "first": first, "last": last, "colormap": "viridis"}
        save_result(Image.fromarray(rgb), path, **facts)
        [found] = find_results(tmp_path, leave_out=None)[-1:]
        depth = read_result(found)
        assert isinstance(depth, Depth)
        np.testing.assert_array_equal(depth.levels, levels)
        path.unlink()


def test_colours_with_something_else_in_the_picture_are_shown_as_they_are(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    facts = {"kind": "inverse_depth", "first": 0, "last": 1, "colormap": "inferno"}
    save_result(Image.fromarray(rgb), tmp_path / "x.png", **facts)
    assert isinstance(read_result(find_results(tmp_path)[0]), Picture)


def test_of_several_files_for_one_photograph_the_finest_is_shown(folder):
    rgb = colorize(ramp() / 65535, lut=depth_lut(), lo=0, hi=1)
    facts = {"kind": "inverse_depth", "first": 2.0, "last": 10.0, "photo": "../photos/a fine.jpg"}
    save_result(Image.fromarray(rgb), folder / "a coarse.png", colormap="inferno", **facts)
    save_result(Image.new("L", (4, 4)), folder / "a.legend.png", kind="legend")
    save_result(Image.new("L", (4, 4)), folder / "sky.png", kind="class_mask")
    Image.new("L", (4, 4)).save(folder / "not ours.png")
    names = [found.path.name for found in find_results(folder)]
    assert names == ["a fine.png", "b metres.png", "c classes.png"]


@pytest.mark.parametrize("kind", ["inverse_depth", "depth", "depth_m"])
@pytest.mark.parametrize("name", ["npy", "npz", "tiff", "pfm", "exr"])
def test_maps_for_programs_are_shown_with_their_values(name, kind, tmp_path):
    if name == "exr":
        pytest.importorskip("OpenEXR")
    values = np.linspace(2, 6, 12, dtype=np.float32).reshape(3, 4)
    values[2, 0] = np.nan
    with (tmp_path / f"a.{name}").open("wb") as stream:
        facts = RAW_WRITERS[name](stream, DepthMap(values, kind, (2.0, 6.0)))
    (tmp_path / "a.json").write_bytes(sidecar_bytes({"kind": kind}, {f"a.{name}": facts}))
    [found] = find_results(tmp_path)
    depth = read_result(found)
    near_is_large = kind == "inverse_depth"
    assert (depth.near, depth.far) == ((6, 2) if near_is_large else (2, 6))
    nearest = (2, 3) if near_is_large else (0, 0)
    assert depth.levels[nearest] == depth.num_levels - 1
    assert depth.levels[2, 0] == 0  # unknown counts as far


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_lossy_pictures_are_shown_where_a_sidecar_names_them(name, tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / name)
    Image.new("RGB", (8, 6)).save(tmp_path / "b.jpg")  # a photograph that nobody names
    (tmp_path / "b.json").write_text("[1]")
    (tmp_path / "a.json").write_bytes(sidecar_bytes({"kind": "depth_m"}, {name: {}}))
    [found] = find_results(tmp_path)
    assert found.path.name == name
    assert isinstance(read_result(found), Picture)


def test_names_and_colours_come_from_the_nearest_list(folder):
    [found] = [found for found in find_results(folder) if found.path.name == "c classes.png"]
    labels = read_result(found)
    assert isinstance(labels, Labels)
    assert labels.colors == {int(key): color for key, color in COLORS.items()}
    near = {"labels": {"0": "heaven"}, "colors": {"0": "#000001", "1": "red; } body {"}}
    (folder / "sub" / "labels.json").write_text(json.dumps(near))
    labels = read_result(found)
    assert (labels.names, labels.colors) == ({0: "heaven"}, {0: "#000001"})


def test_photographs_that_moved_are_found_in_the_folder_that_is_named(folder, tmp_path):
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert "photo" not in data_of(build_gallery(folder).page)["entries"][0]
    built = build_gallery(folder, photos=tmp_path / "moved")
    assert all(entry["photo"] for entry in data_of(built.page)["entries"])


def test_a_damaged_result_is_listed_and_the_others_are_shown(folder):
    path = folder / "b metres.png"
    path.write_bytes(path.read_bytes()[:-60])
    built = build_gallery(folder)
    assert (built.num_results, built.num_unread) == (2, 1)
    assert [name for name, _ in built.failures] == ["photos/<script>.jpg", "b metres.png"]


def test_a_second_page_leaves_no_stale_pictures_and_other_files_alone(folder):
    page = build_gallery(folder).page
    files = page.with_name("gallery_files")
    (files / "mine.txt").write_text("keep")
    (folder / "a fine.png").unlink()
    again = build_gallery(folder)
    assert again.num_results == 2
    names = {path.name for path in files.iterdir()}
    assert "mine.txt" in names
    assert not [name for name in names if name.startswith("00002")]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_text(tmp_path, name):
    path = tmp_path / "out" / f"{name}.png"
    path.parent.mkdir()
    facts = {"kind": name, "photo": f"{name}.jpg", "model": "</script><script>alert(2)"}
    save_result(Image.new("RGB", (9, 9)), path, **facts)
    built = build_gallery(tmp_path / "out", title=f"</title>{name}")
    text = built.page.read_text(encoding="utf-8")
    # Our own scripts and no other: the data and the program.
    assert len(re.findall(r"<script", text)) == 2
    assert len(re.findall(r"</script", text)) == 2
    assert text.count("</title>") == 1
    assert "<img src" not in text
    [entry] = data_of(built.page)["entries"]
    assert entry["file"].startswith("./")
    assert re.fullmatch(r"[\w./%~-]+", entry["file"])
    assert entry["name"].isprintable()


def test_the_policy_allows_the_pages_own_script_and_style_by_their_hashes(folder):
    text = build_gallery(folder).page.read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1])
    for tag in ("style", "script"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_page_names_no_address_beyond_its_own_folder(folder):
    text = build_gallery(folder).page.read_text(encoding="utf-8")
    assert not re.findall(r"""https?://|(?:src|href)=["']?//|url\(["']?(?!#)""", text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folder": "nowhere"}, "is no folder"),
        ({"folder": "."}, "holds no results"),
        ({"page": "page.txt"}, "must end in .html"),
        ({"photos": "nowhere"}, "--photos"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_become_a_page_is_refused(folder, tmp_path, monkeypatch, change, words):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    given = {"folder": folder, **change}
    with pytest.raises(UsageError, match=re.escape(words)):
        build_gallery(given.pop("folder"), **given)


def test_a_page_that_is_not_ours_is_refused(folder, tmp_path):
    page = tmp_path / "my.html"
    page.write_text("<h1>mine</h1>")
    with pytest.raises(UsageError, match="is no page of dpt gallery"):
        build_gallery(folder, page=page)
    assert page.read_text() == "<h1>mine</h1>"
    page.unlink()
    pictures = tmp_path / "my_files"
    pictures.mkdir()
    (pictures / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"holds 'holiday\.jpg'"):
        build_gallery(folder, page=page)
    (pictures / "holiday.jpg").rename(pictures / "00001.photo.jpg")  # of a page cut short
    build_gallery(folder, page=page)
    build_gallery(folder, page=page)


def test_the_command_prints_where_the_page_is(folder):
    done = run_dpt("gallery", folder)
    assert (done.returncode, done.stdout) == (0, f"{folder / 'gallery.html'}\n")
    assert "3 results, 1 failure listed" in done.stderr
    done = run_dpt("gallery", folder, "--detail", "0")
    assert done.returncode == 2
    assert "--detail '0'" in done.stderr


def test_no_photograph_is_needed(tmp_path):
    save_result(Image.fromarray(ramp(8)), tmp_path / "x.png", kind="depth_m", first=1, last=0)
    [entry] = data_of(build_gallery(tmp_path).page)["entries"]
    assert "photo" not in entry
    assert entry["size"] == [80, 60]


def test_the_gallery_loads_no_torch():
    code = "import sys, dptcli.gallery; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_photographs_of_every_kind_that_is_read_are_found(folder, tmp_path):
    for path in (tmp_path / "photos").rglob("*"):
        if path.is_file():
            with Image.open(path) as photo:
                photo.convert("RGB").save(path.with_suffix(".PPM"))
            path.unlink()
    built = build_gallery(folder, photos=tmp_path / "photos")
    assert all(entry["photo"] for entry in data_of(built.page)["entries"])
