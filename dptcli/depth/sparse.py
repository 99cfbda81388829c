"""--colmap: the sparse points of a COLMAP model, as each of its photographs sees them."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dptcli.depth.anchors import same_shape
from dptcli.depth.colmap_files import (
    DISTORTED,
    CameraRow,
    is_of_upright,
    model_paths,
    read_cameras,
    read_images,
    read_points,
)
from dptcli.depth.lens import Lens, Size
from dptcli.errors import ImageError, UsageError
from dptcli.inputs.decode import printable
from dptcli.inputs.find import ImageSource
from dptcli.inputs.search import LeftOut

logger = logging.getLogger(__name__)

OPTION = "--colmap"


def lens_at(camera: Lens, hw: Size, *, whose: str) -> Lens:
    """A camera that is known for pictures of its own size, in pixels of the photograph, of `hw`.

    whose: whose word it is. Raises ImageError for a photograph of another shape.
    """
    own = camera.hw
    if same_shape(own, hw):
        return camera.at(hw)
    turned = same_shape((own[1], own[0]), hw)
    why = " (COLMAP does not turn photographs upright by their EXIF)" if turned else ""
    raise ImageError(
        f"{whose} has it with {own[1]} × {own[0]} pixels, and it has {hw[1]} × {hw[0]} (width × "
        f"height), another shape{why}; give the photographs that the model was made of"
    )


def check_stored(orientation: int, hw: Size, *, whose: str) -> None:
    """Raise ImageError for a photograph of `hw` that its EXIF turned, where the shape shows it not.

    Half a turn, or one of a square, would give it another place of the model's, and look right.
    """
    shows = orientation >= 5 and not same_shape((hw[1], hw[0]), hw)
    if orientation != 1 and not shows:
        raise ImageError(
            f"is turned by its EXIF (orientation {orientation}), and {whose} has it as it is "
            "stored; remove the tag, e.g. exiftool -Orientation= FILE, or solve the scene with "
            "upright pictures"
        )


@dataclass(frozen=True, eq=False)
class SparseImage:
    """One photograph of the model: its camera, and the points that it sees.

    xy: (N, 2) in the camera's pixels, from the corner of the first one. depth: (N,) along the
    camera's axis, above 0, in the model's own unit.
    """

    name: str
    camera: Lens
    xy: NDArray[np.float32]
    depth: NDArray[np.float32]

    @property
    def key(self) -> str:
        """The name without its ending, as trainers look depth up."""
        return str(PurePosixPath(self.name).with_suffix(""))

    def lens(self, hw: Size) -> Lens:
        """The camera in pixels of the photograph, of `hw`. Raises ImageError for another shape."""
        return lens_at(self.camera, hw, whose="the COLMAP model")

    def xy_in(self, hw: Size) -> NDArray[np.float64]:
        """Where it sees the points, in pixels of the photograph of `hw`, (N, 2), at centres."""
        scale = np.array([hw[1] / self.camera.hw[1], hw[0] / self.camera.hw[0]])
        return np.asarray((self.xy * scale - 0.5).clip(0, np.array(hw[::-1]) - 1))


@dataclass(frozen=True, eq=False)
class Sparse:
    """A model. folder: where its files lie. digest: of what they hold. images: by name.

    is_of_upright: whether its pictures had been turned by their EXIF.
    """

    folder: Path
    digest: str
    images: Mapping[str, SparseImage]
    is_of_upright: bool = False
    _by_key: Mapping[str, SparseImage] = field(default_factory=dict)

    def of(self, source: ImageSource) -> SparseImage:
        """The model's image that a photograph is, by its path below the inputs' folder.

        The ending may be another: what is not there by name is there by the name without it. Raises
        ImageError where there is none.
        """
        found = self._find(source)
        if found is None:
            raise ImageError(f"is not in the COLMAP model {printable(self.folder)}")
        return found

    def choose(self, sources: Sequence[ImageSource], left_out: LeftOut) -> list[ImageSource]:
        """The photographs that the model holds; the others are noted.

        Trainers ask for the model's images alone. Raises UsageError where it holds none of them.
        """
        found = [source for source in sources if self._find(source) is not None]
        if not found:
            theirs, ours = next(iter(self.images)), sources[0].relative.as_posix()
            raise UsageError(
                f"{OPTION} {printable(self.folder)} holds none of the {len(sources)} photographs: "
                f"its images are called {printable(theirs)!r} and the like, these "
                f"{printable(ours)!r}; give the folder that COLMAP was given, or name it with "
                "--root"
            )
        kept = set(found)
        for source in sources:
            if source not in kept:
                path = PurePosixPath(source.name) if source.path is None else source.path
                left_out.add(path, f"not in the COLMAP model {printable(self.folder)}")
        return found

    def _find(self, source: ImageSource) -> SparseImage | None:
        name = source.relative.as_posix()
        return self.images.get(name) or self._by_key.get(str(PurePosixPath(name).with_suffix("")))


def read_sparse(folder: str) -> Sparse:
    """Read a model's folder. Raises UsageError for what is none, or is broken."""
    try:
        return _read(Path(folder))
    except UsageError as error:
        raise UsageError(f"{OPTION}: {error}") from error


def sparse_digest(folder: Path) -> str:
    """A hash of the model's files. Raises UsageError where they are not there."""
    digest = hashlib.blake2b(digest_size=8)
    for path in model_paths(folder):
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _read(folder: Path) -> Sparse:
    cameras_path, images_path, points_path = model_paths(folder)
    cameras, points = read_cameras(cameras_path), read_points(points_path)
    lenses: dict[int, Lens] = {}
    images = {}
    for row in read_images(images_path):
        if row.camera not in cameras:
            raise UsageError(f"{printable(images_path)}: camera {row.camera} is unknown")
        if row.camera not in lenses:
            lenses[row.camera] = _lens(cameras[row.camera])
        known, xyz = points.find(row.points)
        depth = row.depths(xyz)
        ahead = np.isfinite(depth) & (depth > 0)
        images[row.name] = SparseImage(
            row.name,
            lenses[row.camera],
            row.xy[known][ahead].astype(np.float32),
            depth[ahead].astype(np.float32),
        )
    if not images:
        raise UsageError(f"{printable(images_path)} holds no image")
    if any(cameras[number].is_distorted for number in lenses):
        logger.warning("%s %s: %s", OPTION, printable(cameras_path), DISTORTED)
    return Sparse(
        folder,
        sparse_digest(folder),
        images,
        is_of_upright(cameras_path),
        _by_key(images.values()),
    )


def _lens(camera: CameraRow) -> Lens:
    return Lens(*camera.pinhole(), camera.hw, f"{OPTION}")


def _by_key(images: Iterable[SparseImage]) -> dict[str, SparseImage]:
    """{name without its ending: image}. Raises UsageError where two would share their depth."""
    found: dict[str, SparseImage] = {}
    for image in images:
        other = found.setdefault(image.key, image)
        if other is not image:
            raise UsageError(
                f"{printable(other.name)!r} and {printable(image.name)!r} differ in their endings "
                "alone, and trainers look depth up without them; rename one"
            )
    return found
