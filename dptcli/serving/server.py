"""The process that listens: a socket, uvicorn, and an end that finishes what was taken in."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from dptcli.errors import UsageError

logger = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Open the socket, before the model is loaded. Raises UsageError."""
    with contextlib.ExitStack() as on_failure:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            listener = on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(128)  # who comes while the model is loaded, waits
        except OSError as error:
            raise UsageError(
                f"cannot listen at {host}:{port}: {error.strerror or error}; give another --port "
                "or --host"
            ) from error
        on_failure.pop_all()
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """The address of a socket as a browser takes it."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def run_server(app: FastAPI, listener: socket.socket, on_start: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, then finish what was taken in.

    The signal is raised again at the end, as uvicorn does. A second one ends at once.
    """
    quiet = logging.getLogger("uvicorn")
    quiet.handlers, quiet.propagate = logging.getLogger("dptcli").handlers, False
    quiet.setLevel(logging.ERROR)  # what clients get wrong is theirs to hear
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=30,
    )
    server = _Server(config, on_start)
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await asyncio.get_running_loop().run_in_executor(None, self._on_start)
