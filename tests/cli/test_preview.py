"""Results in the terminal: half-blocks in colour, letters without, nothing where nobody looks."""

import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from terminal import ANSI, on_a_terminal
from tiny import save_varied

from dptcli.cli import main
from dptcli.cli.terminal.preview import MAX_SHOWN, Preview, blocks


def console(**changes):
    return Console(width=40, force_terminal=True, color_system="truecolor", **changes)


def test_each_cell_shows_two_pixels():
    pixels = np.zeros((4, 40, 3), np.uint8)
    pixels[0::2, :, 0] = 255
    text = blocks(Image.fromarray(pixels), console())
    assert text.plain == "▀" * 40 + "\n" + "▀" * 40
    assert text.spans[0].style.color.triplet == (255, 0, 0)
    assert text.spans[0].style.bgcolor.triplet == (0, 0, 0)


def test_without_colour_brightness_becomes_letters(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    ramp = np.linspace(0, 255, 40).astype(np.uint8)[None, :, None].repeat(8, 0).repeat(3, 2)
    text = blocks(Image.fromarray(ramp), console())
    line = text.plain.splitlines()[0]
    assert (line[0], line[-1], len(line)) == (" ", "@", 40)
    assert not text.spans


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (4000, 3000)])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_pictures_of_every_shape_fit(size, mode):
    preview = Preview()
    preview.keep("x", Image.new(mode, size))
    lines = blocks(preview._kept[0][1], console()).plain.splitlines()
    assert 1 <= len(lines) <= 30
    assert max(map(len, lines)) <= 40


def test_a_long_run_keeps_only_the_first():
    preview = Preview()
    for index in range(20):
        preview.keep(str(index), Image.new("RGB", (30, 20)))
    assert [name for name, _ in preview._kept] == [str(index) for index in range(MAX_SHOWN)]


@pytest.fixture
def words(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{index}.png")
    model = save_varied(tmp_path / "model")
    return ["depth", f"{tmp_path}/in", "-o", f"{tmp_path}/out", "-m", str(model), "--preview"]


def test_a_terminal_gets_the_picture_and_the_summary(words):
    code, text = on_a_terminal(words)
    assert code == 0
    assert text.count("▀") > 100
    shown = ANSI.sub("", text)
    assert re.search(r"images +2 done", shown)
    assert "dpt gallery " in shown.replace("\r\n", "")


def test_a_log_gets_no_picture(words, capsys):
    assert main([*words, "-f", "npy"]) == 0
    captured = capsys.readouterr()
    assert "▀" not in captured.err + captured.out
    assert captured.err.splitlines()[-1].startswith("2 done in ")
