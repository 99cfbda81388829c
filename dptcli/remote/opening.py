"""Open what lies at an address, whatever serves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, cast

from dptcli.errors import ImageError
from dptcli.remote import parse_address, store, web


@contextmanager
def open_address(url: str) -> Iterator[BinaryIO]:
    """A seekable stream of an address's content. Raises ImageError, UsageError for no address."""
    address = parse_address(url)
    with ExitStack() as opened:
        if address.in_store:
            try:
                stream = opened.enter_context(store.fetch(address.url))
            except OSError as error:
                raise ImageError(store.refusal(url, error)) from None
        else:
            stream = opened.enter_context(web.fetch(address.url))
        yield cast(BinaryIO, stream)


def read_address(url: str) -> bytes:
    """An address's whole content. Raises ImageError and UsageError."""
    with open_address(url) as stream:
        return stream.read()
