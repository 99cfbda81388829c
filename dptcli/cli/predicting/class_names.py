"""labels.json: the names of the classes in a run's results. Loads nothing heavy."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

from dptcli.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from dptcli.results.plan import Plan
    from dptcli.segments.maskfiles import Style


def write_names(
    plan: "Plan", names: Mapping[int, str], style: "Style", *, model: str, existing: str
) -> None:
    """Write labels.json for the run's folder, or beside a single file; none for standard output."""
    from dptcli.results.writers import write_whole
    from dptcli.segments.maskfiles import write_names_json

    path = _names_path(plan)
    if path is None:
        return
    buffer = io.BytesIO()
    write_names_json(
        buffer,
        names,
        colors=style.colors,
        model=model,
        first_id=style.first_id,
    )
    content = buffer.getvalue()
    if path.exists() and existing != "overwrite" and path.read_bytes() != content:
        raise UsageError(
            f"{str(path)!r} holds the names of another model's classes, other ids or colours; "
            "name another folder, or replace it with --overwrite"
        )

    def write(stream: BinaryIO) -> None:
        stream.write(content)

    write_whole(path, write)


def _names_path(plan: "Plan") -> "Path | None":
    if plan.folder is not None:
        return plan.folder / "labels.json"
    path = plan.jobs[0].path
    return None if path is None else path.with_suffix(".labels.json")
