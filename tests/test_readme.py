"""The README keeps its word: its Python runs, its main job runs, its commands and options exist."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from process import DPT, environment

from dptcli.cli.commands import COMMANDS, load_command

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL_LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


def command_tree() -> dict[str, set[str]]:
    """{"eval depth": its options, …} of every command."""
    tree = {}

    def walk(command, words):
        options = {
            name
            for param in command.params
            for name in (*getattr(param, "opts", []), *getattr(param, "secondary_opts", []))
        }
        tree[" ".join(words)] = options
        for name, child in getattr(command, "commands", {}).items():
            walk(child, [*words, name])

    for name in COMMANDS:
        walk(load_command(name), [name])
    return tree


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the sample photographs, as the repository's root."""
    shutil.copytree(ROOT / "sample_images", tmp_path / "sample_images")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_python_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_main_job_gives_a_depth_picture_for_every_sample(here):
    [line] = [line for line in SHELL_LINES if line.startswith("pip install . &&")]
    words = shlex.split(line.split("&&")[1])
    assert words[0] == "dpt"
    done = subprocess.run(
        [*DPT, *words[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment(HF_HUB_OFFLINE="1"),
    )
    assert done.returncode == 0, done.stderr
    photos = [p for p in (here / "sample_images").iterdir() if p.suffix != ".md"]
    assert len(photos) == 8
    for photo in photos:
        with Image.open(here / "out" / f"{photo.stem}.png") as picture:
            assert picture.getextrema() != ((0, 0),) * 3
            assert len(picture.getcolors(1 << 20)) > 50, f"{photo.name}: depth is flat"


def test_commands_and_options_exist():
    tree = command_tree()
    lines = [line.split("#")[0] for line in SHELL_LINES if re.search(r"\bdpt ", line)]
    assert len(lines) > 15
    for line in lines:
        for call in re.findall(r"\bdpt ([^|&>]*)", line):
            words = shlex.split(call)
            name = " ".join(words[:2]) if " ".join(words[:2]) in tree else words[0]
            assert name in tree, call
            options = {word.split("=")[0] for word in words if re.match(r"-{1,2}[a-zA-Z0]", word)}
            assert options <= tree[name], call
    everything = set().union(*tree.values())
    for option in re.findall(r"`(--[a-z-]+)", README):
        assert option in everything, option
