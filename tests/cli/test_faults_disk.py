"""Disks that fill up or turn read-only under a run: images fail by name, the next makes them."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest
from faults import end, fault, memory_disk, photographs, remount, results, start, wait_for
from tiny import save_tiny


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A folder with photographs and a model."""
    folder = tmp_path_factory.mktemp("disks")
    save_tiny(folder / "model", task="depth")
    photographs(folder / "photos", 30, size=(300, 240))
    return folder


def command(folder, disk):
    model = ["-m", folder / "model", "--bits", "16"]
    return ["depth", folder / "photos", "-o", disk / "out", *model]


def test_a_disk_that_fills_up_costs_named_images_and_the_next_run_makes_them(material, tmp_path):
    with memory_disk(tmp_path / "disk", "size=400k") as disk, fault():
        code, _, err = end(start(*command(material, disk), "--report", disk / "report.json"))
        assert code == 1, err
        assert b"No space left on device" in err
        there = results(disk / "out")
        assert 0 < len(there) < 30
        assert not [name for name in there if name.endswith(".dpt-tmp")]
        remount(disk, "size=20m")
        code, _, err = end(start(*command(material, disk)))
        assert code == 0, err
        # The record's torn end, if there is one, hides no line after it.
        code, _, err = end(start(*command(material, disk)))
        assert err.startswith(b"0 done, 30 skipped"), err
        whole = results(disk / "out")
        assert len(whole) == 30
        assert there.items() <= whole.items()


def test_a_report_without_a_place_for_its_notes_costs_no_image(material, tmp_path):
    with memory_disk(tmp_path / "disk", "size=4k") as disk, fault():
        run = [*command(material, tmp_path), "--report", tmp_path / "report.json"]
        code, _, err = end(start(*run, TMPDIR=str(disk)))
        assert code == 1, err
        assert b"cannot write the report" in err
        assert b"No space left on device; the results are written" in err
        assert len(results(tmp_path / "out")) == 30
        assert not (tmp_path / "report.json").exists()


def test_a_disk_full_from_the_start_is_said_for_every_image(material, tmp_path):
    with memory_disk(tmp_path / "disk", "size=64k") as disk, fault():
        (disk / "filler").write_bytes(bytes(60_000))
        code, _, err = end(start(*command(material, disk)))
        assert code == 1, err
        assert err.count(b"No space left on device") >= 30
        (disk / "filler").unlink()
        remount(disk, "size=20m")
        assert end(start(*command(material, disk)))[0] == 0


def test_a_disk_without_room_for_a_byte_is_refused_before_the_model_is_loaded(material, tmp_path):
    with memory_disk(tmp_path / "disk", "size=64k") as disk, fault():
        (disk / "filler").write_bytes(bytes(65_536))
        code, _, err = end(start(*command(material, disk)))
        assert code == 2, err
        assert err.count(b"\n") == 1
        assert b"No space left on device" in err


@contextlib.contextmanager
def closed(folder):
    """Make a folder one that nothing can be made in; skips where not even this is allowed."""
    if os.geteuid():
        folder.chmod(0o555)
        try:
            yield "Permission denied"
        finally:
            folder.chmod(0o755)
    elif (
        shutil.which("chattr") is None
        or subprocess.run(["chattr", "+i", folder], check=False, capture_output=True).returncode
    ):
        pytest.skip("this user may write everywhere")
    else:
        try:
            yield "Operation not permitted"
        finally:
            subprocess.run(["chattr", "-i", folder], check=True)


def test_a_folder_that_is_closed_under_the_run_costs_named_images(material, tmp_path):
    process = start(*command(material, tmp_path), installed=True)
    wait_for(process, tmp_path / "out", 3)
    process.send_signal(signal.SIGSTOP)  # closing takes as long as many photographs
    with closed(tmp_path / "out") as reason, fault():
        process.send_signal(signal.SIGCONT)
        code, _, err = end(process)
        assert code == 1, err
        assert f"': {reason}" in err.decode()
        there = results(tmp_path / "out")
        assert 3 <= len(there) < 30
    code, _, err = end(start(*command(material, tmp_path)))
    assert code == 0, err
    assert len(results(tmp_path / "out")) == 30


def test_a_file_in_the_place_of_a_folder_costs_named_images(material, tmp_path):
    process = start(*command(material, tmp_path))
    wait_for(process, tmp_path / "out", 1)
    inside = tmp_path / "out" / "sub"
    with fault():
        while process.poll() is None:
            shutil.rmtree(inside, ignore_errors=True)
            with contextlib.suppress(OSError):
                inside.write_bytes(b"")
            time.sleep(0.002)
        code, _, err = end(process)
        assert code == 1, err
        assert b"out/sub" in err
        inside.unlink()
        code, _, err = end(start(*command(material, tmp_path)))
        assert code == 0, err
        assert len(results(tmp_path / "out")) == 30
