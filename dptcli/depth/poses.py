"""--poses: where each photograph's camera stands, and its lens.

By COLMAP's files, a transforms.json or the sidecars of a run with --views.
"""

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.colmap_files import (
    DISTORTED,
    is_of_upright,
    model_paths,
    read_cameras,
    read_images,
)
from dptcli.depth.lens import Lens, Size
from dptcli.depth.similarity import places_of, stand_apart
from dptcli.depth.sparse import lens_at
from dptcli.depth.transforms import NAME as TRANSFORMS
from dptcli.depth.transforms import Lensed, read_transforms
from dptcli.errors import UsageError
from dptcli.inputs.decode import printable
from dptcli.inputs.find import ImageSource
from dptcli.inputs.search import LeftOut

logger = logging.getLogger(__name__)

OPTION = "--poses"
UNIT = "that of the given poses"
_COLMAP = ("cameras", "images")
_EXAMPLE = (
    f"a COLMAP model (cameras and images, .txt or .bin), a {TRANSFORMS}, or results of dpt depth "
    "--views"
)
_NUM_NAMED = 3  # photographs in an error message before it says how many more
_TURN_SLACK = 1e-3  # sidecars hold six decimals


@dataclass(frozen=True, eq=False)
class Pose:
    """One photograph's camera.

    camera: in pixels of a picture of its own size, or a horizontal field of view in radians.
    extrinsics: world to camera, float64 (3, 4).
    """

    camera: Lensed
    extrinsics: NDArray[np.float64]

    def lens(self, hw: Size) -> Lens:
        """The camera in pixels of the photograph, of `hw`. Raises ImageError for another shape."""
        if isinstance(self.camera, float):
            return Lens.middle(hw[1] / 2 / math.tan(self.camera / 2), hw, OPTION)
        return lens_at(self.camera, hw, whose=OPTION)


@dataclass(frozen=True, eq=False)
class Poses:
    """Photographs' cameras. folder: where they are read from. by_name: with endings and without.

    is_of_upright: whether they are of pictures that had been turned by their EXIF.
    """

    folder: Path
    by_name: Mapping[str, Pose]
    is_of_upright: bool = True

    def of(self, source: ImageSource) -> Pose:
        """A photograph's, by its path below the inputs' folder. Raises UsageError for none."""
        found = self._find(source)
        if found is None:
            name = printable(source.relative)
            raise UsageError(f"{OPTION} {printable(self.folder)} has no pose of {name}")
        return found

    def choose(self, sources: Sequence[ImageSource], _left_out: LeftOut) -> list[ImageSource]:
        """All the photographs. Raises UsageError where one has no pose, or all stand in one place.

        A scene of which some cameras are known and others are not is nothing that a network takes.
        """
        lacking = [printable(source.relative) for source in sources if self._find(source) is None]
        if lacking:
            named = ", ".join(map(repr, lacking[:_NUM_NAMED]))
            more = "" if len(lacking) <= _NUM_NAMED else f" and {len(lacking) - _NUM_NAMED} more"
            raise UsageError(
                f"{OPTION} {printable(self.folder)} has no pose of {named}{more}; it knows "
                f"{printable(next(iter(self.by_name)))!r} and the like; leave these photographs "
                "out, or name the folder that its names start from with --root"
            )
        if not stand_apart(places_of([self.of(source).extrinsics for source in sources])):
            raise UsageError(
                f"{OPTION} {printable(self.folder)}: the cameras stand in one place, and their "
                "distances are what gives depth its unit; take photographs from several places"
            )
        return list(sources)

    def _find(self, source: ImageSource) -> Pose | None:
        name = source.relative.as_posix()
        return self.by_name.get(name) or self.by_name.get(_key(name))


def read_poses(text: str) -> Poses:
    """Read a folder, or one of the files in it that hold poses. Raises UsageError."""
    folder = _folder(text)
    transforms = _transforms_of(folder)
    if transforms is None and not folder.is_dir():
        reason = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"{OPTION} {printable(text)} {reason}; give {_EXAMPLE}")
    try:
        if transforms is not None:
            found = _from_transforms(transforms)
        else:
            found = _from_colmap(folder) if _is_colmap(folder) else _from_sidecars(folder)
    except UsageError as error:
        raise UsageError(f"{OPTION}: {error}") from error
    if not found:
        raise UsageError(f"{OPTION} {printable(text)} holds no poses; give {_EXAMPLE}")
    if transforms is not None:  # made of COLMAP's, mostly
        return Poses(transforms, _by_either_name(found), is_of_upright=False)
    if not _is_colmap(folder):
        return Poses(folder, found)
    cameras_path, _ = model_paths(folder, names=_COLMAP)
    return Poses(folder, _by_either_name(found), is_of_upright(cameras_path))


