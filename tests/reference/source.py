"""The reference's own test files: of the installed version's source distribution, or of its tag.

Fetched when they are asked for and kept in the system's folder for temporary files, never in the
repository. The distribution (DPT_REFERENCE=1) holds the tests that all models share, as mixins,
without a model's own and without three modules that the mixins import and that say nothing of our
models. The tag's archive (DPT_REFERENCE=models) has every model's own file too;
DPT_REFERENCE_ARCHIVE names one of this machine instead.
"""

import contextlib
import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

PACKAGE = "reference_tests"
ARCHIVE = "https://github.com/huggingface/transformers/archive/refs/tags/v{version}.tar.gz"
TIMEOUT_S = 20.0  # without a byte
# The models whose own files are run; the backbones' are among them.
MODELS = (
    "beit",
    "bit",
    "depth_anything",
    "dinov2",
    "dinov2_with_registers",
    "dpt",
    "glpn",
    "prompt_depth_anything",
    "swinv2",
    "vitdet",
    "zoedepth",
)
_SHARED = ("generation", "utils", "exporters")  # what the shared tests import beside themselves
# What the shared tests import and what says nothing of our models (some of it the distribution
# leaves out), as far as they use it.
URLS = "fetch_hub_objects_for_ci"  # which the tests look for beside their folder
NO_PIPELINES = "class PipelineTesterMixin:\n    pass\n"  # which take models from the hub
_VALUES = (
    "config_common_kwargs = {{'return_dict': False, 'output_hidden_states': True, "
    "'output_attentions': True, '{dtype}': 'float16', 'architectures': ['TestModel'], "
    "'id2label': {{0: 'label'}}, 'label2id': {{'label': 0}}, 'problem_type': 'regression'}}\n"
)
STAND_INS = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": _VALUES.format(dtype="dtype"),
    "test_configuration_utils.py": _VALUES.format(dtype="torch_dtype"),  # in 4.x
}


def fetch(asked: str) -> str | None:
    """Put the package of the reference's tests on the path; None, or why it cannot be had.

    asked: "1" for what all models share, "models" for their own files too.
    """
    if os.environ.get("DPT_REFERENCE") != asked:
        return f"asked for with DPT_REFERENCE={asked}"
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return "transformers is not installed"
    root = _root(version)
    if not (root / PACKAGE / "__init__.py").exists():
        reason = _fetch_into(root, version)
        if reason is not None:
            return reason
    if str(root) not in sys.path:
        sys.path.append(str(root))
    return None


def own_files() -> list[str]:
    """The modules of the models' own files, where the source has them."""
    folder = _root(importlib.metadata.version("transformers")) / PACKAGE
    return sorted(
        ".".join((PACKAGE, *path.relative_to(folder).with_suffix("").parts))
        for path in folder.glob("models/*/test_*.py")
        if path.name.startswith(("test_modeling_", "test_image_processing_"))
        and not path.name.startswith(("test_modeling_tf_", "test_modeling_flax_"))
    )


def _root(version: str) -> Path:
    given = os.environ.get("DPT_REFERENCE_ARCHIVE")
    kind = "models" if given is None else Path(given).name.removesuffix(".tar.gz")
    of = f"-{kind}" if os.environ.get("DPT_REFERENCE") == "models" else ""
    return Path(tempfile.gettempdir()) / f"dptcli-reference-{version}{of}"


def _fetch_into(root: Path, version: str) -> str | None:
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        folder = Path(scratch)
        of_models = os.environ.get("DPT_REFERENCE") == "models"
        find = _archive_into if of_models else _distribution_into
        archive, reason = find(folder, version)
        if archive is None:
            return reason
        package = folder / PACKAGE
        _unpack(archive, package)
        if not package.is_dir():
            return f"{archive.name} holds no tests"
        for name, text in STAND_INS.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for inner in (package, *(path for path in package.rglob("*") if path.is_dir())):
            (inner / "__init__.py").touch()
        (package / "test_pipeline_mixin.py").write_text(NO_PIPELINES)
        (root / f"{URLS}.py").write_text("def url_to_local_path(url):\n    return url\n")
        # Another worker may have put it there meanwhile.
        with contextlib.suppress(OSError):
            package.rename(root / PACKAGE)
    return None if (root / PACKAGE).is_dir() else f"{root} cannot be written"


def _archive_into(folder: Path, version: str) -> tuple[Path | None, str]:
    """The archive of the version's tag, or why it cannot be had."""
    given = os.environ.get("DPT_REFERENCE_ARCHIVE")
    if given is not None:
        return Path(given), ""
    path = folder / f"v{version}.tar.gz"
    try:
        with urllib.request.urlopen(ARCHIVE.format(version=version), timeout=TIMEOUT_S) as stream:
            path.write_bytes(stream.read())
    except OSError as error:
        reason = getattr(error, "reason", error)
        return None, f"the archive of transformers {version} cannot be had ({reason})"
    return path, ""


def _distribution_into(folder: Path, version: str) -> tuple[Path | None, str]:
    """The source distribution, or why it cannot be had."""
    asked = ["--no-deps", "--no-binary", ":all:", "--dest", str(folder), f"transformers=={version}"]
    found = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", *asked],
        capture_output=True,
        text=True,
        check=False,
    )
    archives = list(folder.glob("*.tar.gz"))
    if archives:
        return archives[0], ""
    last = (found.stderr.strip().splitlines() or ["no archive"])[-1]
    return None, f"the source distribution of transformers {version} cannot be had ({last})"


def _unpack(archive: Path, package: Path) -> None:
    """Write the tests that are run, and what they import, below `package`."""
    with tarfile.open(archive) as members:
        for member in members:
            parts = Path(member.name).parts[1:]
            if not (member.isfile() and parts[:1] == ("tests",) and _is_wanted(parts[1:])):
                continue
            stream = members.extractfile(member)
            assert stream is not None
            path = package.joinpath(*parts[1:])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stream.read())


def _is_wanted(parts: tuple[str, ...]) -> bool:
    if ".." in parts or not parts[-1].endswith(".py"):
        return False
    if parts[0] == "models":
        return len(parts) == 3 and parts[1] in MODELS
    return len(parts) == 1 or (len(parts) == 2 and parts[0] in _SHARED)
