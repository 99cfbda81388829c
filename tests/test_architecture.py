"""The map of the house, enforced: who may import whom, and what `dpt --help` loads."""

import ast
import functools
import resource
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from process import DPT, environment

import dptcli
from dptcli.model.families import families

ROOT = Path(dptcli.__file__).parent
PACKAGE = ROOT.name

# Everything may import these; they import nothing of ours but what their own row allows.
COMMON = {"counted", "errors", "kinds", "remote"}
# Who may import whom, a line a package; a package may always import itself. Files may import each
# other across two packages both ways, as long as no circle of files comes of it (tested below).
VALUES = {"inputs", "processing", "results", "depth", "segments", "evaluation", "panorama"}
NETWORK = {"model", "fast", "weights"}
ALLOWED: dict[str, set[str]] = {
    "counted": set(),
    "errors": set(),
    "kinds": set(),
    "remote": set(),
    "inputs": set(),
    "panorama": set(),
    "processing": {"inputs", "results", "model"},
    "model": set(),
    "fast": {"model"},
    "weights": {"model", "fast", "processing", "results"},
    "results": {"inputs", "depth", "evaluation"},
    "depth": {*VALUES, "weights", "records", "running", "pipeline"},
    "segments": {"inputs", "results", "depth"},
    "evaluation": {"inputs", "results", "depth"},
    "records": {"inputs", "results", "running"},
    "running": {*VALUES, *NETWORK, "records", "pipeline"},
    "runtimes": {"fast", "model", "weights", "results", "running", "export"},
    "pipeline": {*VALUES, *NETWORK, "records", "running", "runtimes"},
    "predict": {"depth", "panorama", "processing", "weights", "pipeline"},
    "video": {"inputs", "results", "records", "running", "pipeline"},
    "gallery": {"inputs", "results", "depth", "evaluation", "records", "running"},
    "engine_ray": {"inputs", "results", "records", "running", "pipeline"},
    "serving": {"inputs", "processing", "results", "records", "running", "pipeline"},
    "export": {"results", "weights"},
    "benchmark": {*VALUES, *NETWORK, "running", "runtimes", "pipeline", "export"},
    "training": {*VALUES, *NETWORK, "pipeline"},
    "cli": {
        *VALUES,
        "model",
        "weights",
        "records",
        "running",
        "pipeline",
        "video",
        "gallery",
        "engine_ray",
        "serving",
        "runtimes",
    }
    | {"export", "benchmark", "training"},
    "__init__": set(),
    "__main__": {"cli"},
}
# Imports inside a function that a package may make beyond its row, with the reason.
INSIDE_FUNCTIONS = {
    "__init__": {"model"},  # the public names that families add
    "processing": {"weights"},  # from_pretrained with a name of the hub
    "model": {"weights", "results"},  # from_pretrained and save_pretrained: the bridge to the files
}
# Imports that close a circle of files, each with its reason; they stand inside functions.
BRIDGES = {
    (
        "dptcli.model.pretrained",
        "dptcli.weights.build",
    ): "from_pretrained reads a model's files",
}
# What a package never touches, whatever its place.
FOREIGN_TO = {
    "model": {"PIL", "rich", "typer", "matplotlib", "safetensors", "huggingface_hub"},
    "fast": {"PIL", "rich", "typer", "matplotlib", "safetensors", "huggingface_hub"},
    "pipeline": {"rich", "typer", "PIL"},
    "weights": {"rich", "typer", "matplotlib"},
    **{package: {"rich", "typer"} for package in (*VALUES, "records", "running", "video")},
    "serving": {"rich", "typer"},
}
LIGHT = {"cli", "__init__", "__main__"}  # no torch when they are imported
HEAVY = {"torch", "transformers", "matplotlib", "safetensors", "huggingface_hub", "numpy", "PIL"}
HEAVY |= {"fastapi", "starlette", "uvicorn", "prometheus_client"}  # `dpt serve` alone
HEAVY |= {"pydantic"}  # Typer loads it to read options' values: not for help


def package_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def is_family_processor(path):
    """A family's processor stands beside its model, and is of the processors' package."""
    return path.match("model/families/*/processor.py")


def module_name(path):
    return ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    )


def module_files():
    return sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)


