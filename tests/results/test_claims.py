"""A result never takes the place of another image's, between processes too."""

import json
import os
import subprocess

import numpy as np
import pytest
from PIL import Image
from process import environment, warm_dpt
from tiny import save_tiny

from dptcli.errors import ImageError
from dptcli.inputs.find import find_images
from dptcli.results import files
from dptcli.results.claims import claiming, judged_by
from dptcli.results.plan import plan_outputs
from dptcli.results.writers import write_whole


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place, folder in enumerate(("a", "b", "c")):
        (tmp_path / folder).mkdir()
        shade = np.full((32, 32, 3), 60 * place, np.uint8)
        Image.fromarray(shade).save(tmp_path / folder / "1.png")
    return tmp_path


def planned(folder, **options):
    return plan_outputs(find_images([f"{folder}/1.png"]), "out", **options).jobs[0]


def write(job, content):
    with claiming(job):
        write_whole(job.path, lambda stream: stream.write(content))


@pytest.fixture(params=[True, False], ids=["links", "no-links"])
def disk(request, monkeypatch):
    if not request.param:

        def refuse(*_):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)


def test_a_file_that_is_read_only_stays_though_its_folder_is_not(photos, monkeypatch):
    kept = photos / "kept.png"
    kept.write_bytes(b"kept")
    # As for anybody but root, whom no file refuses.
    monkeypatch.setattr(os, "access", lambda path, mode: path != kept or mode != os.W_OK)
    with pytest.raises(ImageError, match=r"kept.png.*: the file there is read-only"):
        write_whole(kept, lambda stream: stream.write(b"new"))
    assert kept.read_bytes() == b"kept"
    assert not [*photos.glob(".*")]


@pytest.mark.parametrize("existing", ["refuse", "skip"])
@pytest.mark.usefixtures("disk")
def test_a_name_that_was_taken_since_the_plan_is_refused(photos, existing):
    jobs = [planned(folder, existing=existing) for folder in "ab"]
    write(jobs[0], b"a")
    with pytest.raises(ImageError, match="another run"):
        write(jobs[1], b"b")
    assert (photos / "out/1.png").read_bytes() == b"a"
    assert [path.name for path in (photos / "out").iterdir()] == ["1.png"]


def test_overwrite_replaces_whatever_has_come(photos):
    jobs = [planned(folder, existing="overwrite") for folder in "ab"]
    for job, content in zip(jobs, (b"a", b"b"), strict=True):
        write(job, content)
    assert (photos / "out/1.png").read_bytes() == b"b"


def test_what_was_there_and_may_be_replaced_is(photos):
    (photos / "out").mkdir()
    (photos / "out/1.png").write_bytes(b"old")
    job = planned("a", settle=lambda _present, _jobs: [])
    write(job, b"new")
    assert (photos / "out/1.png").read_bytes() == b"new"


def test_two_runs_of_one_image_do_not_mind_each_other(photos):
    jobs = [planned("a") for _ in range(2)]
    write(jobs[0], b"1")
    with judged_by(lambda _path: True):
        write(jobs[1], b"2")
    assert (photos / "out/1.png").read_bytes() == b"2"


@pytest.mark.usefixtures("disk")
def test_a_name_is_given_once_and_leaves_no_temporary(photos):
    for content in (b"a", b"b"):
        temporary = photos / "temporary"
        temporary.write_bytes(content)
        try:
            files.place_new(temporary, photos / "x")
        except FileExistsError:
            assert content == b"b"
    assert (photos / "x").read_bytes() == b"a"


@pytest.mark.parametrize("command", ["depth", "segment"])
def test_processes_side_by_side_lose_nothing_in_silence(photos, command):
    model = save_tiny(photos / "model", task=command)
    running = [
        subprocess.Popen(
            [*warm_dpt(), command, f"{folder}/1.png", "-o", "out/", "-m", model, "--json", "-q"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        for folder in "abc"
    ]
    told = [json.loads(line) for run in running for line in run.communicate()[0].splitlines()]
    done = [line for line in told if line.get("status") == "done"]
    assert len(done) == len(list((photos / "out").glob("*.png"))) == 1
    assert sorted(run.returncode != 0 for run in running) == [False, True, True]
