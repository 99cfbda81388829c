"""Metres kept with a model: one scale and shift over all known distances, tried on photographs
that the fit did not see.
"""

import csv
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.anchors import FITS, Anchors, sample_at
from dptcli.errors import DptError, ImageError, UsageError
from dptcli.evaluation.pairs import Pair, read_depth, read_pairs
from dptcli.inputs.decode import printable
from dptcli.kinds import Kind, kind_of
from dptcli.pipeline import Pipeline
from dptcli.weights.calibration import KEY, Calibration
from dptcli.weights.folder import CONFIG_NAME
from dptcli.weights.load import LoadedModel

logger = logging.getLogger(__name__)

_MOST_OF_ONE = 2000  # of a photograph's distances: each counts about alike
_MOST_FOLDS = 5


@dataclass(frozen=True)
class Known:
    """A photograph and what is known of it: network values (N,) and metres (N,) of its places."""

    name: str
    values: NDArray[np.float64]
    metres: NDArray[np.float64]


@dataclass(frozen=True)
class Held:
    """How well a fit held on photographs that it did not see: means over them.

    own_error: the same with each photograph fitted to itself, which no fit over all can beat much.
    """

    num: int
    error: float
    share_within_25: float
    own_error: float

    def facts(self) -> dict[str, Any]:
        """Return what is said and kept."""
        return {
            "num_photographs": self.num,
            "abs_rel": round(self.error, 6),
            "delta_1.25": round(self.share_within_25, 6),
            "abs_rel_fitted_each": round(self.own_error, 6),
        }


def raw_model(loaded: LoadedModel) -> LoadedModel:
    """The model with what its network gives, without an earlier calibration. Raises UsageError."""
    if kind_of(loaded.model.config) not in ("inverse_depth", "depth"):
        raise UsageError(f"model {loaded.name!r} gives metres already; take a relative one")
    loaded.model.config = loaded.model.config.replace(**{KEY: None})
    return loaded


def gather(pipeline: Pipeline, pairs: str) -> list[Known]:
    """Predict each photograph of PAIRS, and take its values where a distance is known.

    pairs: a set as `dpt eval` reads it, or a CSV of image,x,y,metres. A photograph that cannot be
    read is warned of. Raises UsageError where none is left.
    """
    table = Path(pairs)
    anchored = _anchored(table) if table.is_file() else None
    items: Sequence[tuple[Path, Anchors | Pair]]
    if anchored is not None:
        items = [*anchored.items()]
    else:
        items = [(pair.image, pair) for pair in read_pairs(pairs, task="depth").pairs]
    found = []
    for image, known in items:
        try:
            prediction = pipeline.predict_one(image)
            anchors = known if isinstance(known, Anchors) else _of_map(known)
            values = np.asarray(prediction.values, np.float32)
            at = sample_at(values, anchors, prediction.source_hw)
        except (ImageError, UsageError) as error:
            logger.warning("%s is left out: %s", printable(image), error)
            continue
        good = np.isfinite(at)
        if good.any():
            found.append(Known(str(image), at[good], anchors.metres[good]))
    if not found:
        raise UsageError(f"{printable(pairs)} leaves no photograph with a known distance")
    return found


def fit(known: Sequence[Known], kind: Kind) -> Calibration:
    """One scale and shift over all photographs. Raises UsageError where they make no line."""
    values, metres = (
        np.concatenate([getattr(one, name) for one in known]) for name in ("values", "metres")
    )
    found = FITS[kind](values, metres)
    for warning in found.warnings:
        logger.warning("the fit is not trustworthy: %s", warning)
    return Calibration(kind, found.scale, found.shift)


