"""A short name for a model's content, so that a result says which weights made it."""

import hashlib
from pathlib import Path

from dptcli.weights.folder import CONFIG_NAME, files_of

_BLOCK = 64 * 1024
_MAX_BLOCKS = 1024


def weights_hash(folder: Path) -> str:
    """Return "blake2b:" and 16 hex digits of a model's configuration and weights.

    Files up to 64 MiB are read whole; of larger ones the size, the head and 1,024 evenly spaced
    blocks, 0.1 s for any model: training changes nearly every number, so it changes the hash.
    """
    from dptcli.weights.format import Checkpoint  # it loads torch, which model_hash does without

    digest = hashlib.blake2b(digest_size=8)
    for path in (folder / CONFIG_NAME, *Checkpoint(folder).files()):
        _add(digest, path)
    return f"blake2b:{digest.hexdigest()}"


def model_hash(model: Path) -> str:
    """Return the same of all that decides a model's results: how it prepares images, too.

    model: a folder in the hub's layout or an original file. Raises ModelError for a folder that
    lacks a file.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in [model] if model.is_file() else files_of(model):
        _add(digest, path)
    return f"blake2b:{digest.hexdigest()}"


def _add(digest: "hashlib.blake2b", path: Path) -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    step = max(_BLOCK, size // _MAX_BLOCKS)
    with path.open("rb") as stream:
        for start in range(0, size, step):
            stream.seek(start)
            digest.update(stream.read(_BLOCK))
