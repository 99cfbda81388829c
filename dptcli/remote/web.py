"""Photographs from the web: streamed, resumed, retried, and never led to where they do not belong.

Only http and https exist here; urllib's handlers for file:, ftp: and data: are not installed.
Machines' metadata services (link-local addresses) are refused, and so is a redirect from the public
web into a private network: a list of addresses may come from anybody.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import ipaddress
import random
import re
import socket
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from dptcli import __version__
from dptcli.errors import ImageError
from dptcli.remote import scrub, shown

NUM_TRIES = 4
FIRST_PAUSE_S = 0.5  # doubled after each try
TIMEOUT_S = 30.0  # without a byte
MAX_BYTES = 2 << 30
_MAX_REDIRECTS = 5
_MAX_WAIT_S = 30.0  # what a server's Retry-After may ask for
_SLOWEST = 1000  # bytes a second, over more than _PATIENCE_S
_PATIENCE_S = 60.0
_HELD = 32 << 20  # larger files wait on disk and not in memory
_BLOCK = 1 << 18
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_NEVER = ("fd00:ec2::254", "100.100.100.200")  # metadata services outside the link-local ranges


class _RefusedError(Exception):
    """An answer that asking again would not change; the text says which."""


@dataclass
class _Download:
    """What is known of a file on its way. public: whether its first server is on the public web."""

    url: str
    spool: IO[bytes]
    tag: str | None = None
    public: bool = False
    wait_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def check_peer(self, host: str, *, redirected: bool) -> None:
        """Refuse a server by its number. Raises _RefusedError."""
        peer = ipaddress.ip_address(host.partition("%")[0])
        peer = getattr(peer, "ipv4_mapped", None) or peer
        if peer.is_link_local or str(peer) in _NEVER:
            raise _RefusedError("leads to a machine's own services, where no photographs are")
        if not redirected:
            self.public = peer.is_global
        elif self.public and not peer.is_global:
            raise _RefusedError("is redirected into a private network, which is not followed")


@contextlib.contextmanager
def fetch(url: str) -> Iterator[IO[bytes]]:
    """A web address's content as a seekable stream. Raises ImageError with the reason."""
    with tempfile.SpooledTemporaryFile(max_size=_HELD) as spool:
        download = _Download(url, spool)
        for attempt in range(NUM_TRIES):
            try:
                _attempt(download)
                break
            except _RefusedError as error:
                raise ImageError(f"{shown(url)} {error}") from None
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                last = attempt == NUM_TRIES - 1
                if last or not _may_pass(error):
                    tried = f", tried {NUM_TRIES} times" if last else ""
                    raise ImageError(
                        f"{shown(url)} cannot be read: {_words(error)}{tried}"
                    ) from None
                pause_s = FIRST_PAUSE_S * 2**attempt * random.uniform(1, 1.5)
                time.sleep(max(pause_s, download.wait_s))
        spool.seek(0)
        yield spool


def _may_pass(error: Exception) -> bool:
    """Whether a failed try is worth another."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _PASSING
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError | http.client.InvalidURL):
        return False
    return not (isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME)


def _words(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        remedy = {
            401: "; the address must be readable without a login",
            403: "; a signed address may have expired",
            404: "; was it moved or removed?",
        }.get(error.code, "")
        return f"{error.code} {scrub(str(error.reason))}{remedy}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer for {TIMEOUT_S:g} s"
    if isinstance(cause, OSError) and cause.strerror:
        return scrub(cause.strerror)
    return scrub(str(cause)) or type(cause).__name__


def _attempt(download: _Download) -> None:
    """Ask for the file, or for what is missing of it, and take what comes."""
    spool = download.spool
    have = spool.seek(0, 2)
    headers = {"User-Agent": f"dptcli/{__version__}", "Accept-Encoding": "identity"}
    if have and download.tag:
        headers |= {"Range": f"bytes={have}-", "If-Range": download.tag}
    with _follow(download, headers) as answer:
        resumed = answer.status == 206 and re.match(
            rf"bytes {have}-", answer.headers.get("Content-Range", "")
        )
        if not resumed:
            spool.seek(0)
            spool.truncate()
            have = 0
        tag = answer.headers.get("ETag", "")
        download.tag = tag if tag.startswith('"') else None
        length = answer.headers.get("Content-Length", "")
        expected = have + int(length) if length.isdecimal() else None
        if (expected or 0) > MAX_BYTES:
            raise _RefusedError(f"has more than {MAX_BYTES >> 30} GiB; no photograph has")
        started = time.monotonic()
        while block := answer.read1(_BLOCK):
            have += len(block)
            spool.write(block)
            if have > MAX_BYTES:
                raise _RefusedError(
                    f"does not end within {MAX_BYTES >> 30} GiB; no photograph is larger"
                )
            elapsed_s = time.monotonic() - started
            if elapsed_s > _PATIENCE_S and have < _SLOWEST * elapsed_s:
                raise _RefusedError("comes too slowly to wait for it")
        if expected is not None and have < expected:
            raise ConnectionError(None, f"the connection was cut at {have} of {expected} bytes")


def _follow(download: _Download, headers: dict[str, str]) -> Any:
    """Open the address, through redirects that are allowed. Raises _RefusedError and OSError."""
    url = download.url
    for hop in range(_MAX_REDIRECTS + 1):
        opener = _opener(functools.partial(download.check_peer, redirected=hop > 0))
        _check_literal(download, url, redirected=hop > 0)
        try:
            return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            target = error.headers.get("Location")
            if error.code not in {301, 302, 303, 307, 308} or not target:
                wait = error.headers.get("Retry-After") or ""
                download.wait_s = min(float(wait), _MAX_WAIT_S) if wait.isdecimal() else 0.0
                raise
            error.close()
            following = urljoin(url, target)
            scheme = urlsplit(following).scheme.lower()
            if scheme not in {"http", "https"}:
                raise _RefusedError(
                    f"is redirected to {scheme}://, which is not followed"
                ) from None
            if url.startswith("https:") and scheme == "http":
                raise _RefusedError(
                    "is redirected from https to http, which is not followed"
                ) from None
            url = following
    raise _RefusedError(f"is redirected more than {_MAX_REDIRECTS} times")


def _check_literal(download: _Download, url: str, *, redirected: bool) -> None:
    """Hold a host that is a number against the rules: a proxy would hide it from the connection."""
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host.partition("%")[0])
        download.check_peer(host, redirected=redirected)


def _opener(check: Callable[[str], None]) -> urllib.request.OpenerDirector:
    """An opener of http and https alone, with the environment's proxies."""
    proxies = urllib.request.getproxies()
    proxy_hosts = {urlsplit(proxy).hostname for proxy in proxies.values()}

    def guarded(base: type[http.client.HTTPConnection]) -> type[http.client.HTTPConnection]:
        class Guarded(base):  # type: ignore[misc, valid-type]
            def connect(self) -> None:
                super().connect()
                if self.host not in proxy_hosts:  # where a proxy goes is the proxy's business
                    try:
                        check(self.sock.getpeername()[0])
                    except _RefusedError:
                        self.sock.close()
                        raise

        return Guarded

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(guarded(http.client.HTTPConnection), request)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(
                guarded(http.client.HTTPSConnection),
                request,
                context=ssl.create_default_context(),
            )

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(proxies),
        Plain(),
        Secure(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener
