"""`dpt depth --camera`: a live picture, in the terminal where there is no display."""

import contextlib
import os
import pty
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from clips import numbered, write_clip
from PIL import Image
from process import WAIT_S, environment, hear_ctrl_c, warm_dpt
from terminal import ANSI, on_a_terminal
from tiny import save_varied

from dptcli.cli import main

NO_DISPLAY = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_varied(tmp_path_factory.mktemp("live") / "model"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    frames = [numbered(number) for number in range(7)]
    return str(write_clip(tmp_path_factory.mktemp("clip") / "camera.mp4", frames))


def test_without_a_display_the_terminal_shows_every_frame_of_a_file(clip, model):
    words = ["depth", "--camera", clip, "--show", "--side-by-side", "-m", model]
    code, text = on_a_terminal(words, **NO_DISPLAY)
    assert code == 0, text
    # Two pictures of 96 × 64 beside each other; the last is drawn once more when it is left there.
    assert text.count("▀") == (7 + 1) * 80 * 13
    last = ANSI.sub("", text).split("▀")[-1].splitlines()
    assert re.fullmatch(r"7 frames, \d+\.\d frames/s", last[-1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--show", "add --camera 0"),
        ("photo.jpg -o out.png --show", "add --camera 0"),
        ("--camera 0", "add --show"),
        ("photo.jpg --camera 0 --show", "leave out the input 'photo.jpg'"),
        ("--camera 0 --show -o out.mp4", "leave out --output"),
        ("--camera 0 --show --engine ray", "leave out --engine"),
        ("--camera 0 --show --views", "leave out --views"),
        ("--camera 0 --show --with-segments", "leave out --with-segments"),
        ("--camera 0 --show --preview", "leave out --preview"),
        ("--camera 0 --show --bits 16", "leave out --bits"),
        ("--camera 0 --show --json", "leave out --json"),
        ("--camera 0 --show -f npy", "leave out --format"),
        ("--camera 0 --show --range global", "--range global"),
        ("--camera 0 --show --colormap nope", "'nope'"),
        ("--camera gone.mp4 --show", "--camera 'gone.mp4' cannot be opened; give a number"),
        ("--camera 987654 --show", "--camera '987654' cannot be opened"),
        ("--camera http://127.0.0.1:9/ --show", "--camera 'http://127.0.0.1:9/' cannot be opened"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(words, said, capfd):
    assert main(["depth", *words.split()]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert said in line


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert main(["depth", "--camera", "0", "--show"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "pip install 'dptcli[live]'" in line


def test_where_nobody_could_see_it_nothing_is_loaded(clip, monkeypatch, capsys):
    for name in NO_DISPLAY:
        monkeypatch.delenv(name, raising=False)
    assert main(["depth", "--camera", clip, "--show"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--show has no place to draw in" in line


@pytest.fixture
def address():
    """A camera on this machine: an endless MJPEG stream over HTTP, 100 frames a second."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    stop = threading.Event()

    class Camera(socketserver.StreamRequestHandler):
        def handle(self):
            while self.rfile.readline().strip():
                pass
            kind = b"multipart/x-mixed-replace; boundary=frame"
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n")
            try:
                while not stop.wait(0.01):
                    self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n")
                    picture.save(self.wfile, "jpeg")
                    self.wfile.write(b"\r\n")
            except ConnectionError:  # who looked has gone
                pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/camera.mjpg", stop
        stop.set()
        server.shutdown()


@pytest.fixture
def in_a_terminal(monkeypatch):
    """Runs main() with a terminal as its standard error: (exit code, what was written there)."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in NO_DISPLAY:
        monkeypatch.delenv(name, raising=False)

    def run(*words, on_picture=lambda: None):
        ours, theirs = pty.openpty()
        chunks = []

        def drain():
            with contextlib.suppress(OSError):
                while chunk := os.read(ours, 65536):
                    chunks.append(chunk)
                    if "▀".encode() in chunk:
                        on_picture()

        reader = threading.Thread(target=drain)
        reader.start()
        with os.fdopen(theirs, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            code = main(words)
        reader.join()
        os.close(ours)
        return code, ANSI.sub("", b"".join(chunks).decode())

    return run


def test_a_camera_that_goes_away_ends_the_picture_with_a_line(address, model, in_a_terminal):
    url, stop = address
    words = ["depth", "--camera", url, "--show", "-m", model]
    code, text = in_a_terminal(*words, on_picture=stop.set)
    assert code == 0
    said = rf"camera {re.escape(url)} gives no more frames; \d+ frames, \d+\.\d frames/s"
    assert re.fullmatch(said, text.split("▀")[-1].splitlines()[-1])


def test_a_camera_without_a_frame_has_failed(clip, model, in_a_terminal, tmp_path):
    whole = Path(clip).read_bytes()
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(whole[: whole.index(b"mdat") + 4])
    code, text = in_a_terminal("depth", "--camera", str(empty), "--show", "-m", model)
    assert code == 1
    assert text.splitlines()[-1].startswith(f"dpt: camera '{empty}' gave no frame")


def test_a_display_that_cannot_be_reached_leaves_the_terminal(
    clip, model, in_a_terminal, monkeypatch
):
    monkeypatch.setenv("DISPLAY", ":77")
    code, text = in_a_terminal("depth", "--camera", clip, "--show", "-m", model)
    assert code == 0
    assert "▀" in text
    assert "no window could be opened; Ctrl-C ends it" in text.replace("\r\n", "")


def test_ctrl_c_ends_a_camera_well(address, model):
    url, _stop = address
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*warm_dpt(), "depth", "--camera", url, "--show", "-m", model],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm-256color", **NO_DISPLAY),
        preexec_fn=hear_ctrl_c,
    )
    os.close(theirs)
    seen, asked, deadline = b"", False, time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            seen += os.read(ours, 65536)
        except OSError:
            break
        if not asked and seen.count("▀".encode()) > 3000:
            process.send_signal(signal.SIGINT)
            asked = True
    os.close(ours)
    assert process.wait(timeout=WAIT_S) == 0, seen[-500:]
    last = ANSI.sub("", seen.decode()).split("▀")[-1].splitlines()[-1]
    assert re.fullmatch(r"\d+ frames, \d+\.\d frames/s", last)
