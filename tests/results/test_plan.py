"""Where results go, and what is refused before any work starts."""

import os
from pathlib import Path

import pytest

from dptcli.errors import UsageError
from dptcli.inputs.find import ImageSource, find_images
from dptcli.results.plan import plan_outputs


@pytest.fixture(autouse=True)
def current_folder(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"image")


def plan(*inputs, out, **options):
    return plan_outputs(find_images(inputs), out, **options)


def paths(made):
    return [job.path.as_posix() for job in made.jobs]


def test_one_image_goes_to_the_file_that_is_named():
    make("a.jpg")
    made = plan("a.jpg", out="depth/x.png")
    assert paths(made) == ["depth/x.png"]
    assert made.folder is None


def test_one_image_goes_into_a_folder_under_its_own_name():
    make("a.jpg")
    assert paths(plan("a.jpg", out="depth")) == ["depth/a.png"]
    assert paths(plan("a.jpg", out="v1.0/")) == ["v1.0/a.png"]


def test_a_name_that_ends_in_png_is_a_folder_when_it_is_one():
    make("a.jpg", "x.png/other.txt")
    assert paths(plan("a.jpg", out="x.png")) == ["x.png/a.png"]


def test_a_folders_tree_is_mirrored():
    make("in/a.jpg", "in/b/c.tiff", "in/b/d.e.webp")
    assert paths(plan("in", out="out")) == ["out/a.png", "out/b/c.png", "out/b/d.e.png"]


def test_nothing_is_created_by_planning():
    make("a.jpg")
    plan("a.jpg", out="deep/er/out/")
    assert [entry.name for entry in Path().iterdir()] == ["a.jpg"]


def test_standard_output_takes_one_image():
    make("a.jpg", "b.jpg")
    assert plan("a.jpg", out="-").jobs[0].path is None
    with pytest.raises(UsageError, match="standard output takes one image, and there are 2"):
        plan("a.jpg", "b.jpg", out="-")


def test_several_images_do_not_go_into_one_file():
    make("a.jpg", "b.jpg")
    with pytest.raises(UsageError, match=r"'x.png', cannot hold several.*name a folder"):
        plan("a.jpg", "b.jpg", out="x.png")


@pytest.mark.parametrize("out", ["x.jpg", "x.TIFF", "x.npy"])
def test_a_file_name_of_another_format_is_refused_with_the_right_one(out):
    make("a.jpg")
    with pytest.raises(UsageError, match=r"instead of .* name 'x\.png'"):
        plan("a.jpg", out=out)


def test_two_inputs_for_one_result_are_refused_by_name():
    make("in/a.jpg", "in/a.png")
    with pytest.raises(
        UsageError, match=r"'in/a\.jpg' and 'in/a\.png' would both .*out/a\.png.*s$"
    ):
        plan("in", out="out")


def test_how_many_more_inputs_would_share_a_result_is_said_at_once():
    make(*(f"in/{stem}.{end}" for stem in "abc" for end in ("jpg", "png")), "in/c.gif", "in/d.jpg")
    with pytest.raises(UsageError, match=r"in/a\.png' would .* \(so it is with 3 more images\)$"):
        plan("in", out="out", suffixes=(".png", ".npy"))


def test_names_that_differ_only_in_capitals_are_kept_apart_where_the_disk_does():
    make("in/a.jpg", "in/A.png")
    if len(list(Path("in").iterdir())) < 2 or Path("IN").exists():
        pytest.skip("this file system ignores case")
    assert sorted(paths(plan("in", out="out"))) == ["out/A.png", "out/a.png"]


def test_a_result_and_a_folder_of_one_name_are_refused():
    make("in/a.jpg", "in/a.png/b.jpg")
    with pytest.raises(UsageError, match=r"where 'in/a.png/b.jpg' needs a folder"):
        plan("in", out="out")


def test_existing_results_are_refused_and_both_options_are_named():
    make("in/a.jpg", "in/b.jpg", "out/b.png")
    with pytest.raises(UsageError, match=r"1 of 2 .*'out/b.png'.*--overwrite.*--skip-existing"):
        plan("in", out="out")


