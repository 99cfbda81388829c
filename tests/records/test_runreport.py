"""--report tells all of a run, however it ends, and reports of parts join to one."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from faults import wait_for
from PIL import Image
from process import WAIT_S, environment, warm_dpt
from tiny import save_tiny

from dptcli.cli import main
from dptcli.inputs.find import find_images
from dptcli.records.report import Outcome
from dptcli.records.runreport import RunReport
from dptcli.results.plan import plan_outputs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("model"), task="depth"))


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    """A folder of ten photographs and one that is none, in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(10):
        pixels = np.random.default_rng(index).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "bad\n.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def run(model):
    def run(*words):
        return main(["depth", "photos", "-o", "out", "-m", model, "-q", *words])

    return run


def report(name):
    return json.loads(Path(name).read_text())


def statuses(name):
    return {image["input"]: image["status"] for image in report(name)["images"]}


def test_a_report_names_options_versions_machine_and_every_image(run, model):
    assert run("--report", "sub/run.json", "--grayscale") == 1
    found = report("sub/run.json")
    assert found["schema"] == "dpt-report/1"
    assert found["status"] == "some failed"
    assert found["totals"] == {
        **{"images": 11, "done": 10, "failed": 1},
        **{"skipped": 0, "not_reached": 0, "left_out": 0},
    }
    [entry] = found["runs"]
    assert entry["command"] == "depth"
    assert entry["options"]["grayscale"] is True
    assert entry["options"]["model"] == model
    assert entry["versions"].keys() >= {"dpt", "python", "torch", "numpy", "pillow"}
    assert entry["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert entry["machine"]["memory_bytes"] > 1 << 28
    assert entry["model"]["device"] == "cpu"
    assert re.fullmatch(r"blake2b:[0-9a-f]{16}", entry["model"]["hash"])
    images = {image["input"]: image for image in found["images"]}
    assert len(images) == 11
    good = images["photos/3.png"]
    assert (good["output"], good["status"]) == ("out/3.png", "done")
    assert (good["height"], good["width"]) == (30, 40)
    assert found["started"] <= good["at"] <= found["finished"]
    assert 0 < good["elapsed_s"] < found["elapsed_s"]
    assert "is not an image" in images["photos/bad\n.png"]["error"]
    assert found["stage_s"].keys() >= {"load", "decode", "network", "write"}
    assert 0 < found["stage_s"]["network"] < found["elapsed_s"]


def test_what_was_there_already_is_skipped_in_the_report(run, photos):
    run("--report", "a.json")
    (photos / "bad\n.png").unlink()
    assert run("--report", "b.json") == 0
    found = report("b.json")
    assert (found["status"], found["totals"]["skipped"]) == ("done", 10)
    assert len(found["images"]) == 10


def test_an_interrupted_run_reports_what_it_reached_and_the_rest(photos, model):
    noise = Image.effect_noise((700, 600), 90)
    for index in range(10, 60):
        noise.save(photos / f"{index}.png", compress_level=1)
    words = ["depth", "photos", "-o", "out", "-m", model, "--report", "run.json"]
    process = subprocess.Popen([*warm_dpt(), *words], stderr=subprocess.PIPE, env=environment())
    wait_for(process, Path("out"), 12)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 143
    found = report("run.json")
    totals = found["totals"]
    assert found["status"] == "interrupted"
    assert totals["images"] == 61 == len(found["images"]) == len(statuses("run.json"))
    assert 10 <= totals["done"] < 61
    assert totals["not_reached"] > 0
    assert totals["done"] + totals["failed"] + totals["not_reached"] == 61
    assert found["stage_s"]["network"] > 0
    done = {name for name, status in statuses("run.json").items() if status == "done"}
    made = {f"photos/{path.name}" for path in Path("out").glob("[0-9]*.png")}
    assert done <= made
    # The run that goes on fills the rest, and both join to the whole.
    assert main([*words[:-1], "on.json", "-q"]) == 1
    assert main(["report", "merge", "run.json", "on.json", "-o", "all.json", "-q"]) == 0
    joined = report("all.json")
    assert joined["status"] == "some failed"
    assert joined["totals"]["not_reached"] == 0
    assert joined["totals"]["failed"] == 1
    assert len(joined["images"]) == 61


def test_reports_of_shards_join_to_the_report_of_the_whole(run, capsys):
    for part in (1, 2, 3):
        run("--shard", f"{part}/3", "--report", f"{part}.json")
    capsys.readouterr()
    assert main(["report", "merge", "1.json", "2.json", "3.json", "-o", "all.json"]) == 0
    assert capsys.readouterr().err == "11 images in all.json: 10 done, 1 failed\n"
    joined, parts = report("all.json"), [report(f"{part}.json") for part in (1, 2, 3)]
    assert joined.keys() == parts[0].keys()
    assert [entry["shard"] for entry in joined["runs"]] == ["1/3", "2/3", "3/3"]
    assert joined["totals"]["done"] == 10
    assert joined["totals"]["images"] == 11
    total_s = sum(part["stage_s"]["network"] for part in parts)
    assert joined["stage_s"]["network"] == pytest.approx(total_s, abs=1e-3)
    assert joined["started"] == parts[0]["started"]
    assert joined["finished"] == parts[2]["finished"]
    # Joined reports join again.
    main(["report", "merge", "1.json", "2.json", "-o", "two.json", "-q"])
    assert main(["report", "merge", "two.json", "3.json", "-o", "again.json", "-q"]) == 0
    assert report("again.json")["totals"] == joined["totals"]
    assert statuses("again.json") == statuses("all.json")


def test_an_image_that_two_runs_did_is_refused_unless_the_later_is_wanted(run, capsys):
    run("--report", "a.json")
    run("--report", "b.json", "--overwrite")
    words = ["report", "merge", "b.json", "a.json", "-o", "all.json"]
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "was done in 'b.json' and in 'a.json'" in said
    assert "--keep-latest" in said
    assert not Path("all.json").exists()
    assert main([*words, "--keep-latest"]) == 0
    assert report("all.json")["totals"]["images"] == 11
    latest = {image["at"] for image in report("all.json")["images"]}
    assert latest == {image["at"] for image in report("b.json")["images"]}


def test_a_report_replaces_a_report_and_nothing_else(run, photos, capsys):
    for _ in range(2):
        run("--report", "run.json")
    before = (photos / "0.png").read_bytes()
    assert run("--report", "photos/0.png") == 2
    assert "exists and is no report" in capsys.readouterr().err
    os.mkfifo("pipe")
    assert run("--report", "pipe") == 2
    assert main(["report", "merge", "run.json", "-o", "photos/0.png"]) == 2
    assert (photos / "0.png").read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"schema": "dpt-report/99"}', b"\xff"])
