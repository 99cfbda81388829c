"""What `dpt segment` writes for one photograph: the picture and the files beside it."""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dptcli.remote.places import RemotePath
from dptcli.results.sidecar import TEXT_KEY
from dptcli.results.writers import write_whole
from dptcli.segments.dataset import about
from dptcli.segments.maskfiles import (
    Style,
    write_class_mask,
    write_label_mask,
    write_layer,
    write_legend,
    write_overlay,
    write_scores,
)
from dptcli.segments.masks import shares
from dptcli.segments.regions import coco

Main = Literal["mask", "overlay", "layer"]


@dataclass(frozen=True)
class SegmentOutputs:
    """The files of a run, the same for every photograph.

    main: what goes to the first file. also: the kinds of the further files, in the order of a
    job's files. names: class id -> name. split: write a folder of one mask a class.
    """

    style: Style
    names: Mapping[int, str]
    model: str
    main: Main = "mask"
    also: tuple[str, ...] = ()
    split: bool = False

    def write(
        self,
        path: Path | None,
        beside: Mapping[str, Path],
        labels: NDArray[np.integer],
        *,
        rgb: NDArray[np.uint8] | None,
        scores: NDArray[np.floating] | None,
        photo: Mapping[str, str],
        name: str = "",
        keep: frozenset[Path] = frozenset(),
    ) -> dict[str, object]:
        """Write one photograph's files and return what is worth telling about it.

        path: the first file, None for standard output; beside: the others by kind; keep: files that
        stay as they are. photo: {"photo": where it lies}. Raises ImageError.
        """
        facts = {"model": self.model, "kind": "labels", **photo}
        by_size = shares(labels)
        writers: dict[str, Callable[[BinaryIO], None]] = {
            "mask": lambda stream: write_label_mask(stream, labels, style=self.style, facts=facts),
            "legend": lambda stream: write_legend(
                stream, by_size, self.names, style=self.style, facts=facts
            ),
            "coco": lambda stream: self._coco(stream, labels, name, "rle"),
            "polygons": lambda stream: self._coco(stream, labels, name, "polygons"),
            "layer": lambda stream: write_layer(
                stream, labels, style=self.style, facts={**facts, "kind": "labels_picture"}
            ),
        }
        if scores is not None:
            found = scores
            kept, first_id = self.style.kept, self.style.first_id
            writers["scores"] = lambda stream: write_scores(
                stream, found, self.names, kept=kept, first_id=first_id
            )
        if rgb is not None:
            photograph = rgb
            writers["overlay"] = lambda stream: write_overlay(
                stream,
                labels,
                rgb=photograph,
                style=self.style,
                facts={**facts, "kind": "labels_picture"},
            )
        for kind in self.also:
            if beside[kind] not in keep:
                write_whole(beside[kind], writers[kind])
        if self.split and path is not None:
            self._split(path.with_suffix(".classes"), labels, facts)
        # Last: a run that goes on after an interruption looks for this one.
        if path is None or path not in keep:
            write_whole(path, writers[self.main])
        return {"kind": "labels", "shares": self._told(by_size)}

    def _told(self, by_size: Mapping[int, float]) -> dict[str, float]:
        """Shares by the class's name, by its id (in masks) where two classes share the name."""
        counts = Counter(self.names.values())
        told = {}
        for label, share in by_size.items():
            name = self.names.get(label, str(label))
            key = name if counts[name] <= 1 else str(label + self.style.first_id)
            told[key] = round(share, 6)
        return told

    def _coco(
        self,
        stream: BinaryIO,
        labels: NDArray[np.integer],
        name: str,
        shape: Literal["rle", "polygons"],
    ) -> None:
        kept = self.style.kept
        names = {k: name for k, name in self.names.items() if kept is None or k in kept}
        content: dict[str, Any] = coco(
            labels,
            names,
            file_name=name,
            shape=shape,
            first_id=self.style.first_id,
            info=about(self.model),
        )
        stream.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")

    def _split(
        self, folder: Path, labels: NDArray[np.integer], facts: Mapping[str, object]
    ) -> None:
        kept = self.style.kept
        written = set()
        # The classes that were asked for, there or not; else those that are there.
        for label in np.unique(labels).tolist() if kept is None else kept:
            name = file_name(label, self.names, first_id=self.style.first_id)
            said = {**facts, "name": self.names.get(label, str(label))}

            def write(stream: BinaryIO, label: int = label, said: Any = said) -> None:
                write_class_mask(stream, labels, label, first_id=self.style.first_id, facts=said)

            write_whole(folder / f"{name}.png", write)
            written.add(f"{name}.png")
        if not isinstance(folder, RemotePath):
            _remove_earlier(folder, written)


def _remove_earlier(folder: Path, written: set[str]) -> None:
    """Remove the masks of classes that an earlier photograph of this name had; only our own."""
    for path in folder.glob("*.png"):
        if path.name in written:
            continue
        with contextlib.suppress(OSError, ValueError), Image.open(path) as picture:
            facts = json.loads(getattr(picture, "text", {}).get(TEXT_KEY, "{}"))
            if facts.get("kind") == "class_mask":
                path.unlink()


def file_name(label: int, names: Mapping[int, str], *, first_id: int = 0) -> str:
    """Return a class's name as a file name: letters and digits, the id where two would share it.

    first_id: the id of class 0, as in masks.
    """

    def plain(name: str) -> str:
        first = re.split(r"[,;/]", name)[0]
        return re.sub(r"[^\w]+", "-", first.casefold()).strip("-_")[:60]

    own = plain(names.get(label, ""))
    shared = sum(plain(name) == own for name in names.values()) > 1
    number = label + first_id
    return f"{own}-{number}" if own and shared else own or f"class-{number}"
