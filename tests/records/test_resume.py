"""The same command again does what is missing or has changed, and replaces only what dpt made."""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from process import environment
from rerun import draw, draw_photos, runner
from tiny import save_tiny

from dptcli.cli import main
from dptcli.cli.predicting.work import work_hash
from dptcli.records import ledger, resume
from dptcli.records.ledger import FOLDER_NAME, read_records
from dptcli.results.files import atomic_path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_tiny(folder / "other", task="depth", hidden_size=16)
    return {
        "depth": str(save_tiny(folder / "depth", task="depth")),
        "segment": str(save_tiny(folder / "segment", task="segment")),
        "other": str(folder / "other"),
    }


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch):
    """A folder of three photographs of long ago, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return draw_photos()


@pytest.fixture
def run(models, capsys):
    return runner(models, capsys)


DONE = {"a.png": "done", "b c.png": "done", "d.png": "done"}
SKIPPED = dict.fromkeys(DONE, "skipped")


def only(*names):
    return {**SKIPPED, **dict.fromkeys(names, "done")}


def test_the_same_command_again_does_nothing_and_loads_no_torch(run, models):
    assert run() == DONE
    code = (
        "import sys; from dptcli.cli import main; code = main(sys.argv[1:]); "
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    words = ["depth", "photos", "-o", "out", "-m", models["depth"]]
    again = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert again.stderr.splitlines()[0].startswith("0 done, 3 skipped")
    assert again.stderr.splitlines()[-1] == "False"


def test_a_missing_result_is_made_and_the_others_stay(run):
    run()
    before = Path("out/a.png").stat().st_mtime_ns
    Path("out/sub/d.png").unlink()
    assert run() == only("d.png")
    assert Path("out/a.png").stat().st_mtime_ns == before


def test_a_changed_photograph_is_done_again_and_one_with_a_new_date_alone_is_not(run, photos):
    run()
    draw(photos / "a.png", 7)  # of the same size in pixels; in bytes it hardly differs
    os.utime(photos / "b c.png")
    before = Path("out/a.png").read_bytes()
    assert run() == only("a.png")
    assert Path("out/a.png").read_bytes() != before
    assert run() == SKIPPED


def test_a_photograph_that_changes_within_a_tick_of_its_date_is_done_again(run, photos):
    draw(photos / "a.png", 1, age_s=0)
    run()
    status = (photos / "a.png").stat()
    data = bytearray((photos / "a.png").read_bytes())
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(photos / "a.png", compress_level=9)
    small = (photos / "a.png").read_bytes()
    (photos / "a.png").write_bytes(small + bytes(len(data) - len(small)))
    os.utime(photos / "a.png", ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert (photos / "a.png").stat().st_size == status.st_size
    assert run() == only("a.png")


@pytest.mark.parametrize(
    "words", [["--grayscale"], ["--target-size", "64"], ["--size", "32"], ["--range", "0:9"]]
)
def test_other_options_do_everything_again(run, words):
    run()
    assert run(*words) == DONE
    assert run(*words) == SKIPPED


@pytest.mark.parametrize("words", [["--batch-size", "2"], ["-v"], ["--max-pixels", "5M"]])
def test_options_that_change_no_result_do_nothing_again(run, words):
    run()
    assert run(*words) == SKIPPED


def test_another_model_does_everything_again_and_the_same_under_another_name_does_not(
    run, models, tmp_path
):
    run()
    shutil.copytree(models["depth"], tmp_path / "copy")
    assert run(model="copy") == SKIPPED
    assert run(model=models["other"]) == DONE
    settings = tmp_path / "copy" / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace('"do_normalize": true', '"do_normalize":true'))
    assert run(model="copy") == DONE


@pytest.mark.parametrize("option", ["anchors", "palette"])
def test_a_file_that_options_name_counts_by_its_content(option):
    Path("named.csv").write_text("5,5,1.0")
    options = {option: "named.csv"}
    before = work_hash(options, ["model"])
    assert work_hash(options, ["model"]) == before
    Path("named.csv").write_text("5,5,2.0")
    assert work_hash(options, ["model"]) != before


def test_a_file_that_dpt_did_not_make_is_refused_before_anything_is_done(run):
    run()
    Path("out/a.png").unlink()
    Path("out/sub/d.png").unlink()
    Path("out/.dpt").rename("kept")
    assert "'out/b c.png'; add --overwrite to replace or --skip-existing" in run(expect=2)
    Path("kept").rename("out/.dpt")
    assert run() == only("a.png", "d.png")


def test_a_result_that_was_changed_since_is_refused(run):
    run()
    with Path("out/a.png").open("ab") as stream:
        stream.write(b"my own note")
    said = run(expect=2)
    assert "'out/a.png' was changed after dpt wrote it" in said
    assert "--overwrite" in said
    assert Path("out/a.png").read_bytes().endswith(b"my own note")
    assert run("--skip-existing") == SKIPPED
    assert run("--overwrite") == DONE
    assert run() == SKIPPED


def test_a_result_that_a_power_cut_left_empty_is_made_again(run):
    run()
    os.truncate("out/a.png", 0)
    assert run() == only("a.png")


def test_another_image_of_the_same_name_does_not_replace_a_result(run, tmp_path):
    draw(tmp_path / "one" / "x.png", 1)
    draw(tmp_path / "two" / "x.png", 2)
    assert run(inputs="one") == {"x.png": "done"}
    before = Path("out/x.png").read_bytes()
    said = run(inputs="two", expect=2)
    assert "'out/x.png' is the result of another image" in said
    assert str(tmp_path / "one" / "x.png") in said
    assert Path("out/x.png").read_bytes() == before


def test_photographs_that_moved_are_known_by_their_content(run, photos):
    run()
    photos.rename("moved")
    assert run(inputs="moved") == SKIPPED


def test_a_folder_of_results_may_move_and_lose_its_dates(run):
    run()
    subprocess.run(["cp", "-r", "out", "elsewhere"], check=True)
    assert run(out="elsewhere") == SKIPPED
    assert run("--grayscale", out="elsewhere") == DONE


def test_masks_do_not_replace_depth(run):
    run()
    said = run(command="segment", expect=2)
    assert "'out/a.png' is a result of another command (dpt depth " in said


def test_every_file_of_an_image_must_be_there(run):
    words = ["--format", "color,npy"]
    assert run(*words) == DONE
    assert run(*words) == SKIPPED
    Path("out/a.npy").unlink()
    assert run(*words) == only("a.png")
    Path("out/a.json").unlink()
    assert run(*words) == only("a.png")
    # The pictures are those of a run with other formats; what is missing was never made.
    Path("out/b c.npy").unlink()
    assert run("--format", "color") == DONE


def test_a_range_over_the_run_is_kept_or_done_as_a_whole(run, photos):
    words = ["--range", "global"]
    assert run(*words) == DONE
    assert run(*words) == SKIPPED
    Path("out/a.png").unlink()
    assert run(*words) == DONE
    draw(photos / "new.png", 9)
    assert run(*words) == {**DONE, "new.png": "done"}


def test_masks_go_on_too(run):
    words = ["--also", "legend,split"]
    assert run(*words, command="segment") == DONE
    assert run(*words, command="segment") == SKIPPED
    Path("out/a.legend.png").unlink()
    assert run(*words, command="segment") == only("a.png")


def test_an_image_that_failed_is_tried_again_and_listed_until_it_is_mended(run, photos):
    whole = (photos / "a.png").read_bytes()
    (photos / "a.png").write_bytes(whole[:50])
    assert run(expect=1) == {**DONE, "a.png": "failed"}
    assert run(expect=1) == {**SKIPPED, "a.png": "failed"}
    [line] = Path("out/failures.jsonl").read_text().splitlines()
    assert json.loads(line)["input"] == "photos/a.png"
    (photos / "a.png").write_bytes(whole)
    assert run() == only("a.png")
    assert not Path("out/failures.jsonl").exists()


def test_lines_of_the_record_that_a_kill_tore_are_passed_over(run):
    run()
    [record] = Path("out", FOLDER_NAME).iterdir()
    lines = record.read_bytes().splitlines(keepends=True)
    torn = record.with_name("elsewhere-00000000.jsonl")
    torn.write_bytes(b"[1]\n\xff\xfe\n{}\n" + lines[0] + b'{"file":"b' + b"\n" + lines[1])
    record.write_bytes(lines[2][: len(lines[2]) // 2])
    Path("out/sub/d.png").unlink()  # the result whose line was lost
    assert run() == only("d.png")


def test_what_a_killed_run_left_half_written_goes_and_what_a_living_one_writes_stays(run):
    Path("out/.dpt").mkdir(parents=True)
    host = socket.gethostname()
    Path("out/.dpt", f"{host}-aaaaaaaa.jsonl").write_text("")
    alive = Path("out/.dpt", f"{host}-bbbbbbbb.jsonl")
    for token in ("aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"):
        Path("out", f".{token}00000000.dpt-tmp").write_bytes(b"half")
    os.utime("out/.dddddddd00000000.dpt-tmp", (1, 1))  # of a machine that nobody can ask
    code = (
        "import fcntl, os, sys; file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); "
        "fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(alive)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as living:
        living.stdout.readline()
        run()
        left = sorted(path.name for path in Path("out").glob("*.dpt-tmp"))
        living.stdin.close()
    assert left == [".bbbbbbbb00000000.dpt-tmp", ".cccccccc00000000.dpt-tmp"]


def test_records_of_many_runs_become_one_without_loss(run):
    run()
    folder = Path("out/.dpt")
    [record] = folder.iterdir()
    host = socket.gethostname()
    lines = record.read_text().splitlines(keepends=True)
    record.unlink()
    old = lines[0].replace('"mtime_ns":', '"mtime_ns":9')  # newer, never put in place
    for index in range(12):
        content = old if index > 8 else lines[index % 3]
        (folder / f"{host}-{index:08}.jsonl").write_text(content)
    Path("out/sub/d.png").unlink()
    assert run() == only("d.png")
    assert len(list(folder.iterdir())) == 2  # the joined one and this run's
    assert run() == SKIPPED
    assert len(read_records(Path("out"))["a.png"]) == 2


def test_records_that_another_run_joins_while_they_are_read_are_not_lost(tmp_path, monkeypatch):
    """Runs side by side tidy up when they begin: what was to be read next is gone by then."""
    folder = tmp_path / FOLDER_NAME
    folder.mkdir()
    facts = {"size": 1, "mtime_ns": 1, "hash": "", "task": "depth", "work": "", "source": "a.jpg"}
    for name in "bc":
        line = {"file": f"{name}.png", **facts, "input": [1, 1, 1, ""]}
        (folder / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    read = ledger.parsed

    def joined_meanwhile(stream):
        if (folder / "c.jsonl").exists():
            (folder / "c.jsonl").rename(folder / "a.jsonl")
        return read(stream)

    monkeypatch.setattr(ledger, "parsed", joined_meanwhile)
    assert read_records(tmp_path).keys() == {"b.png", "c.png"}


def test_a_record_that_cannot_be_kept_costs_a_warning_and_no_result(run, capsys):
    Path("out").mkdir()
    Path("out/.dpt").write_text("a file stands in the way")
    code = main(["depth", "photos", "-o", "out", "-m", "dpt-small", "--size", "70"])
    said = capsys.readouterr().err
    assert code == 0
    assert "cannot keep a record of what is done in out" in said
    assert "--skip-existing" in said
    assert run("--skip-existing") == SKIPPED


def test_a_folder_of_results_that_is_removed_under_the_run_is_made_anew_with_its_record(
    run, monkeypatch
):
    from dptcli.records import ledger

    add = ledger.Ledger._add

    def remove_first(self, job, facts, path, temporary):
        if job.source.path.name == "b c.png":
            shutil.rmtree("out/.dpt")
        add(self, job, facts, path, temporary)

    with monkeypatch.context() as patch:
        patch.setattr(ledger.Ledger, "_add", remove_first)
        assert run() == DONE
    assert set(read_records(Path("out"))) >= {"b c.png"}
    assert "results exist already" in run(expect=2)  # a.png's record is gone with the folder


def test_a_watcher_that_fails_leaves_what_stood_there(tmp_path):
    from dptcli.results.files import watching

    def refuse(_path, temporary):
        assert temporary.read_bytes() == b"new"
        raise OSError(28, "No space left on device")

    target = tmp_path / "x"
    target.write_bytes(b"old")
    with pytest.raises(OSError, match="space"), watching(refuse), atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_images_from_addresses_are_known_by_their_address_without_its_secrets(run, photos):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=photos)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.png?signature=secret"
        assert list(run(inputs=url).values()) == ["done"]
        assert list(run(inputs=url).values()) == ["skipped"]
        said = run(inputs=url.replace("secret", "other"), expect=2)
        assert "is the result of another image" in said
        assert "secret" not in said
        server.shutdown()
    [record] = Path("out/.dpt").iterdir()
    assert "secret" not in record.read_text()


def test_a_file_that_another_run_puts_there_meanwhile_is_as_one_that_comes_later(tmp_path):
    result = tmp_path / "a.png"
    result.write_bytes(b"from the other run")
    state = resume._state((SimpleNamespace(results=(result,)), {result: []}))
    assert (state.record, state.done_by, state.refusal) == (None, {}, None)
