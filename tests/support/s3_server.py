"""A real S3 server on loopback (moto's), behind a proxy that can spoil what it passes on."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import boto3
from moto.server import ThreadedMotoServer

KEY = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI-SECRET"}


@dataclass
class Fault:
    """What is wrong with requests whose method and path match, for the next `times` of them.

    status: answered in place of the server. cut: the answer breaks off half-way. drop: the request
    does not arrive. delay_s: before the answer.
    """

    method: str
    ending: str
    times: int = 1
    status: int | None = None
    cut: bool = False
    drop: bool = False
    delay_s: float = 0.0


@dataclass
class Store:
    """A running server. requests: (method, path with query) in the order of arrival."""

    url: str
    direct: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What the AWS libraries read."""
        return {
            **KEY,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }

    def client(self):
        """A client of the server itself, which no fault touches."""
        return boto3.client(
            "s3",
            endpoint_url=self.direct,
            region_name="us-east-1",
            aws_access_key_id=KEY["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEY["AWS_SECRET_ACCESS_KEY"],
        )

    def bucket(self, name: str, files: dict[str, bytes] | None = None) -> str:
        client = self.client()
        client.create_bucket(Bucket=name)
        for key, content in (files or {}).items():
            client.put_object(Bucket=name, Key=key, Body=content)
        return name

    def content(self, bucket: str) -> dict[str, bytes]:
        """Every object by key."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {
            key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in sorted(keys)
        }

    def count(self, method: str, ending: str) -> int:
        return sum(m == method and urlsplit(p).path.endswith(ending) for m, p in self.requests)


@contextmanager
def serve() -> Iterator[Store]:
    """A store on free ports of loopback, until the block ends."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    store = Store(f"http://127.0.0.1:{proxy.server_port}", f"http://{host}:{port}")
    proxy.store = store  # type: ignore[attr-defined]
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
        moto.stop()


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __getattr__(self, name: str):
        """do_GET and its kin: every method is passed on."""
        if name.startswith("do_"):
            return self.pass_on
        raise AttributeError(name)

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""

    def pass_on(self) -> None:
        store: Store = self.server.store  # type: ignore[attr-defined]
        store.requests.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.fault(store)
        if fault is not None:
            time.sleep(fault.delay_s)
            if fault.drop:
                self.close_connection = True
                return
            if fault.status is not None:
                self.answer(fault.status, [], b"")
                return
        upstream = http.client.HTTPConnection(urlsplit(store.direct).netloc, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers))
        reply = upstream.getresponse()
        content = reply.read()
        upstream.close()
        self.answer(
            reply.status,
            reply.getheaders(),
            content,
            length=reply.getheader("Content-Length"),
            cut=fault is not None and fault.cut,
        )

    def fault(self, store: Store) -> Fault | None:
        path = unquote(urlsplit(self.path).path)
        for fault in store.faults:
            if fault.times > 0 and fault.method == self.command and path.endswith(fault.ending):
                fault.times -= 1
                return fault
        return None

    def answer(self, status, headers, content, *, length=None, cut=False) -> None:
        self.send_response(status)
        for key, value in headers:
            if key.lower() not in {"content-length", "transfer-encoding", "connection", "date"}:
                self.send_header(key, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
            self.wfile.flush()
        self.close_connection = cut
