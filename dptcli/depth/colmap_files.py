"""COLMAP's cameras, images and points as its files hold them, in text and in binary.

https://colmap.github.io/format.html: pixels from the corner of the first one, world to camera,
quaternions with the real part first; binary files are little endian.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptcli.errors import UsageError
from dptcli.inputs.decode import printable

NAMES = ("cameras", "images", "points3D")
MARK = "# written by dptcli"
DISTORTED = "the lens's distortion is ignored; undistorted photographs would fit better"
# Lenses that have a focal length and a principal point: COLMAP's number of each, where fx, fy, cx,
# cy stand among the parameters, and how many more there are, which bend what the lens shows.
_LENSES = {
    "SIMPLE_PINHOLE": (0, (0, 0, 1, 2), 0),
    "PINHOLE": (1, (0, 1, 2, 3), 0),
    "SIMPLE_RADIAL": (2, (0, 0, 1, 2), 1),
    "RADIAL": (3, (0, 0, 1, 2), 2),
    "OPENCV": (4, (0, 1, 2, 3), 4),
    "FULL_OPENCV": (6, (0, 1, 2, 3), 8),
}
# Of the others, the number and how many parameters they have: to read what follows them.
_OTHERS = {
    "OPENCV_FISHEYE": (5, 8),
    "FOV": (7, 5),
    "SIMPLE_RADIAL_FISHEYE": (8, 4),
    "RADIAL_FISHEYE": (9, 5),
    "THIN_PRISM_FISHEYE": (10, 12),
    "RAD_TAN_THIN_PRISM_FISHEYE": (11, 16),
    "SIMPLE_DIVISION": (12, 4),
    "DIVISION": (13, 5),
    "SIMPLE_FISHEYE": (14, 3),
    "FISHEYE": (15, 4),
    "EUCM": (16, 6),
    "EQUIRECTANGULAR": (17, 2),
}
_NAME_OF = {number: name for name, (number, *_) in {**_LENSES, **_OTHERS}.items()}
_SEEN = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])
_POINT = struct.Struct("<Q3d3BdQ")  # number, place, colour, error, how many see it
_MAX_NAME = 4096


@dataclass(frozen=True)
class CameraRow:
    """One camera: its model's name, the size of its pictures, its model's parameters."""

    model: str
    hw: tuple[int, int]
    params: tuple[float, ...]

    def pinhole(self) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy in pixels. Raises UsageError for a lens that has none."""
        if self.model not in _LENSES:
            raise UsageError(
                f"the camera model {self.model!r} is none of {', '.join(_LENSES)}; undistort the "
                "photographs (colmap image_undistorter)"
            )
        fx, fy, cx, cy = (self.params[place] for place in _LENSES[self.model][1])
        return fx, fy, cx, cy

    @property
    def is_distorted(self) -> bool:
        """Whether the lens bends what a pinhole shows straight."""
        _, places, num_distortion = _LENSES[self.model]
        return num_distortion > 0 and any(self.params[max(places) + 1 :])