@functools.cache
def imports(path):
    """(imported module, whether inside a function), without imports that only types need."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []

    def visit(node, inside):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the package"
            # `from dptcli.a import b` may import the module a.b, or a name of a.
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            found.extend((name if name in MODULES else node.module, inside) for name in named)
        for child in ast.iter_child_nodes(node):
            inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            visit(child, inside or inner)

    visit(tree, inside=False)
    return found


MODULES = {module_name(path): path for path in module_files()}


@pytest.mark.parametrize("path", module_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_package_may(path):
    package = "processing" if is_family_processor(path) else package_of(path)
    assert package in ALLOWED, f"{package} has no row in the import table"
    allowed = {package, *COMMON, *ALLOWED[package]}
    for name, inside in imports(path):
        top, _, rest = name.partition(".")
        if top != PACKAGE:
            assert top not in FOREIGN_TO.get(package, set()), f"{package} may not import {name}"
            continue
        target = rest.partition(".")[0]
        if not target:
            continue  # __version__
        extra = INSIDE_FUNCTIONS.get(package, set()) if inside else set()
        assert target in allowed | extra, f"{package} may not import {name}"


def test_a_family_is_named_in_its_own_folder_alone():
    names = {family.package.rpartition(".")[2] for family in families()} - {"dpt"}
    classes = {
        name for family in families() if family.title != "DPT" for name in family.public_names()
    }
    assert names
    for path in module_files():
        if "families" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        used |= {part for name, _ in imports(path) for part in name.split(".")}
        named = {str(name) for name in used} & (names | classes)
        assert not named, f"{path}: names {named}; a family's own folder knows it"


def circle(*, without):
    """The files in circles of imports, those inside functions counted; `without` these imports."""
    graph = {
        name: {
            target
            for target, _inside in imports(path)
            if target in MODULES and target != name and (name, target) not in without
        }
        for name, path in MODULES.items()
    }
    # Taking away what imports nothing that is left must take away everything.
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    # And what nothing that is left imports is in no circle itself.
    while tops := graph.keys() - set().union(*graph.values()):
        graph = {name: targets for name, targets in graph.items() if name not in tops}
    return graph


def test_no_circle_of_files():
    found = circle(without=BRIDGES)
    assert not found, f"these import each other in a circle: {found}"


@pytest.mark.parametrize("bridge", BRIDGES, ids="->".join)
def test_each_bridge_is_still_needed(bridge):
    assert circle(without=BRIDGES.keys() - {bridge})


@pytest.mark.parametrize(
    "path",
    [path for path in module_files() if package_of(path) in LIGHT],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_command_line_loads_nothing_heavy_when_it_is_imported(path):
    at_top = {name.split(".")[0] for name, inside in imports(path) if not inside}
    assert not at_top & HEAVY


@pytest.mark.parametrize(
    "words", [["--help"], ["depth", "--help"], ["eval", "depth", "--help"], ["--version"]]
)
def test_help_loads_nothing_heavy(words):
    code = (
        "import sys; from dptcli.cli import main; code = main(sys.argv[1:]); "
        f"print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stderr.strip() == ""
    assert done.stdout


@pytest.mark.parametrize("command", ["depth", "segment"])
def test_words_are_read_without_the_library_that_would_only_copy_them(command):
    code = (
        "import sys; from dptcli.cli import main; "
        f"main([{command!r}, 'no-such-file', '-o', 'out', '-m', 'dpt-small', '--page', '2']); "
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert "no such file or folder: 'no-such-file'" in done.stderr
    assert done.stdout == "False\n"


def test_help_takes_a_fraction_of_a_second():
    def cpu_s():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    spent = []
    for _ in range(3):
        before = cpu_s()
        subprocess.run(
            [*DPT, "depth", "--help"], capture_output=True, check=True, env=environment()
        )
        spent.append(cpu_s() - before)
    # 0.3 s is the promise on an idle machine; on a busy one the same work takes up to 0.5 s of
    # processor time, and importing torch would add 2 s.
    assert min(spent) < 0.9, spent


def test_the_public_names_are_those_that_are_promised():
    for name in dptcli.__all__:
        assert getattr(dptcli, name) is not None
    with pytest.raises(AttributeError, match="DPTNonsense"):
        _ = dptcli.DPTNonsense


def test_modules_stay_short_enough_to_read():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in module_files()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long, f"split these by idea: {long}"


def test_the_version_is_said_once():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "dptcli.__version__"


def test_no_two_test_files_have_one_name():
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []  # pytest takes one of them
