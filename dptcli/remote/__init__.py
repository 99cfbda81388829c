"""Files beyond this machine: s3://, gs:// and https:// addresses. Loads nothing heavy."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from dptcli.errors import UsageError

STORES = ("s3", "gs")
WEB = ("http", "https")

_ADDRESS = re.compile(r"([A-Za-z][\w+.:-]*)://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}")
# Of one part of a result's name: 255 bytes are a file system's limit, and suffixes follow.
_MAX_NAME_BYTES = 150


@dataclass(frozen=True)
class Address:
    """Where something lies beyond this machine.

    url: as it is opened. host: the bucket or the server. parts: the way below it, made safe as file
    names, so that no address leads out of a folder of results.
    """

    url: str
    scheme: str
    host: str
    parts: tuple[str, ...]

    @property
    def in_store(self) -> bool:
        """Whether it lies in an object store, which can be listed and written to."""
        return self.scheme in STORES

    @property
    def key(self) -> str:
        """The object's key, or a prefix of keys."""
        return self.url.partition("://")[2].partition("/")[2]

    @property
    def query(self) -> str:
        """What stands behind the question mark of a web address; it may hold a signature."""
        return "" if self.in_store else urlsplit(self.url).query


def is_address(text: str | Path) -> bool:
    """Whether a text names something beyond this machine, or pretends to."""
    return isinstance(text, str) and _ADDRESS.match(text) is not None


def parse_address(text: str) -> Address:
    """Read an address. Raises UsageError, whose message never holds a secret.

    Only the schemes that are named here exist for us: no file://, no chains like
    simplecache::file://, which fsspec would open.
    """
    found = _ADDRESS.match(text)
    scheme = found[1].lower() if found else ""
    scheme = "gs" if scheme == "gcs" else scheme
    if scheme not in STORES + WEB:
        raise UsageError(
            f"{shown(text)!r}: only s3://, gs://, http:// and https:// addresses are read; "
            "name a file of this machine by its path"
        )
    if not text.isprintable():
        raise UsageError(f"{shown(text)!r} holds control characters; check the list")
    rest = text[found.end() :] if found else ""
    return _parse_store(scheme, rest) if scheme in STORES else _parse_web(scheme, rest)


def _parse_store(scheme: str, rest: str) -> Address:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        # Not the name itself: in its place may stand a key, s3://ID:SECRET@bucket.
        raise UsageError(
            f"{scheme}:// must go on with a bucket's name, e.g. {scheme}://my-photos/holiday/; "
            "credentials come from the environment, never from the address"
        )
    return Address(f"{scheme}://{bucket}/{key}", scheme, bucket, _safe_parts(key.split("/")))


def _parse_web(scheme: str, rest: str) -> Address:
    url = f"{scheme}://{rest}".partition("#")[0]
    try:
        split = urlsplit(url)
        host = (split.hostname or "").encode("idna").decode()
        port = split.port
    except ValueError as error:  # UnicodeError is one
        raise UsageError(f"{shown(url)!r} is no web address; check its host and port") from error
    if not host:
        raise UsageError(f"{shown(url)!r} names no host")
    if "@" in split.netloc:
        raise UsageError(
            f"{shown(url)!r} carries a user name; addresses with credentials are not taken, "
            "use a signed address"
        )
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    path = quote(split.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(split.query, safe="/%:@!$&'()*+,;=~-._?[]")
    safe = _safe_parts(unquote(part) for part in split.path.split("/"))
    return Address(
        f"{scheme}://{place}{path}" + (f"?{query}" if query else ""), scheme, place, safe or (host,)
    )


def _safe_parts(parts: Iterable[str]) -> tuple[str, ...]:
    """Names for folders and files: no way up, no separators, no controls, not too long."""
    refused = '/\\:*?"<>|' if sys.platform == "win32" else "/\\"
    safe = []
    for part in parts:
        name = "".join(c if c.isprintable() and c not in refused else "_" for c in part)
        if name in {"", ".", ".."}:
            continue
        data = name.encode(errors="surrogateescape")
        if len(data) > _MAX_NAME_BYTES:
            suffix = name[name.rfind(".") :] if 0 <= len(name) - name.rfind(".") <= 8 else ""
            head = data[: _MAX_NAME_BYTES - 20].decode(errors="ignore")
            name = f"{head}-{hashlib.sha256(data).hexdigest()[:8]}{suffix}"
        safe.append(name)
    return tuple(safe)


def shown(url: str) -> str:
    """An address for messages and reports: one line, without its query and its credentials."""
    whole = re.sub(r"(?<=://)[^/?#]*@", "…@", url)
    if whole.lower().startswith(("http://", "https://")):
        whole = re.sub(r"[?#].*", "?…", whole, flags=re.DOTALL)
    return "".join(c if c.isprintable() else "�" for c in whole)


def scrub(message: str) -> str:
    """A library's message in one line, without the queries of addresses, which may be signed."""
    line = (message.splitlines() or [""])[0]
    line = re.sub(r"(?<=://)[^\s/?#'\"]*@", "…@", line)
    return re.sub(r"(\bhttps?://[^\s?'\"]*|/[^\s?'\"]*)\?[^\s'\"]*", r"\1?…", line)[:300]
