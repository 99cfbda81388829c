"""Folders that fill: `dpt watch` and --watch, as processes that a signal ends."""

import json
import os
import shutil
import signal
import time

import pytest
from faults import WAIT_S, end, results, start
from PIL import Image
from rerun import draw, draw_photos
from tiny import save_tiny

from dptcli.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "depth", task="depth")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return draw_photos()


@pytest.fixture
def watching(model, photos):
    """Starts a watch of photos/ into out/; what is started is ended."""
    processes = []

    def begin(*words, out="out"):
        # Looks every 0.1 s: a test lasts as long as what it waits for.
        words = ["watch", photos.name, "-o", out, "-m", model, "--every", "0.1", *words]
        processes.append(start(*words))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(*paths):
    deadline = time.monotonic() + WAIT_S
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"missing: {paths}"
        time.sleep(0.01)


def stop(process, number=signal.SIGINT):
    process.send_signal(number)
    code, _, err = end(process)
    return code, err.decode()


def listed(out):
    """{image: reason} of the list of failures."""
    lines = map(json.loads, (out / "failures.jsonl").read_text().splitlines())
    return {line["input"]: line["error"] for line in lines}


FIRST = ["a.png", "b c.png", "sub/d.png"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_there_and_what_comes_is_done_until_a_signal(watching, photos, tmp_path, number):
    out = tmp_path / "out"
    process = watching()
    wait_for(*(out / name for name in FIRST))
    draw(photos / "new" / "e.png", 9)
    wait_for(out / "new" / "e.png")
    time.sleep(0.3)  # a result is in place a moment before it is counted
    code, err = stop(process, number)
    assert code == 0, err
    assert err.splitlines()[0].startswith("watching photos every 0.1 s")
    assert err.splitlines()[-1].startswith("4 done in out: watched ")
    assert sorted(name for name in results(out) if name.endswith("tmp")) == []


def test_a_result_is_that_of_an_ordinary_run_which_then_has_nothing_to_do(
    watching, tmp_path, model, capsys
):
    assert end(start("depth", "photos", "-o", "plain", "-m", model))[0] == 0
    process = watching()
    wait_for(*(tmp_path / "out" / name for name in FIRST))
    time.sleep(0.3)
    stop(process)
    assert results(tmp_path / "out") == results(tmp_path / "plain")
    capsys.readouterr()
    assert main(["depth", "photos", "-o", "out", "-m", str(model)]) == 0
    assert capsys.readouterr().err.startswith("0 done, 3 skipped")


def test_a_file_is_not_taken_before_it_is_whole(watching, photos, tmp_path):
    draw(tmp_path / "whole.png", 9)
    content = (tmp_path / "whole.png").read_bytes()
    process = watching("--quiet")
    wait_for(*(tmp_path / "out" / name for name in FIRST))
    with (photos / "e.png").open("wb") as stream:
        step = -(-len(content) // 5)
        for at in range(0, len(content), step):  # slower than it looks
            stream.write(content[at : at + step])
            stream.flush()
            time.sleep(0.25)
            assert not (tmp_path / "out" / "e.png").exists() or stream.tell() == len(content)
    wait_for(tmp_path / "out" / "e.png")
    time.sleep(0.3)
    assert stop(process) == (0, "")


def test_a_changed_photograph_is_done_again(watching, photos, tmp_path):
    result = tmp_path / "out" / "a.png"
    process = watching()
    wait_for(*(tmp_path / "out" / name for name in FIRST))
    before = result.read_bytes()
    draw(photos / "a.png", 77, age_s=500)
    deadline = time.monotonic() + WAIT_S
    while result.read_bytes() == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    code, err = stop(process)
    assert (code, err.splitlines()[-1].partition(" in ")[0]) == (0, "4 done")


def test_a_second_watch_does_only_what_is_missing(watching, tmp_path):
    process = watching()
    wait_for(*(tmp_path / "out" / name for name in FIRST))
    time.sleep(0.3)
    stop(process)
    (tmp_path / "out" / "a.png").unlink()
    process = watching()
    wait_for(tmp_path / "out" / "a.png")
    time.sleep(0.3)
    _, err = stop(process)
    assert "1 done, 2 skipped in out" in err


def test_what_cannot_be_done_is_named_and_costs_no_other(watching, photos, tmp_path, model):
    (photos / "bad.png").write_bytes(b"no picture")
    os.utime(photos / "bad.png", (1e9, 1e9))
    shutil.copy(photos / "a.png", photos / "c.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.png").write_bytes(b"somebody's own")
    process = watching()
    wait_for(*(tmp_path / "out" / name for name in FIRST), tmp_path / "out" / "failures.jsonl")
    time.sleep(0.3)
    code, err = stop(process)
    assert code == 1
    assert "3 done, 2 failed in out" in err
    assert "bad.png" in err
    assert "c.png' exists already" in err
    assert set(listed(tmp_path / "out")) == {"photos/bad.png", "photos/c.png"}
    (photos / "bad.png").unlink()
    words = ["depth", "photos", "-o", "out", "-m", str(model), "-q"]
    assert main([*words, "--skip-existing"]) == 0
    assert not (tmp_path / "out" / "failures.jsonl").exists()
    assert (tmp_path / "out" / "c.png").read_bytes() == b"somebody's own"


@pytest.mark.parametrize("is_renamed", [True, False], ids=["renamed", "the other removed"])
def test_photographs_that_would_give_one_result_are_listed_until_they_do_not(
    is_renamed, watching, photos, tmp_path, model
):
    with Image.open(photos / "a.png") as image:
        image.save(photos / "a.tiff")
    os.utime(photos / "a.tiff", (1e9, 1e9))
    list_path = tmp_path / "out" / "failures.jsonl"
    process = watching()
    wait_for(*(tmp_path / "out" / name for name in FIRST), list_path)
    [(name, why)] = listed(tmp_path / "out").items()
    assert name == "photos/a.tiff"
    assert "another image's result would be 'out/a.png' too; rename one of them" in why
    stop(process)
    if is_renamed:
        (photos / "a.tiff").rename(photos / "e.tiff")
    else:
        (photos / "a.png").unlink()
        (tmp_path / "out" / "a.png").unlink()
    assert main(["depth", "photos", "-o", "out", "-m", str(model), "-q"]) == 0
    assert not list_path.exists()


def test_results_among_the_photographs_are_not_taken_for_photographs(watching, photos):
    made = [photos / name.replace(".png", "_depth.png") for name in FIRST]
    process = watching("--suffix", "_depth", out="photos")
    wait_for(*made)
    time.sleep(0.5)
    _, err = stop(process)
    assert "3 done in photos" in err
    process = watching("--suffix", "_depth", out="photos")
    made[0].unlink()
    wait_for(made[0])
    time.sleep(0.5)
    _, err = stop(process)
    assert "1 done, 2 skipped in photos" in err


def test_a_folder_that_goes_away_is_waited_for(watching, photos, tmp_path):
    process = watching()
    wait_for(*(tmp_path / "out" / name for name in FIRST))
    photos.rename(tmp_path / "away")
    time.sleep(0.3)
    (tmp_path / "away").rename(photos)
    draw(photos / "e.png", 9)
    wait_for(tmp_path / "out" / "e.png")
    _, err = stop(process)
    assert err.count("cannot look: no such file or folder: 'photos'") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["photos/a.png"], "'photos/a.png' is none; name a folder"),
        (["s3://bucket/photos"], "'s3://bucket/photos' is none"),
        (["photos", "--report", "run.json"], "which --report needs"),
        (["photos", "--range", "global"], "give values with --watch"),
        (["photos", "--task", "segment", "--dataset"], "--dataset is about all images of a run"),
        (["photos", "--engine", "ray"], "leave out --engine ray"),
        (["photos", "--every", "0"], "--watch '0' must be from 0.1 to 86400 seconds"),
        (["photos", "--task", "sgment"], "--task 'sgment' must be depth or segment"),
        (["photos", "--gamma", "99"], "--gamma '99' must be from 0.05 to 20"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
@pytest.mark.usefixtures("photos")
def test_what_has_no_end_is_refused_before_anything_starts(words, said, capsys):
    assert main(["watch", *words, "-o", "out"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("out", ["-", "one.png", "s3://bucket/depth"])
def test_a_watch_needs_a_folder_to_fill(out, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert main(["depth", "photos", "--watch", "-o", out]) == 2
    assert "--watch fills a folder" in capsys.readouterr().err