def test_what_is_no_report_is_refused_by_name(content, capsys):
    if content is not None:
        Path("odd.json").write_bytes(content)
    assert main(["report", "merge", "odd.json", "-o", "all.json"]) == 2
    said = capsys.readouterr().err
    assert "'odd.json'" in said
    assert len(said.splitlines()) == 1


def test_a_run_that_never_began_writes_no_report(run, capsys):
    assert run("--report", "run.json", "-m", "nowhere") == 2
    assert run("--report", "run.json", "--gamma", "0") == 2
    assert run("--report", "photos/0.png/run.json") == 2
    capsys.readouterr()
    assert not Path("run.json").exists()


@pytest.mark.parametrize("noted", [False, True])
def test_a_signal_between_a_note_and_its_count_counts_no_image_twice(
    photos, tmp_path, monkeypatch, noted
):
    plan = plan_outputs(find_images([photos]), str(tmp_path / "out"))
    account = RunReport(tmp_path / "run.json", command="depth", options={}, shard=None)

    def run_until_the_second_image():
        with account, monkeypatch.context() as patch:
            account.planned(plan)
            account.done(Outcome(plan.jobs[0], None, (3, 4), {}, 0.1))
            write = account._images.write

            def cut(line):
                if noted:
                    write(line)
                raise KeyboardInterrupt

            patch.setattr(account._images, "write", cut)
            account.done(Outcome(plan.jobs[1], None, (3, 4), {}, 0.1))

    with pytest.raises(KeyboardInterrupt):
        run_until_the_second_image()
    found = report("run.json")
    assert found["totals"]["images"] == len(plan.jobs) == len(found["images"])
    assert found["totals"]["done"] == 1 + noted
    assert found["totals"]["not_reached"] == len(plan.jobs) - 1 - noted