def held_out(known: Sequence[Known], kind: Kind) -> Held | None:
    """Fit without some photographs, and judge on these, until each was kept back; None for one."""
    num_folds = min(_MOST_FOLDS, len(known))
    if num_folds < 2:
        return None
    errors, shares, own = [], [], []
    for fold in range(num_folds):
        others = [one for place, one in enumerate(known) if place % num_folds != fold]
        line = _quiet_fit(others, kind)
        for one in known[fold::num_folds]:
            error, share = _judge(line, one)
            errors.append(error)
            shares.append(share)
            own.append(_judge(_quiet_fit([one], kind), one)[0])
    return Held(len(errors), *(float(np.mean(one)) for one in (errors, shares, own)))


def write_calibrated(
    loaded: LoadedModel, folder: Path, line: Calibration, about: Mapping[str, Any]
) -> None:
    """Write the model's folder with its calibration. loaded: plain, in float32."""
    said = {**line.facts(), **about}
    loaded.model.config = loaded.model.config.replace(**{KEY: said})
    config = folder / CONFIG_NAME
    config.unlink(missing_ok=True)  # until all is there it is no model
    loaded.model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)


def _quiet_fit(known: Sequence[Known], kind: Kind) -> Calibration | None:
    try:
        found = FITS[kind](
            np.concatenate([one.values for one in known]),
            np.concatenate([one.metres for one in known]),
        )
    except DptError:
        return None
    return Calibration(kind, found.scale, found.shift)


def _judge(line: Calibration | None, one: Known) -> tuple[float, float]:
    """Mean relative error of a photograph's distances, and the share within a quarter."""
    if line is None:
        return 1.0, 0.0
    import torch

    fitted = line.metres(torch.from_numpy(one.values)).numpy()
    ratio = np.maximum(fitted / one.metres, one.metres / fitted)
    return float(np.abs(fitted / one.metres - 1).mean()), float((ratio < 1.25).mean())


def _of_map(pair: Pair) -> Anchors:
    """A measured map's pixels, at most _MOST_OF_ONE, spread evenly."""
    if pair.kind != "depth_m":
        raise UsageError(f"it holds {pair.kind}; metres are needed (kind depth_m)")
    metres = read_depth(pair)
    row, column = np.nonzero(metres > 0)
    step = max(1, -(-len(row) // _MOST_OF_ONE))
    row, column = row[::step], column[::step]
    xy = np.stack([column, row], axis=1).astype(np.float64)
    hw = (metres.shape[0], metres.shape[1])
    return Anchors(xy, metres[row, column].astype(np.float64), hw, len(xy))


def _anchored(path: Path) -> dict[Path, Anchors] | None:
    """{photograph: its distances} of a CSV of image,x,y,metres; None for a CSV of another kind.

    Raises UsageError for a file that is no CSV in UTF-8, and a line that is none.
    """
    rows: dict[Path, list[tuple[float, float, float]]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"image", "x", "y", "metres"} <= set(reader.fieldnames or ()):
                return None  # before the rest is read, which may be long
            for row in reader:
                known = _known_in(row, where=f"{printable(path)}, line {reader.line_num}")
                rows.setdefault(path.parent / (row["image"] or ""), []).append(known)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"cannot read {printable(path)} ({error}); save it as CSV in UTF-8"
        ) from error
    tables = {image: np.array(found, np.float64) for image, found in rows.items()}
    return {image: Anchors(table[:, :2], table[:, 2]) for image, table in tables.items()}


def _known_in(row: dict[str, Any], *, where: str) -> tuple[float, float, float]:
    try:
        x, y, metres = (float(row[column]) for column in ("x", "y", "metres"))
    except (TypeError, ValueError):
        x = y = metres = math.nan
    if not (math.isfinite(x + y) and min(x, y) >= 0 and 0 < metres < math.inf):
        raise UsageError(f"{where}: x, y and metres must be a pixel and a distance above 0")
    return x, y, metres


def calibrate(loaded: LoadedModel, pairs: str) -> tuple[Calibration, Held | None, int]:
    """Fit a model, which `raw_model` has readied: the line, how it held, over how many."""
    known = gather(Pipeline(loaded), pairs)
    kind = kind_of(loaded.model.config)
    return fit(known, kind), held_out(known, kind), len(known)
