"""Odd and hostile inputs through the installed dpt: each is done or named, none ends the run."""

import io
import json
import os
import socket
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from damaged import SEEDS, damaged
from faults import WAIT_S, end, fault, start, wait_for
from PIL import Image
from tiny import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("model"), task="depth"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    return tmp_path


def lines(out):
    return {line["input"]: line for line in map(json.loads, out.splitlines())}


NAMES = [
    *(b"with space.png", b"new\nline.png", b"latin\xe9.png", b"-leading.png", b"--help.png"),
    *(b"'quote\".png", b"tab\t.png", b"star*.png", b"[a].png", b"\x1b[31mred.png", b"a;b&c.png"),
    *("né中🎈.png".encode(), b"n" * 251 + b".png", b".hidden.png", b"s3:.png", b"...png"),
]
KINDS = {
    "pipe.png": "is a pipe (FIFO), not an image file",
    "socket.png": "is a socket, not an image file",
    "device.png": "is a device, not an image file",
    "empty.png": "is empty (0 bytes)",
    "text.png": "is not an image",
    "bomb.png": "1073741824 × 1073741824 pixels, above the limit",
    "gone.png": "does not exist; was it moved or removed?",
}


def make_kinds(data):
    os.mkfifo("in/pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("in/socket.png")
    Path("in/device.png").symlink_to("/dev/zero")
    Path("in/empty.png").write_bytes(b"")
    Path("in/text.png").write_bytes(b"not a picture")
    bomb = bytearray(data)
    bomb[16:24] = (1 << 30).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    Path("in/bomb.png").write_bytes(bomb)
    Path("in/gone.png").write_bytes(data)


def test_names_and_kinds_that_are_listed(model):
    stream = io.BytesIO()
    Image.effect_noise((40, 30), 90).save(stream, "PNG")
    for name in NAMES:
        Path("in", os.fsdecode(name)).write_bytes(stream.getvalue())
    make_kinds(stream.getvalue())
    Image.effect_noise((1500, 1500), 90).save("large.png", compress_level=1)
    for index in range(6):
        Path(f"in/large{index}.png").hardlink_to("large.png")
    listed = [*NAMES, *(f"large{index}.png".encode() for index in range(6))]
    listed += [name.encode() for name in KINDS]  # gone.png comes last
    with Path("list").open("wb") as file:
        file.writelines(b"in/" + name + b"\0" for name in listed)
    with fault(len(NAMES) + len(KINDS)):
        process = start("depth", "--from-file", "list", "-0", "-o", "out", "-m", model, "--json")
        wait_for(process, Path("out"), 1)
        Path("in/gone.png").unlink()
        code, out, err = end(process)
        assert code == 1, err
        told = lines(out)
        assert len(told) == len(listed)
        for name in NAMES:
            made = Path("out", os.fsdecode(name)).with_suffix(".png")
            with Image.open(made) as picture:
                assert picture.size == (40, 30)
        failed = {name: line["error"] for name, line in told.items() if line["status"] == "failed"}
        assert failed.keys() == {f"in/{name}" for name in KINDS}
        for name, reason in KINDS.items():
            assert reason in failed[f"in/{name}"]
        assert all(line.isprintable() for line in err.decode().splitlines())


def test_names_kinds_and_loops_in_a_folder(model):
    stream = io.BytesIO()
    Image.effect_noise((40, 30), 90).save(stream, "PNG")
    shown = [name for name in NAMES if not name.startswith(b".")]
    for name in NAMES:
        Path("in", os.fsdecode(name)).write_bytes(stream.getvalue())
    make_kinds(stream.getvalue())
    Path("in/gone.png").unlink()
    Path("in/gone.png").symlink_to("nowhere")
    Path("in/loop.png").symlink_to("loop.png")
    Path("in/again").symlink_to(".")
    Path("in/deep").mkdir()
    Path("in/deep/up").symlink_to("../..")
    broken = {"empty.png", "text.png", "bomb.png", "gone.png", "loop.png"}
    with fault(len(NAMES) + len(KINDS) + 3):
        code, out, err = end(start("depth", "in", "-o", "out", "-m", model, "--json"))
        assert code == 1, err
        told = lines(out)
        done = [name for name, line in told.items() if line["status"] == "done"]
        assert len(done) == len(shown)
        left_out = {name for name, line in told.items() if line["status"] == "left_out"}
        assert left_out == {f"in/{name}.png" for name in ("pipe", "socket", "device")}
        assert told.keys() - set(done) - left_out == {f"in/{name}" for name in broken}
        for name in ("pipe", "socket", "device"):
            assert f"(in/{name}.png)" in err.decode()


@pytest.mark.parametrize("name", ["-leading.png", "--help.png"])
def test_a_leading_dash_is_a_name_behind_two_dashes(model, name):
    Image.effect_noise((40, 30), 90).save(Path(name))
    with fault():
        code, _, err = end(start("depth", "-o", "out", "-m", model, "--", name))
        assert code == 0, err
        assert Path("out", name).exists()


def test_sizes_at_the_edges(model):
    shapes = {
        "dot.png": (1, 1),
        "line.png": (1, 20_000),
        "column.png": (20_000, 1),
        "panorama.png": (60_000, 120),
        "tower.png": (7, 60_000),
        "panorama.jpg": (60_000, 100),
    }
    for name, size in shapes.items():
        Image.effect_noise(size, 90).convert("RGB").save(Path("in", name), compress_level=1)
    with fault(len(shapes)):
        code, out, err = end(start("depth", "in", "-o", "out", "-m", model, "--json", "-f", "npy"))
        assert code == 2, err  # panorama.jpg and panorama.png
        Path("in/panorama.jpg").rename("in/wide.jpg")
        code, out, err = end(start("depth", "in", "-o", "out", "-m", model, "--json"))
        assert code == 0, err
        assert {line["status"] for line in lines(out).values()} == {"done"}
        for name, size in shapes.items():
            made = Path("out", name.replace("panorama.jpg", "wide.jpg")).with_suffix(".png")
            with Image.open(made) as picture:
                assert picture.size == size
                picture.load()


def test_files_of_several_pictures_give_the_first(model):
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "green", "blue")]
    more = {"save_all": True, "append_images": frames[1:]}
    names = ["a.gif", "b.webp", "c.tiff", "d.png"]
    for name in names:
        frames[0].save(Path("in", name), **more)
    frames[0].save("in/e.tiff", **{**more, "append_images": frames[1:] * 50})
    with fault(5):
        code, out, err = end(start("depth", "in", "-o", "out", "-m", model, "--json"))
        assert code == 0, err
        assert {(line["width"], line["height"]) for line in lines(out).values()} == {(40, 30)}
        assert len(lines(out)) == 5


