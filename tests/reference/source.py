"""The reference's own test files, from the source distribution of the installed version.

Fetched when they are asked for and kept in the system's folder for temporary files, never in the
repository. The distribution holds the tests that all models share, as mixins; a model's own file
is not in it, nor are three modules that the mixins import and that say nothing of our models.
"""

import importlib.metadata
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "reference_tests"
# What the shared tests import and the distribution leaves out, as far as they use it.
URLS = "fetch_hub_objects_for_ci"  # which the tests look for beside their folder
STAND_INS = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": (
        "config_common_kwargs = {'return_dict': False, 'output_hidden_states': True, "
        "'output_attentions': True, 'dtype': 'float16', 'architectures': ['TestModel'], "
        "'id2label': {0: 'label'}, 'label2id': {'label': 0}, 'problem_type': 'regression'}\n"
    ),
}


def fetch() -> str | None:
    """Put the package of the reference's tests on the path; None, or why it cannot be had."""
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return "transformers is not installed"
    root = Path(tempfile.gettempdir()) / f"dptcli-reference-{version}"
    if not (root / PACKAGE / "__init__.py").exists():
        reason = _fetch_into(root, version)
        if reason is not None:
            return reason
    if str(root) not in sys.path:
        sys.path.append(str(root))
    return None


def _fetch_into(root: Path, version: str) -> str | None:
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        asked = ["--no-deps", "--no-binary", ":all:", "--dest", folder, f"transformers=={version}"]
        found = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", *asked],
            capture_output=True,
            text=True,
            check=False,
        )
        archives = list(Path(folder).glob("*.tar.gz"))
        if not archives:
            last = (found.stderr.strip().splitlines() or ["no archive"])[-1]
            return f"the source distribution of transformers {version} cannot be had ({last})"
        package = Path(folder) / PACKAGE
        with tarfile.open(archives[0]) as archive:
            for member in archive:
                parts = Path(member.name).parts
                if len(parts) == 3 and parts[1] == "tests" and member.isfile():
                    stream = archive.extractfile(member)
                    assert stream is not None
                    package.mkdir(exist_ok=True)
                    (package / parts[2]).write_bytes(stream.read())
        if not package.is_dir():
            return f"the source distribution of transformers {version} holds no tests"
        for name, text in STAND_INS.items():
            path = package / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            (path.parent / "__init__.py").touch()
        (package / "__init__.py").touch()
        (root / f"{URLS}.py").write_text("def url_to_local_path(url):\n    return url\n")
        package.rename(root / PACKAGE)
    return None
