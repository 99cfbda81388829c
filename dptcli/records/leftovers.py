"""What killed runs left in a folder of results: half-written files, and record after record."""

import contextlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dptcli.records.ledger import FOLDER_NAME, host, parsed, try_lock
from dptcli.results.files import RUN_TOKEN, SPOOL_PREFIX, TEMPORARY_SUFFIX, atomic_path

logger = logging.getLogger(__name__)

_STALE_S = 24 * 3600
_MOST_LEDGERS = 8
_TEMPORARY = r"\.[0-9a-f]{16}" + re.escape(TEMPORARY_SUFFIX)


def tidy(folder: Path, folders: Collection[Path]) -> None:
    """Remove the half-written files of runs that were killed, and join many records to one.

    folders: where results lie. A run is known to be over when its record's lock is free, which the
    machine itself sees to however the run ended; of other machines' runs, files of yesterday go.
    """
    over: dict[str, int] = {}  # the run's token -> its record, locked
    paths: list[Path] = []
    try:
        for path in (folder / FOLDER_NAME).glob(f"{host()}-*.jsonl"):
            token = path.stem.rpartition("-")[2]
            if token == RUN_TOKEN:
                continue
            with contextlib.suppress(OSError):
                file = os.open(path, os.O_RDONLY)
                if try_lock(file):
                    over[token] = file
                    paths.append(path)
                else:
                    os.close(file)
        if over:
            for here in {folder, *folders}:
                remove_unfinished(here, over)
        if len(paths) > _MOST_LEDGERS:
            _join(folder, paths)
    except OSError as error:
        logger.debug("could not tidy %s: %s", folder, error)
    finally:
        for file in over.values():
            os.close(file)


def remove_unfinished(folder: Path, tokens: Collection[str]) -> None:
    """Remove the half-written files of runs that are over, and whatever else is of yesterday."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:  # results that are whole don't fail for this
        logger.debug("could not tidy %s: %s", folder, error)
        return
    for entry in entries:
        is_spool = entry.name.startswith(SPOOL_PREFIX)
        if not (is_spool or re.fullmatch(_TEMPORARY, entry.name)):
            continue
        start = len(SPOOL_PREFIX) if is_spool else 1
        with contextlib.suppress(OSError):
            is_stale = time.time() - entry.stat().st_mtime > _STALE_S
            if entry.name[start : start + len(RUN_TOKEN)] not in tokens and not is_stale:
                continue
            if is_spool:
                shutil.rmtree(folder / entry.name)
            else:
                (folder / entry.name).unlink()


def _join(folder: Path, paths: Sequence[Path]) -> None:
    """Put the records of runs that are over into one file: the newest and the true of each file."""
    newest: dict[str, dict[str, Any]] = {}
    for path in paths:
        with path.open("rb") as stream:
            for line in parsed(stream):
                key, at = line.get("file"), line.get("time_ns", line.get("mtime_ns", 0))
                if not isinstance(key, str):
                    continue
                kept = newest.setdefault(key, {})
                if at >= kept.get("at", 0):
                    kept["at"], kept["newest"] = at, line
                with contextlib.suppress(OSError):
                    status = (folder / key).stat()
                    if (status.st_size, status.st_mtime_ns) == (
                        line.get("size"),
                        line.get("mtime_ns"),
                    ):
                        kept["true"] = line
    joined = folder / FOLDER_NAME / f"{host()}-joined{os.urandom(4).hex()}.jsonl"
    with atomic_path(joined) as temporary, temporary.open("w") as stream:
        for kept in newest.values():
            for line in [kept["newest"]] + (
                [kept["true"]] if kept.get("true", kept["newest"]) != kept["newest"] else []
            ):
                stream.write(json.dumps(line, separators=(",", ":")) + "\n")
    for path in paths:
        path.unlink(missing_ok=True)
