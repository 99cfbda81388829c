"""Standard streams that are closed or full, folders that are gone, names that are no UTF-8."""

import json
import os
import subprocess

import numpy as np
import pytest
from PIL import Image
from process import DPT, environment, warm_dpt
from tiny import save_tiny, save_varied


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    save_varied(folder / "model")
    for name in "ab":
        shade = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(shade).save(folder / f"{name}.png")
    return folder


def shell(place, line, *, installed=False):
    """Run a line in which $DPT is the command, warm or as it is installed."""
    command = DPT if installed else warm_dpt()
    return subprocess.run(
        ["sh", "-c", line.replace("$DPT", " ".join(map(str, command)))],
        cwd=place,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-"])
def test_a_closed_stream_that_is_not_needed_costs_nothing(place, tmp_path, closed):
    line = f"$DPT depth a.png -m model -o {tmp_path}/a.png {closed}"
    done = shell(place, line, installed=closed == "<&- 2>&-")
    assert done.returncode == 0
    with Image.open(tmp_path / "a.png") as result:
        assert result.size == (32, 32)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("$DPT depth - -m model -o {out}/a.png <&-", "standard input cannot be read (Bad file"),
        ("$DPT depth a.png -m model -o - >&-", "standard output"),
        ("$DPT depth a.png b.png -m model -o {out}/ --json -q >/dev/full", "standard output"),
        ("$DPT models >/dev/full", "standard output"),
        ("PYTHONUNBUFFERED=1 $DPT models >/dev/full", "standard output"),
    ],
    ids=["input", "output", "json", "table", "unbuffered"],
)
def test_a_stream_that_is_needed_and_fails_is_named(place, tmp_path, line, named):
    # What Python itself does with its streams at its start and end is in it.
    done = shell(place, line.format(out=tmp_path), installed="$DPT models" in line)
    assert done.returncode == 1
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
    assert "unexpected" not in done.stderr


def test_a_full_disk_under_the_log_costs_no_result(place, tmp_path):
    assert (
        shell(place, f"$DPT depth a.png b.png -m model -o {tmp_path} 2>/dev/full").returncode == 0
    )
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["a.png", "b.png"]


def test_a_current_folder_that_is_gone_is_one_line(place):
    done = shell(place, "mkdir gone && cd gone && rmdir ../gone && $DPT depth x.png -o y.png")
    assert done.returncode == 2
    assert "current folder" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["npy", "npz", "pfm", "exr", "ply"])
def test_a_file_that_may_not_grow_fails_with_its_reason(place, tmp_path, kind):
    if kind == "exr":
        pytest.importorskip("OpenEXR")
    noisy = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    Image.fromarray(noisy).save(tmp_path / "n.png")
    line = f"ulimit -f 4; $DPT depth n.png -m {place}/model -f {kind} -o n.{kind}"
    done = shell(tmp_path, line)
    assert done.returncode == 1
    assert f"n.{kind}': File too large" in done.stderr
    assert not (tmp_path / f"n.{kind}").exists()


def test_names_that_are_no_utf8_are_in_json_that_is(place, tmp_path):
    name = os.fsdecode(b"a\xff")
    (tmp_path / f"{name}.png").write_bytes((place / "a.png").read_bytes())
    assert shell(tmp_path, f"$DPT depth *.png -m {place}/model -f npy -o out").returncode == 0
    facts = json.loads((tmp_path / "out" / f"{name}.json").read_bytes().decode("utf-8"))
    assert os.fsencode(facts["source"]) == b"a\xff.png"


def test_a_folder_of_photographs_and_results_is_done_twice(place, tmp_path):
    Image.open(place / "a.png").save(tmp_path / "a.jpg")
    line = f"$DPT depth {tmp_path} -m model -o {tmp_path} --json -q"
    for status in ("done", "skipped"):
        done = shell(place, line)
        assert (done.returncode, done.stderr) == (0, "")
        [told] = map(json.loads, done.stdout.splitlines())
        assert (told["input"], told["status"]) == (str(tmp_path / "a.jpg"), status)
    # What was put in a result's place since is a photograph.
    Image.open(place / "b.png").rotate(90).save(tmp_path / "a.png")
    assert "would" in shell(place, line).stderr


def test_a_suffix_keeps_results_beside_their_photographs(place, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).write_bytes((place / "a.png").read_bytes())
    line = f"$DPT depth {tmp_path} -m model -o {tmp_path} --suffix _depth -f color,npy -q"
    for _ in range(2):
        assert shell(place, line).returncode == 0
        found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
        expected = ["a.png", *(f"a_depth.{end}" for end in ("json", "npy", "png"))]
        expected += ["sub/b.png", *(f"sub/b_depth.{end}" for end in ("json", "npy", "png"))]
        assert [name for name in found if ".dpt" not in name] == expected


def test_root_lays_out_calls_of_a_few_as_one_of_all(place, tmp_path):
    for name in ("p/1.png", "p/x/1.png", "p/x/y/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((place / "a.png").read_bytes())
    model = save_tiny(tmp_path / "model", task="segment")
    line = f"find p -name '*.png' | sort | xargs -n 2 $DPT segment -m {model} --root p -o out -q"
    assert shell(tmp_path, line).returncode == 0
    found = sorted(
        str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("out/**/*.png")
    )
    assert found == ["1.png", "x/1.png", "x/y/1.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("a.png -o out/ --root /nowhere", "does not lie below --root"),
        ("a.png -o out/ --suffix a/b", "--suffix 'a/b'"),
        ("a.png -o out.png --suffix _depth", "--suffix is for results in a folder"),
    ],
)
def test_wrong_use_is_refused(place, words, message):
    done = shell(place, f"$DPT depth -m model {words}")
    assert done.returncode == 2
    assert message in done.stderr
