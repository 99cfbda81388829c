"""The installed `dpt` as a process: what lands on disk, on the streams and in the exit code."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults import memory_disk, wait_for
from PIL import Image
from process import DPT, WAIT_S, environment, hear_ctrl_c, warm_dpt
from tiny import LABELS, save_tiny

from dptcli.cli import main


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {task: str(save_tiny(folder / task, task=task)) for task in ("depth", "segment")}


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    """A folder of three photographs, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(["a.jpg", "b c.png", "sub/d.webp"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (30 + index, 40, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def dpt(*words, stdin=None, **env):
    """Run the command; without a terminal, and strict about warnings."""
    return subprocess.run(
        [*warm_dpt(), *map(str, words)],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        check=False,
        timeout=WAIT_S,
        env=environment(NO_COLOR="1", **env),
    )


def files(folder):
    """Every file below a folder but the record of what was done."""
    found = (p.relative_to(folder) for p in Path(folder).rglob("*") if p.is_file())
    return sorted(str(path) for path in found if path.parts[0] != ".dpt")


def picture(path):
    with Image.open(path) as image:
        image.load()
        return image.copy()


def test_one_photograph_becomes_one_depth_picture(models):
    done = dpt("depth", "photos/a.jpg", "-o", "x/depth.png", "-m", models["depth"])
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert done.stderr.decode().startswith("photos/a.jpg -> x/depth.png (")
    depth = picture("x/depth.png")
    assert (depth.mode, depth.size) == ("RGB", (40, 30))
    assert files("x") == ["depth.png"]


def test_a_folder_becomes_a_folder_and_mixed_with_bad_images_it_is_exit_1(models, photos):
    (photos / "broken.jpg").write_bytes((photos / "a.jpg").read_bytes()[:200])
    (photos / "sub" / "note.txt").write_text("not searched for")
    done = dpt(
        *("depth", "photos", "-o", "out", "-m", models["depth"]),
        *("--json", "--bits", "16", "--batch-size", "2"),
    )
    assert done.returncode == 1
    assert files("out") == ["a.png", "b c.png", "failures.jsonl", "sub/d.png"]
    [failure] = Path("out/failures.jsonl").read_text().splitlines()
    assert json.loads(failure)["input"] == "photos/broken.jpg"
    assert {picture(path).mode for path in Path("out").rglob("*.png")} == {"I;16"}
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    by_input = {line["input"]: line for line in lines}
    assert len(by_input) == 4
    good = by_input["photos/sub/d.webp"]
    assert (good["status"], good["output"]) == ("done", "out/sub/d.png")
    assert (good["height"], good["width"], good["kind"]) == (32, 40, "inverse_depth")
    assert good["min"] <= good["max"]
    bad = by_input["photos/broken.jpg"]
    assert (bad["status"], bad["output"]) == ("failed", None)
    assert "broken.jpg" in bad["error"]
    said = done.stderr.decode()
    assert "dpt: 1 of 4 images failed:" in said
    assert "Traceback" not in said


def test_a_result_says_where_its_photograph_lies_and_a_mended_run_lists_no_failure(models, photos):
    broken = photos / "broken.jpg"
    broken.write_bytes(b"")
    words = ["photos", "-o", "out", "-q", "--overwrite"]
    for task in ("depth", "segment"):
        assert dpt(task, *words, "-m", models[task]).returncode == 1
        with Image.open("out/sub/d.png") as image:
            facts = json.loads(image.text["dptcli"])
        assert Path("out/sub", facts["photo"]).samefile(photos / "sub/d.webp")
    broken.unlink()
    assert dpt("segment", *words, "-m", models["segment"]).returncode == 0
    assert not Path("out/failures.jsonl").exists()


def test_masks_come_with_their_names_and_target_size_may_be_bare(models):
    done = dpt("segment", "photos", "-m", models["segment"], "-o", "out", "-q", "--target-size")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert files("out") == ["a.png", "b c.png", "labels.json", "sub/d.png"]
    mask = picture("out/sub/d.png")
    assert (mask.mode, mask.size) == ("P", (40, 32))
    assert np.asarray(mask).max() < len(LABELS)
    names = json.loads(Path("out/labels.json").read_text())["labels"]
    assert names == {str(label): name for label, name in LABELS.items()}


def test_an_overlay_is_the_photograph_in_class_colours(models):
    done = dpt(
        *("segment", "photos/a.jpg", "-o", "over.png", "-m", models["segment"]),
        *("--overlay", "0", "--target-size", "original"),
    )
    assert done.returncode == 0, done.stderr
    photo = np.asarray(picture("photos/a.jpg"))
    np.testing.assert_array_equal(np.asarray(picture("over.png")), photo)
    assert Path("over.labels.json").exists()


def test_standard_input_and_output_carry_one_image(models, photos):
    photo = (photos / "a.jpg").read_bytes()
    done = dpt("depth", "-", "-o", "-", "-m", models["depth"], "--grayscale", stdin=photo)
    assert done.returncode == 0, done.stderr
    depth = picture(io.BytesIO(done.stdout))
    assert (depth.mode, depth.size) == ("L", (40, 30))
    assert done.stderr == b""


def test_a_nul_separated_list_carries_every_name(models, photos):
    odd = [os.fsencode(photos / "new\nline.png"), os.fsencode(photos) + b"/latin\xe9.png"]
    for name in odd:
        shutil.copy(photos / "b c.png", name)
    listed = b"".join(name + b"\0" for name in [os.fsencode(photos / "a.jpg"), *odd])
    done = dpt("depth", "--from-file", "-", "-0", "-o", "out", "-m", models["depth"], stdin=listed)
    assert done.returncode == 0, done.stderr
    found = sorted(os.fsencode(path.name) for path in Path("out").glob("[!.]*"))
    assert found == [b"a.png", b"latin\xe9.png", b"new\nline.png"]
    assert len(done.stderr.splitlines()) == 4  # one a picture, whatever its name, and the summary


def test_existing_results_are_refused_skipped_or_replaced(models):
    out = Path("out")
    out.mkdir()
    (out / "a.png").write_bytes(b"old")
    words = ["depth", "photos", "-o", "out", "-m", models["depth"], "--json"]
    refused = dpt(*words)
    assert refused.returncode == 2
    assert b"--overwrite" in refused.stderr
    assert b"--skip-existing" in refused.stderr
    assert files(out) == ["a.png"]
    skipped = dpt(*words, "--skip-existing")
    assert skipped.returncode == 0
    assert (out / "a.png").read_bytes() == b"old"
    status = {
        line["input"]: line["status"] for line in map(json.loads, skipped.stdout.splitlines())
    }
    assert sorted(status.values()) == ["done", "done", "skipped"]
    again = dpt(*words, "--skip-existing")
    assert again.returncode == 0
    assert again.stderr.decode().startswith("0 done, 3 skipped")
    assert "images/s" not in again.stderr.decode(), "nothing was done, so there is no rate"
    one = dpt("depth", "photos/a.jpg", *words[2:], "--skip-existing")
    assert one.stderr.decode().startswith("0 done, 1 skipped"), "or it looks as if it had failed"
    assert dpt(*words, "--overwrite").returncode == 0
    assert picture(out / "a.png").size == (40, 30)


def test_names_of_another_model_in_the_folder_are_not_mixed_up(models):
    Path("out").mkdir()
    Path("out/labels.json").write_text("{}")
    words = ["segment", "photos", "-o", "out", "-m", models["segment"]]
    refused = dpt(*words)
    assert refused.returncode == 2
    assert b"another model's classes" in refused.stderr
    assert files("out") == ["labels.json"]


@pytest.mark.parametrize("model", ["nowhere", "depth"])
def test_an_unusable_model_is_exit_2_in_one_line(models, photos, model):
    done = dpt("segment", photos, "-o", "out", "-m", models.get(model, model))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(b"dpt: ")
    assert not Path("out").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_only_whole_pictures(models, photos, stop):
    Image.effect_noise((500, 400), 90).save(photos / "noise.png", compress_level=1)
    for index in range(300):
        (photos / f"{index:03}.png").hardlink_to(photos / "noise.png")
    words = ["depth", "photos", "-o", "out", "-m", models["depth"]]
    process = subprocess.Popen(
        [*(DPT if stop == signal.SIGINT else warm_dpt()), *words],
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=hear_ctrl_c,
    )
    wait_for(process, Path("out"), 3)
    process.send_signal(stop)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 128 + stop
    assert said.decode().splitlines()[-1] == "dpt: interrupted; finished results are kept"
    left = files("out")
    assert 3 <= len(left) < 304
    for name in left:
        assert name.endswith(".png"), "a temporary file was left"
        picture(Path("out") / name)


def test_a_full_disk_fails_by_name_and_leaves_no_half_file(models, photos, tmp_path):
    Image.effect_noise((600, 500), 90).save(photos / "large.png")
    with memory_disk(tmp_path / "disk", "size=64k") as disk:
        done = dpt("depth", photos, "-o", disk, "-m", models["depth"], "--bits", "16")
        assert done.returncode == 1
        assert b"large.png': No space left on device" in done.stderr
        assert "a.png" in files(disk)
        assert not [name for name in files(disk) if not name.endswith((".png", ".jsonl"))]


def test_a_read_only_disk_is_refused_before_the_model_loads(photos, tmp_path):
    with memory_disk(tmp_path / "disk", "ro") as disk:
        done = dpt("depth", photos, "-o", disk / "out", "-m", "no-such-model")
        assert done.returncode == 2
        assert b"(Read-only file system)" in done.stderr


def test_a_reader_that_leaves_early_is_no_traceback(models):
    command = f"{' '.join(warm_dpt())} depth photos -o out -m {models['depth']} --json -q | true"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, check=False, timeout=WAIT_S, env=environment()
    )
    assert b"Traceback" not in done.stderr


def test_an_unforeseen_error_is_one_line_and_v_shows_the_traceback(models):
    words = ["depth", "photos/a.jpg", "-o", "x.png", "-m", models["depth"]]
    code = (
        "import sys, dptcli.results.plan as p\n"
        "def broken(*a, **k): raise ZeroDivisionError('boom')\n"
        "p.plan_outputs = broken\n"
        "from dptcli.cli import main; sys.exit(main())"
    )
    for extra, traceback in (([], False), (["-v"], True)):
        done = subprocess.run(
            [sys.executable, "-c", code, *words, *extra],
            capture_output=True,
            check=False,
            env=environment(),
        )
        assert done.returncode == 2
        assert (b"Traceback" in done.stderr) == traceback
        assert b"dpt: unexpected ZeroDivisionError: boom; run with -v" in done.stderr


def test_what_a_run_leaves_to_its_end_is_done_before_the_process_ends():
    code = (
        "import atexit; atexit.register(print, 'measured')\n"  # as coverage's sitecustomize does
        "import threading, time, dptcli.cli as cli\n"
        "def main():\n"
        "    atexit.register(print, 'tidied')\n"
        "    threading.Thread(target=lambda: time.sleep(0.1) or print('saved')).start()\n"
        "    print('told')\n"
        "    return 1\n"
        "cli.main = main\n"
        "cli.run()"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, check=False, env=environment())
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.split() == [b"told", b"saved", b"tidied", b"measured"]


def test_a_disk_that_refuses_is_one_line_for_any_command(models, tmp_path, monkeypatch, capsys):
    def refuse(path, *_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["convert", models["depth"], str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err == f"dpt: cannot use '{tmp_path}/new': Permission denied\n"


def test_the_version_names_torch_and_python():
    done = dpt("--version")
    assert done.returncode == 0
    assert done.stdout.startswith(b"dpt ")
    assert b"torch" in done.stdout


def test_a_file_that_begins_with_a_dash_is_told_from_an_option(models, photos):
    (photos / "a.jpg").rename("-dash.jpg")
    done = dpt("depth", "-dash.jpg", "-o", "out", "-m", models["depth"])
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "dpt: '-dash.jpg' is taken for an option; the file of that name is ./-dash.jpg"
    ]
    assert dpt("depth", "./-dash.jpg", "-o", "out", "-m", models["depth"]).returncode == 0
