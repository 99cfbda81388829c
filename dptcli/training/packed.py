"""Train the built-in model on a GPU to which little can be carried.

    python -m dptcli.training.packed pack SETS... -o PACK
    python -m dptcli.training.packed train PACK -o PARTS --builtin BUILTIN [builtin's options]
    python -m dptcli.training.packed join PARTS -o BUILTIN

`pack` writes the examples in parts of 60 MB, `train` runs `dptcli.training.builtin` on them on a
GPU with the batches prepared by all cores, and writes the weights in parts of 16 MB, which `join`
puts together. A quarter of an hour of a large GPU sees some hundred thousand crops.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dptcli.errors import DptError, UsageError
from dptcli.training import builtin
from dptcli.training.packs import join_file, pack, split_file, unpack
from dptcli.training.photographs import read_material

WEIGHT_BYTES = 16_000_000
ON_A_GPU = (
    "--together --go-on --hold-out 0 --variants 0 --device cuda --dtype bfloat16 "
    "--shapes 280x378 280x378 378x280 322x322 196x588 --batch-size 32 --steps 3000 "
    "--learning-rate 3e-4 --backbone-rate 3e-5 --warmup 100 --average 0.995 --levels -1 -1 2"
)
"""What `train` gives `dptcli.training.builtin` beside the places; later options win."""


def train(pack_folder: Path, out: Path, base: Path, more: Sequence[str]) -> None:
    """Train on a pack from the models in `base`; their weights stand in parts in `out`.

    What was trained so far stays in `out`/run, and the same command goes on from there.
    """
    with tempfile.TemporaryDirectory() as scratch:
        examples = unpack(pack_folder, Path(scratch) / "examples")
        result = Path(scratch) / "models"
        code = builtin.main(
            [
                str(examples),
                *("--builtin", str(base), "-o", str(result), "--work", str(out / "run")),
                *("--workers", str(max(1, (os.cpu_count() or 2) - 1))),
                *ON_A_GPU.split(),
                *more,
            ]
        )
        if code != 0:
            raise UsageError("training did not finish; the reason stands above")
        for path in sorted(result.rglob("*.safetensors")):
            split_file(path, out / path.parent.name, part_bytes=WEIGHT_BYTES)


def join(parts: Path, base: Path) -> list[Path]:
    """Replace the weights in `base` by those whose parts lie in `parts`; the files written."""
    first = sorted(parts.glob("*/*.safetensors.000"))
    if not first:
        raise UsageError(f"{parts} holds no weights in parts; `train` writes them")
    written = []
    for one in first:
        path = base / one.parent.name / one.stem
        join_file(list(one.parent.glob(f"{one.stem}.[0-9][0-9][0-9]")), path)
        written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m dptcli.training.packed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write examples in parts")
    packing.add_argument("sets", type=Path, nargs="+", help="as `dptcli.training.builtin` has them")
    packing.add_argument("-o", "--output", type=Path, required=True)
    training = commands.add_parser("train", help="train on a pack; further options are builtin's")
    training.add_argument("pack", type=Path)
    training.add_argument("-o", "--output", type=Path, required=True)
    training.add_argument("--builtin", type=Path, required=True, help="the models to go on from")
    joining = commands.add_parser("join", help="put weights together")
    joining.add_argument("parts", type=Path)
    joining.add_argument("-o", "--output", type=Path, required=True, help="as --builtin of train")
    options, more = parser.parse_known_args(arguments)
    if more and options.command != "train":
        parser.error(f"unknown: {' '.join(more)}")
    try:
        if options.command == "pack":
            examples = [one for folder in options.sets for one in read_material(folder)]
            print(f"{pack(examples, options.output)} parts in {options.output}")
        elif options.command == "train":
            train(options.pack, options.output, options.builtin, more)
        else:
            print("\n".join(map(str, join(options.parts, options.output))))
    except DptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
