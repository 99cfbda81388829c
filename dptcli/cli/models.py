"""`dpt models`: what there is, what it is for, and the cache."""

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dptcli.cli import options as o
from dptcli.cli.commands import Group
from dptcli.cli.terminal.logs import set_up_logging
from dptcli.errors import ModelError, UsageError
from dptcli.kinds import MEANINGS
from dptcli.model.families.entry import LABELS, CatalogEntry
from dptcli.model.families.family import SEGMENT
from dptcli.weights import hub, hub_download
from dptcli.weights.calibration import result_kind
from dptcli.weights.catalog import (
    CATALOG,
    entries_for,
    find_model,
    hub_name,
)
from dptcli.weights.folder import files_of, task_of
from dptcli.weights.gives import described_config, told_of
from dptcli.weights.hub_name import HubName

if TYPE_CHECKING:
    import numpy as np

_EPILOG = "Exit codes: 0 done, 2 wrong usage, or a model that is unknown, unreachable or broken."
_GIVES = {meaning.type: meaning.title for meaning in MEANINGS.values()}
_GIVES["labels"] = "class labels"
KNOWN_IMAGE = "000000039769"  # of COCO val2017: the publishers' own test image
CHECKPOINTS_VARIABLE = "DPT_CHECKPOINTS"

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME...",
        show_default=False,
        help="Short names, or owner/name[@revision] on the hub, e.g. [cyan]dpt-large[/]",
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        show_default=False,
        help="A short name, owner/name[@revision] on the hub, or a folder, "
        "e.g. [cyan]depth-anything-v2-small[/]",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="JSON instead of text, e.g. [cyan]--json | jq[/]"),
]

models_app = typer.Typer(
    name="models",
    cls=Group,
    rich_markup_mode="rich",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(models_app, epilog=_EPILOG)


@models_app.callback()
def models(context: typer.Context, as_json: Json = False) -> int:
    """List the models that have names, and manage those in the cache.

    [cyan]dpt models[/]
    [cyan]dpt models show dpt-large[/]
    [cyan]dpt models download depth-anything-v2-small[/]

    Any other repository of the hub with a model of the family works as owner/name.
    """
    if context.invoked_subcommand is not None:
        return 0
    facts = [_facts(entry) for entry in CATALOG]
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _print_table(facts)
    return 0


@models_app.command()
def show(name: Name, as_json: Json = False) -> int:
    """Show all that is known of a model, e.g. dpt models show zoedepth-nyu.

    An unlisted repository or a folder is described from its config.json.
    """
    entries = [] if Path(name).is_dir() else entries_for(name)
    all_facts = [_facts(entry) for entry in entries] or [_facts_of_unlisted(name)]
    if as_json:
        print(json.dumps(all_facts, indent=2))
        return 0
    for facts in all_facts:
        for key, value in facts.items():
            if value not in (None, "", [], ()):
                print(f"{key.replace('_', ' '):<15} {_shown(value, key)}")
        print()
    return 0


@models_app.command()
def download(names: Names, quiet: o.Quiet = False) -> int:
    """Download models into the cache, or their newer versions, e.g. dpt models download dpt-large.

    The folder of each is printed on standard output.
    """
    set_up_logging(verbose=False, quiet=quiet)
    if not quiet:
        logging.getLogger(hub_download.__name__).setLevel(logging.INFO)  # tells the licence
    for name in names:
        print(find_model(name, task=None, refresh=True), flush=True)
    return 0


@models_app.command()
def verify(
    name: Name,
    image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help=f"COCO val2017 {KNOWN_IMAGE}: its output is compared with the publisher's "
            f"numbers, e.g. [cyan]--image {KNOWN_IMAGE}.jpg[/]",
        ),
    ] = None,
    as_json: Json = False,
    offline: o.Offline = False,
) -> int:
    """Check a model: hashes, every tensor, finite values, a forward, the publisher's numbers.

    [cyan]dpt models verify dpt-large --image 000000039769.jpg[/]
    """
    set_up_logging(verbose=False, quiet=False)
    picture = _known_image(image)
    from dptcli.weights.verify import tasks_in
    from dptcli.weights.verify import verify as checks_of

    failed = []
    for task in tasks_in(name, offline=offline):
        for check in checks_of(name, task=task, known_image=picture, offline=offline):
            if as_json:
                print(json.dumps({"model": name, "task": task, **dataclasses.asdict(check)}))
            else:
                print(f"{'ok    ' if check.passed else 'FAILED'} {check.name}: {check.seen}")
            if not check.passed:
                failed.append(check.name)
    if failed:
        raise ModelError(
            f"model {name!r} is broken ({', '.join(failed)}); "
            "`dpt models remove` it and download it again"
        )
    return 0


