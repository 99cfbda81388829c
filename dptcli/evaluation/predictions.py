"""Predictions that were made earlier: a folder of maps that mirrors the photographs' tree."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import ImageError, UsageError
from dptcli.evaluation.maps import MAP_SUFFIXES, StoredMap, read_map
from dptcli.evaluation.measure import DepthPrediction
from dptcli.evaluation.pairs import DEPTH_KINDS, LABELS, Pair, PairSet
from dptcli.inputs.decode import printable
from dptcli.kinds import is_kind

logger = logging.getLogger(__name__)

# What `dpt depth` adds to a name where a PNG would be taken for a picture.
_OUR_SUFFIXES = (".depth16.png", ".depth-mm.png", ".depth-x256.png")
# Exact values first, and the picture of a run that wrote both last: it is for the eye.
_DEPTH_SUFFIXES = (*MAP_SUFFIXES[:-1], *_OUR_SUFFIXES, MAP_SUFFIXES[-1])

Kind = Literal["depth_m", "depth", "inverse_depth", "disparity"]


class StoredPredictions:
    """Maps in a folder, found by the photograph's path: FOLDER/SET/a.png or, for one set, FOLDER/a.

    The suffix is that of any map format (.npy, .png, …). `depth` and `labels` are predictors for
    `evaluation`. kind: what the depths hold, for files that do not say it themselves (our own do,
    and others may in NAME.json). scale: what stored depths are divided by, unless a file says it.
    """

    def __init__(
        self,
        folder: str | Path,
        sets: Sequence[PairSet],
        *,
        kind: str | None = None,
        scale: float | None = None,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UsageError(f"--predictions {printable(folder)!r} is no folder; check the path")
        self._sets = {pair: pairs.name for pairs in sets for pair in pairs.pairs}
        self._alone = len(sets) == 1
        self._kind = kind
        self._scale = scale
        if not any(self._find(pair) for pair in self._sets):
            first = self._candidates(next(iter(self._sets)))[0]
            raise UsageError(
                f"{printable(self.folder)!r} holds no prediction for any image; the first one's "
                f"would be {printable(first)} with {', '.join(MAP_SUFFIXES)}"
            )

    def depth(self, pair: Pair) -> DepthPrediction:
        """Return a photograph's depth. Raises ImageError where it is missing or unreadable."""
        stored, path = self._read(pair)
        kind = self._kind_of(stored, path)
        scale = self._scale or stored.facts.get("scale") or 1.0
        return DepthPrediction(stored.decoded() / float(scale), kind)

    def depth_kind(self) -> str:
        """Return what the depths hold, by the option or the first file that can be read."""
        if self._kind is not None:
            return self._kind
        reason = "it holds no prediction"
        for pair in self._sets:
            try:
                return self._kind_of(*self._read(pair))
            except ImageError as error:
                reason = str(error)
        raise UsageError(f"no map in {printable(self.folder)!r} can be used: {reason}")

    def labels(self, pair: Pair) -> NDArray[np.int64]:
        """Return a photograph's class ids. Raises ImageError."""
        stored, path = self._read(pair, MAP_SUFFIXES)
        if stored.values.dtype.kind not in "bui" or stored.facts.get("kind", LABELS) != LABELS:
            raise ImageError(f"{printable(path)} holds no class ids; a mask's pixels are integers")
        return stored.values.astype(np.int64)

    def label_names(self) -> dict[int, str]:
        """Return the names in labels.json, as `dpt segment` writes it beside its masks, or none."""
        folders = [
            self.folder,
            *(self.folder / name for name in dict.fromkeys(self._sets.values())),
        ]
        for path in (folder / "labels.json" for folder in folders):
            if path.is_file():
                return _read_names(path)
        return {}

    def _read(
        self, pair: Pair, suffixes: Sequence[str] = _DEPTH_SUFFIXES
    ) -> tuple[StoredMap, Path]:
        path = self._find(pair, suffixes)
        if path is None:
            wanted = printable(self._candidates(pair)[0])
            raise ImageError(
                f"{pair.name} has no prediction; it would be {wanted} with .npy or .png"
            )
        return read_map(path), path

    def _kind_of(self, stored: StoredMap, path: Path) -> str:
        kind = self._kind or stored.facts.get("kind")
        if kind is None:
            raise UsageError(
                f"{printable(path)} does not say whether large is near or far; give "
                f"--prediction-kind {', '.join(DEPTH_KINDS[:-1])} or {DEPTH_KINDS[-1]}"
            )
        if kind not in DEPTH_KINDS and not is_kind(kind):
            raise UsageError(
                f"{printable(path)} holds {kind!r}, not depth: {', '.join(DEPTH_KINDS)}"
            )
        return str(kind)

    def _candidates(self, pair: Pair) -> list[Path]:
        """Where a prediction may lie, without its suffix."""
        places = places_of(pair, set_name=self._sets[pair], alone=self._alone)
        return [(self.folder / place).with_suffix("") for place in places]

    def _find(self, pair: Pair, suffixes: Sequence[str] = _DEPTH_SUFFIXES) -> Path | None:
        for base in self._candidates(pair):
            for suffix in suffixes:
                path = base.with_name(base.name + suffix)
                if path.is_file():
                    return path
        return None


def places_of(pair: Pair, *, set_name: str, alone: bool) -> list[PurePosixPath]:
    """Where, below a folder of maps for these sets, the map of a photograph may lie, best first.

    SET/a.jpg or, where there is one set alone, a.jpg too; with the photograph's suffix.
    """
    inside = PurePosixPath(pair.name)
    if inside.is_absolute() or ".." in inside.parts:
        inside = PurePosixPath(inside.name)  # never look outside the folder
    places = [inside]
    if len(inside.parts) > 1 and inside.parts[0] == "images":
        places.append(inside.relative_to("images"))  # `dpt depth SET/images` leaves it out
    roots = [PurePosixPath(), PurePosixPath(set_name)] if alone else [PurePosixPath(set_name)]
    return [root / place for root in roots for place in places]


def _read_names(path: Path) -> dict[int, str]:
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        return {int(label): str(name) for label, name in labels.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{printable(path)} does not name classes ({error!r}); it needs "
            '{"labels": {"0": "sky", …}}'
        ) from error
