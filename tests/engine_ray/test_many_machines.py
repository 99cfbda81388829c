"""The README's job arrays, as they stand there: a SLURM script and a GNU parallel line."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import README as README_FILE
from process import environment, warm_dpt
from tiny import save_tiny

README = README_FILE.read_text(encoding="utf-8")
NUM_PHOTOS = 12


def block(marker):
    """The lines of the code block below a marker."""
    return re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", README, re.DOTALL)[1]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Photographs in the current folder, and a `dpt` on the PATH whose model is a tiny one."""
    monkeypatch.chdir(tmp_path)
    model = save_tiny(tmp_path / "model", task="depth")
    for index in range(NUM_PHOTOS):
        pixels = np.random.default_rng(index).integers(0, 256, (30, 40, 3), np.uint8)
        path = tmp_path / "photos" / f"{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    script = tmp_path / "bin" / "dpt"
    script.parent.mkdir()
    # `depth` gets the tiny model; every other word is passed on as it is.
    script.write_text(
        "#!/bin/sh\n"
        f'case "$1" in depth) set -- "$@" -m {shlex.quote(str(model))} ;; esac\n'
        f'exec {shlex.join(warm_dpt())} "$@"\n'
    )
    script.chmod(0o755)
    return tmp_path


def shell(here, text, **variables):
    path = os.pathsep.join([str(here / "bin"), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", text],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=environment(PATH=path, **variables),
    )


def check_joined():
    """Every photograph once, in the folder and in the joined report."""
    results = {p.relative_to("depth").as_posix() for p in Path("depth").glob("*/*.png")}
    assert results == {f"{index % 2}/{index}.png" for index in range(NUM_PHOTOS)}
    joined = json.loads(Path("all.json").read_text())
    expected = {"images": NUM_PHOTOS + 1, "done": NUM_PHOTOS, "failed": 1}
    assert {name: joined["totals"][name] for name in expected} == expected
    assert len({image["input"] for image in joined["images"]}) == NUM_PHOTOS + 1
    assert Path("depth/failures.jsonl").read_text().count("bad.png is not an image") == 1


def test_the_slurm_script_does_its_part_in_each_task(here):
    script = here / "job.sh"
    script.write_text(block("slurm-script"))
    first, last = map(int, re.search(r"--array=(\d+)-(\d+)", script.read_text()).groups())
    count = 3  # SLURM gives each task its number and their count; the script takes any
    assert (first, last) == (1, 8)
    codes = []
    for task in range(1, count + 1):
        variables = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(count)}
        codes.append(shell(here, f"bash {script}", **variables).returncode)
    assert sorted(codes) == [0, 0, 1]
    merge = block("parallel-line").splitlines()[1]
    assert shell(here, merge).returncode == 0
    check_joined()


@pytest.mark.skipif(shutil.which("parallel") is None, reason="GNU parallel is not installed")
def test_the_parallel_line_does_all_parts(here):
    line, merge = block("parallel-line").splitlines()
    line = line.replace("{}/8", "{}/3").replace("seq 8", "seq 3")  # fewer processes, same words
    done = shell(here, line)
    assert done.returncode == 1, done.stderr  # how many jobs failed: the one with the bad image
    assert "bad.png is not an image" in done.stderr
    assert shell(here, merge).returncode == 0
    check_joined()
