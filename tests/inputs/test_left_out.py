"""What a search comes upon and does not give: said, counted, in every account of the run."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny import save_varied

from dptcli.cli import main
from dptcli.errors import UsageError
from dptcli.inputs.find import find_images
from dptcli.inputs.search import LeftOut

SUFFIXES = [".psd", ".xcf", ".kra", ".tga", ".dds", ".ico", ".jxl", ".svg", ".fits", ".dcm", ".pic"]
READ = [".mpo", ".ppm", ".pgm", ".pbm", ".jp2", ".j2k", ".avif", ".avifs", ".hdr", ".exr", ".heic"]
READ += [".hif", ".dng", ".cr3", ".rw2", ".orf", ".raf", ".nef", ".arw"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_varied(tmp_path_factory.mktemp("model") / "depth"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in/sub").mkdir(parents=True)
    photo("in/a.png")
    return tmp_path


def photo(name) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(name)


def found_in(*inputs) -> tuple[list[str], LeftOut]:
    left_out = LeftOut()
    sources = find_images(list(inputs), left_out=left_out)
    return [source.relative.as_posix() for source in sources], left_out


def unlistable(monkeypatch, *names) -> None:
    """Folders that cannot be listed; tests may run as root, whom permissions do not stop."""
    real = os.scandir

    def scandir(path="."):
        if Path(path).name in names:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def without_extras(monkeypatch) -> None:
    real, extras = importlib.util.find_spec, ("pillow_heif", "OpenEXR", "rawpy")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in extras else real(name, *a)
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pictures_that_nothing_reads_are_noted(suffix):
    Path(f"in/sub/b{suffix.upper()}").write_bytes(b"?")
    names, left_out = found_in("in")
    assert names == ["a.png"]
    assert left_out.pictures == [
        (f"in/sub/b{suffix.upper()}", "not read here; export it as JPEG or PNG")
    ]


@pytest.mark.parametrize("suffix", READ)
def test_pictures_of_rarer_kinds_are_read_unless_another_has_their_name(suffix):
    Path(f"in/sub/b{suffix}").write_bytes(b"?")
    Path(f"in/A{suffix}").write_bytes(b"?")
    names, left_out = found_in("in")
    assert names == ["a.png", f"sub/b{suffix}"]
    assert left_out.pictures == [(f"in/A{suffix}", "beside another picture of the same name")]


def test_of_several_rarer_kinds_of_one_name_one_is_read():
    for suffix in (".dng", ".heic", ".avif", ".exr"):
        Path(f"in/b{suffix}").write_bytes(b"?")
    names, left_out = found_in("in")
    assert names == ["a.png", "b.avif"]
    assert len(left_out.pictures) == 3


def test_a_missing_extra_is_named_for_each_kind(monkeypatch):
    without_extras(monkeypatch)
    for suffix, extra in ((".heic", "heif"), (".exr", "exr"), (".cr3", "raw")):
        Path(f"in/b{suffix}").write_bytes(b"?")
        assert f"left out 1 {suffix}: its reader is an extra: pip install 'dptcli[{extra}]'" in (
            " ".join(found_in("in")[1].sentences())
        )


def test_what_is_no_picture_is_not_noted():
    for name in ("notes.txt", "clip.mp4", "values.npy", "map.pfm", "page.pdf", "a.xmp", "a"):
        Path("in", name).write_bytes(b"?")
    assert not found_in("in")[1].pictures


def test_a_pipe_with_a_pictures_name_is_noted():
    os.mkfifo("in/b.png")
    assert found_in("in")[1].pictures == [("in/b.png", "it is a pipe (FIFO), not a file")]


def test_a_folder_of_nothing_else_says_what_it_holds():
    Path("only").mkdir()
    Path("only/b.psd").write_bytes(b"?")
    with pytest.raises(UsageError, match=r"no images in 'only'.*left out 1 \.psd: not read here"):
        find_images(["only"])


@pytest.mark.parametrize("given", ["in", "in/**/*.png", "in/*/*.png"])
def test_a_folder_that_cannot_be_listed_is_noted_in_trees_and_patterns(monkeypatch, given):
    photo("in/sub/b.png")
    Path("in/more").mkdir()
    photo("in/more/c.png")
    unlistable(monkeypatch, "sub")
    names, left_out = found_in(given)
    assert [Path(name).name for name in names] in (["a.png", "c.png"], ["c.png"])
    [(path, reason)] = left_out.folders
    assert path == "in/sub"
    assert "cannot list the folder in/sub: Permission denied" in reason


# --- a run ---------------------------------------------------------------------------------------


def test_a_run_counts_what_it_left_out_in_every_account(model, capsys):
    Path("in/b.psd").write_bytes(b"8BPS")
    Path("in/sub/c.psd").write_bytes(b"8BPS")
    words = ["depth", "in", "-o", "out", "-m", model, "--json", "--report", "r.json"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "left out 2 .psd: not read here" in said.err
    assert "1 done, 2 left out" in said.err
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["input"] for line in lines if line["status"] == "left_out"] == [
        "in/b.psd",
        "in/sub/c.psd",
    ]
    report = json.loads(Path("r.json").read_text())
    assert report["totals"]["left_out"] == 2
    assert report["totals"]["images"] == 1
    assert report["status"] == "done"


def test_quiet_hides_it_from_the_eye_alone(model, capsys):
    Path("in/b.psd").write_bytes(b"8BPS")
    words = ["depth", "in", "-o", "out", "-m", model, "--json", "--report", "r.json", "-q"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert not said.err
    assert '"left_out"' in said.out
    assert json.loads(Path("r.json").read_text())["totals"]["left_out"] == 1


@pytest.mark.parametrize("command", ["depth", "again"])
def test_a_folder_that_cannot_be_listed_is_a_failure(monkeypatch, model, capsys, command):
    photo("in/sub/b.png")
    words = ["depth", "in", "-o", "out", "-m", model, "-q", "--json", "--report", "r.json"]
    if command == "again":  # nothing left to do, and yet something is missing
        assert main(["depth", "in/a.png", "-o", "out/", "-m", model, "-q"]) == 0
    unlistable(monkeypatch, "sub")
    assert main(words) == 1
    said = capsys.readouterr()
    assert "cannot list the folder in/sub: Permission denied" in said.err
    assert '"failed"' in said.out
    report = json.loads(Path("r.json").read_text())
    assert (report["status"], report["totals"]["failed"]) == ("some failed", 1)
    assert Path("out/a.png").exists()


def test_earlier_results_are_not_counted_as_left_out(model, capsys):
    words = ["depth", "in", "-o", "in/out", "-m", model, "-f", "exr"]
    assert main(words) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert ".exr: " not in capsys.readouterr().err


def test_pages_that_are_left_out_are_told_to_programs(model, capsys):
    tifffile.imwrite("in/b.tif", np.zeros((3, 30, 40, 3), np.uint8), photometric="rgb")
    words = ["depth", "in/b.tif", "-o", "b.png", "-m", model, "-q", "--json", "--report", "r.json"]
    assert main(words) == 0
    note = "has 3 pages: the first page is read, 2 are left out (--page N)"
    assert json.loads(capsys.readouterr().out)["notes"] == [note]
    assert json.loads(Path("r.json").read_text())["images"][0]["notes"] == [note]


def test_levels_and_page_reach_the_pictures(model):
    pages = np.random.default_rng(0).integers(0, 4096, (2, 30, 40), np.uint16)
    tifffile.imwrite("in/b.tif", pages, photometric="minisblack")
    Image.fromarray((pages[1] * (255 / 4095) + 0.5).astype(np.uint8)).save("in/c.png")
    options = ["-m", model, "-f", "npy", "-q"]
    shown = ["--levels", "0:4095", "--page", "2"]
    assert main(["depth", "in/b.tif", "-o", "b.npy", *shown, *options]) == 0
    assert main(["depth", "in/c.png", "-o", "c.npy", *options]) == 0
    assert np.array_equal(np.load("b.npy"), np.load("c.npy"))


@pytest.mark.parametrize(
    ("option", "value"),
    [("--levels", v) for v in ("4095", "9:1", "a:b", "1:1", "0:inf")]
    + [("--page", v) for v in ("0", "-1", "two")],
)
def test_impossible_levels_and_pages_are_named(model, capsys, option, value):
    assert main(["depth", "in", "-o", "out", "-m", model, option, value]) == 2
    assert f"{option} {value!r} must be" in capsys.readouterr().err


def test_a_link_that_leads_to_itself_is_a_failure_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in "ab":
        Path("photos", f"{number}.png").symlink_to(f"{number}.png")
    # Where results lie below the inputs, links are followed to tell them apart.
    model = str(save_varied(tmp_path / "m"))
    assert main(["depth", "photos", "-o", "photos/out", "-m", model]) == 1
    told = capsys.readouterr().err
    assert "symbolic links" in told
    assert "unexpected" not in told
