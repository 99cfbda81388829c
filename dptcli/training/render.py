"""Render labelled frames with exact depth: `python -m dptcli.training.render OUT --scenes 0:100`.

Needs Blender as a module (the extra `render`: bpy, Python 3.11). Depth is planar z-depth in
metres, the distance along the optical axis, which is what depth cameras and LiDAR maps give; it
is stored as 16-bit PNG, value ÷ scale, with a scale of its own for every frame so that a table
top and a street both use the range. 0 is sky where the labels say so, else not known. Every scene
has its own random state, drawn from (seed, scene number): a run may be killed and started again,
or split between machines.
"""

import argparse
import csv
import io
import json
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dptcli.errors import UsageError
from dptcli.evaluation.pairs import IGNORE_INDEX
from dptcli.training.classes import RENDERED
from dptcli.training.furniture import read_catalogues
from dptcli.training.lens import photograph

logger = logging.getLogger(__name__)

MAX_DEPTH_M = 120.0


@dataclass(frozen=True)
class Frame:
    """One rendered view: RGB uint8 (H, W, 3), z-depth in metres (H, W) and class ids (H, W).

    Depth is 0 where nothing stands: sky, or a panorama, of which neither depth nor class is known.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    labels: np.ndarray


# -- Blender ----------------------------------------------------------------------------------


def _set_up(threads: int, samples: int) -> None:
    import bpy

    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = True
    scene.cycles.denoiser = "OPENIMAGEDENOISE"
    # The cheap denoiser takes a third of the time of the accurate one, and the few rays leave no
    # more noise than a phone's camera at dusk.
    scene.cycles.denoising_prefilter = "NONE"
    scene.cycles.denoising_quality = "FAST"
    scene.cycles.max_bounces = 3
    scene.cycles.diffuse_bounces = 1
    scene.cycles.glossy_bounces = 1
    scene.cycles.transmission_bounces = 2
    scene.cycles.transparent_max_bounces = 8
    scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
    scene.cycles.sample_clamp_indirect = 4.0
    scene.render.use_persistent_data = False
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_depth = "32"
    layer = bpy.context.view_layer
    layer.use_pass_z = layer.use_pass_object_index = True
    scene.use_nodes = True
    nodes, links = scene.node_tree.nodes, scene.node_tree.links
    nodes.clear()
    source = nodes.new("CompositorNodeRLayers")
    links.new(source.outputs["Image"], nodes.new("CompositorNodeComposite").inputs["Image"])
    join = nodes.new("CompositorNodeCombineColor")
    links.new(source.outputs["Depth"], join.inputs[0])
    links.new(source.outputs["IndexOB"], join.inputs[1])
    # Blender fills no viewer node without a window: the passes go through a file.
    output = nodes.new("CompositorNodeOutputFile")
    output.name = "passes"
    output.format.file_format, output.format.color_depth = "OPEN_EXR", "32"
    output.file_slots[0].path = "passes"
    links.new(join.outputs[0], output.inputs[0])


def _read_exr(path: Path) -> np.ndarray:
    import bpy

    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    values = np.empty(width * height * 4, dtype=np.float32)
    image.pixels.foreach_get(values)
    bpy.data.images.remove(image)
    # Blender's rows run from the bottom.
    return values.reshape(height, width, 4)[::-1, :, :3]


def _render(shape_hw: tuple[int, int], rng: np.random.Generator, *, shows_sky: bool) -> Frame:
    """shows_sky: what lies behind everything is sky, not a panorama's trees and houses."""
    import bpy

    scene = bpy.context.scene
    scene.render.resolution_y, scene.render.resolution_x = shape_hw
    scene.cycles.seed = int(rng.integers(2**31 - 1))
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = str(Path(folder) / "colour.exr")
        scene.node_tree.nodes["passes"].base_path = folder
        bpy.ops.render.render(write_still=True)
        linear = _read_exr(Path(folder) / "colour.exr")
        data = _read_exr(next(Path(folder).glob("passes*.exr")))
    ids = np.rint(data[..., 1]).astype(np.int64)
    behind = (data[..., 0] > 1e6) | (ids == 0)
    depth_m = np.where(behind, 0.0, data[..., 0]).astype(np.float32)
    backdrop = RENDERED.index("sky") if shows_sky else IGNORE_INDEX
    labels = np.where(behind, backdrop, ids - 1).astype(np.uint8)
    return Frame(develop(photograph(linear, depth_m, rng), rng), depth_m, labels)


