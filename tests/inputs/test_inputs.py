"""Finding images: files, folders, globs, lists, odd names and odd files."""

import io
import logging
import os
import socket
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from dptcli.errors import ImageError, UsageError
from dptcli.inputs.filelist import read_list
from dptcli.inputs.find import ImageSource, decode_image, find_images, printable


def write_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        Image.new("RGB", (4, 3), (10, 20, 30)).save(stream, "PNG")
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def relatives(sources: list[ImageSource]) -> list[str]:
    return [source.relative.as_posix() for source in sources]


def test_one_file_lies_at_the_top(folder):
    write_image(folder / "deep/er/a.png")
    assert find_images(["deep/er/a.png"]) == [ImageSource(Path("deep/er/a.png"), Path("a.png"))]


def test_a_folder_is_searched_in_natural_order(folder):
    for name in ("10.png", "2.png", "1.png", "b/1.png", "B2.png", "b/01.png"):
        write_image(folder / "in" / name)
    assert relatives(find_images(["in"])) == [
        "1.png",
        "2.png",
        "10.png",
        "b/01.png",
        "b/1.png",
        "B2.png",
    ]


def test_without_recursion_only_the_folder_itself_is_searched(folder):
    write_image(folder / "in/a.png")
    write_image(folder / "in/sub/b.png")
    assert relatives(find_images(["in"], recursive=False)) == ["a.png"]


def test_suffixes_count_in_any_case_and_other_files_are_left_out(folder):
    for name in ("a.JPG", "b.Tiff", "c.webp", "notes.txt", "noextension", ".hidden.png"):
        write_image(folder / "in" / name)
    write_image(folder / "in/.cache/d.png")
    assert relatives(find_images(["in"])) == ["a.JPG", "b.Tiff", "c.webp"]


def test_hidden_things_count_when_they_are_named(folder):
    write_image(folder / ".in/a.png")
    write_image(folder / ".b.png")
    assert relatives(find_images([".in"])) == ["a.png"]
    assert relatives(find_images([".b.png"])) == [".b.png"]
    assert relatives(find_images([".*.png"])) == [".b.png"]


def test_a_named_file_is_kept_whatever_its_suffix_and_fails_by_name(folder):
    (folder / "notes.txt").write_text("no picture")
    (source,) = find_images(["notes.txt"])
    with pytest.raises(ImageError, match=r"notes\.txt is not an image"):
        decode_image(source)


def test_a_glob_that_the_shell_left_alone_is_expanded(folder):
    for name in ("img10.png", "img2.png", "other.png", "deep/er/img3.png", ".img0.png"):
        write_image(folder / "in" / name)
    assert relatives(find_images(["in/img*.png"])) == ["img2.png", "img10.png"]
    assert relatives(find_images(["in/**/img?.png"])) == ["deep/er/img3.png", "img2.png"]
    assert relatives(find_images([str(folder / "in" / "o*")])) == ["other.png"]


def test_an_existing_name_with_glob_characters_is_that_file(folder):
    write_image(folder / "a[1].png")
    write_image(folder / "a1.png")
    assert relatives(find_images(["a[1].png"])) == ["a[1].png"]


@pytest.mark.parametrize("missing", ["gone.png", "no*.png", "no/folder/", "", "a\0b", "x" * 300])
def test_an_input_that_does_not_exist_is_named(folder, missing):
    write_image(folder / "a.png")
    with pytest.raises(UsageError) as caught:
        find_images(["a.png", missing])
    assert f"'{printable(missing).rstrip('/')}" in str(caught.value)


@pytest.mark.usefixtures("folder")
def test_many_missing_inputs_are_counted():
    with pytest.raises(UsageError, match=r"'0\.png'.* and 7 more"):
        find_images([f"{i}.png" for i in range(12)])


@pytest.mark.usefixtures("folder")
def test_an_impossible_pattern_is_a_usage_error():
    with pytest.raises(UsageError, match=r"a\*\*b"):
        find_images(["a**b/c*.png"])


def test_no_input_and_an_empty_folder_are_usage_errors(folder):
    (folder / "empty").mkdir()
    write_image(folder / "deep/sub/a.png")
    with pytest.raises(UsageError, match="no input"):
        find_images([])
    with pytest.raises(UsageError, match=r"'empty'.*\.jpg"):
        find_images(["empty"])
    with pytest.raises(UsageError, match="--no-recursive"):
        find_images(["deep"], recursive=False)


def test_every_image_comes_once(folder):
    write_image(folder / "in/sub/a.png")
    write_image(folder / "in/b.png")
    (folder / "alias").symlink_to("in")
    again = ["in/sub/a.png", "./in//sub/a.png", str(folder / "in/sub/a.png"), "in", "in/sub/", "in"]
    assert relatives(find_images([*again, "alias", "in/*"])) == ["in/sub/a.png", "in/b.png"]


