"""What goes back: one file as it is, or several in a ZIP."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dptcli.results.plan import Job

_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".tiff": "image/tiff",
    ".exr": "image/x-exr",
    ".glb": "model/gltf-binary",
    ".json": "application/json",
    ".zip": "application/zip",
}
_MOST_FACTS = 4000  # bytes of a header; proxies take 8 KB for all of them


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A file to send. facts: what `--json` says of an image, in ASCII, where it is short."""

    path: Path
    name: str
    facts: str | None = None

    @property
    def media_type(self) -> str:
        """The file's kind as HTTP names it."""
        return _TYPES.get(self.path.suffix, "application/octet-stream")


def pack(
    job: Job, facts: Mapping[str, Any], *, folder: Path, results: Path, as_zip: bool
) -> Answer:
    """Return the one file of a job, or all that lies in `results` as a ZIP made in `folder`."""
    told = {key: value for key, value in facts.items() if key != "files"}
    line = json.dumps(told, default=str)
    short = line if len(line) <= _MOST_FACTS else None
    main = job.files or ((job.path,) if job.path is not None else ())
    stem = job.source.relative.stem
    if len(main) == 1 and not as_zip:
        return Answer(path=main[0], name=main[0].name, facts=short)
    packed = folder / "results.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(results.rglob("*")):
            if path.is_file():
                is_packed = path.suffix in {".png", ".jpg", ".webp", ".npz"}
                method = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
                archive.write(path, path.relative_to(results), method, compresslevel=1)
    return Answer(path=packed, name=f"{stem}.zip", facts=short)