def develop(linear: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A camera's tone curve over linear light: exposure, white balance, contrast; RGB uint8."""
    luminance = linear.mean(axis=2)
    grey = float(np.exp(np.log(luminance + 1e-3).mean()))
    exposed = linear / max(grey, 1e-4) * 0.18 * float(np.exp2(rng.normal(0.3, 0.6)))
    exposed = exposed * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    if rng.random() < 0.6:  # a shoulder; otherwise highlights clip
        white = float(rng.uniform(1.5, 5))
        exposed = 1.3 * exposed * (1 + exposed / white**2) / (1 + exposed)
    encoded = np.clip(exposed, 0, 1) ** (1 / 2.2)
    curve = encoded * encoded * (3 - 2 * encoded)
    encoded = encoded + float(rng.uniform(0.0, 0.9)) * (curve - encoded)
    grey_level = encoded.mean(axis=2, keepdims=True)
    encoded = grey_level + (encoded - grey_level) * float(rng.uniform(0.8, 1.5))
    noise = rng.normal(0, rng.exponential(0.008), encoded.shape)
    return (np.clip(encoded + noise, 0, 1) * 255 + 0.5).astype(np.uint8)


# -- what is kept -----------------------------------------------------------------------------


def flaw(frame: Frame) -> str | None:
    """Why a frame is not worth keeping; None if it is."""
    depth = frame.depth_m[frame.depth_m > 0]
    if depth.size < 0.15 * frame.depth_m.size:
        return "mostly sky"
    if np.percentile(depth, 5) < 0.12:
        return "something covers the lens"
    if frame.rgb.std() < 12 or frame.rgb.mean() < 18:
        return "flat or dark"
    near, far = np.percentile(depth, [5, 95])
    if far / near < 1.08 and len(np.unique(frame.labels)) < 2:
        return "an empty plane"
    return None


def _write_atomic(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)


def _png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def save_frame(folder: Path, stem: str, frame: Frame) -> dict[str, Any]:
    """Write image, depth and labels of a frame; its row of pairs.csv."""
    buffer = io.BytesIO()
    Image.fromarray(frame.rgb).save(buffer, "JPEG", quality=95, subsampling=0)
    depth = np.minimum(frame.depth_m, MAX_DEPTH_M)
    scale = math.floor(65000 / max(float(depth.max()), 0.1))
    # A surface never rounds to 0, which is none.
    values = np.where(depth > 0, np.maximum(np.rint(depth * scale), 1), 0).astype(np.uint16)
    _write_atomic(folder / f"{stem}.jpg", buffer.getvalue())
    _write_atomic(folder / f"{stem}.depth.png", _png(values))
    _write_atomic(folder / f"{stem}.labels.png", _png(frame.labels))
    return {
        "image": f"{stem}.jpg",
        "target": f"{stem}.depth.png",
        "kind": "depth_m",
        "scale": scale,
        "labels": f"{stem}.labels.png",
    }


def read_journal(folder: Path) -> dict[int, dict[str, Any]]:
    """Finished scenes by number; a line that a kill cut short is ignored."""
    done: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("journal*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            done[int(entry["scene"])] = entry
    return done


def write_pairs(folder: Path) -> int:
    """(Re)write pairs.csv, labels.csv and classes.txt from the journal; the number of frames."""
    rows = [row for _, entry in sorted(read_journal(folder).items()) for row in entry["rows"]]
    pairs, labels = io.StringIO(), io.StringIO()
    writer = csv.DictWriter(pairs, ["image", "target", "kind", "scale", "labels"])
    writer.writeheader()
    writer.writerows(rows)
    simple = csv.writer(labels)
    simple.writerow(["image", "target"])
    simple.writerows([row["image"], row["labels"]] for row in rows)
    _write_atomic(folder / "pairs.csv", pairs.getvalue().encode())
    _write_atomic(folder / "labels.csv", labels.getvalue().encode())
    _write_atomic(folder / "classes.txt", ("\n".join(RENDERED) + "\n").encode())
    return len(rows)


# -- the command ------------------------------------------------------------------------------


def render_scenes(
    out: Path,
    scenes: Sequence[int],
    *,
    seed: int,
    furniture: Path | None,
    cache: Path,
    threads: int = 2,
    samples: int = 5,
    only: str | None = None,
    textures: Path | None = None,
    report: Callable[[str], None] = logger.info,
) -> int:
    """Render the scenes that the journal in `out` lacks; the number of frames there afterwards.

    textures: a folder of photographs that surfaces show, besides the furniture's own, and of
    panoramas (Radiance HDR) as light and background, besides Blender's.
    Raises UsageError where bpy is not installed or `only` names no kind of scene.
    """
    try:
        import bpy
    except ImportError as error:
        raise UsageError(
            "rendering needs Blender as a module: pip install 'dptcli[render]' (Python 3.11)"
        ) from error
    from dptcli.training.scenes import build, views
    from dptcli.training.stage import Stage

    out.mkdir(parents=True, exist_ok=True)
    pieces = read_catalogues(furniture, cache)
    images = sorted(
        path
        for pattern in ("*.jpg", "*.png")
        for path in cache.rglob(pattern)
        if path.parent.parent.parent.parent == cache and path.stat().st_size > 20_000
    )
    panoramas = []
    if textures is not None:
        images += [path for path in sorted(textures.iterdir()) if path.suffix in (".jpg", ".png")]
        panoramas = sorted(textures.glob("*.hdr"))
    stage = Stage(pieces, images, panoramas)
    _set_up(threads, samples)
    done = read_journal(out)
    journal = out / "journal.jsonl"
    for number in scenes:
        if number in done:
            continue
        began = time.monotonic()
        rng = np.random.default_rng([seed, number])
        bpy.context.scene.render.use_persistent_data = False
        stage.clear(rng)
        stage.used.clear()
        setting = build(stage, only=only)
        rows, faults = [], []
        # A scene's views share their geometry and textures, the next scene does not.
        bpy.context.scene.render.use_persistent_data = True
        for index, shape_hw in enumerate(views(stage, setting)):
            frame = _render(shape_hw, rng, shows_sky=stage.shows_sky)
            fault = flaw(frame)
            if fault is None:
                rows.append(save_frame(out, f"{number:06d}_{index}", frame))
            else:
                faults.append(fault)
        entry = {"scene": number, "kind": setting.kind, "rows": rows, "used": sorted(stage.used)}
        with journal.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
        write_pairs(out)
        report(
            f"scene {number} {setting.kind}: {len(rows)} frames in {time.monotonic() - began:.1f} s"
            + (f" ({', '.join(faults)} left out)" if faults else "")
        )
    return write_pairs(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m dptcli.training.render", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of frames, with pairs.csv")
    parser.add_argument("--scenes", default="0:100", help="FIRST:END scene numbers (0:100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--furniture", type=Path, help="folder of .sh3f archives (/usr/share/sweethome3d/furniture)"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "dpt-furniture",
        help="where the archives are unpacked",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=5, help="rays a pixel, before denoising")
    parser.add_argument(
        "--textures",
        type=Path,
        help="folder of photographs to put on surfaces, and of panoramas (.hdr) as light",
    )
    parser.add_argument("--only", help="one kind of scene: room, table, street, …")
    options = parser.parse_args(arguments)
    first, _, end = options.scenes.partition(":")
    try:
        frames = render_scenes(
            options.out,
            range(int(first), int(end)),
            seed=options.seed,
            furniture=options.furniture,
            cache=options.cache,
            threads=options.threads,
            samples=options.samples,
            only=options.only,
            textures=options.textures,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{frames} frames in {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
