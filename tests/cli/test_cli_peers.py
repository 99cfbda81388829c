"""Options of other programs: each is refused by name, with our word for it."""

import re

import pytest

from dptcli.cli import main
from dptcli.cli.commands import load_command
from dptcli.cli.terminal import peers
from dptcli.weights.catalog import names


def options_of(command):
    return {name for param in load_command(command).params for name in getattr(param, "opts", [])}


@pytest.mark.parametrize("command", ["depth", "segment"])
def test_no_word_of_another_program_is_accepted_silently(command):
    assert not set(peers.answers(command)) & options_of(command)
    assert len(peers.answers(command)) > 60


@pytest.mark.parametrize("command", ["depth", "segment"])
def test_what_is_said_instead_exists(command):
    known = options_of(command) | options_of("convert")
    for option, said in peers.answers(command).items():
        words = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", said))
        assert words <= known, f"{option}: {said}"


def test_the_models_that_are_said_instead_have_names():
    assert set(peers._MODELS.values()) <= set(names())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("depth -i a.jpg -o out", "-i is no option of dpt depth: inputs stand without an option"),
        ("depth a.jpg -o out --encoder vitb", "say -m depth-anything-v2-base"),
        ("depth a.jpg -o out --encoder=vits", "say -m depth-anything-v2-small"),
        ("depth a.jpg -o out -t DPT_Large", "say -m dpt-large"),
        ("depth a.jpg -o out --encoder resnet", "say -m with a name of `dpt models`"),
        ("depth a.jpg -o out --encoder", "say -m with a name of `dpt models`"),
        ("depth a.jpg -o out --input-size 518", "say --size"),
        ("depth a.jpg -o out --input_size=518", "--input_size is no option of dpt depth"),
        ("depth a.jpg --outdir out", "say -o"),
        ("depth a.jpg --output-dir out", "say -o"),
        ("depth a.jpg -o out --fp16", "say --dtype float16"),
        ("depth a.jpg -o out --pred-only", "leave it out"),
        ("segment -i a.jpg -o out", "dpt segment photos/ -o out/"),
        ("segment a.jpg -o out --encoder vitb", "say -m with a name of `dpt models`"),
        ("segment a.jpg -o out --opacity .5", "say --overlay"),
        ("eval depth --encoder vits", "No such option: --encoder"),
    ],
)
def test_another_programs_option_is_answered_with_ours(words, said, capsys):
    assert main(words.split()) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
