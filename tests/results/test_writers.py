"""Pictures as files: what a reader finds in them, and that they are whole or absent."""

import os
import stat

import pytest
from faults import memory_disk

from dptcli.results.files import atomic_path, atomic_write, discard_unfinished


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail():
        with atomic_write(path) as stream:
            stream.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_missing_folders_are_made_and_long_names_fit(tmp_path):
    path = tmp_path / "b" / "c" / ("n" * 251 + ".png")
    with atomic_write(path) as stream:
        stream.write(b"x")
    assert path.read_bytes() == b"x"


def test_a_result_is_an_ordinary_file_to_its_group(tmp_path):
    old = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a.png") as stream:
            stream.write(b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


def test_an_exit_in_a_hurry_removes_what_is_half_written(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.png") as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        discard_unfinished()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_file(tmp_path):
    def fill(disk):
        with atomic_write(disk / "a.png") as stream:
            stream.write(bytes(200_000))

    with memory_disk(tmp_path / "disk", "size=64k") as disk:
        with pytest.raises(OSError, match="No space left"):
            fill(disk)
        assert list(disk.iterdir()) == []
