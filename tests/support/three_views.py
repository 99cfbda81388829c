"""Three photographs of one scene, and runs of `dpt depth` over them."""

from pathlib import Path

from PIL import Image
from places import SAMPLES
from process import run_dpt

NAMES = ("a", "b", "c")


def save_photos(folder: Path) -> Path:
    """Three parts of one photograph, 180×120 pixels each, as if the camera had been moved."""
    with Image.open(SAMPLES / "room.jpg") as photo:
        whole = photo.resize((240, 180))
    for place, name in enumerate(NAMES):
        whole.crop((20 * place, 0, 180 + 20 * place, 120)).save(folder / f"{name}.png")
    return folder


def depth(*words: object, cwd: Path, code: int = 0) -> str:
    """Run `dpt depth` on the processor, which ends with that code; what it says, in one line."""
    fixed = ("--dtype", "float32", "--device", "cpu", "--size", "84")
    done = run_dpt("depth", *words, *fixed, cwd=cwd)
    assert done.returncode == code, done.stderr
    return done.stderr.replace("\n", " ")
