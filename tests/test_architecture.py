"""The map of the house, enforced: who may import whom, and what `dpt --help` loads."""

import ast
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from process import DPT, environment

import dptcli

ROOT = Path(dptcli.__file__).parent
PACKAGE = ROOT.name

# Everything may import these; they import nothing of ours but each other.
COMMON = {"errors", "files", "remote", "depth.formats"}
# The way of an image, in order: a stage may import the stages before it.
STAGES = [
    "machine",
    "decode",
    "sidecar",
    "content",
    "inputs",
    "filelist",
    "evaluation.maps",
    "evaluation.pairs",
    "processing.target_size",
    "processing.bicubic",
    "processing.postprocess",
    "processing.config",
    "processing.pixels",
    "processing.batch",
    "processing.labels",
    "processing.processor",
    "processing.zoe",
    "processing.auto",
    "depth.colormaps",
    "segments.palettes",
    "segments.masks",
    "segments.regions",
    "depth.anchors",
    "depth.depthmap",
    "depth.guided",
    "depth.camera",
    "depth.geometry",
    "png",
    "writers",
    "segments.maskfiles",
    "segments.outputs",
    "depth.rawfiles",
    "depth.shapes",
    "depth.picture",
    "restore",
    "plan",
    "report",
    "jobs",
    "ledger",
    "leftovers",
    "resume",
    "runreport",
    "gallery",
    "video.smoothing",
    "video.read",
    "video.write",
    "evaluation.metrics",
    "evaluation.labelmaps",
    "evaluation.measure",
    "evaluation.predictions",
    "evaluation.plots",
]
STAGE_PACKAGES = {"depth", "evaluation", "processing", "segments", "video"}
ALLOWED = {
    **{package: set() for package in STAGE_PACKAGES},  # their __init__ holds one sentence
    "__init__": set(),
    "__main__": {"cli"},
    "model": {"model"},
    "weights": {"weights", "model", "processing.processor", "processing.zoe"},
    **{stage: {*STAGES[:index], stage} for index, stage in enumerate(STAGES)},
    "batches": set(),
    "tiles": set(),
    "canvas": {"processing.processor"},
    "network": {"batches", "tiles", "weights", "model"},
    "pipeline": {*STAGES, "weights", "model", "batches", "canvas", "network"},
    "predict": {*STAGES, "weights", "pipeline"},
    "video.sequence": {*STAGES, "pipeline"},
    "engine_ray": {*STAGES, "pipeline", "batches", "network", "engine_ray"},
    "export": {"weights"},
    "depth.outputs": {*STAGES, "weights"},
    "depth.twopass": {*STAGES, "weights", "pipeline"},
    "training": {*STAGES, "weights", "model", "training", "pipeline"},
    "together": {*STAGES, "weights", "model", "network", "pipeline"},
    "benchmark": {*STAGES, "weights", "pipeline", "depth.outputs", "export", "benchmark"},
    "cli": {*STAGES, "weights", "model", "training", "pipeline", "cli", "together"}
    | {"depth.outputs", "depth.twopass", "video.sequence", "export", "benchmark", "engine_ray"},
}
# Imports inside a function that a layer may make beyond its row, with the reason.
INSIDE_FUNCTIONS = {
    "processing.processor": {"weights"},  # from_pretrained with a name of the hub
    "model": {"weights"},  # from_pretrained and save_pretrained: the one bridge to the files
}
# What a layer never touches, whatever its place.
FOREIGN_TO = {
    "model": {"PIL", "rich", "typer", "matplotlib", "safetensors", "huggingface_hub"},
    **{stage: {"rich", "typer"} for stage in STAGES},
    "pipeline": {"rich", "typer", "PIL"},
    "weights": {"rich", "typer", "matplotlib"},
}
LIGHT = {"cli", "__init__", "__main__"}  # no torch when they are imported
HEAVY = {"torch", "transformers", "matplotlib", "safetensors", "huggingface_hub", "numpy", "PIL"}
HEAVY |= {"pydantic"}  # Typer loads it to read options' values: not for help


def layer_of(path):
    return layer_name(path.relative_to(ROOT).with_suffix("").parts)


def layer_name(parts):
    """A file of a package of stages is a layer of its own; other packages are one layer."""
    if parts[0] in STAGE_PACKAGES and len(parts) > 1 and parts[1] != "__init__":
        return ".".join(parts[:2])
    return parts[0]


def module_files():
    return sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)


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
            assert node.level == 0, f"{path}: relative imports hide the layer"
            module = node.module or ""
            # `from dptcli import pipeline` imports a module, `from dptcli.x import y` a name.
            names = [f"{module}.{alias.name}" for alias in node.names]
            of_modules = module == PACKAGE or module.partition(".")[2] in STAGE_PACKAGES
            found.extend((name, inside) for name in (names if of_modules else [module]))
        for child in ast.iter_child_nodes(node):
            inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            visit(child, inside or inner)

    visit(tree, inside=False)
    return found


@pytest.mark.parametrize("path", module_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_layer_may(path):
    layer = layer_of(path)
    assert layer in ALLOWED | dict.fromkeys(COMMON), f"{layer} has no row in the import table"
    allowed = COMMON | ALLOWED.get(layer, set())
    for name, inside in imports(path):
        top, _, rest = name.partition(".")
        if top != PACKAGE:
            assert top not in FOREIGN_TO.get(layer, set()), f"{layer} may not import {name}"
            continue
        target = layer_name(rest.split(".")) or "__init__"
        if target.startswith("__"):
            continue  # __version__
        extra = INSIDE_FUNCTIONS.get(layer, set()) if inside else set()
        assert target in allowed | extra, f"{layer} may not import {name}"


@pytest.mark.parametrize(
    "path",
    [path for path in module_files() if layer_of(path) in LIGHT],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_command_line_loads_nothing_heavy_when_it_is_imported(path):
    at_top = {name.split(".")[0] for name, inside in imports(path) if not inside}
    if path.name != "console.py":  # imported by commands when they run
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