def test_two_links_to_one_photograph_are_two_images(folder):
    write_image(folder / "store/x.png")
    (folder / "in").mkdir()
    (folder / "in/a.png").symlink_to("../store/x.png")
    (folder / "in/b.png").symlink_to("../store/x.png")
    assert relatives(find_images(["in"])) == ["a.png", "b.png"]


def test_inputs_keep_their_order_and_equal_names_stay_apart(folder):
    for name in ("z/1.png", "a/1.png", "top.png"):
        write_image(folder / name)
    assert relatives(find_images(["z", "a"])) == ["z/1.png", "a/1.png"]
    assert relatives(find_images(["z/1.png", "a/1.png"])) == ["z/1.png", "a/1.png"]
    assert relatives(find_images(["top.png", "a"])) == ["top.png", "a/1.png"]


def test_standard_input_is_one_source(folder):
    write_image(folder / "a.png")
    sources = find_images(["-", "a.png", "-"])
    assert [source.path for source in sources] == [None, Path("a.png")]
    assert sources[0].name == "standard input"


NAMES = {
    "spaces": b"two  spaces .png",
    "newline": b"new\nline.png",
    "escape": b"\x1b[31mred.png",
    "latin-1": b"caf\xe9.png",
    "dash": b"-o.png",
    "only dash": b"-",
    "glob": b"*[x]?.png",
    "quotes": b"'\"$(x).png",
    "umlaut": "grüße 写真.png".encode(),
}


@pytest.mark.parametrize("raw", NAMES.values(), ids=NAMES.keys())
def test_odd_names_are_found_decoded_and_shown_on_one_line(folder, raw):
    name = os.fsdecode(raw)
    write_image(folder / "in" / name)
    (source,) = find_images(["in/" + name])
    assert decode_image(source).shape == (3, 4, 3)
    assert source.name.isprintable()
    source.name.encode()  # plain UTF-8, fit for a log or a terminal
    if raw != b"-":
        assert find_images(["in"])[0].relative == Path(name)


def test_a_file_called_dash_can_be_named(folder):
    write_image(folder / "-")
    (source,) = find_images(["./-"])
    assert source.path is not None
    assert decode_image(source).shape == (3, 4, 3)
    assert find_images(read_list(io.BytesIO(b"-\n")))[0].path is not None


def test_link_loops_are_searched_once(folder):
    write_image(folder / "in/sub/a.png")
    for link in ("in/loop", "in/sub/up", "in/sub/loop2"):
        (folder / link).symlink_to(folder / "in")
    (folder / "in/self").symlink_to("self")
    assert relatives(find_images(["in"])) == ["sub/a.png"]
    assert relatives(find_images(["in/**/*.png"])) == ["a.png"]


def test_a_linked_folder_is_searched(folder):
    write_image(folder / "elsewhere/a.png")
    (folder / "in").mkdir()
    (folder / "in/link").symlink_to("../elsewhere")
    assert relatives(find_images(["in"])) == ["link/a.png"]


def test_a_broken_link_fails_by_name_instead_of_being_lost(folder):
    (folder / "in").mkdir()
    (folder / "in/a.png").symlink_to("nowhere")
    (folder / "in/b.png").symlink_to("b.png")
    broken, loop = find_images(["in"])
    with pytest.raises(ImageError, match=r"in/a\.png does not exist"):
        decode_image(broken)
    with pytest.raises(ImageError, match=r"in/b\.png cannot be opened"):
        decode_image(loop)


def special_files(where: Path) -> dict[str, Path]:
    os.mkfifo(where / "fifo.png")
    (where / "null.png").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(where / "socket.png"))
    return {
        "pipe": where / "fifo.png",
        "device": where / "null.png",
        "socket": where / "socket.png",
    }


def test_pipes_devices_and_sockets_in_a_folder_are_skipped_with_a_log_line(
    tmp_path_factory, monkeypatch, caplog
):
    where = tmp_path_factory.mktemp("s")  # a short path: a socket's name has 108 bytes
    monkeypatch.chdir(where)
    special_files(Path())
    write_image(where / "real.png")
    with caplog.at_level(logging.WARNING, logger="dptcli.inputs.find"):
        assert relatives(find_images([where])) == ["real.png"]
    assert len(caplog.messages) == 3


def test_pipes_devices_sockets_and_folders_are_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind, path in special_files(Path()).items():
        (source,) = find_images([path])
        with pytest.raises(ImageError, match=rf"{path.name} is a .*{kind}"):
            decode_image(source)  # opening the pipe would wait for ever
    with pytest.raises(ImageError, match="is a folder"):
        decode_image(tmp_path)
    with pytest.raises(ImageError, match=r"/dev/zero is a device"):
        decode_image("/dev/zero")


