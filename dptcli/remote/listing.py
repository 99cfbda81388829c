"""Find photographs beyond this machine: objects, prefixes, globs and web addresses."""

from __future__ import annotations

import glob
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from dptcli.errors import UsageError
from dptcli.remote import Address, parse_address, shown, store


def expand(
    text: str,
    *,
    suffixes: Collection[str],
    recursive: bool,
    order: Callable[[PurePosixPath], Any],
) -> tuple[list[Address], tuple[str, ...]]:
    """What an address stands for, and the folder that it looks from: (host, part, …).

    A web address is one file, and so is an object whose name ends like a photograph's: its failure
    comes when it is read. Everything else in a store is a glob or a prefix, which is searched like
    a folder: for `suffixes`, without hidden names, in the given order. Raises UsageError.
    """
    address = parse_address(text)
    if not address.in_store:
        return [address], _root(address.parts[:-1], address)
    store.require(address.scheme)
    key = address.key
    try:
        if glob.has_magic(key) and not store.exists(address.url):
            urls = store.match(address.url)
            first = next(i for i, part in enumerate(key.split("/")) if glob.has_magic(part))
            base = "/".join(key.split("/")[:first])
        elif key and PurePosixPath(key).suffix.lower() in suffixes and not key.endswith("/"):
            return [address], _root(address.parts[:-1], address)
        else:
            urls, base = list(store.find(address.url)), key.rstrip("/")
            if urls == [address.url]:
                return [address], _root(address.parts[:-1], address)
    except OSError as error:
        raise UsageError(store.refusal(text, error)) from None
    if not urls:
        raise UsageError(f"nothing lies below {shown(text)!r}; check the bucket and the prefix")
    skip = len(base) + 1 if base else 0
    found = [parse_address(url) for url in urls]
    kept = [
        item
        for item in found
        if PurePosixPath(item.key).suffix.lower() in suffixes
        and not any(part.startswith(".") for part in item.key[skip:].split("/"))
        and (recursive or "/" not in item.key[skip:] or glob.has_magic(key))
    ]
    parts = tuple(part for part in base.split("/") if part)
    return sorted(kept, key=lambda item: order(PurePosixPath(item.key))), _root(parts, address)


def _root(parts: Sequence[str], address: Address) -> tuple[str, ...]:
    return (f"{address.scheme}-{address.host.replace(':', '_')}", *parts)


def places(
    addresses: Sequence[Address], roots: Sequence[tuple[str, ...]]
) -> Mapping[str, PurePosixPath]:
    """Where each address lies below the deepest folder that holds all roots, by its url.

    Web addresses that differ in their query alone get a hash of it into their name.
    """
    depth = 0
    if roots:
        while all(len(root) > depth and root[depth] == roots[0][depth] for root in roots):
            depth += 1
    unique = {item.url: item for item in addresses}
    shared = Counter((item.scheme, item.host, item.parts) for item in unique.values())
    below = {}
    for url, item in unique.items():
        *folders, name = (*_root(item.parts, item),)[depth:] or (item.host,)
        if item.query and shared[item.scheme, item.host, item.parts] > 1:
            mark = hashlib.sha256(item.query.encode()).hexdigest()[:8]
            path = PurePosixPath(name)
            name = f"{path.stem}-{mark}{path.suffix}"
        below[url] = PurePosixPath(*folders, name)
    return below
