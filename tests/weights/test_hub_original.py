"""Repositories that hold the authors' own file alone: fetched by the real client, run, kept."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import video_depth
from hub_server import Hub, Repository, serve
from original_files import PROMPTDA, V2, depth_anything_file, promptda_file, saved
from PIL import Image
from process import run_dpt

from dptcli.weights.catalog import entries_for
from dptcli.weights.load import load_model

NOWHERE = "http://127.0.0.1:9"  # the port of `discard`: nobody listens
PLAIN = ("--device", "cpu", "--dtype", "float32")
VIDEO = "depth-anything/Video-Depth-Anything-Small"
VIDEO_FILE = "video_depth_anything_vits.pth"


class Machine:
    """A folder to work in, with a cache of its own, and the hub's address."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub, self.folder = hub, folder

    def dpt(self, *words: object, **changes: str) -> subprocess.CompletedProcess[str]:
        settings = {"HF_HOME": str(self.folder / "home"), "HF_HUB_OFFLINE": "0"}
        settings |= {"HF_ENDPOINT": self.hub.url, "NO_PROXY": "127.0.0.1,localhost", **changes}
        return run_dpt(*words, cwd=self.folder, **settings)

    def depth(self, model: str, out: str, **changes: str) -> np.ndarray:
        """The values of photo.png; the run must succeed."""
        words = ("photo.png", "-m", model, "-o", out, "-f", "npy", "--size", "56", *PLAIN)
        done = self.dpt("depth", *words, **changes)
        assert done.returncode == 0, done.stderr
        return np.load(self.folder / out)

    def names(self) -> set[str]:
        """The names of all files in the cache that could be taken for whole ones."""
        return {path.name for path in self.folder.glob("home/hub/models--*/snapshots/*/*")}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    with serve() as hub:
        yield Machine(hub, tmp_path)


def test_a_catalogued_file_is_fetched_once_and_runs_offline(
    machine: Machine, tmp_path: Path
) -> None:
    content = video_depth.save_original(tmp_path).read_bytes()
    machine.hub.repositories[VIDEO] = Repository({"README.md": b"#", VIDEO_FILE: content})
    first = machine.depth("video-depth-anything-small", "first.npy")
    assert machine.names() == {VIDEO_FILE}
    asked = len(machine.hub.requests)
    again = machine.depth("video-depth-anything-small", "again.npy", HF_ENDPOINT=NOWHERE)
    offline = machine.depth("video-depth-anything-small", "offline.npy", HF_HUB_OFFLINE="1")
    own = machine.depth(VIDEO_FILE, "own.npy")
    assert len(machine.hub.requests) == asked
    for other in (again, offline, own):
        np.testing.assert_array_equal(other, first)


def test_a_catalogued_file_in_a_folder_of_its_repository_is_fetched_and_runs_offline(
    machine: Machine, tmp_path: Path
) -> None:
    [entry] = entries_for("depth-anything-ac-small")
    assert entry.repository is not None
    assert entry.original is not None
    name = Path(entry.original).name
    content = saved(tmp_path, name, dict(depth_anything_file())).read_bytes()
    machine.hub.repositories[entry.repository] = Repository({entry.original: content})
    first = machine.depth(entry.name, "first.npy")
    again = machine.depth(entry.name, "again.npy", HF_ENDPOINT=NOWHERE, HF_HUB_OFFLINE="1")
    own = machine.depth(name, "own.npy")  # whose name says the kind
    for other in (again, own):
        np.testing.assert_array_equal(other, first)


def test_a_cut_download_goes_on_where_it_broke_and_is_checked(
    machine: Machine, tmp_path: Path
) -> None:
    tensors = video_depth.tensors()
    content = saved(tmp_path, VIDEO_FILE, tensors).read_bytes()
    content += os.urandom((24 << 20) - len(content))  # the client keeps blocks of 10 MB
    machine.hub.repositories[VIDEO] = Repository({VIDEO_FILE: content}, cut={VIDEO_FILE: 1})
    done = machine.dpt("models", "download", "video-depth-anything-small")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == content
    ranges = [asked for method, path, asked in machine.hub.requests if "/large/" in path]
    assert ranges[-1] is not None, "the second request asks for the rest alone"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"cut": {VIDEO_FILE: 99}}, "could not be downloaded"),
        ({"spoiled": {VIDEO_FILE}}, "arrived damaged"),
        ({"claimed_size": 10**15}, "make room"),
    ],
)
def test_what_does_not_arrive_whole_is_not_kept(
    machine: Machine, tmp_path: Path, fault: dict[str, object], said: str
) -> None:
    content = video_depth.save_original(tmp_path).read_bytes()
    machine.hub.repositories[VIDEO] = Repository({VIDEO_FILE: content}, **fault)  # type: ignore[arg-type]
    done = machine.dpt("models", "download", "video-depth-anything-small")
    assert done.returncode == 2
    assert said in done.stderr
    assert machine.names() == set()


@pytest.mark.parametrize(
    ("repository", "file_name", "tensors"),
    [
        ("someone/Depth-Anything-V2-Small", V2, depth_anything_file),
        ("someone/promptda_vits", PROMPTDA, promptda_file),
    ],
    ids=["pth", "ckpt"],
)
def test_an_unlisted_repository_of_one_file_works_by_its_name(
    machine: Machine, tmp_path: Path, repository: str, file_name: str, tensors: object
) -> None:
    content = saved(tmp_path, file_name, dict(tensors())).read_bytes()  # type: ignore[operator]
    files = {"README.md": b"#", file_name: content}
    machine.hub.repositories[repository] = Repository(files, licence="cc-by-nc-4.0")
    done = machine.dpt("models", "download", repository)
    assert done.returncode == 0, done.stderr
    assert "cc-by-nc-4.0, not for commercial use" in done.stderr
    path = Path(done.stdout.strip())
    assert path.name == file_name
    asked = len(machine.hub.requests)
    kept = machine.dpt("models", "download", repository, HF_HUB_OFFLINE="1")
    assert kept.stdout == done.stdout
    assert len(machine.hub.requests) == asked
    assert load_model(path, device="cpu").kind in {"inverse_depth", "depth_m"}
    told = machine.dpt("models", "show", repository)
    assert told.returncode == 0, told.stderr
    assert file_name in told.stdout


def test_a_repository_of_several_files_is_asked_for_one(machine: Machine) -> None:
    machine.hub.repositories["someone/many"] = Repository({"a.pth": b"a", "b.pth": b"b"})
    done = machine.dpt("models", "download", "someone/many")
    assert done.returncode == 2
    assert "a.pth, b.pth" in done.stderr
    assert machine.names() == set()


class Runs:
    """What a hostile file would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch ran",)


def test_a_file_that_would_run_code_is_refused_and_does_not_run(machine: Machine) -> None:
    torch.save({"pretrained.cls_token": Runs()}, machine.folder / V2)
    content = (machine.folder / V2).read_bytes()
    machine.hub.repositories["someone/evil"] = Repository({V2: content})
    words = ("photo.png", "-m", "someone/evil", "-o", "out.png", *PLAIN)
    done = machine.dpt("depth", *words)
    assert done.returncode == 2
    assert "loading it would run posix.system" in done.stderr
    assert not (machine.folder / "ran").exists()
    assert not (machine.folder / "out.png").exists()
