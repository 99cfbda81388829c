"""What a person sees: the help at 80 columns and the progress on a real terminal."""

import io
import re
import sys

import numpy as np
import pytest
from PIL import Image
from terminal import ANSI, on_a_terminal
from tiny import save_tiny

from dptcli.cli.terminal.console import say

COMMANDS = ["depth", "segment"]


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_fits_80_columns(words):
    code, text = on_a_terminal(words)
    assert code == 0
    lines = ANSI.sub("", text).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in ANSI.sub("", text), "an option was cut"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_an_example(name):
    _, text = on_a_terminal([name, "--help"], columns=200, NO_COLOR="1")
    rows = re.split(r"\n│ (?=--)", ANSI.sub("", text).replace("\r", ""))[1:]
    assert len(rows) >= 15
    for row in rows:
        if not row.startswith("--help"):
            assert "e.g. " in row, row


@pytest.fixture
def photos(tmp_path):
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    (tmp_path / "bad[red].png").write_bytes(b"no image")
    return tmp_path


def test_a_terminal_gets_a_bar_and_failures_by_name(photos):
    model = save_tiny(photos / "model", task="depth")
    words = ["depth", str(photos), "-o", str(photos / "out"), "-m", str(model)]
    code, text = on_a_terminal(words, installed=True)
    assert code == 1
    shown = ANSI.sub("", text)
    assert "5/5" in shown
    assert "images/s" in shown
    assert "bad[red].png" in shown
    assert "4 done, 1 failed" in shown
    assert "\x1b[" in text


def test_no_color_means_no_colour(photos):
    model = save_tiny(photos / "model", task="depth")
    words = ["depth", str(photos), "-o", str(photos / "out"), "-m", str(model)]
    _, text = on_a_terminal(words, NO_COLOR="1")
    assert not re.search(r"\x1b\[(3|4|9|10)\d(;\d+)*m", text)


def test_a_picture_is_not_written_to_a_terminal(photos):
    code, text = on_a_terminal(["depth", str(photos / "0.png"), "-o", "-"])
    assert code == 2
    assert "-o - > result.png" in text


def test_standard_input_on_a_terminal_is_refused_instead_of_waited_for(photos):
    model = save_tiny(photos / "model", task="depth")
    out = str(photos / "out.png")
    code, text = on_a_terminal(["depth", "-", "-o", out, "-m", str(model)])
    assert code != 0
    assert "terminal" in text


def test_a_line_is_written_in_one_piece_so_that_no_signal_cuts_it(monkeypatch):
    pieces = []

    class Stream(io.StringIO):
        def write(self, text):
            pieces.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Stream())
    say("[1/2] a.jpg -> a.png")
    say('{"status": "done"}', file=Stream())
    assert pieces == ["[1/2] a.jpg -> a.png\n", '{"status": "done"}\n']


@pytest.mark.parametrize(
    ("words", "is_here", "said"),
    [
        ([], False, "sharper: -m depth-anything-v2-small (99 MB, Apache-2.0, fetched once)"),
        ([], True, "sharper: -m depth-anything-v2-small (is here already)"),
        (["--quiet"], False, None),
        (["-m", "MODEL"], False, None),
    ],
    ids=["to fetch", "in the cache", "quiet", "another model"],
)
def test_the_built_in_model_names_a_sharper_one_to_a_person(photos, words, is_here, said):
    model = save_tiny(photos / "model", task="depth")
    cache = photos / "hub"
    if is_here:
        (cache / "models--depth-anything--Depth-Anything-V2-Small-hf").mkdir(parents=True)
    given = [str(model) if word == "MODEL" else word for word in words]
    code, text = on_a_terminal(
        ["depth", str(photos / "0.png"), "-o", str(photos / "o.png"), "--size", "56", *given],
        columns=120,
        HF_HUB_CACHE=str(cache),
    )
    assert code == 0
    shown = ANSI.sub("", text)
    assert shown.count("sharper") == (said is not None)
    assert said is None or said in shown
