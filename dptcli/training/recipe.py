"""What the built-in model is made of: the frames that are rendered, and every stage of training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One run of `dptcli.training.builtin`: its name, its task and its further options.

    In the options {runs} is the folder of the stages, each with its head.safetensors, or with both
    models in builtin/. sets: where its examples lie, {frames} the rendered ones, {photographs}
    those that the caller has, {taught} what the depth model of the stages before sees on some of
    these; one that is named twice counts twice. teach: on which of them, below segment/, and the
    options of `dptcli.training.teach`. task: "both" trains both heads and the backbone that they
    share; stages after one keep features of that backbone in another folder. "sizes" is one run of
    `dptcli.training.sizes`, whose teacher is what the stages before have made.
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


BOTH, SIZES = "both", "sizes"
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
# From here on the heads learn alone, on what the backbone sees, which is computed once.
_ALONE = (
    "--hold-out 0 --optimizer muon --weight-decay 0.05 --go-on --warmup 8 --average 0.97 "
    "--features {runs}/features-of-both7"
)
_DEPTH_ALONE = f"{_ALONE} --variants 1 --levels -1"
_DEPTH_SETS = (*("{photographs}/depth",) * 3, "{frames}")
# The classes of a kind are told apart by the few photographs that name them.
_CLASSES = f"{_ALONE} --shapes 252x336 336x252 280x280 --batch-size 8"
_CLASS_SETS = (*("{photographs}/segment",) * 2, "{frames}")
# What depth is at 182 and 238; the classes stay what they are.
_DEPTH_SIZES = "--steps 300 --dtype bfloat16 --class-sizes 308"
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
            "depth8",
            "depth",
            f"{_DEPTH_ALONE} --shapes 252x336 252x336 336x252 280x280 168x504 --batch-size 8 "
            "--seed 51 --steps 220 --learning-rate 1e-3",
            sets=_DEPTH_SETS,
        ),
        Stage(
            "depth9",
            "depth",
            f"{_DEPTH_ALONE} --shapes 252x336 252x336 336x252 280x280 168x504 --batch-size 8 "
            "--seed 52 --steps 200 --learning-rate 8e-4",
            sets=_DEPTH_SETS,
        ),
        Stage(
            "depth10",
            "depth",
            f"{_DEPTH_ALONE} --shapes 308x406 308x406 406x308 308x308 182x546 --batch-size 6 "
            "--seed 53 --steps 150 --learning-rate 8e-4",
            sets=_DEPTH_SETS,
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
        Stage(
            "classes6",
            "segment",
            f"{_CLASSES} --seed 43 --variants 3 --steps 160 --learning-rate 4e-4 --levels 1 1 -1 "
            "--keep-kinds {runs}/both7/builtin",
            sets=_CLASS_SETS,
        ),
        Stage(
            "sizes1",
            SIZES,
            f"{_DEPTH_SIZES} --seed 71 --learning-rate 2e-5 --backbone-rate 2e-6",
            sets=("{photographs}/segment",),
        ),
        Stage(
            "sizes2",
            SIZES,
            f"{_DEPTH_SIZES} --seed 72 --learning-rate 2.5e-5 --backbone-rate 2.5e-6 "
            "--teacher {runs}/sizes1/teacher --taught {runs}/sizes1/taught",
            sets=("{photographs}/segment",),
        ),
        Stage(
            "sizes3",
            SIZES,
            "--seed 92 --steps 330 --learning-rate 4e-5 --backbone-rate 4e-6 --average 0.99 "
            "--dtype bfloat16 --teacher {runs}/sizes1/teacher {runs}/sizes2/builtin",
            sets=("{photographs}/segment",),
        ),
    ),
)