def poses_digest(text: str) -> str:
    """A hash of the files that poses are read from."""
    folder = _folder(text)
    transforms = _transforms_of(folder)
    if transforms is not None:
        files: Iterable[Path] = [transforms]
    elif _is_colmap(folder):
        files = model_paths(folder, names=_COLMAP)
    else:
        files = sorted(folder.rglob("*.json"))
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        digest.update(file.name.encode("utf-8", "surrogateescape"))
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _folder(text: str) -> Path:
    """The folder that is named, or that of a file of COLMAP's."""
    path = Path(text)
    return path.parent if path.is_file() and path.stem in _COLMAP else path


def _key(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _by_either_name(found: Mapping[str, Pose]) -> dict[str, Pose]:
    """Photographs' names, and those without their endings that only one of them has."""
    times = Counter(map(_key, found))
    alone = {_key(name): pose for name, pose in found.items() if times[_key(name)] == 1}
    return {**alone, **found}


def _is_colmap(folder: Path) -> bool:
    return any((folder / f"images{suffix}").is_file() for suffix in (".txt", ".bin"))


def _transforms_of(folder: Path) -> Path | None:
    """The transforms.json that is named, or lies in the folder without a COLMAP model."""
    if folder.is_file():
        return folder if folder.suffix == ".json" else None
    inside = folder / TRANSFORMS
    return inside if inside.is_file() and not _is_colmap(folder) else None


def _from_transforms(path: Path) -> dict[str, Pose]:
    """{name of a photograph: its camera}."""
    return {
        name: _checked(lens, extrinsics, f"{printable(path)}: {name}")
        for name, (lens, extrinsics) in read_transforms(path, origin=OPTION).items()
    }


def _from_colmap(folder: Path) -> dict[str, Pose]:
    """{name of a photograph: its camera}."""
    cameras_path, images_path = model_paths(folder, names=_COLMAP)
    cameras = read_cameras(cameras_path)
    found, distorted = {}, False
    for row in read_images(images_path):
        if row.camera not in cameras:
            raise UsageError(f"{printable(images_path)}: camera {row.camera} is unknown")
        camera = cameras[row.camera]
        lens = Lens(*camera.pinhole(), camera.hw, OPTION)
        distorted |= camera.is_distorted
        found[row.name] = _checked(lens, row.extrinsics, f"{printable(images_path)}: {row.name}")
    if distorted:
        logger.warning("%s %s: %s", OPTION, printable(cameras_path), DISTORTED)
    return found


def _from_sidecars(folder: Path) -> dict[str, Pose]:
    """{name without ending: camera} of the results of a run with --views."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        try:
            said: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{printable(path)} cannot be read as JSON ({error})") from error
        camera = said.get("camera") if isinstance(said, Mapping) else None
        if not isinstance(camera, Mapping) or "extrinsics" not in camera:
            continue  # other files may lie there too
        if "model" in said and "scene" not in said:
            continue  # of a photograph that the network saw alone: each is a world of its own
        try:
            fx, fy, cx, cy, width, height = (
                float(camera[key]) for key in ("fx", "fy", "cx", "cy", "width", "height")
            )
            extrinsics = np.array(camera["extrinsics"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{printable(path)}: its camera lacks fx, fy, cx, cy, width, height or a matrix "
                "extrinsics"
            ) from error
        lens = Lens(fx, fy, cx, cy, (round(height), round(width)), OPTION)
        name = path.relative_to(folder).with_suffix("").as_posix()
        found[name] = _checked(lens, extrinsics, printable(path))
    return found


def _checked(lens: Lensed, extrinsics: NDArray[np.float64], whose: str) -> Pose:
    """A camera that there can be. Raises UsageError."""
    if isinstance(lens, Lens) and not all(
        math.isfinite(value) and value > 0 for value in (lens.fx, lens.fy, *lens.hw)
    ):
        raise UsageError(f"{whose}: fx {lens.fx:g} and fy {lens.fy:g} must be above 0")
    shape = extrinsics.shape
    if shape not in ((3, 4), (4, 4)) or not np.isfinite(extrinsics).all():
        raise UsageError(f"{whose}: extrinsics of shape {shape} must be 3×4, of finite numbers")
    turn = extrinsics[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > _TURN_SLACK or np.linalg.det(turn) < 0:
        raise UsageError(f"{whose}: extrinsics' first three columns must be a rotation")
    return Pose(lens, extrinsics[:3])
