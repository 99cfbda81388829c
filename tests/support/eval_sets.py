"""Sets of photographs for `dpt eval`, and the command on them, here or in a process of its own."""

import contextlib
import logging
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from process import WAIT_S, environment, warm_dpt

from dptcli.cli import main

HW = (48, 64)
CLASSES = ("sky", "ground", "gizmo")  # what the tiny model knows


def write_sets(folder: Path) -> None:
    """Two sets of photographs with depth, "rooms" and "streets", and one with "labels"."""
    rng = np.random.default_rng(0)
    for name, count in (("rooms", 2), ("streets", 1), ("labels", 2)):
        (folder / name).mkdir()
        kind = "labels" if name == "labels" else "depth_m"
        lines = ["image,target,kind,scale"]
        for index in range(count):
            photo = rng.integers(0, 256, (*HW, 3), np.uint8)
            Image.fromarray(photo).save(folder / name / f"{index}.png")
            target = rng.integers(0, 3, HW) if kind == "labels" else rng.integers(500, 9000, HW)
            target[:5] = 255 if kind == "labels" else 0
            target = target.astype(np.uint8 if kind == "labels" else np.uint16)
            Image.fromarray(target).save(folder / name / f"{index}.target.png")
            scale = "" if kind == "labels" else "1000"
            lines.append(f"{index}.png,{index}.target.png,{kind},{scale}")
        (folder / name / "pairs.csv").write_text("\n".join(lines))
    (folder / "labels" / "classes.txt").write_text("\n".join(CLASSES))


def dpt_process(*words: object) -> "subprocess.CompletedProcess[str]":
    """The installed command."""
    return subprocess.run(
        [*warm_dpt(), *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=WAIT_S,
        encoding="utf-8",
        env=environment(NO_COLOR="1", COLUMNS="80", PYTHONIOENCODING="utf-8"),
    )


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@contextlib.contextmanager
def dpt_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Done]]:
    """The same in this process, which spares a second for each call."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    package = logging.getLogger("dptcli")
    before = package.handlers, package.propagate, package.level

    def run(*words: object) -> Done:
        code = main([str(word) for word in words])
        return Done(code, *capsys.readouterr())

    yield run
    package.handlers, package.propagate = before[:2]
    package.setLevel(before[2])