def test_photographs_that_change_while_they_are_read_are_whole_in_the_end(model):
    """Each result is of one state of its photograph, and the last state wins at the next run."""
    for index in range(30):
        Image.effect_noise((200, 150), 90).save(Path("in", f"{index:02}.png"))
    stop = threading.Event()
    chance = np.random.default_rng(0)

    def meddle():
        while not stop.is_set():
            path = Path("in", f"{chance.integers(0, 30):02}.png")
            match chance.integers(0, 3):
                case 0:  # as a careless program saves: cut, then grown
                    Image.effect_noise((200, 150), 90).save(path)
                case 1:
                    Image.effect_noise((150, 200), 90).save("new.png")
                    Path("new.png").replace(path)
                case 2:
                    os.utime(path)
            time.sleep(0.001)

    with fault(30):
        process = start("depth", "in", "-o", "out", "-m", model, "--json")
        thread = threading.Thread(target=meddle)
        thread.start()
        try:
            code, _, err = end(process)
        finally:
            stop.set()
            thread.join()
        assert code in {0, 1}, err
        code, _, err = end(start("depth", "in", "-o", "out", "-m", model))
        assert code == 0, err
        code, _, err = end(start("depth", "in", "-o", "fresh", "-m", model))
        assert code == 0, err
        for path in Path("fresh").glob("*.png"):
            with Image.open(path) as right, Image.open(Path("out", path.name)) as made:
                assert made.tobytes() == right.tobytes(), path


@pytest.mark.parametrize(
    "number", [500, pytest.param(2500, marks=pytest.mark.slow)], ids=["500", "2500"]
)
def test_a_folder_of_damaged_files(model, number):
    rng = np.random.default_rng(number)
    names = sorted(SEEDS)
    for index in range(number):
        name = names[index % len(names)]
        ending = name.split(",")[0].replace("jpeg", "jpg")
        Path("in", f"{index:04}.{ending}").write_bytes(damaged(SEEDS[name], rng))
    with fault(number):
        started = time.monotonic()
        process = start(
            *("depth", "in", "-o", "out", "-m", model, "--json", "-q"),
            *("--max-pixels", "1M", "--batch-size", "4", "--report", "report.json"),
        )
        out, err = process.communicate(timeout=WAIT_S * max(1, number // 500))
        assert b"Traceback" not in err
        assert process.returncode == 1, err[-2000:]
        told = lines(out)
        assert len(told) == number
        done = [line for line in told.values() if line["status"] == "done"]
        failed = [line for line in told.values() if line["status"] == "failed"]
        assert len(done) + len(failed) == number
        assert min(len(done), len(failed)) > number // 20
        for line in done:
            with Image.open(line["output"]) as picture:
                picture.load()
                assert picture.size == (line["width"], line["height"])
        for line in failed:
            assert "Error" not in line["error"], line
            assert line["error"].startswith(line["input"])
        assert len(list(Path("out").glob("*.png"))) == len(done)
        totals = json.loads(Path("report.json").read_text())["totals"]
        assert (totals["done"], totals["failed"]) == (len(done), len(failed))
        assert time.monotonic() - started < WAIT_S * max(1, number // 500)
