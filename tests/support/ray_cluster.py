"""A Ray cluster of three nodes on loopback, as a process: a head without CPUs and two workers.

Run as a program it prints the address, then takes commands on standard input, and ends with it:
"lose" ends the second worker as if its machine were gone, "add" starts another.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from process import WAIT_S, environment

STORE_BYTES = 100 << 20
# On this machine alone, and without a word to Ray's makers.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # by its other name: keep to 127.0.0.1
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",
    "GRPC_ENABLE_FORK_SUPPORT": "0",  # see dptcli.engine_ray.driver
}


class RunningCluster:
    """A cluster that this process has started."""

    def __init__(self, process: subprocess.Popen[str], address: str, client: str) -> None:
        self.process = process
        self.address = address
        self.client = client

    def tell(self, command: str) -> None:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "ok"

    def workers(self, *, named: str = "ray::") -> list[int]:
        """The process ids of this cluster's workers whose title holds a text."""
        return [
            pid
            for pid in descendants(self.process.pid)
            if (title := command_line(pid)).startswith("ray::") and named in title
        ]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """All processes below one, as /proc tells."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


@contextmanager
def serve(temporary: Path, **variables: str) -> Iterator[RunningCluster]:
    """A running cluster, until the block ends.

    temporary: a short path for its sockets and logs. variables: of its workers' environment.
    """
    process = subprocess.Popen(
        [sys.executable, __file__, str(temporary)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(**SETTINGS, **variables),
    )
    try:
        line = ""
        while not line.startswith("{"):  # Ray writes there too
            line = process.stdout.readline()
            assert line, "the cluster did not start"
        yield RunningCluster(process, **json.loads(line))
    finally:
        process.stdin.close()
        process.wait(timeout=WAIT_S)
        process.stdout.close()


def main() -> None:
    from ray.cluster_utils import Cluster

    # Ray notes the address there, wherever the cluster's own files lie, and does not make it.
    system = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    Path(system, "ray").mkdir(parents=True, exist_ok=True)
    shared = {
        "node_ip_address": "127.0.0.1",
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    head = {**shared, "num_cpus": 0, "ray_client_server_port": port, "temp_dir": sys.argv[1]}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(**shared, num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    print(json.dumps({"address": cluster.address, "client": f"ray://127.0.0.1:{port}"}), flush=True)
    for line in sys.stdin:
        if line.strip() == "lose":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        elif line.strip() == "add":
            nodes.append(cluster.add_node(**shared, num_cpus=1))
            cluster.wait_for_nodes()
        print("ok", flush=True)
    cluster.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
