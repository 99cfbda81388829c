"""`--shard I/N` shares a list of photographs out among job arrays."""

import json
import shutil
from pathlib import Path

import pytest
from rerun import draw, draw_photos, runner
from tiny import save_tiny

from dptcli.inputs.find import ImageSource
from dptcli.results.plan import Shard


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return draw_photos()


@pytest.fixture
def run(tmp_path, capsys):
    return runner({"depth": str(save_tiny(tmp_path / "model", task="depth"))}, capsys)


def test_shards_share_the_list_out_and_new_images_move_no_others():
    sources = [ImageSource(Path(f"/p/{i}.jpg"), Path(f"{i}.jpg")) for i in range(4000)]
    parts = [[s for s in sources if Shard(i, 8).holds(s)] for i in range(1, 9)]
    assert sorted(s.relative for part in parts for s in part) == sorted(s.relative for s in sources)
    assert all(400 < len(part) < 600 for part in parts)
    elsewhere = ImageSource(Path("/mnt/q/17.jpg"), Path("17.jpg"))
    [home] = [i for i in range(1, 9) if Shard(i, 8).holds(elsewhere)]
    assert sources[17] in parts[home - 1]


def test_shards_into_one_folder_make_the_whole_and_one_list_of_failures(run, photos):
    for index in range(12):
        draw(photos / f"{index}.png", index)
    broken = {f"bad{index}.png" for index in range(6)}
    for name in broken:
        (photos / name).write_bytes(b"no image")
    seen = {}
    for part in (1, 2, 3):
        done = run("--shard", f"{part}/3", expect=1)
        assert not seen.keys() & done.keys()
        seen.update(done)
    assert len(seen) == 21
    listed = [
        json.loads(line)["input"] for line in Path("out/failures.jsonl").read_text().splitlines()
    ]
    assert sorted(listed) == sorted(f"photos/{name}" for name in broken)
    whole = run(expect=1)
    assert {name for name, status in whole.items() if status == "failed"} == broken
    assert set(whole.values()) == {"failed", "skipped"}
    (photos / "bad0.png").unlink()
    draw(photos / "bad1.png", 1)
    run(expect=1)
    assert len(Path("out/failures.jsonl").read_text().splitlines()) == 4


def test_a_shard_without_images_is_done(run):
    codes = [run("--shard", f"{part}/50") for part in range(1, 51)]
    assert sum(bool(found) for found in codes) <= 3
    assert {} in codes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shard", "0/8"], "counted from 1"),
        (["--shard", "9/8"], "must be I/N with I from 1 to N"),
        (["--shard", "half"], "must be I/N"),
        (["--shard", "1/2", "--range", "global"], "--range global spans the run"),
        (["--shard", "1/2", "--sequence"], "a clip is one piece of work"),
    ],
)
def test_wrong_shards_are_refused(run, words, said):
    assert said in run(*words, expect=2)


def test_collisions_across_shards_are_refused(run, photos):
    shutil.copy(photos / "a.png", photos / "a.jpg")
    for part in (1, 2, 3):
        assert "would both be written to" in run("--shard", f"{part}/3", expect=2)
