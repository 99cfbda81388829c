"""What is asked of a cluster: refused before anything starts, or shared out. None is started;
and what killed workers leave."""

import json
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from process import WAIT_S, environment

from dptcli.cli.predicting.engine import ClusterEngine, LocalEngine, read_engine
from dptcli.cli.predicting.record import Kept
from dptcli.cli.predicting.reporter import Reporter
from dptcli.engine_ray import stages
from dptcli.engine_ray.driver import connected, share_out
from dptcli.errors import ModelError, UsageError
from dptcli.inputs.find import ImageSource
from dptcli.inputs.search import LeftOut
from dptcli.records.leftovers import remove_unfinished
from dptcli.results.files import RUN_TOKEN
from dptcli.results.plan import Job, Plan

PLAIN = {"engine": "ray", "ray_address": None, "workers": None, "gpus_per_worker": None}
PLAIN |= {"inputs": ["photos"], "output": "out"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": "spark"}, "must be local or ray"),
        ({"engine": "local", "workers": "2"}, "--workers is for a cluster; add --engine ray"),
        ({"engine": "local", "ray_address": "auto"}, "--ray-address is for a cluster"),
        ({"workers": "0"}, "--workers '0' must be a whole number"),
        ({"gpus_per_worker": "1.5"}, "must be a share up to 1"),
        ({"gpus_per_worker": "-1"}, "must be a share up to 1"),
        ({"gpus_per_worker": "nan"}, "must be a share up to 1"),
        ({"output": "-"}, "do not see standard input"),
        ({"inputs": ["-"]}, "do not see standard input"),
        ({"preview": True}, "--preview draws in this process"),
        ({"value_range": "global"}, "--range global"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        read_engine(PLAIN | changes)


def test_the_local_loop_is_the_default():
    assert read_engine({"inputs": ["photos"], "output": "out"}) == LocalEngine()


def nodes(*cpus):
    return [{"Alive": True, "Resources": {"CPU": count}} for count in cpus]


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "share", "expected"),
    [
        ([1, 1], 0, None, None, (2, 1, 0, 1)),
        ([16, 16], 0, None, None, (2, 16, 0, 8)),
        ([16], 0, 4, None, (4, 3, 0, 4)),
        ([16, 16], 8, None, None, (8, 1, 1, 16)),
        ([16, 16], 8, None, 0.5, (16, 1, 0.5, 16)),
        ([16, 16], 8, 2, 0, (2, 16, 0, 8)),
        ([64, 2], 0, 1, None, (1, 64, 0, 16)),
        ([64, 2], 0, 3, None, (3, 16, 0, 16)),
    ],
    ids=str,
)
def test_a_cluster_is_shared_out(cpus, gpus, workers, share, expected):
    """One model for each machine or GPU; of models on one machine, a quarter is left to files."""
    found = share_out({"CPU": sum(cpus), "GPU": gpus}, nodes(*cpus), workers, share)
    got = (found.num_workers, found.num_threads, found.num_gpus, found.num_tasks)
    assert got == expected


@pytest.mark.parametrize(("resources", "share"), [({"CPU": 4}, 1.0), ({}, None)])
def test_a_cluster_without_what_is_asked_for_is_refused(resources, share):
    with pytest.raises(UsageError, match="cluster has"):
        share_out(resources, nodes(4), None, share)


