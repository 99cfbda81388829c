"""`dpt serve` as a process, and what clients of all kinds send to it."""

import contextlib
import io
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from process import DPT, WAIT_S, environment, hear_ctrl_c, warm_dpt

BOUNDARY = "----photograph"


class Server:
    """A running server: its process and its address."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.said: list[str] = []
        while True:
            line = process.stderr.readline()
            assert line, f"the server ended: {self.said}"
            self.said.append(line)
            if found := re.search(r"at (http://\S+?:(\d+));", line):
                break
        self.url, self.port = found[1], int(found[2])

    def open(self) -> socket.socket:
        """A bare connection, for what no client's library would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal and wait: (exit code, what was said since the start)."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, err


@contextlib.contextmanager
def serving(*words: object, installed: bool = False, **env: str) -> Iterator[Server]:
    """A server on a free port, warm or as it is installed; ended, as a person would, if it runs."""
    process = subprocess.Popen(
        [*(DPT if installed else warm_dpt()), "serve", "--port", "0", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(NO_COLOR="1", **env),
        preexec_fn=hear_ctrl_c,
    )
    try:
        yield Server(process)
    finally:
        process.terminate()  # a killed one leaves its folder
        try:
            process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def photograph(seed: int, *, size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    """A picture that no other seed gives, as a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def form(content: bytes, *, name: str = "photo.png") -> bytes:
    """A form with an image, as it goes over the wire."""
    head = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=image; filename={name}\r\n"
        "Content-Type: image/png\r\n\r\n"
    )
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def head(length: int, *, path: str = "/depth") -> bytes:
    """The head of a request whose body is a form of so many bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    ).encode()


def resident_kib(pid: int) -> int:
    """The memory of a process, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no memory")