@models_app.command()
def remove(
    name: Name,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", metavar="", help="Do not ask, e.g. [cyan]--yes[/]")
    ] = False,
) -> int:
    """Remove a model from the cache, every revision of it, e.g. dpt models remove dpt-large -y."""
    if Path(name).is_dir():
        raise UsageError(f"{name} is a folder of your own, not of the cache; remove it yourself")
    wanted = hub_name(name)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"removing {wanted.repository} needs a yes; add --yes")
        if not typer.confirm(f"Remove {wanted.repository} from the cache?", err=True):
            return 0
    freed = hub.remove(wanted)
    print(f"removed {wanted.repository}: {freed / 1e6:,.1f} MB freed")
    return 0


def _facts(entry: CatalogEntry) -> dict[str, Any]:
    facts = dataclasses.asdict(entry)
    folder = entry.folder
    if entry.repository is not None:
        named = HubName(entry.repository, entry.revision)
        folder = named.find(entry.original) if entry.original else hub.cached(named)
    return {
        **facts,
        "non_commercial": entry.is_non_commercial,
        "cached": folder is not None,
        "folder": None if folder is None else str(folder),
    }


def _facts_of_unlisted(name: str) -> dict[str, Any]:
    """What is told of a folder, of an original file, or of a cached repository that holds one."""
    folder = Path(name) if Path(name).exists() else hub.cached(hub_name(name))
    if folder is None:
        raise ModelError(
            f"{name} is not listed and not in the cache; `dpt models download {name}` fetches it"
        )
    if folder.is_file():
        from dptcli.weights.originals import read_original

        values, files = read_original(folder).config, [folder]
    else:
        values, files = described_config(folder), files_of(folder)
    nested = values.get("backbone_config")
    plain = "vit" if values.get("model_type") == "dpt" else None  # others hold it elsewhere
    return {
        "name": name,
        "family": values.get("model_type"),
        "task": task_of(values),
        "gives": _gives(values),
        "backbone": nested.get("model_type") if isinstance(nested, dict) else plain,
        "architectures": values.get("architectures"),
        "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        "cached": hub.is_cache(folder),
        "folder": str(folder),
    }


def _gives(values: Mapping[str, Any]) -> str | None:
    """What a model without a row gives, in the catalogue's words."""
    task = task_of(values)
    told = SimpleNamespace(**told_of(values))
    return LABELS if task == SEGMENT else MEANINGS[result_kind(told)].type


def _shown(value: object, key: str = "") -> str:
    if key == "range_m" and isinstance(value, tuple):
        return f"{value[0]:g} to {value[1]:g} metres"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return "first values of COCO " + KNOWN_IMAGE + f": {list(value['first'])}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _print_table(facts: list[dict[str, Any]]) -> None:
    """One line a model, at most 80 columns, under its family and what it is good for."""
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    form = "{mark} {name:<38} {backbone:<9} {size:>5} {input:<7} {licence}"
    heading = {"backbone": "BACKBONE", "size": "PARAM", "input": "INPUT", "licence": "LICENCE"}
    console.print(Text(form.format(mark=" ", name="NAME", **heading), style="bold"))
    for family, members in groupby(facts, key=lambda fact: fact["family"]):
        console.print(Text(f"\n{family}", style="bold cyan"))
        use_of = lambda fact: f"{_GIVES[fact['gives']]}: {fact['good_for']}"  # noqa: E731
        for use, users in groupby(members, key=use_of):
            console.print(Text(f"    {use}", style="italic"))
            for fact in users:
                line = form.format(
                    mark="*" if fact["cached"] else " ",
                    name=fact["name"],
                    backbone=fact["backbone"],
                    size=_short(fact["parameters"]),
                    input=fact["input_size"],
                    licence=fact["licence"],
                )
                console.print(Text(line, style="" if fact["cached"] else "dim"))
    console.print(
        "\n* is built in or in the cache. CC-BY-NC: not for commercial use. INPUT is in"
        "\npixels; own: the photograph's. `dpt models show NAME` says more; `-m owner/name`"
        "\ntakes any other repository of the hub."
    )


def _short(count: int) -> str:
    """24.8M, 335M, 1.20B."""
    if count >= 1e9:
        return f"{count / 1e9:.2f}B"
    return f"{count / 1e6:.0f}M" if count >= 99.95e6 else f"{count / 1e6:.1f}M"


def _known_image(given: Path | None) -> "np.ndarray | None":
    """The publishers' test image: the one given, or the one beside the real checkpoints."""
    path = given
    folder = os.environ.get(CHECKPOINTS_VARIABLE)
    if path is None and folder:
        path = next(iter(sorted(Path(folder).glob(f"{KNOWN_IMAGE}.*"))), None)
    if path is None:
        return None
    from dptcli.inputs.find import decode_image

    return decode_image(path)