KILLED_WORKER = """
import os, sys
from pathlib import Path
from dptcli.results import files

files.write_for(sys.argv[2])
with files.atomic_write(Path(sys.argv[1]) / "depth.png") as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_worker_had_under_way_goes_with_its_run(tmp_path):
    for token in ("0badcafe", "12345678"):
        words = [sys.executable, "-c", KILLED_WORKER, str(tmp_path), token]
        killed = subprocess.run(words, check=False, env=environment(), timeout=WAIT_S)
        assert killed.returncode == -signal.SIGKILL
    (tmp_path / "depth.png").write_bytes(b"whole")
    assert len(list(tmp_path.iterdir())) == 3
    for folder in (tmp_path, tmp_path / "depth.png", tmp_path / "gone"):  # no folders: no error
        remove_unfinished(folder, {"0badcafe"})
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 2
    assert left[0].startswith(".12345678")  # of a run that may still be at work
    assert left[1] == "depth.png"


@pytest.mark.parametrize("into_a_folder", [True, False])
def test_a_run_ends_without_what_its_lost_workers_had_under_way(tmp_path, into_a_folder):
    (tmp_path / "out").mkdir()
    source = ImageSource(tmp_path / "photo.png", Path("photo.png"))
    job = Job(source, tmp_path / "out" / "depth.png")
    request = SimpleNamespace(out=tmp_path / "out", task="depth", options={}, offline=True)
    kept = Kept(request, [("dpt-small", "depth")], loses_workers=ClusterEngine.loses_workers)
    plan = Plan((job,), folder=tmp_path / "out" if into_a_folder else None)
    with kept.recording(plan):
        words = [sys.executable, "-c", KILLED_WORKER, str(tmp_path / "out"), RUN_TOKEN]
        subprocess.run(words, check=False, env=environment(), timeout=WAIT_S)
        assert list((tmp_path / "out").glob("*.dpt-tmp"))
    assert not list((tmp_path / "out").glob("*.dpt-tmp"))


@pytest.mark.parametrize("failures", [0, 2, 9])
def test_joining_is_tried_again_where_the_cluster_could_not_start_a_server(monkeypatch, failures):
    ray = pytest.importorskip("ray")
    said = (
        "Initialization failure from server:\nTraceback (most recent call last):\n"
        "RuntimeError: Starting Ray client server failed. See ray_client_server_23000.err for "
        "detailed logs."
    )
    tried = []

    def init(**settings):
        tried.append(settings["address"])
        if len(tried) <= failures:
            raise ConnectionAbortedError(said)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setattr("dptcli.engine_ray.driver._knock", lambda _address: None)
    if failures < 9:
        with connected("ray://head:10001"):
            pass
        assert tried == ["ray://head:10001"] * (failures + 1)
        return
    with (
        pytest.raises(UsageError, match="from server: RuntimeError: Starting Ray client server"),
        connected("ray://head:10001"),
    ):
        raise AssertionError
    assert len(tried) == 4


@pytest.mark.parametrize(
    ("address", "around", "asked", "words"),
    [
        (None, "", "local", "cannot start Ray on this machine: The current node timed out"),
        (None, "head:1", "head:1", "cannot join the Ray cluster 'head:1': The current node timed"),
        ("auto", "", "auto", "cannot join the Ray cluster 'auto': The current node timed out"),
    ],
)
def test_a_cluster_that_does_not_start_is_said_in_a_line_and_taken_down(
    monkeypatch, address, around, asked, words
):
    ray = pytest.importorskip("ray")
    ended = []

    def init(**settings):
        assert settings["address"] == asked
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 (Ray's own)

    monkeypatch.setenv("RAY_ADDRESS", around)
    monkeypatch.setattr("dptcli.engine_ray.driver._knock", lambda _address: None)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(True))
    with pytest.raises(UsageError, match=words), connected(address):
        raise AssertionError
    assert ended


def test_what_ray_prints_does_not_come_between_lines_of_json(monkeypatch, capsys):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "init", lambda **_settings: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    reporter = Reporter(quiet=True, as_json=True)
    with connected():
        print("(raylet) A worker died")
        left_out = LeftOut(pictures=[("photo.svg", "of another kind")])
        reporter.left_out(left_out)
    told, said = capsys.readouterr()
    assert json.loads(told)["status"] == "left_out"
    assert said.startswith("(raylet) A worker died")


def test_a_machine_that_cannot_load_the_model_ends_the_run_and_says_why(monkeypatch):
    monkeypatch.setattr("torch.set_num_threads", lambda _number: None)

    def opener():
        raise ModelError("no such model: '/here/alone'")

    network = stages._Network(opener, stages.Place(), 1)
    answered = network({"parcel": [stages.Parcel(0).packed()["parcel"]]})["parcel"]
    [parcel] = map(pickle.loads, answered)
    assert parcel.fatal == f"no such model: '/here/alone' (on {socket.gethostname()})"
