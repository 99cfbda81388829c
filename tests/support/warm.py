"""A `dpt` that starts in hundredths of a second: forked from a process that has imported torch.

Each run is a process of its own, with its own streams (a terminal or a closed one too), folder,
environment, limits and exit code; only the imports are shared. What is about the start itself, or
variables that Python or a library reads at its own, takes the installed command (process.DPT).

`serve` is the process that is forked; `ask` the small program that stands for a run: it hands over
its streams, passes on signals, and ends as the run ended. Where it is killed, so is the run, and
the run's streams close when that is done.
"""

import array
import atexit
import contextlib
import gc
import io
import json
import os
import resource
import selectors
import signal
import socket
import sys
import threading

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LIMITS = [number for name, number in sorted(vars(resource).items()) if name.startswith("RLIMIT_")]
LENGTH = 8  # bytes of the number in front of a request


def ask(address: str, words: list[str]) -> None:
    """Run `dpt` with words by the server at address, and end as it ended."""
    given = [stream for stream in range(3) if _is_open(stream)]  # before the socket takes a place
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    asked = {
        "words": words,
        "streams": given,
        "env": dict(os.environ),
        "deaf": [number for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN],
        "limits": [resource.getrlimit(limit) for limit in LIMITS],
    }
    folder = os.open(".", os.O_RDONLY)  # one that was removed has no name
    handed = array.array("i", [folder, *given])
    request = json.dumps(asked).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handed)]
    server.sendmsg([len(request).to_bytes(LENGTH, "big")], rights)
    server.sendall(request)
    for number in PASSED_ON:
        signal.signal(number, lambda number, _frame: server.sendall(bytes([number])))
    status = int.from_bytes(_received(server, 4), "big", signed=True)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def serve(address: str) -> None:
    """Fork a run for each request, until standard input is closed."""
    import dptcli.cli.depth
    import dptcli.cli.segment
    import dptcli.cli.terminal.console
    import dptcli.depth.outputs
    import dptcli.depth.twopass
    import dptcli.pipeline
    import dptcli.segments.outputs  # noqa: F401

    gc.collect()
    gc.freeze()  # a run's collections leave these pages shared
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    events = selectors.DefaultSelector()
    events.register(listener, selectors.EVENT_READ, None)
    events.register(0, selectors.EVENT_READ, None)
    print("ready", flush=True)
    while True:
        for key, _ in events.select():
            if key.fileobj == 0:
                return
            if key.fileobj is listener:
                client, _ = listener.accept()
                try:
                    pid = _fork(client, [listener, events])
                except ConnectionError:  # whoever asked was killed before all was said
                    client.close()
                    continue
                ended = os.pidfd_open(pid)
                events.register(ended, selectors.EVENT_READ, (pid, ended, client))
                events.register(client, selectors.EVENT_READ, (pid, ended, client))
                continue
            pid, ended, client = key.data
            if client.fileno() < 0:
                continue  # its run has ended in this very round
            if key.fileobj is client:
                for number in (numbers := _signals(client)):
                    os.kill(pid, number)
                if numbers == bytes([signal.SIGKILL]):
                    events.unregister(client)
                continue
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            events.unregister(ended)
            os.close(ended)
            if client in events.get_map():
                events.unregister(client)
                with contextlib.suppress(OSError):  # whoever asked is gone
                    client.sendall(code.to_bytes(4, "big", signed=True))
            client.close()


def _signals(client: socket.socket) -> bytes:
    """The signals that whoever asked passes on: the one that ends a run where it is gone."""
    try:
        numbers = client.recv(16)
    except ConnectionError:
        numbers = b""
    return numbers or bytes([signal.SIGKILL])


def _fork(client: socket.socket, inherited: list) -> int:
    """Start one run; returns its process id. In the child it never returns.

    ConnectionError: whoever asked is gone.
    """
    head, rights, _, _ = client.recvmsg(LENGTH, socket.CMSG_SPACE(4 * 4))
    if not rights:
        raise ConnectionError("the other side is gone")
    handed = array.array("i")
    handed.frombytes(rights[0][2])
    try:
        request = json.loads(_received(client, int.from_bytes(head, "big")))
        pid = os.fork()
    except BaseException:
        for number in handed:
            os.close(number)
        raise
    if pid:
        for number in handed:
            os.close(number)
        return pid
    folder, *streams = handed
    for thing in (*inherited, client):
        thing.close()
    # What the asker hears, whatever the server does: one that was started with `&` has no Ctrl-C.
    for number in PASSED_ON:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["deaf"] else default)
    for place in range(3):
        os.close(place)
    for place, stream in zip(request["streams"], streams, strict=True):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(folder)
    os.close(folder)
    for limit, values in zip(LIMITS, request["limits"], strict=True):
        if resource.getrlimit(limit) != tuple(values):
            resource.setrlimit(limit, values)
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["dpt", *request["words"]]
    from dptcli.cli import main
    from dptcli.results.files import write_for

    token = os.urandom(4).hex()  # what tells runs apart is drawn at import
    for module in [found for found in sys.modules.values() if "RUN_TOKEN" in vars(found)]:
        module.RUN_TOKEN = token
    write_for(token)
    _open_streams(request["streams"])
    os._exit(_ended(main()))


def _open_streams(given: list[int]) -> None:
    """Open the standard streams as the interpreter's start does: None is one that was closed."""
    sys.stdin, sys.stdout, sys.stderr = None, None, None
    if 0 in given:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if 1 in given:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if 2 in given:  # without a buffer, so that nothing is left to fail at the end
        bare = open(2, "wb", buffering=0, closefd=False)  # noqa: SIM115
        sys.stderr = io.TextIOWrapper(bare, errors="backslashreplace", write_through=True)


def _ended(code: int) -> int:
    """Do what the interpreter does at its end, but leave its modules to the system; the exit code.

    To take torch down object by object costs .6 s, in pages that were shared.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            code = 120  # Python's own for it
    return code


def _is_open(stream: int) -> bool:
    try:
        os.fstat(stream)
    except OSError:
        return False
    return True


def _received(connection: socket.socket, number: int) -> bytes:
    found = b""
    while len(found) < number:
        part = connection.recv(number - len(found))
        if not part:
            raise ConnectionError("the other side is gone")
        found += part
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        ask(sys.argv[1], sys.argv[2:])