def test_existing_results_are_kept_or_replaced_when_asked():
    make("in/a.jpg", "in/b.jpg", "out/b.png")
    kept = plan("in", out="out", existing="skip")
    assert paths(kept) == ["out/a.png"]
    assert [job.source.name for job in kept.skipped] == ["in/b.jpg"]
    assert paths(plan("in", out="out", existing="overwrite")) == ["out/a.png", "out/b.png"]


@pytest.mark.parametrize("existing", ["refuse", "overwrite", "skip"])
@pytest.mark.parametrize("link", ["itself", "symlink", "hardlink", "folder link"])
def test_an_input_is_never_replaced_whatever_it_is_called(link, existing):
    make("in/a.png")
    out = Path("out")
    if link == "itself":
        out = Path("in")
    elif link == "folder link":
        out.symlink_to("in")
    else:
        out.mkdir()
        if link == "symlink":
            (out / "a.png").symlink_to("../in/a.png")
        else:
            (out / "a.png").hardlink_to("in/a.png")
    with pytest.raises(UsageError, match=r"would replace the input 'in/a\.png'"):
        plan("in", out=str(out), existing=existing)


def test_another_images_input_is_not_replaced_either():
    make("in/a.jpg", "in/sub/b.jpg", "x.png")
    with pytest.raises(UsageError, match=r"would replace the input .*x\.png"):
        plan_outputs(
            [ImageSource(Path("in/a.jpg"), Path("x.jpg")), ImageSource(Path("x.png"), Path("y"))],
            ".",
            existing="overwrite",
        )


def test_results_of_an_earlier_run_inside_the_input_folder_are_no_inputs(caplog):
    make("in/a.jpg", "in/depth/a.png", "in/depth/b/c.png")
    made = plan("in", out="in/depth", existing="overwrite")
    assert paths(made) == ["in/depth/a.png"]
    assert "left out 2 images in the folder of results" in caplog.text


def test_an_output_that_is_no_ordinary_file_is_refused():
    make("a.jpg")
    os.mkfifo("pipe.png")
    with pytest.raises(UsageError, match="no ordinary file"):
        plan("a.jpg", out="pipe.png", existing="overwrite")


def test_a_dangling_link_counts_as_an_existing_result():
    make("a.jpg")
    Path("x.png").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"'x\.png' exists already"):
        plan("a.jpg", out="x.png")


def test_another_results_sidecar_is_named_as_what_it_is():
    make("a.jpg", "x.json")
    with pytest.raises(UsageError, match=r"'x\.json', which says what the result is, exists"):
        plan("a.jpg", out="x.npy", suffixes=(".npy",), sidecar=".json")


def test_a_file_in_the_place_of_the_folder_is_refused():
    make("a.jpg", "b.jpg", "out")
    with pytest.raises(UsageError, match="'out' is a file"):
        plan("a.jpg", "b.jpg", out="out")
    with pytest.raises(UsageError, match="'out' is a file"):
        plan("a.jpg", out="out/x.png")


def test_a_folder_without_permission_is_refused():
    make("a.jpg")
    Path("locked").mkdir(mode=0o500)
    if os.access("locked", os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(UsageError, match=r"'locked/deep/out': nothing .*Permission denied"):
        plan("a.jpg", out="locked/deep/out")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no such place on this system")
@pytest.mark.parametrize("out", ["/proc/x", "/proc/x/y/depth.png", "/proc/depth.png"])
def test_a_place_where_nothing_can_be_made_is_refused_whoever_asks(out):
    make("a.jpg")
    with pytest.raises(UsageError, match=r"cannot write into '/proc.*nothing can be made in"):
        plan("a.jpg", out=out)


def test_asking_whether_a_folder_can_be_written_leaves_nothing():
    make("a.jpg")
    Path("out").mkdir()
    plan("a.jpg", out="out/deep")
    assert list(Path("out").iterdir()) == []


def test_odd_names_stay_below_the_folder():
    sources = [ImageSource(Path("/x/a.jpg"), Path("../../a b\n.jpg")), ImageSource(None, Path("s"))]
    assert paths(plan_outputs(sources, "out")) == ["out/a b\n.png", "out/s.png"]
