"""The fault suite's account (tried, survived, lost) and what its tests share."""

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from process import DPT, WAIT_S, environment, hear_ctrl_c, warm_dpt

counts = {"tried": 0, "survived": 0}


@contextlib.contextmanager
def fault(number: int = 1) -> Iterator[None]:
    """Count the faults that a block brings about; they are lost where it raises."""
    counts["tried"] += number
    yield
    counts["survived"] += number


def photographs(folder: Path, number: int, *, size: tuple[int, int] = (200, 150)) -> Path:
    """Fill a folder and a subfolder with pictures that differ and take a moment to write."""
    long_ago = time.time() - 1000
    for index in range(number):
        path = folder / ("sub" if index % 3 == 0 else ".") / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (*size[::-1], 3), np.uint8)
        smooth = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(index % 7))
        smooth.save(path, compress_level=1)
        os.utime(path, (long_ago, long_ago))
    return folder


def start(*words: object, installed: bool = False, **env: str) -> "subprocess.Popen[bytes]":
    """Start dpt, warm or as it is installed, with Ctrl-C as in a terminal."""
    return subprocess.Popen(
        [*(DPT if installed else warm_dpt()), *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(NO_COLOR="1", **env),
        preexec_fn=hear_ctrl_c,
    )


def end(process: "subprocess.Popen[bytes]") -> tuple[int, bytes, bytes]:
    """Wait for a run: (exit code, stdout, stderr); a traceback or a hang fails the test."""
    try:
        out, err = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert b"Traceback" not in err, err.decode(errors="replace")
    assert b"unexpected" not in err, err.decode(errors="replace")
    return process.returncode, out, err


def results(folder: Path) -> dict[str, bytes]:
    """{name: content} of the results, without the record of what was made of what."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != ".dpt"
    }


def wait_for(process: "subprocess.Popen[bytes]", folder: Path, number: int) -> None:
    """Wait until a folder holds so many pictures, or the run is over."""
    deadline = time.monotonic() + WAIT_S
    while process.poll() is None:
        if sum(1 for _ in folder.rglob("[!.]*.png")) >= number:
            return
        assert time.monotonic() < deadline, f"less than {number} pictures in {WAIT_S} s"
        time.sleep(0.002)


@contextlib.contextmanager
def memory_disk(folder: Path, options: str) -> Iterator[Path]:
    """A disk at `folder`, "size=64k" or "ro"; skips the test where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    tried = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False)
    if not tried or tried.returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a memory disk under whoever uses it."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def moments(seed: int) -> random.Random:
    """Moments at random, the same in every run of the suite."""
    return random.Random(seed)