@contextmanager
def unprivileged():
    """Give up root's right to read everything, where the tests run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_may_not_be_read_is_named(monkeypatch, caplog):
    with (
        tempfile.TemporaryDirectory() as name
    ):  # tmp_path lies below a folder that is locked itself
        folder = Path(name)
        folder.chmod(0o755)
        monkeypatch.chdir(folder)
        for path in ("in/a.png", "in/b.png", "in/locked/c.png"):
            write_image(folder / path)
        (folder / "in/a.png").chmod(0)
        (folder / "in/locked").chmod(0)
        with unprivileged(), caplog.at_level(logging.WARNING, logger="dptcli.inputs.search"):
            sources = find_images(["in"])
            assert relatives(sources) == ["a.png", "b.png"]
            [message] = caplog.messages
            assert message.startswith("cannot list the folder in/locked: Permission denied; ")
            with pytest.raises(ImageError, match=r"in/a\.png cannot be opened: Permission denied"):
                decode_image(sources[0])
            assert decode_image(sources[1]).shape == (3, 4, 3)
            with pytest.raises(UsageError, match=r"'in/locked': Permission denied"):
                find_images(["in/locked"])
            with pytest.raises(UsageError, match=r"'in/locked/c\.png'.*permissions"):
                find_images(["in/locked/c.png"])
        (folder / "in/locked").chmod(0o755)
        monkeypatch.undo()  # leave the folder before it goes


def test_a_file_that_refuses_to_be_read_fails_by_name():
    # Reading the start of one's own address space fails for root, too.
    with pytest.raises(ImageError, match="/proc/self/mem"):
        decode_image("/proc/self/mem")


def test_a_file_that_vanished_fails_by_name(folder):
    path = write_image(folder / "a.png")
    (source,) = find_images(["a.png"])
    path.unlink()
    with pytest.raises(ImageError, match=r"a\.png does not exist"):
        decode_image(source)


def test_a_pipe_that_takes_the_place_of_a_file_does_not_hang(folder, monkeypatch):
    path = write_image(folder / "a.png")
    real_open = os.open

    def swap_then_open(*args):
        path.unlink()
        os.mkfifo(path)
        return real_open(*args)

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(ImageError, match="pipe"):
        decode_image(path)


LISTS = {
    "lines": (b"a.png\nb c.png\n", False, ["a.png", "b c.png"]),
    "no newline at the end": (b"a.png", False, ["a.png"]),
    "windows lines": (b"a.png\r\nb.png\r\n", False, ["a.png", "b.png"]),
    "blank lines": (b"\n\na.png\n  \n\t\nb.png\n\n", False, ["a.png", "b.png"]),
    "byte order mark": (b"\xef\xbb\xbfa.png\n", False, ["a.png"]),
    "utf-16": ("ä.png\r\nb.png\r\n".encode("utf-16"), False, ["ä.png", "b.png"]),
    "outer spaces belong to names": (b" a.png \n", False, [" a.png "]),
    "latin-1": (b"caf\xe9.png\n", False, ["caf\udce9.png"]),
    "nul": (b"a\nb.png\0c.png\0", True, ["a\nb.png", "c.png"]),
    "nul, empty entries": (b"\0\0a.png\0\0", True, ["a.png"]),
    "empty": (b"", False, []),
}


@pytest.mark.parametrize(("data", "nul", "expected"), LISTS.values(), ids=LISTS.keys())
def test_lists_are_read(folder, data, nul, expected):
    (folder / "list").write_bytes(data)
    assert read_list(io.BytesIO(data), nul=nul) == expected
    assert read_list("list", nul=nul) == expected
    assert read_list(Path("list"), nul=nul) == expected


@pytest.mark.usefixtures("folder")
def test_a_list_may_come_through_a_pipe_or_standard_input(monkeypatch):
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(b"a.png\n"))
    writer.start()
    assert read_list("pipe") == ["a.png"]
    writer.join()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"b.png\0")))
    assert read_list("-", nul=True) == ["b.png"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("absent", None, r"'absent'.*No such file"),
        (".", None, r"'\.'.*directory"),
        ("nul", b"a.png\0b.png\0", "-0"),
        ("half", b"\xff\xfea", "UTF-16"),
    ],
)
def test_a_list_that_cannot_be_read_is_a_usage_error(folder, name, data, message):
    if data is not None:
        (folder / name).write_bytes(data)
    with pytest.raises(UsageError, match=message):
        read_list(name)


def test_hundreds_of_files_are_found_in_counting_order(folder):
    (folder / "in").mkdir()
    for i in range(500):
        (folder / "in" / f"{i}.png").touch()
    sources = find_images(["in"])
    assert [source.relative.stem for source in sources] == [str(i) for i in range(500)]
