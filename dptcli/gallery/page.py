"""Put the page together: one HTML file from its parts, with nothing in it that can run but ours."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dptcli import __version__
from dptcli.depth.colormaps import DEFAULT_COLORMAP, depth_lut

COLORMAPS = (DEFAULT_COLORMAP, "magma", "viridis", "cividis", "turbo", "Spectral_r", "gray")

_FOLDER = Path(__file__).parent


def render(
    *,
    title: str,
    entries: Sequence[Mapping[str, Any]],
    sets: Sequence[Mapping[str, Any]],
    failures: Sequence[tuple[str, str]],
    files: str,
) -> str:
    """Return the page. files: the address of the folder of pictures, escaped.

    Names reach the page as JSON alone, in which every < is escaped, and its script puts them in as
    text. The content security policy allows our own style and script by their hashes, pictures and
    value scripts from beside the page, and no connection to anywhere.
    """
    style, script = (_part(name) for name in ("page.css", "page.js"))
    data = {
        "title": title,
        "entries": entries,
        "sets": sets,
        "failures": failures,
        "files": files,
        "colormaps": {
            name: base64.b64encode(depth_lut(name).tobytes()).decode() for name in COLORMAPS
        },
        "version": __version__,
    }
    # 'self' is the page's server; opened from disk a page has none, and file: stands for it.
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src {_hash(style)}; script-src 'self' file: {_hash(script)}; "
        "img-src 'self' file: data:"
    )
    parts = {
        "title": html.escape(title),
        "policy": html.escape(policy),
        "style": style,
        "script": script,
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    page = _part("page.html")
    # One pass over the template, so that no part's content is taken for a marker.
    pieces = page.split("@@")
    return "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def _part(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
