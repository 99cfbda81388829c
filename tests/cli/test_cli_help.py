"""The help of the long commands, in a terminal of 80 columns."""

import itertools
import re

import pytest

from dptcli.cli import main
from dptcli.cli.commands import COMMANDS, load_command
from dptcli.cli.help_pages import RARE

LONG = ["depth", "segment"]


def commands_within(name):
    return getattr(load_command(name), "commands", {})


@pytest.fixture
def panels(monkeypatch, capsys):
    """Returns a command's help as {title of a panel: its lines}."""
    monkeypatch.setenv("COLUMNS", "80")

    def read(command):
        assert main([command, "--help"]) == 0
        found = {}
        for line in capsys.readouterr().out.splitlines():
            assert len(line) <= 80
            if title := re.fullmatch(r"╭─ (.+?) ─+╮", line):
                lines = found.setdefault(title[1], [])
            elif line.startswith("│"):
                lines.append(line)
        return found

    return read


@pytest.mark.parametrize("command", LONG)
def test_every_option_stands_in_one_panel_and_the_rarely_needed_last(panels, command):
    found = panels(command)
    assert [*found][:3] == ["Arguments", "Input", "Output"]
    assert [*found][-2:] == ["Messages", RARE]
    shown = [
        word for lines in found.values() for word in re.findall(r"\n│ (--[\w-]+)", _text(lines))
    ]
    declared = [param for param in load_command(command).params if param.opts[0].startswith("--")]
    wanted = ["--no-optimize" if p.name == "optimize" else p.opts[0] for p in declared]
    assert sorted(shown) == sorted([*wanted, "--help"])


@pytest.mark.parametrize("command", LONG)
def test_half_of_the_width_at_least_is_for_sentences(panels, command):
    for title, lines in panels(command).items():
        text = _text(lines)
        assert "<" not in text, title  # names of types
        begin = min(len(line) - len(line[2:].lstrip()) for line in lines if line[3] == " ")
        assert begin <= 40, title


WITHIN = [[name, *own] for name in COMMANDS for own in [[], *([n] for n in commands_within(name))]]


@pytest.mark.parametrize("words", [[], *WITHIN], ids=" ".join)
def test_no_command_shows_names_of_types_and_prose_fills_the_width(words, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*words, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if re.search(r"<(bool|str|list)", line)]
    prose = [line.strip() for line in lines[3 : lines.index(_first_panel(lines))]]
    for line, below in itertools.pairwise(prose):
        if line and below and not below.startswith(("dpt ", "curl ")):  # examples keep their lines
            assert len(line) + 1 + len(below.split()[0]) > 78, line


# Options of other commands, or programs, that a help means.
OTHERS = {"watch": {"--format"}, "bench": {"--runtime"}, "merge": {"--report"}}
ANYWHERE = {"--choose", "-name", "-print0"}


@pytest.mark.parametrize("words", WITHIN, ids=" ".join)
def test_no_help_names_an_option_that_its_command_has_not(words):
    command = load_command(words[0])
    for word in words[1:]:
        command = command.commands[word]
    own = {"--help", "-h", *ANYWHERE, *OTHERS.get(words[-1], ())}
    own |= {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    for param in command.params:
        named = re.findall(r"(?<![\w-])--?[a-z][\w-]*", getattr(param, "help", None) or "")
        assert {*named} <= own, param.name


def _first_panel(lines):
    return next(line for line in lines if line.startswith("╭"))


def test_what_help_shows_is_no_other_parser(panels, tmp_path, capsys):
    panels("depth")
    words = ["depth", str(tmp_path / "gone.png"), "-o", str(tmp_path / "x.png")]
    for given in ("--optimize", "--no-optimize"):
        assert main([*words, given]) == 2
        assert "no such file" in capsys.readouterr().err


def _text(lines):
    return "".join(f"\n{line}" for line in lines)
