"""Runs of `dpt` on the same photographs, again and again, in this process."""

import json
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from dptcli.cli import main


def draw(path, seed, *, age_s=1000):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    long_ago = time.time() - age_s
    os.utime(path, (long_ago, long_ago))


def draw_photos():
    """Three photographs of long ago in photos/, in the current folder."""
    for index, name in enumerate(["a.png", "b c.png", "sub/d.png"]):
        draw(Path.cwd() / "photos" / name, index)
    return Path.cwd() / "photos"


def runner(models, capsys):
    """A function that runs dpt on photos/, with a command's model, and checks its exit code.

    It returns {input's last part: status}, or what was said where the exit code is 2.
    """

    def run(*words, command="depth", model=None, inputs="photos", out="out", expect=0):
        words = [command, inputs, "-o", out, "-m", model or models[command], "--json", *words]
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        assert code == expect, captured.err
        if code == 2:
            return captured.err
        lines = [json.loads(line) for line in captured.out.splitlines()]
        return {line["input"].rpartition("/")[2]: line["status"] for line in lines}

    return run
