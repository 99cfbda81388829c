"""The README's pictures: what each shows and the commands that make it.

`python tests/pictures.py` makes all of them anew (after the built-in model or a drawing changed);
`python tests/pictures.py depth mesh` those two. test_pictures.py runs the same commands.
"""

import contextlib
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent
# As a program, it is not pytest that says where the helpers and the browser are.
sys.path[:0] = [str(HERE / "support"), str(HERE / "gallery")]
FOLDER = HERE / "pictures"
SAMPLES = HERE.parent / "sample_images"
MAX_SIZE = (640, 480)


def opened(name: str) -> Callable[[], Image.Image]:
    """Show a file that the commands write."""

    def show() -> Image.Image:
        with Image.open(name) as picture:
            return picture.convert("RGBA" if picture.mode == "RGBA" else "RGB")

    return show


def beside(*names: str) -> Callable[[], Image.Image]:
    """Show several files side by side, equally high."""

    def show() -> Image.Image:
        parts = [opened(name)() for name in names]
        height = max(part.height for part in parts)
        parts = [part.resize((part.width * height // part.height, height)) for part in parts]
        joined = Image.new("RGB", (sum(part.width for part in parts), height), "white")
        left = 0
        for part in parts:
            joined.paste(part, (left, 0))
            left += part.width
        return joined

    return show


def above(*names: str) -> Callable[[], Image.Image]:
    """Show several files below each other, equally wide."""

    def show() -> Image.Image:
        parts = [opened(name)() for name in names]
        width = min(part.width for part in parts)
        parts = [part.resize((width, part.height * width // part.width)) for part in parts]
        return Image.fromarray(np.vstack([np.asarray(part) for part in parts]))

    return show


def on_checks(name: str) -> Callable[[], Image.Image]:
    """Show a file with transparency on the checks that image editors show."""

    def show() -> Image.Image:
        layer = opened(name)()
        row, column = np.mgrid[0 : layer.height, 0 : layer.width] // 12
        checks = np.where((row + column) % 2, 255, 215).astype(np.uint8)
        ground = Image.fromarray(checks).convert("RGBA")
        return Image.alpha_composite(ground, layer).convert("RGB")

    return show


def scene(*names: str, aside: float = 0.22) -> Callable[[], Image.Image]:
    """Show points, or meshes' vertices, side by side, as a camera to the right and above sees them.

    aside: how far to the right of the photographer, as a share of the distance.
    """

    def show() -> Image.Image:
        width = MAX_SIZE[0] // len(names)
        left = (MAX_SIZE[0] - width) // 2
        return Image.fromarray(np.hstack([view(name)[:, left : left + width] for name in names]))

    def view(name: str) -> NDArray[np.uint8]:
        import trimesh

        loaded = trimesh.load(name)
        if isinstance(loaded, trimesh.PointCloud):
            mesh, colours = loaded, np.asarray(loaded.colors)[:, :3]
        else:
            [mesh] = loaded.geometry.values()
            colours = np.asarray(mesh.visual.to_color().vertex_colors)[:, :3]
        middle = float(np.median(mesh.vertices[:, 2]))  # negative: the camera looks along -z
        eye = np.array([-aside * middle, -0.1 * middle, 0])
        ahead = np.array([0, 0, middle]) - eye
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, [0, 1, 0])
        right /= np.linalg.norm(right)
        axes = np.array([right, np.cross(right, ahead), ahead])
        to_right, up, depth = axes @ (np.asarray(mesh.vertices) - eye).T
        width, height = MAX_SIZE
        across = np.round(width / 2 + 0.9 * height * to_right / depth).astype(int)
        down = np.round(height / 2 - 0.9 * height * up / depth).astype(int)
        picture = np.full((height, width, 3), 255, np.uint8)
        far_first = np.argsort(-depth)
        for step in np.ndindex(2, 2):  # a point is 2×2 pixels
            y, x = down[far_first] + step[0], across[far_first] + step[1]
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            picture[y[inside], x[inside]] = colours[far_first][inside]
        return picture

    return show


def frames(*names: str) -> Callable[[], Image.Image]:
    """Show clips below each other, four frames of each."""

    def show() -> Image.Image:
        from clips import read_clip

        rows = []
        for name in names:
            shown = [rgb for _, rgb in read_clip(Path(name))]
            rows.append(np.hstack(shown[:: max(1, len(shown) // 4)][:4]))
        return Image.fromarray(np.vstack(rows))

    return show


def terminal(words: list[str]) -> Image.Image:
    """Run a command on a terminal of 80 columns and draw the half-blocks that it leaves there."""
    from terminal import on_a_terminal

    code, text = on_a_terminal(words, COLORTERM="truecolor", PYTHONPATH=str(HERE.parent))
    assert code == 0, text
    block = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m(▀+)")
    lines = []
    for line in text.splitlines():
        cells = [
            cell
            for *levels, blocks in block.findall(line)
            for cell in [[int(level) for level in levels]] * len(blocks)
        ]
        if cells:
            lines.append(np.array(cells, np.uint8).reshape(-1, 2, 3).transpose(1, 0, 2))
    return Image.fromarray(np.vstack(lines).repeat(8, 0).repeat(8, 1))


def page(name: str) -> Callable[[], Image.Image]:
    """Show a page in the browser, 960×640."""

    def show() -> Image.Image:
        from test_gallery_browser import Page, a_browser

        with a_browser() as browser:
            seen = Page(browser, Path(name), width=960, height=640)
            seen.wait("[...document.images].filter(i => i.complete && i.naturalWidth).length > 3")
            browser.save_screenshot("page.png")
        return opened("page.png")()

    return show


@dataclass(frozen=True)
class Picture:
    """commands: run one after another in a folder with the sample photographs, clip.mp4 and
    known.csv, distances in room.jpg.

    show: draws the stored picture from what they wrote; None: what the last command leaves on the
    terminal. needs: a program without which it cannot be drawn.
    """

    commands: tuple[str, ...]
    show: Callable[[], Image.Image] | None
    needs: str | None = None


PICTURES = {
    "depth": Picture(
        ("dpt depth coffee.png -o depth.webp --side-by-side --colorbar",),
        opened("depth.webp"),
    ),
    "refined": Picture(
        ("dpt depth photographer.jpg -o refined.webp --refine-edges --side-by-side",),
        opened("refined.webp"),
    ),
    "spectral": Picture(
        (
            "dpt depth garden.jpg -o garden.webp --colormap Spectral_r --range percentile "
            "--gamma 1.5 --side-by-side",
        ),
        opened("garden.webp"),
    ),
    "metres": Picture(
        (
            "dpt depth room.jpg -o metres.webp --colorbar --anchor 160,280=3 --anchor 330,400=1.1 "
            "--anchor 520,440=0.9",
        ),
        opened("metres.webp"),
    ),
    "calibrated": Picture(
        (
            "dpt calibrate dpt-small known.csv -o my-metres/",
            "dpt depth photos/ -o far/ -m my-metres/ --colorbar --range 0.5:5",
        ),
        beside("far/room.png", "far/coffee.png"),
    ),
    "normals": Picture(
        ("dpt depth courtyard.jpg -o maps/ --format color,normals,png16",),
        beside("maps/courtyard.png", "maps/courtyard.normals.png"),
    ),
    "mesh": Picture(
        (
            "dpt depth room.jpg -o room.glb --refine-edges --anchor 160,280=3 "
            "--anchor 330,400=1.1 --anchor 520,440=0.9",
        ),
        scene("room.glb"),
    ),
    "cut": Picture(
        (
            "dpt depth astronaut.jpg -o whole.ply",
            "dpt depth astronaut.jpg -o cut.ply --edge-cut 80",
        ),
        scene("whole.ply", "cut.ply", aside=0.3),
    ),
    "stereo": Picture(
        ("dpt depth astronaut.jpg -o stereo/ --refine-edges -f sbs,anaglyph",),
        beside("stereo/astronaut_LRF.jpg", "stereo/astronaut_anaglyph.jpg"),
    ),
    "panorama": Picture(
        ("dpt depth square.jpg -o square.webp --size 224",),
        above("square.jpg", "square.webp"),
    ),
    "things": Picture(
        (
            "dpt depth room.jpg -o things.webp --with-segments --show-things "
            "--anchor 160,280=3 --anchor 330,400=1.1 --anchor 520,440=0.9",
        ),
        opened("things.webp"),
    ),
    "overlay": Picture(
        ("dpt segment city.jpg -o seen/ --overlay 0.5 --outlines --also legend,mask",),
        beside("seen/city.png", "seen/city.legend.png"),
    ),
    "layer": Picture(
        ("dpt segment garden.jpg -o plants.png --classes vegetation --layer 0.8",),
        on_checks("plants.png"),
    ),
    "clip": Picture(
        ("dpt depth clip.mp4 -o depth.mp4", "dpt segment clip.mp4 -o classes.mp4"),
        frames("clip.mp4", "depth.mp4", "classes.mp4"),
    ),
    "preview": Picture(("dpt depth city.jpg -o city.png --preview",), None),
    "page": Picture(
        ("dpt depth photos/ -o out/", "dpt gallery out/"),
        page("out/gallery.html"),
        needs="chromedriver",
    ),
}


def make(name: str) -> Image.Image:
    """Run a picture's commands in the current folder, which `workplace` has made, and draw it."""
    from dptcli.cli import main

    wanted = PICTURES[name]
    *commands, last = [shlex.split(command)[1:] for command in wanted.commands]
    for words in commands:
        assert main(words) == 0, words
    if wanted.show is None:
        picture = terminal(last)
    else:
        assert main(last) == 0, last
        picture = wanted.show()
    picture.thumbnail(MAX_SIZE)
    return picture.convert("RGB")


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[None]:
    """Put the sample photographs, a short clip and distances into a folder, and work there.

    In float32, wherever: a legend names the classes that are seen, and rounding adds or takes one.
    """
    from clips import write_clip

    (folder / "photos").mkdir()
    for photo in sorted(path for path in SAMPLES.iterdir() if path.suffix != ".md"):
        shutil.copy(photo, folder)
    shutil.copy(HERE / "panorama" / "square.jpg", folder)
    for name in ("astronaut.jpg", "city.jpg", "coffee.png", "room.jpg"):
        shutil.copy(SAMPLES / name, folder / "photos")
    with Image.open(SAMPLES / "pavilion.jpg") as photo:
        wide = np.asarray(photo.convert("RGB").resize((320, 214)))
    write_clip(folder / "clip.mp4", [wide[:, 20 * step : 20 * step + 240] for step in range(4)])
    known = ("160,280,3", "330,400,1.1", "520,440,0.9")
    rows = "".join(f"room.jpg,{place}\n" for place in known)
    (folder / "known.csv").write_text(f"image,x,y,metres\n{rows}")
    lesser = {"DPT_CPU": os.environ.get("DPT_CPU") or "avx512"}  # without bfloat16
    with contextlib.chdir(folder), patch.dict(os.environ, lesser):
        yield


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PICTURES:
        with tempfile.TemporaryDirectory() as scratch, workplace(Path(scratch)):
            make(name).save(FOLDER / f"{name}.webp", quality=80, method=6)
        print(FOLDER / f"{name}.webp", (FOLDER / f"{name}.webp").stat().st_size)