@dataclass(frozen=True)
class ImageRow:
    """One image: where its camera stood, and what it sees.

    quaternion (4,) and shift (3,): world to camera. xy: (N, 2), of points whose numbers are
    `points` (N,), -1 for none.
    """

    name: str
    camera: int
    quaternion: NDArray[np.float64]
    shift: NDArray[np.float64]
    xy: NDArray[np.float64]
    points: NDArray[np.int64]

    @property
    def extrinsics(self) -> NDArray[np.float64]:
        """World to camera, (3, 4)."""
        w, x, y, z = self.quaternion / np.linalg.norm(self.quaternion)
        turn = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        return np.column_stack([turn, self.shift])

    def depths(self, xyz: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far points of the world (N, 3) lie along its camera's axis, (N,)."""
        *axis, shift = self.extrinsics[2]
        return np.asarray(xyz @ axis + shift)


@dataclass(frozen=True)
class PointRows:
    """All points: their numbers (N,), ascending, and where they are, (N, 3)."""

    numbers: NDArray[np.int64]
    xyz: NDArray[np.float64]

    def find(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which of these (N,) there are, and where those (M, 3) lie."""
        if not len(self.numbers):
            return np.zeros(len(numbers), np.bool_), np.empty((0, 3))
        place = np.searchsorted(self.numbers, numbers).clip(max=len(self.numbers) - 1)
        known = self.numbers[place] == numbers
        return known, self.xyz[place[known]]


def model_paths(folder: Path, *, names: Sequence[str] = NAMES) -> tuple[Path, ...]:
    """The files of a model's folder, of NAMES or some of them, binary ones where there are.

    Raises UsageError where one is missing.
    """
    for suffix in (".bin", ".txt"):
        paths = tuple(folder / f"{name}{suffix}" for name in names)
        if not any(path.is_file() for path in paths[:2]):  # cameras, images
            continue
        for path in paths:
            if not path.is_file():
                raise UsageError(f"{printable(path)} is missing beside the model's other files")
        return paths
    inner = [folder / below for below in ("sparse/0", "0", "sparse")]
    better = next((path for path in inner if (path / "images.bin").is_file()), None)
    hint = "" if better is None else f"; did you mean {printable(better)}?"
    raise UsageError(
        f"{printable(folder)} holds no COLMAP model (cameras, images and points3D, as .bin or .txt)"
        f"{hint}"
    )


def is_of_upright(cameras_path: Path) -> bool:
    """Whether a model's pictures were turned upright by their EXIF: COLMAP doesn't, a scene's are.

    See depth/colmap.py.
    """
    if cameras_path.suffix == ".bin":
        return False
    try:
        with cameras_path.open("rb") as stream:
            return stream.read(len(MARK)) == MARK.encode()
    except OSError as error:
        raise _unreadable(cameras_path, error) from error


def read_cameras(path: Path) -> dict[int, CameraRow]:
    """{number: camera} of a file. Raises UsageError."""
    if path.suffix == ".bin":
        return dict(_cameras_of(_Binary(path)))
    cameras = {}
    for line in _lines(path):
        words = line.split()
        if words:
            cameras[_whole(words[0], path, line)] = parse_camera(words, path)
    return cameras


def parse_camera(words: Sequence[str], path: Path) -> CameraRow:
    """A line of cameras.txt: CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]. Raises UsageError."""
    line = " ".join(words)
    if len(words) < 5:
        raise _torn(path, line)
    numbers = _numbers(words[2:], path, line)
    camera = CameraRow(words[1], (int(numbers[1]), int(numbers[0])), tuple(numbers[2:]))
    if (wanted := _num_params(camera.model)) not in (None, len(camera.params)):
        raise UsageError(
            f"{printable(path)}: {camera.model} has {wanted} parameters, not {len(camera.params)}"
        )
    return camera


def read_images(path: Path) -> Iterator[ImageRow]:
    """The images of a file, one after another. Raises UsageError."""
    if path.suffix == ".bin":
        yield from _images_of(_Binary(path))
        return
    lines = _lines(path)
    for line in lines:
        if not line.strip():
            continue
        words = line.split(maxsplit=9)  # a name may hold spaces
        if len(words) < 10:
            raise _torn(path, line)
        pose = np.array(_numbers(words[1:8], path, line))
        # The next line may be empty: an image that sees no point.
        seen = np.array(_numbers(next(lines, "").split(), path, line), np.float64)
        if len(seen) % 3:
            raise _torn(path, f"what {words[9]} sees")
        table = seen.reshape(-1, 3)
        yield ImageRow(
            words[9].strip(),
            _whole(words[8], path, line),
            pose[:4],
            pose[4:],
            table[:, :2],
            table[:, 2].astype(np.int64),
        )


def read_points(path: Path) -> PointRows:
    """The points of a file. Raises UsageError."""
    numbers: list[int] = []
    places: list[tuple[float, ...]] = []
    if path.suffix == ".bin":
        for number, *xyz, _r, _g, _b, _error, _num_seen in _Binary(path).rows(_POINT, tail=8):
            numbers.append(number)
            places.append(tuple(xyz))
    else:
        for line in _lines(path):
            words = line.split(maxsplit=4)
            if words and len(words) < 4:
                raise _torn(path, line)
            if words:
                numbers.append(_whole(words[0], path, line))
                places.append(tuple(_numbers(words[1:4], path, line)))
    order = np.argsort(numbers)
    found = np.array(numbers, np.int64)[order]
    return PointRows(found, np.array(places, np.float64).reshape(-1, 3)[order])


def _cameras_of(binary: "_Binary") -> Iterator[tuple[int, CameraRow]]:
    for _ in range(binary.count()):
        number, model, width, height = binary.take("<IiQQ")
        name = _NAME_OF.get(model)
        if name is None:
            raise UsageError(f"{printable(binary.path)} has a camera of an unknown model, {model}")
        params = binary.take(f"<{_num_params(name)}d")
        yield number, CameraRow(name, (height, width), params)


def _images_of(binary: "_Binary") -> Iterator[ImageRow]:
    for _ in range(binary.count()):
        _number, *pose, camera = binary.take("<I7dI")
        name = binary.text()
        seen = binary.table(_SEEN, binary.count())
        xy = np.stack([seen["x"], seen["y"]], axis=1)
        quaternion, shift = np.array(pose[:4]), np.array(pose[4:])
        yield ImageRow(name, camera, quaternion, shift, xy, seen["point"].astype(np.int64))


class _Binary:
    """A file's bytes, taken from its beginning on; the end before its time raises UsageError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from error
        self._at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        start = self._at
        self.skip(struct.calcsize(layout))
        return struct.unpack_from(layout, self._data, start)

    def count(self) -> int:
        [number] = self.take("<Q")
        return int(number)

    def text(self) -> str:
        end = self._data.find(b"\0", self._at, self._at + _MAX_NAME)
        if end < 0:
            raise self._cut()
        name = self._data[self._at : end].decode("utf-8", "surrogateescape")
        self._at = end + 1
        return name

    def table(self, rows: np.dtype[np.void], number: int) -> NDArray[np.void]:
        start = self._at
        self.skip(rows.itemsize * number)
        return np.frombuffer(self._data, rows, number, start)

    def rows(self, layout: struct.Struct, *, tail: int) -> Iterator[tuple[Any, ...]]:
        """As many rows as a count before them says; the last value of each counts what follows it.

        tail: the bytes of one of these.
        """
        unpack, size, data = layout.unpack_from, layout.size, self._data  # a scene has millions
        number, at = self.count(), self._at
        for _ in range(number):
            if at + size > len(data):
                raise self._cut()
            row = unpack(data, at)
            at += size + tail * row[-1]
            yield row
        self._at = at
        self.skip(0)

    def skip(self, number: int) -> None:
        self._at += number
        if self._at > len(self._data):
            raise self._cut()

    def _cut(self) -> UsageError:
        return UsageError(f"{printable(self.path)} ends before its time; copy the model again")


def _num_params(model: str) -> int | None:
    if model in _LENSES:
        _, places, num_distortion = _LENSES[model]
        return max(places) + 1 + num_distortion
    return _OTHERS[model][1] if model in _OTHERS else None


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file but its comments; empty ones count."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as stream:
            yield from (line.rstrip("\r\n") for line in stream if not line.startswith("#"))
    except OSError as error:
        raise _unreadable(path, error) from error


def _numbers(words: Sequence[str], path: Path, line: str) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        raise _torn(path, line) from None


def _whole(word: str, path: Path, line: str) -> int:
    if not word.isdecimal():
        raise _torn(path, line)
    return int(word)


def _torn(path: Path, line: str) -> UsageError:
    return UsageError(f"{printable(path)}: {printable(line[:80])!r} is no line of COLMAP's")


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{printable(path)} cannot be read: {error.strerror or error}")
