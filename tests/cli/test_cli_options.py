"""The command line's words: what is put in, what is refused, and how it is said."""

import ast
from pathlib import Path

import pytest

import dptcli.cli
from dptcli.cli import main
from dptcli.cli.commands import COMMANDS, load_command
from dptcli.cli.options import parse_max_pixels, parse_size
from dptcli.cli.terminal.argv import normalize_argv
from dptcli.errors import UsageError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("depth a.jpg --target-size", "depth a.jpg --target-size original"),
        ("depth --target-size -o x a.jpg", "depth --target-size original -o x a.jpg"),
        ("depth --target-size --invert", "depth --target-size original --invert"),
        ("depth --target-size a.jpg -o x", "depth --target-size original a.jpg -o x"),
        ("depth --target-size - -o x", "depth --target-size original - -o x"),
        ("depth --target-size -- a.jpg", "depth --target-size original -- a.jpg"),
        ("depth --target-size 480x640 a.jpg", "depth --target-size 480x640 a.jpg"),
        ("depth --target-size 480 a.jpg", "depth --target-size 480 a.jpg"),
        ("depth --target-size Model a.jpg", "depth --target-size Model a.jpg"),
        ("depth --target-size original", "depth --target-size original"),
        ("depth --target-size=480 a.jpg", "depth --target-size=480 a.jpg"),
        ("depth --target-size= a.jpg", "depth --target-size= a.jpg"),
        # Wrong sizes are left for the parser of sizes to refuse, not taken for files.
        ("depth --target-size 480* a.jpg", "depth --target-size 480* a.jpg"),
        ("depth --target-size 12.5 a.jpg", "depth --target-size 12.5 a.jpg"),
        ("depth --target-size 0x0 a.jpg", "depth --target-size 0x0 a.jpg"),
        # After -- everything is a path.
        ("depth -o x -- --target-size", "depth -o x -- --target-size"),
        ("depth --target-size --target-size 3", "depth --target-size original --target-size 3"),
        ("", ""),
    ],
)
def test_a_bare_target_size_is_given_its_value(given, expected):
    assert normalize_argv(given.split()) == expected.split()


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("518", 518), ("384x640", (384, 640)), ("1X2", (1, 2))]
)
def test_sizes_are_read(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["0", "-1", "axb", "384x", "", "3.5", "1x2x3", "9999999"])
def test_wrong_sizes_are_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"--size .* e\.g\. --size 518"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("7", 7), ("250M", 250_000_000), ("1.5k", 1500)]
)
def test_pixel_limits_are_read(text, expected):
    assert parse_max_pixels(text) == expected


@pytest.mark.parametrize("text", ["0", "-3", "many", "0.1", "5T", ""])
def test_wrong_pixel_limits_are_refused(text):
    with pytest.raises(UsageError, match="--max-pixels"):
        parse_max_pixels(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("depth", "no INPUT given"),
        ("depth IMG", "where to? give -o"),
        ("depth IMG -o", "-o"),
        ("depth nowhere.jpg -o OUT", "nowhere.jpg"),
        ("depth EMPTY -o OUT", "no images in"),
        ("depth IMG -o OUT --bits 12", "--bits '12' must be 8 or 16"),
        ("depth IMG -o OUT --bits many", "many"),
        ("depth IMG -o OUT --colormap infero", "did you mean 'inferno'"),
        ("depth IMG -o OUT --colormap magma --grayscale", "leave one out"),
        ("depth IMG -o OUT --colormap magma --bits 16", "leave one out"),
        ("depth IMG -o OUT --target-size 480y", "480y"),
        ("depth IMG -o OUT --target-size 0", "--target-size"),
        ("depth IMG -o OUT --target-size=", "--target-size"),
        ("depth IMG -o OUT --size big", "--size 'big'"),
        ("depth IMG -o OUT --device gpu", "--device 'gpu' must be auto, cpu, cuda"),
        ("depth IMG -o OUT --dtype half", "--dtype 'half' must be auto, float32, bfloat16"),
        ("depth IMG -o OUT --batch-size 0", "--batch-size '0' must be"),
        ("depth IMG -o OUT --max-pixels none", "--max-pixels 'none'"),
        ("depth IMG -o OUT --overwrite --skip-existing", "contradict each other"),
        ("depth IMG -o OUT -0", "--from-file"),
        ("depth IMG -o - --json", "--json and -o -"),
        ("depth - --from-file - -o OUT", "standard input cannot be both"),
        ("depth --from-file nolist.txt -o OUT", "nolist.txt"),
        ("depth IMG IMG2 -o one.png", "name a folder"),
        ("depth IMG -o OUT --nonsense", "--nonsense"),
        ("depth IMG -o OUT --overlay 0.5", "--overlay"),
        ("depth IMG -o IMG", "would replace the input"),
        ("segment IMG -o OUT --overlay 2", "--overlay '2' must be from 0 to 1"),
        ("segment IMG -o OUT --overlay nan", "--overlay 'nan' must be from 0 to 1"),
        ("segment IMG -o OUT --colormap magma", "--colormap"),
        ("dept IMG -o OUT", "Did you mean 'depth'"),
        ("depth IMG -o OUT --colormp x", "see dpt depth --help"),
        ("depth IMG -o OUT --report", "requires an argument; see dpt depth --help"),
        ("--nonsense", "--nonsense"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "b.jpg").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    names = {"IMG": "a.jpg", "IMG2": "b.jpg", "OUT": "out", "EMPTY": "empty"}
    assert main([names.get(word, word) for word in words.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1, captured.err
    assert captured.err.startswith("dpt: ")
    assert said in captured.err
    assert not (tmp_path / "out").exists()


def test_an_empty_list_is_refused(tmp_path, capsys):
    (tmp_path / "list.txt").write_bytes(b"\n")
    assert main(["depth", "--from-file", str(tmp_path / "list.txt"), "-o", "out"]) == 2
    assert "is empty" in capsys.readouterr().err


def test_a_bare_dpt_shows_its_help(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "dpt depth photo.jpg" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_the_first_sentence_of_its_help(name):
    assert load_command(name).help.split("\n")[0] == COMMANDS[name]


def test_every_command_is_in_the_file_of_its_name():
    folder = Path(dptcli.cli.__file__).parent
    registering = {
        path.stem
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "register"
    }
    assert registering == set(COMMANDS)


def test_a_mistyped_command_is_answered_with_the_nearest(capsys):
    assert main(["dpeth", "photo.jpg"]) == 2
    assert "No such command 'dpeth'. Did you mean 'depth'?" in capsys.readouterr().err
