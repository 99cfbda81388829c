"""Views of the scene of raycast.py, and the COLMAP model that pycolmap writes of them."""

from pathlib import Path

import numpy as np
from PIL import Image
from raycast import cast, rays

HW, FOCAL = (96, 128), 110.0
UNIT = 2.5  # of the model, in a metre
NAMES = ("a/0.png", "a/1.png", "b/0.png")
EYES = ((-0.3, 0.0, -0.2), (0.4, -0.1, 0.0), (0.1, 0.2, -0.5))
_TOP = 765


def turn(number):
    """Camera to world (3, 3): each looks a little elsewhere."""
    yaw, pitch = np.radians((number - 1) * 7.0), np.radians(4.0 - 3 * number)
    about_y = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    about_x = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    return np.array(about_y) @ np.array(about_x)


def true_depth(number, hw=HW):
    """Depth along the axis in metres, float64, at pixels of a picture of `hw`."""
    focal = FOCAL * hw[0] / HW[0]
    return cast(np.array(EYES[number]), rays(hw, focal) @ turn(number).T)[1]


def picture_of(values):
    """Values from 0 to 1 (H, W) as grey, in 766 steps: the mean of three channels."""
    steps = np.round(np.asarray(values) * _TOP).astype(int)
    channels = [(steps + more) // 3 for more in (0, 1, 2)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def write_photographs(folder, shown, hw=HW):
    """Write a photograph for each view: shown(depth in metres) from 0 to 1."""
    for number, name in enumerate(NAMES):
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture_of(shown(true_depth(number, hw))).save(path)


def write_model(folder, *, text=False, model="PINHOLE", params=None, outliers=0.15, per_view=150):
    """Write the model by pycolmap, with noise of a third of a pixel and points that are wrong."""
    import pycolmap

    rng = np.random.default_rng(0)
    height, width = HW
    scene = pycolmap.Reconstruction()
    params = params or [FOCAL, FOCAL, width / 2, height / 2]
    camera = pycolmap.Camera(model=model, width=width, height=height, params=params, camera_id=3)
    scene.add_camera_with_trivial_rig(camera)
    xyz, seen = _points(rng, per_view)
    for number, name in enumerate(NAMES):
        to_world = turn(number)
        pose = np.column_stack([to_world.T, -to_world.T @ np.array(EYES[number]) * UNIT])
        pixels = [xy + rng.normal(0, 0.3, 2) for xy, _ in seen[number]]
        pixels += list(rng.uniform(0, HW[0], (20, 2)))  # what COLMAP made no point of
        image = pycolmap.Image(
            name=name, keypoints=np.array(pixels), camera_id=3, image_id=number + 7
        )
        scene.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    wrong = rng.random(len(xyz)) < outliers
    xyz[wrong] *= rng.uniform(0.3, 3.0, (int(wrong.sum()), 1))
    for point, place in enumerate(xyz):
        track = [
            pycolmap.TrackElement(number + 7, index)
            for number in range(len(NAMES))
            for index, (_, other) in enumerate(seen[number])
            if other == point
        ]
        scene.add_point3D(place * UNIT, pycolmap.Track(track), np.zeros(3, np.uint8))
    Path(folder).mkdir(parents=True, exist_ok=True)
    (scene.write_text if text else scene.write_binary)(str(folder))
    return Path(folder)


def _points(rng, per_view):
    """Places (N, 3) in metres, and for each view the pixels at which it sees which of them."""
    height, width = HW
    xyz = []
    for number in range(len(NAMES)):
        xy = rng.uniform(0, 1, (per_view, 2)) * [width, height]
        ahead = np.column_stack([(xy - [width / 2, height / 2]) / FOCAL, np.ones(per_view)])
        ahead = ahead @ turn(number).T
        xyz.append(np.array(EYES[number]) + ahead * cast(np.array(EYES[number]), ahead)[1][:, None])
    xyz = np.concatenate(xyz)
    seen = []
    for number in range(len(NAMES)):
        eye = np.array(EYES[number])
        local = (xyz - eye) @ turn(number)
        xy = local[:, :2] / local[:, 2:] * FOCAL + [width / 2, height / 2]
        far = cast(eye, (xyz - eye) / local[:, 2:])[1]
        inside = (xy >= 0).all(1) & (xy < [width, height]).all(1) & (local[:, 2] > 0)
        visible = inside & (np.abs(far / local[:, 2] - 1) < 0.01)
        seen.append([(xy[point], point) for point in np.nonzero(visible)[0]])
    return xyz, seen
