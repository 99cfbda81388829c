"""Google's object store on loopback: the part of its JSON protocol that gcsfs uses."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@contextmanager
def serve(objects: dict[str, bytes]) -> Iterator[ThreadingHTTPServer]:
    """A server of one bucket, "photos". statuses: answered to GETs of an object, in turn."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.objects, server.statuses, server.uploads = objects, {}, {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        query = parse_qs(split.query)
        found = re.fullmatch(r"(?:/download)?/storage/v1/b/photos/o(?:/(.+))?", split.path)
        if found is None:
            self.answer(404, {"error": {"code": 404, "message": "no such bucket"}})
        elif found[1] is None:
            prefix = query.get("prefix", [""])[0]
            names = [name for name in sorted(self.server.objects) if name.startswith(prefix)]
            self.answer(200, {"items": [self.facts(name) for name in names]})
        else:
            self.get(unquote(found[1]), media=query.get("alt") == ["media"])

    def get(self, name: str, *, media: bool) -> None:
        content = self.server.objects.get(name)
        statuses = self.server.statuses.get(name, [])
        if content is None:
            self.answer(404, {"error": {"code": 404, "message": "No such object"}})
        elif not media:
            self.answer(200, self.facts(name))
        elif statuses:
            status = statuses.pop(0)
            self.answer(status, {"error": {"code": status, "message": "trouble"}})
        else:
            first, last = 0, len(content) - 1
            if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or ""):
                first, last = int(asked[1]), min(int(asked[2]), last)
            self.send(206 if asked else 200, content[first : last + 1])

    def do_POST(self) -> None:
        split = urlsplit(self.path)
        if split.path.startswith("/resume/"):
            self.resume(unquote(split.path.removeprefix("/resume/")))
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = parse_qs(split.query)["uploadType"]
        if kind == ["multipart"]:
            boundary = re.search(r"boundary=['\"]?([^'\";]+)", self.headers["Content-Type"])[1]
            parts = body.split(f"--{boundary}".encode())
            facts, content = (part.partition(b"\n\n")[2] or part for part in parts[1:3])
            name = json.loads(facts)["name"]
            self.server.objects[name] = content.removesuffix(b"\n")
            self.answer(200, self.facts(name))
        else:  # resumable: the object is there when its last part is
            name = json.loads(body)["name"]
            self.server.uploads[name] = b""
            self.send(200, b"{}", Location=f"{self.server.url}/resume/{name}")

    def resume(self, name: str) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.uploads[name] += body
        total = int(self.headers["Content-Range"].rpartition("/")[2])
        if len(self.server.uploads[name]) < total:
            self.send(308, b"", Range=f"bytes=0-{len(self.server.uploads[name]) - 1}")
        else:
            self.server.objects[name] = self.server.uploads.pop(name)
            self.answer(200, self.facts(name))

    def do_DELETE(self) -> None:
        self.server.objects.pop(unquote(self.path.rpartition("/o/")[2].partition("?")[0]), None)
        self.send(204, b"")

    def facts(self, name: str) -> dict[str, object]:
        content = self.server.objects[name]
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": "photos",
            "size": str(len(content)),
            "etag": hashlib.md5(content).hexdigest(),
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "generation": "1",
        }

    def answer(self, status: int, content: object) -> None:
        self.send(status, json.dumps(content).encode(), **{"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
