"""A hub on loopback: the part of the Hugging Face hub's protocol that downloads use, with faults.

Large files (weights) are served as the hub does: the address answers with a redirect, whose
headers carry the sha256 and the size, to another address that knows ranges.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GOOD_TOKEN = "hf_good"
LARGE = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass
class Repository:
    """Files by name, and what is wrong with them.

    cut: {file: how many more answers break off half-way}. spoiled: files whose bytes differ from
    the hash. short: files that end early though the connection is whole. status: answered to
    everything.
    """

    files: dict[str, bytes]
    licence: str | None = "apache-2.0"
    gated: bool = False
    cut: dict[str, int] = field(default_factory=dict)
    spoiled: set[str] = field(default_factory=set)
    short: set[str] = field(default_factory=set)
    status: int | None = None
    commit: str = COMMIT
    claimed_size: int | None = None

    @classmethod
    def of(cls, folder: Path, **values: object) -> "Repository":
        """The files of a folder."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        return cls(files, **values)  # type: ignore[arg-type]


@dataclass
class Hub:
    """A running server. requests: (method, path, Range header) in the order of arrival."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def downloads(self) -> list[str]:
        """The names of the files whose bytes were asked for."""
        return [path.rpartition("/")[2] for method, path, _ in self.requests if method == "GET"]


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub on a free port of loopback, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = urlsplit(self.path).path
        hub.requests.append((self.command, path, self.headers.get("Range")))
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.describe(hub, "/".join(parts[2:4]), "/".join(parts[5:]) or "main")
        elif parts[0] == "large":
            repository = hub.repositories["/".join(parts[1:3])]
            self.send_file(repository, "/".join(parts[3:]))
        elif len(parts) >= 5 and parts[2] == "resolve":
            self.resolve(hub, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.refuse(404)

    def repository(self, hub: Hub, name: str, revision: str) -> Repository | None:
        found = hub.repositories.get(name)
        if found is None:
            # What the hub answers for unknown and private ones alike.
            self.refuse(401, code="RepoNotFound")
        elif found.status is not None:
            self.refuse(found.status)
        elif revision not in ("main", "v1", found.commit):
            self.refuse(404, code="RevisionNotFound")
        else:
            return found
        return None

    def describe(self, hub: Hub, name: str, revision: str) -> None:
        repository = self.repository(hub, name, revision)
        if repository is None:
            return
        siblings = []
        for file_name, content in repository.files.items():
            sibling = {"rfilename": file_name, "size": len(content), "blobId": git_hash(content)}
            if file_name.endswith(LARGE):
                size = repository.claimed_size or len(content)
                sibling["size"] = size
                sibling["lfs"] = {"sha256": sha256(content), "size": size, "pointerSize": 134}
            siblings.append(sibling)
        values = {
            "_id": "1",
            "id": name,
            "modelId": name,
            "private": False,
            "gated": "auto" if repository.gated else False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "sha": repository.commit,
            "siblings": siblings,
        }
        if repository.licence is not None:
            values["cardData"] = {"license": repository.licence}
        self.send(200, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def resolve(self, hub: Hub, name: str, revision: str, file_name: str) -> None:
        repository = self.repository(hub, name, revision)
        if repository is None:
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository.gated and token != GOOD_TOKEN:
            self.refuse(403 if token else 401, code="GatedRepo")
            return
        content = repository.files.get(file_name)
        commit = {"X-Repo-Commit": repository.commit}
        if content is None:
            self.refuse(404, code="EntryNotFound", headers=commit)
        elif file_name.endswith(LARGE):
            headers = {
                **commit,
                # Another host than the hub's own, as with the hub's storage: clients follow
                # redirects within one host, and keep the token there.
                "Location": f"{hub.url}/large/{name}/{file_name}".replace("127.0.0.1", "localhost"),
                "X-Linked-Etag": f'"{sha256(content)}"',
                "X-Linked-Size": str(len(content)),
            }
            self.send(302, b"", headers)
        else:
            self.send_file(repository, file_name, {**commit, "ETag": f'"{git_hash(content)}"'})

    def send_file(
        self, repository: Repository, file_name: str, headers: dict[str, str] | None = None
    ) -> None:
        content = repository.files[file_name]
        if file_name in repository.spoiled:
            content = content[:-1] + bytes([content[-1] ^ 255])
        if file_name in repository.short:
            content = content[: len(content) // 2]
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") :].split("-")[0])
        headers = {"Accept-Ranges": "bytes", **(headers or {})}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        is_cut = self.command == "GET" and repository.cut.get(file_name, 0) > 0
        if is_cut:
            repository.cut[file_name] -= 1
        self.send(206 if start else 200, content[start:], headers, cut=is_cut)

    def refuse(self, status: int, *, code: str = "", headers: dict[str, str] | None = None) -> None:
        named = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        self.send(status, b"", {**named, **(headers or {})})

    def send(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.close_connection = True
