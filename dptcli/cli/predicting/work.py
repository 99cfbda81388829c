"""What decides a run's results but its images: by this a later run knows its own. Loads nothing."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dptcli.inputs.find import ImageSource

# Options that change no result: what is worked on and where to, and what is said about it.
NOT_WORK = frozenset(
    {"inputs", "from_file", "null", "no_recursive", "output", "overwrite", "skip_existing"}
    | {"as_json", "quiet", "verbose", "batch_size", "report", "shard", "root", "suffix", "dataset"}
    | {"engine", "ray_address", "workers", "gpus_per_worker", "watch"}
    | {"camera", "show"}
)
# The same function on another machine, a limit that only refuses; the model counts by its content,
# and so does each image's prompt.
_NOT_CONTENT = frozenset(
    {"model", "offline", "device", "max_pixels", "preview", "optimize"}
    | {"segment_model", "prompt"}
)
# Options that may name a file, whose content counts.
_FILES = ("anchors", "palette", "intrinsics", "boxes")


def content_options(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that decide results, by name, as text."""
    return {
        key: str(value)
        for key, value in given.items()
        if key not in NOT_WORK | _NOT_CONTENT and not is_usual(key, value)
    }


def is_usual(option: str, value: object) -> bool:
    """Whether an option's value is what results had before the option was there.

    Nothing is done again for it. Another runtime's results differ in their last digits at least.
    """
    usual = {
        "runtime": "torch",
        "exact": False,
        "no_exact": False,
        "colmap": None,
        "poses": None,
        "panorama": False,
        "no_panorama": False,
    }
    return option in usual and usual[option] == value


def work_hash(
    options: Mapping[str, str], models: Sequence[str], sources: "Iterable[ImageSource]" = ()
) -> str:
    """Hash what decides results: options, the models' hashes, the files that options name.

    sources: all images of the run, where each result depends on all of them.
    """
    digest = hashlib.blake2b(json.dumps([*models, sorted(options.items())]).encode(), digest_size=8)
    for name in _FILES:
        path = Path(options.get(name, "None"))
        if path.is_file():
            digest.update(path.read_bytes())
        elif name == "boxes" and path.is_dir():  # a text for each photograph
            for text in sorted(path.rglob("*.txt")):
                digest.update(os.fsencode(f"\0{text}"))
                digest.update(text.read_bytes())
    if "colmap" in options:
        from dptcli.depth.sparse import sparse_digest

        digest.update(sparse_digest(Path(options["colmap"])).encode())
    if "poses" in options:
        from dptcli.depth.poses import poses_digest

        digest.update(poses_digest(options["poses"]).encode())
    for source in sources:
        digest.update(os.fsencode(f"\0{source.relative}"))
        try:
            status = source.path.stat() if source.path is not None else None
        except OSError:  # its failure is named when it is read
            continue
        if status is not None:
            digest.update(b"%d %d" % (status.st_size, status.st_mtime_ns))
    return digest.hexdigest()
