"""Regions of label maps in the forms that labelling tools read: COCO's run lengths and polygons."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dptcli.segments.polygons import Region, regions_of


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return COCO's counts of a mask (H, W): column by column, the first run is of zeros."""
    flat = np.asarray(mask).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return [0, *counts] if flat.size and flat[0] else counts


def from_run_lengths(counts: Sequence[int], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask (H, W) of COCO's counts."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(hw[::-1]).T


def compress(counts: Sequence[int]) -> str:
    """Return COCO's text form of counts: differences to the count before last, 5 bits a letter."""
    letters = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            bits = value & 0x1F
            value >>= 5
            done = value == (-1 if bits & 0x10 else 0)
            letters.append(chr(48 + (bits if done else bits | 0x20)))
            if done:
                break
    return "".join(letters)


def image_id(file_name: str) -> int:
    """Return COCO's id of an image, from 1: of its name, so that runs apart agree on it.

    48 bits, which JavaScript holds too: among a million images two share one in 1 of 560 sets.
    """
    name = hashlib.blake2b(os.fsencode(file_name), digest_size=6)
    return max(1, int.from_bytes(name.digest(), "big"))


def coco(
    labels: NDArray[np.integer],
    names: Mapping[int, str],
    *,
    file_name: str,
    shape: Literal["rle", "polygons"] = "rle",
    first_id: int = 0,
    info: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Return a COCO data set of one image. Its ids follow from its name: no other image has them.

    labels: ids (H, W); classes without a name are left out. "rle": one annotation a class, exact.
    "polygons": one a connected region, simplified, a region with holes in several rings without.
    first_id: the category id of class 0. What polygons leave out is said in "info".
    """
    height, width = labels.shape
    found: list[tuple[int, dict[str, Any]]] = []
    about = dict(info or {})
    if shape == "rle":
        present = [label for label in np.unique(labels).tolist() if label in names]
        found = [(label, _rle(labels == label)) for label in present]
    else:
        regions, lost = regions_of(labels, names)
        found = [(region.label, _polygon(region)) for region in regions]
        if lost.num_regions:
            about |= {"regions_left_out": lost.num_regions, "pixels_left_out": lost.num_pixels}
    own = image_id(file_name)
    annotations = [
        {"id": number, "image_id": own, "category_id": label + first_id, **one, "iscrowd": 0}
        for number, (label, one) in enumerate(found, start=own)
    ]
    return {
        "info": about,
        "images": [{"id": own, "file_name": file_name, "height": height, "width": width}],
        "categories": [{"id": label + first_id, "name": names[label]} for label in sorted(names)],
        "annotations": annotations,
    }


def _rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "segmentation": {"size": list(mask.shape), "counts": compress(run_lengths(mask))},
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
    }


def _polygon(region: Region) -> dict[str, Any]:
    corners = np.concatenate(region.rings)
    left, top = corners.min(0).tolist()
    width, height = np.ptp(corners, axis=0).tolist()
    return {
        "segmentation": [ring.ravel().tolist() for ring in region.rings],
        "area": region.area,
        "bbox": [left, top, width, height],
    }
