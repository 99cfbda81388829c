"""`dpt` on a real (pseudo-)terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from process import DPT, WAIT_S, environment, warm_dpt

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(words, *, columns=80, installed=False, **env):
    """Run `dpt` on a pseudo-terminal; returns (exit code, everything it wrote)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    clean = environment(TERM="xterm-256color", **env)
    clean.pop("COLUMNS", None)
    process = subprocess.Popen(
        [*(DPT if installed else warm_dpt()), *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=clean,
    )
    os.close(theirs)
    chunks, deadline = [], time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.5)[0]:
            continue
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(ours)
    return process.wait(timeout=WAIT_S), b"".join(chunks).decode()
