"""Runs that are killed, stopped and crossed, then resumed: every result whole and right."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from faults import WAIT_S, end, fault, moments, photographs, results, start, wait_for
from process import run_dpt, warm_dpt
from tiny import save_tiny

NUM_PHOTOS = 50


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(a folder with photographs and a model, {name: content} of a run that nothing disturbed)."""
    folder = tmp_path_factory.mktemp("faults")
    save_tiny(folder / "model", task="depth")
    photographs(folder / "photos", NUM_PHOTOS)
    code, _, err = end(start(*command(folder, folder / "first" / "out")))
    assert code == 0, err
    return folder, results(folder / "first" / "out")


@pytest.fixture
def place(undisturbed):
    """(what to run, its folder of results, what belongs there)."""
    folder, expected = undisturbed
    # Results name their photographs relative to themselves, so they lie equally deep.
    out = folder / f"run{len(list(folder.iterdir()))}" / "out"
    out.parent.mkdir()
    yield command(folder, out), out, expected
    shutil.rmtree(out.parent)


def command(folder, out):
    model = ["-m", folder / "model", "--format", "color,npy"]
    return ["depth", folder / "photos", "-o", out, *model]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_a_run_killed_at_ten_random_moments_is_complete_and_right_in_the_end(place, seed):
    run, out, expected = place
    chance = moments(seed)
    num_killed = 0
    for number in range(10):
        before = len(list(out.rglob("[!.]*.png")))
        process = start(*run, installed=number == 0)
        wait_for(process, out, before + chance.randint(0, 4))
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        _, _, err = end(process)
        assert process.returncode in {-signal.SIGKILL, 0}, err
        num_killed += process.returncode == -signal.SIGKILL
        for name, content in results(out).items():
            assert name.endswith(".dpt-tmp") or content == expected[name]
    assert num_killed >= 8  # the photographs are enough for it: a run that was over is no fault
    with fault(num_killed):
        code, _, err = end(start(*run))
        assert code == 0, err
        assert results(out) == expected
        assert not list(out.rglob("*.dpt-tmp"))


def test_a_killed_run_of_one_range_leaves_no_notes_behind_when_it_goes_on(place):
    run, out, _ = place
    process = start(*run, "--range", "global")
    deadline = time.monotonic() + WAIT_S
    while not list(out.glob(".dpt-spool-*/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    end(process)
    with fault():
        assert list(out.glob(".dpt-spool-*"))
        code, _, err = end(start(*run, "--range", "global"))
        assert code == 0, err
        left = {path.name for path in out.glob(".*")}
        assert left == {".dpt"}
        assert len(results(out)) == 3 * NUM_PHOTOS
        code, _, err = end(start(*run, "--range", "global"))
        assert f"0 done, {NUM_PHOTOS} skipped".encode() in err


def test_a_run_stopped_by_signals_goes_on(place):
    run, out, expected = place
    stops = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, "impatient"]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup, and so in the run too
        stops.remove(signal.SIGHUP)
    for number, stop in enumerate(stops, start=1):
        process = start(*run, installed=stop == "impatient")
        wait_for(process, out, 4 * number)
        process.send_signal(signal.SIGINT if stop == "impatient" else stop)
        if stop == "impatient":
            time.sleep(0.01)
            process.send_signal(signal.SIGINT)
        code, _, err = end(process)
        with fault():
            assert code == 128 + (signal.SIGINT if stop == "impatient" else stop), err
            assert err.decode().splitlines()[-1] == "dpt: interrupted; finished results are kept"
            there = results(out)
            assert there.items() <= expected.items()
            assert 0 < len(there) < len(expected)
    code, _, err = end(start(*run))
    assert code == 0, err
    assert results(out) == expected


def test_two_runs_on_one_folder_at_once_and_a_third_that_finds_it_done(place):
    run, out, expected = place
    pair = [start(*run), start(*run)]
    with fault(2):
        for process in pair:
            code, _, err = end(process)
            assert code == 0, err
        assert results(out) == expected
    code, said, _ = end(start(*run, "--json"))
    assert code == 0
    assert {json.loads(line)["status"] for line in said.splitlines()} == {"skipped"}


def test_runs_that_contradict_each_other_at_once_end_as_the_last_says(place):
    run, out, expected = place
    pair = [start(*run), start(*run, "--invert")]
    with fault(2):
        for process in pair:
            assert end(process)[0] == 0
        code, _, err = end(start(*run))
        assert code == 0, err
        assert results(out) == expected


def test_a_folder_of_results_that_vanishes_under_the_run_is_filled_by_the_next(place):
    run, out, expected = place
    process = start(*run)
    wait_for(process, out, 5)
    subprocess.run(["mv", str(out), str(out.with_name("moved"))], check=True)
    shutil.rmtree(out.with_name("moved"))
    with fault():
        code, _, err = end(process)
        assert code in {0, 1}, err
        code, _, err = end(start(*run))
        assert code == 0, err
        assert results(out) == expected


def test_shards_at_once_one_of_them_killed_make_the_whole(place):
    run, out, expected = place
    first, second = (start(*run, "--shard", f"{part}/2") for part in (1, 2))
    wait_for(first, out, 6)
    first.kill()
    end(first)
    with fault():
        assert end(second)[0] == 0
        code, _, err = end(start(*run, "--shard", "1/2"))
        assert code == 0, err
        assert results(out) == expected
        assert not list(Path(out).rglob("*.dpt-tmp"))


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="every run starts as installed here")
@pytest.mark.parametrize("said", [b"", b"\0" * 7 + b"\2{"])
def test_whoever_is_killed_while_it_asks_for_a_run_costs_the_others_nothing(said):
    for _ in range(3):
        asker = socket.socket(socket.AF_UNIX)
        asker.connect(warm_dpt()[-1])
        asker.sendall(said)
        asker.close()
    assert run_dpt("--version").returncode == 0
