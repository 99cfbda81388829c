"""What a result says about itself: in a PNG's text, and in NAME.json beside files without one."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dptcli.errors import ImageError
from dptcli.inputs.decode import printable
from dptcli.kinds import MEANINGS

# The key of the PNG text chunk that holds our facts as JSON, for programs that read results.
TEXT_KEY = "dptcli"

# The key of NAME.json under which each file of the image has what holds for it alone.
FILES_KEY = "files"

# What a sidecar says where one of the formats asked for it, and which differs in nothing else.
_OF_SOME_FORMATS = {"focal_px", "focal_y_px", "focal_from", "camera", "confidence"}

_SURROGATE = re.compile("[\ud800-\udfff]")

POLARITY: dict[str, str] = {kind: meaning.polarity for kind, meaning in MEANINGS.items()}
UNIT: dict[str, str] = {kind: meaning.unit for kind, meaning in MEANINGS.items()}


def sidecar_bytes(facts: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return NAME.json: the facts of the image, and under "files" those of each file."""
    return (json_text({**facts, FILES_KEY: files}, indent=2) + "\n").encode()


def json_text(content: Any, *, indent: int | None = None) -> str:
    """Return JSON for people, its letters as they are, that is UTF-8 whatever files are called.

    What is no UTF-8 in a name (a surrogate in Python) is escaped, so that the name comes back.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, default=str)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def find_sidecar(path: Path) -> Path | None:
    """Return the sidecar of a result: NAME.json for NAME.npy, and for NAME.depth16.png too."""
    base = path
    while base.suffix:
        candidate = base.with_suffix(".json")
        # a.b.json is about a.b.png whatever it says; a.json must name a.b.png.
        if candidate != path and candidate.is_file() and (base == path or _names(candidate, path)):
            return candidate
        base = base.with_suffix("")
    return None


def _names(sidecar: Path, path: Path) -> bool:
    return path.name in read_sidecar(sidecar).get(FILES_KEY, {})


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read NAME.json. Raises ImageError where it is no JSON object."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except ValueError as error:
        raise ImageError(f"{printable(path)} is not JSON ({error}); remove it") from error
    if not isinstance(facts, dict):
        raise ImageError(f"{printable(path)} must hold an object, e.g. {{'kind': 'depth_m'}}")
    return facts


def earlier_files(
    path: Path, facts: Mapping[str, Any], *, keep: Collection[Path] = ()
) -> dict[str, dict[str, Any]]:
    """What NAME.json says of files that stay when it is written anew with these facts.

    Those of `keep`, and where it is about the same result in other formats, all that are there:
    `-o r.glb` after `-o r.ply` leaves both described. Raises ImageError for kept files' broken one.
    """
    try:
        earlier = read_sidecar(path)
    except (OSError, ImageError):
        if keep and path.is_file():
            raise
        return {}
    found = earlier.pop(FILES_KEY, None)
    files = found if isinstance(found, dict) else {}
    stay = {kept.name for kept in keep}
    now = json.loads(json_text(facts))
    if all(earlier.get(key) == now.get(key) for key in {*earlier, *now} - _OF_SOME_FORMATS):
        stay |= {name for name in files if path.with_name(name).is_file()}
    return {name: about for name, about in files.items() if name in stay}


def facts_about(path: Path, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said about a file: its own facts where we wrote them, else its sidecar's too.

    own: what the file says itself, which is about this very file; a sidecar may be of an earlier
    one.
    """
    return dict(own) if "dpt" in own else {**own, **facts_beside(path)}


def facts_beside(path: Path) -> dict[str, Any]:
    """Return what the sidecar says about one file: the image's facts and the file's own."""
    found = find_sidecar(path)
    if found is None:
        return {}
    facts = read_sidecar(found)
    files = facts.pop(FILES_KEY, None)
    if files is None:  # somebody's own facts
        return facts
    own = files.get(path.name) if isinstance(files, dict) else None
    # A file that it does not name is of an earlier run, and may be of another kind.
    return {} if own is None else {**facts, **own}
