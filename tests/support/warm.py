"""A `dpt` that starts in hundredths of a second: forked from a process that has imported torch.

Each run is a process of its own, with its own streams, folder, environment and exit code; only the
imports are shared. What is about the start itself, about terminals, limits of the system or being
killed takes the installed command (process.DPT).

`serve` is the process that is forked; `ask` the small program that stands for a run: it hands over
its streams, passes on signals, and ends as the run ended.
"""

import array
import json
import os
import selectors
import signal
import socket
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LENGTH = 8  # bytes of the number in front of a request


def ask(address: str, words: list[str]) -> None:
    """Run `dpt` with words by the server at address, and end as it ended."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(address)
    cwd = os.getcwd()  # noqa: PTH109  # importing pathlib takes as long as all else here
    deaf = [number for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN]
    asked = {"words": words, "cwd": cwd, "env": dict(os.environ), "deaf": deaf}
    request = json.dumps(asked).encode()
    streams = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
    server.sendmsg([len(request).to_bytes(LENGTH, "big")], streams)
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
    import dptcli.cli.terminal.console
    import dptcli.depth.outputs
    import dptcli.depth.twopass
    import dptcli.pipeline  # noqa: F401

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
                pid = _fork(client, [listener, events])
                ended = os.pidfd_open(pid)
                events.register(ended, selectors.EVENT_READ, (pid, ended, client))
                events.register(client, selectors.EVENT_READ, (pid, ended, client))
                continue
            pid, ended, client = key.data
            if key.fileobj is client:
                numbers = client.recv(16) or bytes([signal.SIGKILL])  # whoever asked is gone
                for number in numbers:
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
                client.sendall(code.to_bytes(4, "big", signed=True))
            client.close()


def _fork(client: socket.socket, inherited: list) -> int:
    """Start one run; returns its process id. In the child it never returns."""
    head, rights, _, _ = client.recvmsg(LENGTH, socket.CMSG_SPACE(3 * 4))
    streams = array.array("i")
    streams.frombytes(rights[0][2])
    request = json.loads(_received(client, int.from_bytes(head, "big")))
    pid = os.fork()
    if pid:
        for stream in streams:
            os.close(stream)
        return pid
    for thing in (*inherited, client):
        thing.close()
    # What the asker hears, whatever the server does: one that was started with `&` has no Ctrl-C.
    for number in PASSED_ON:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["deaf"] else default)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["dpt", *request["words"]]
    from dptcli.cli import main
    from dptcli.results.files import write_for

    token = os.urandom(4).hex()  # what tells runs apart is drawn at import
    for module in [found for found in sys.modules.values() if "RUN_TOKEN" in vars(found)]:
        module.RUN_TOKEN = token
    write_for(token)
    sys.stdin, sys.stdout, sys.stderr = (
        open(place, mode, closefd=False)  # noqa: SIM115  # as the interpreter's start does
        for place, mode in enumerate("rww")
    )
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.exit(main())


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
