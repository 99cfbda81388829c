"""Which pictures of a folder that fills are whole, look by look."""

import os
import time

import pytest

from dptcli.inputs.find import find_images
from dptcli.inputs.growing import Growing


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def growing(folder, **more):
    return Growing(lambda: find_images([folder], may_be_none=True), **more)


def write(path, content, *, age_s=0.0):
    path.write_bytes(content)
    os.utime(path, ns=(at := time.time_ns() - int(age_s * 1e9), at))


def names(sources):
    return [source.path.name for source in sources]


def test_an_image_is_given_once_when_two_looks_found_it_the_same(folder):
    watched = growing(folder)
    assert watched.look() == []
    write(folder / "a.png", b"1234")
    assert watched.look() == []
    assert watched.num_waiting == 1
    assert names(watched.look()) == ["a.png"]
    assert watched.look() == []
    assert watched.num_waiting == 0


def test_an_image_that_grows_from_look_to_look_waits(folder):
    watched = growing(folder)
    for length in (1, 2, 3):
        write(folder / "a.png", b"x" * length)
        assert watched.look() == []
    assert names(watched.look()) == ["a.png"]


def test_an_empty_file_waits_for_its_content(folder):
    watched = growing(folder)
    (folder / "a.png").touch()
    assert [watched.look() for _ in range(3)] == [[], [], []]
    write(folder / "a.png", b"1")
    watched.look()
    assert names(watched.look()) == ["a.png"]


@pytest.mark.parametrize("change", ["other bytes", "another date"])
def test_an_image_that_has_changed_is_given_again(folder, change):
    watched = growing(folder)
    write(folder / "a.png", b"1234", age_s=50)
    watched.look()
    watched.look()
    write(folder / "a.png", b"12345" if change == "other bytes" else b"1234", age_s=40)
    assert watched.look() == []
    assert names(watched.look()) == ["a.png"]


def test_an_image_that_went_and_came_back_is_given_again(folder):
    watched = growing(folder)
    write(folder / "a.png", b"1234", age_s=50)
    watched.look()
    assert names(watched.look()) == ["a.png"]
    (folder / "a.png").rename(folder / "a.away")
    watched.look()
    (folder / "a.away").rename(folder / "a.png")
    watched.look()
    assert names(watched.look()) == ["a.png"]


def test_a_young_image_that_cannot_be_read_is_given_once_more(folder):
    watched = growing(folder, patience_s=0.05)
    write(folder / "a.png", b"1234")
    watched.look()
    [source] = watched.look()
    assert watched.doubt(source)
    assert watched.look() == []
    assert watched.num_waiting == 1
    time.sleep(0.06)
    assert watched.look() == [source]
    assert not watched.doubt(source)
    assert watched.look() == []


def test_a_doubted_image_that_grows_on_is_given_without_waiting(folder):
    watched = growing(folder, patience_s=1000)
    write(folder / "a.png", b"1234")
    watched.look()
    [source] = watched.look()
    assert watched.doubt(source)
    write(folder / "a.png", b"12345678")
    watched.look()
    assert watched.look() == [source]


def test_an_old_image_that_cannot_be_read_has_failed(folder):
    watched = growing(folder)
    write(folder / "a.png", b"1234", age_s=10_000)
    watched.look()
    [source] = watched.look()
    assert not watched.doubt(source)
