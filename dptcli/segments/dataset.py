"""One COCO file of many photographs, gathered from each one's own."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from dptcli import __version__
from dptcli.counted import counted

logger = logging.getLogger(__name__)

_MADE_BY = "dpt segment"
# How each file of ours begins: we write them, in this order and without spaces.
_BEGIN = f'{{"info":{{"description":"{_MADE_BY}'.encode()


def about(model: str) -> dict[str, object]:
    """Return COCO's "info" of what a model has seen."""
    return {"description": f"{_MADE_BY}, {model}", "version": __version__}


def is_ours(path: Path) -> bool:
    """Whether a file is one of ours by its first bytes. Raises OSError."""
    with path.open("rb") as stream:
        return stream.read(len(_BEGIN)) == _BEGIN


def join_dataset(stream: BinaryIO, files: Iterable[Path], folder: Path) -> None:
    """Join a folder's files to one and warn of what it leaves out; see write_dataset."""
    if num_left_out := write_dataset(stream, files):
        logger.warning(
            "what joins %s leaves out %s: gone, with other classes, or a photograph's second",
            folder,
            counted(num_left_out, "file"),
        )


def write_dataset(stream: BinaryIO, files: Iterable[Path]) -> int:
    """Join photographs' COCO files to one, a file at a time; returns how many were left out.

    Images keep their ids, annotations are counted from 1. Left out are files that are gone or no
    COCO, that call a category otherwise than those before, and further ones of a photograph.
    """
    images: dict[int, dict[str, Any]] = {}
    names: dict[int, str] = {}
    num_annotations = num_left_out = 0
    stream.write(_BEGIN + b', a folder of results"},"annotations":[')
    for path in files:
        found = _read(path)
        if found is None or not _fits(found, images, names):
            num_left_out += 1
            continue
        names |= {category["id"]: category["name"] for category in found["categories"]}
        new_id = {}
        for image in found["images"]:
            own = image["id"]
            while own in images:
                own += 1
            new_id[image["id"]] = own
            images[own] = {**image, "id": own}
        for annotation in found["annotations"]:
            annotation["image_id"] = new_id[annotation["image_id"]]
            annotation["id"] = num_annotations + 1
            stream.write(b"," * (num_annotations > 0) + _json(annotation))
            num_annotations += 1
    categories = [{"id": label, "name": names[label]} for label in sorted(names)]
    stream.write(b'],"categories":' + _json(categories))
    stream.write(b',"images":' + _json(list(images.values())) + b"}\n")
    return num_left_out


def _fits(
    found: Mapping[str, Any], images: Mapping[int, Mapping[str, Any]], names: Mapping[int, str]
) -> bool:
    """Whether a file's photographs are not there yet and its categories are called the same."""
    called_the_same = all(
        names.get(category["id"], category["name"]) == category["name"]
        for category in found["categories"]
    )
    return called_the_same and not any(
        images.get(image["id"], {}).get("file_name") == image["file_name"]
        for image in found["images"]
    )


def _read(path: Path) -> dict[str, Any] | None:
    """Return a file's content, None where it is no COCO of ours."""
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        own = {image["id"] for image in content["images"] if image["file_name"] is not None}
        if all(annotation["image_id"] in own for annotation in content["annotations"]):
            _ = [(category["id"], category["name"]) for category in content["categories"]]
            return content
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
