"""Photographs at https:// addresses: retried, resumed, never led where they do not belong."""

import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from places import SAMPLES
from tiny import save_tiny

from dptcli.cli import main
from dptcli.errors import ImageError, UsageError
from dptcli.inputs.filelist import read_list
from dptcli.inputs.find import find_images
from dptcli.remote import is_address, parse_address, scrub, shown, web
from dptcli.remote.opening import open_address, read_address

PHOTO = (SAMPLES / "room.jpg").read_bytes()
SECRET = "X-Amz-Signature=0123secret"


@dataclass
class Page:
    """What a path answers. cut: how many answers break off. statuses: answered first, in turn."""

    content: bytes = PHOTO
    cut: int = 0
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    location: str | None = None
    delay_s: float = 0.0
    claimed: int | None = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self.answer(404, b"", {})
            return
        time.sleep(page.delay_s)
        if page.statuses:
            self.answer(page.statuses.pop(0), b"", page.headers)
        elif page.location is not None:
            self.answer(302, b"", {"Location": page.location})
        else:
            start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
            headers = {"ETag": '"one"', **page.headers}
            if start:
                size = len(page.content)
                headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            page.cut -= 1
            body = page.content[start:]
            self.answer(206 if start else 200, body, headers, cut=page.cut >= 0, page=page)

    def answer(self, status, body, headers, *, cut=False, page=None):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str((page and page.claimed) or len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut


@pytest.fixture
def site(monkeypatch):
    """A web server on loopback; its pages by path."""
    monkeypatch.setattr(web, "FIRST_PAUSE_S", 0.001)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.pages, server.requests = {}, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_photograph_comes_whole(site):
    site.pages["/a.jpg"] = Page()
    assert read_address(f"{site.url}/a.jpg") == PHOTO


def test_a_cut_connection_goes_on_where_it_was_cut(site):
    site.pages["/a.jpg"] = Page(cut=2)
    assert read_address(f"{site.url}/a.jpg") == PHOTO
    half = len(PHOTO) // 2
    rest = half + (len(PHOTO) - half) // 2
    assert [given for _, given in site.requests] == [None, f"bytes={half}-", f"bytes={rest}-"]


def test_a_file_that_changed_meanwhile_is_taken_from_its_start(site):
    site.pages["/a.jpg"] = Page(cut=1, headers={"ETag": "W/weak"})
    assert read_address(f"{site.url}/a.jpg") == PHOTO
    assert [given for _, given in site.requests] == [None, None]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(site, status):
    site.pages["/a.jpg"] = Page(statuses=[status, status], headers={"Retry-After": "0"})
    assert read_address(f"{site.url}/a.jpg") == PHOTO
    assert len(site.requests) == 3


def test_a_server_that_stays_broken_is_named_after_four_tries(site):
    site.pages["/a.jpg"] = Page(statuses=[503] * 9)
    with pytest.raises(ImageError, match=r"/a\.jpg cannot be read: 503 .*, tried 4 times"):
        read_address(f"{site.url}/a.jpg")
    assert len(site.requests) == 4


@pytest.mark.parametrize(
    ("status", "words"), [(403, "a signed address may have expired"), (404, "moved or removed")]
)
def test_a_refusal_is_not_tried_again_and_keeps_the_query_secret(site, status, words):
    site.pages["/a.jpg"] = Page(statuses=[status] * 9)
    with pytest.raises(ImageError, match=words) as caught:
        read_address(f"{site.url}/a.jpg?{SECRET}")
    assert len(site.requests) == 1
    assert SECRET in site.requests[0][0]
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_server_without_an_answer_is_given_up(site, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(web, "NUM_TRIES", 2)
    site.pages["/a.jpg"] = Page(delay_s=0.4)
    with pytest.raises(ImageError, match=r"no answer for 0\.05 s, tried 2 times"):
        read_address(f"{site.url}/a.jpg")


def test_a_slow_answer_is_waited_for(site):
    site.pages["/a.jpg"] = Page(delay_s=0.3)
    assert read_address(f"{site.url}/a.jpg") == PHOTO


def test_a_file_beyond_the_limit_is_not_taken(site, monkeypatch):
    monkeypatch.setattr(web, "MAX_BYTES", 1000)
    site.pages["/a.jpg"] = Page()
    with pytest.raises(ImageError, match="no photograph has"):
        read_address(f"{site.url}/a.jpg")


def test_redirects_between_web_servers_are_followed(site):
    site.pages["/b.jpg"] = Page()
    site.pages["/a.jpg"] = Page(location="/b.jpg?token=1")
    assert read_address(f"{site.url}/a.jpg") == PHOTO


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("file:///etc/passwd", "redirected to file://, which is not followed"),
        ("ftp://127.0.0.1/a.jpg", "redirected to ftp://"),
        ("data:image/png;base64,AAAA", "redirected to data://"),
        ("http://169.254.169.254/latest/meta-data/", "a machine's own services"),
        ("http://[fe80::1]/", "a machine's own services"),
        ("http://[::ffff:169.254.169.254]/", "a machine's own services"),
        ("/a.jpg", "redirected more than 5 times"),
    ],
)
def test_redirects_to_elsewhere_are_not_followed(site, target, words):
    site.pages["/a.jpg"] = Page(location=target)
    with pytest.raises(ImageError, match=words):
        read_address(f"{site.url}/a.jpg")


def test_a_redirect_from_the_public_web_does_not_lead_into_a_private_network():
    download = web._Download("https://example.com/a.jpg", None)
    download.check_peer("93.184.216.34", redirected=False)
    with pytest.raises(web._RefusedError, match="private network"):
        download.check_peer("127.0.0.1", redirected=True)
    download.check_peer("93.184.216.35", redirected=True)


def test_a_name_that_leads_to_a_metadata_service_is_refused(site, monkeypatch):
    """By the number that is connected to: the name may say anything."""
    site.pages["/a.jpg"] = Page()
    monkeypatch.setattr(web, "_NEVER", ("127.0.0.1",))
    with pytest.raises(ImageError, match="a machine's own services"):
        read_address(site.url.replace("127.0.0.1", "localhost") + "/a.jpg")
    assert site.requests == []


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "local:///etc/passwd",
        "simplecache::file:///etc/passwd",
        "simplecache::https://example.com/a.jpg",
        "ftp://example.com/a.jpg",
        "github://owner:repo@/a.jpg",
        "https://user:password@example.com/a.jpg",
        "s3://AKIA:password@bucket/a.jpg",
        "s3:///etc/passwd",
        "s3://../a.jpg",
        "https:///etc/passwd",
        "https://example.com:x/a.jpg",
        "https://example.com/a\r\nHost: b.jpg",
    ],
)
def test_addresses_of_other_kinds_are_refused_without_their_secrets(text):
    assert is_address(text)
    with pytest.raises(UsageError) as caught:
        find_images([text])
    assert "password" not in str(caught.value).replace("/etc/passwd", "")
    assert "\n" not in str(caught.value)


def test_a_file_with_colons_in_its_name_stays_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s3:a::b.jpg").write_bytes(PHOTO)
    assert find_images(["s3:a::b.jpg"])[0].path == Path("s3:a::b.jpg")


def test_queries_and_credentials_are_masked():
    assert shown(f"https://u:p@h/a.jpg?{SECRET}") == "https://…@h/a.jpg?…"
    assert "secret" not in scrub(f"bad https://h/a?{SECRET} and /b/c?{SECRET} 'https://u:secret@h'")


@pytest.mark.parametrize(
    ("url", "relative"),
    [
        ("https://h.com/../../etc/x.jpg", "x.jpg"),
        ("https://h.com/%2e%2e%2f%2e%2e%2fetc%2fx.jpg", ".._.._etc_x.jpg"),
        ("https://h.com/a%5c..%5cx.jpg", "a_.._x.jpg"),
        ("https://h.com/a%00%0a.jpg", "a__.jpg"),
        ("https://h.com", "h.com"),
        (f"https://h.com/{'n' * 400}.jpg", None),
    ],
)
def test_no_address_leads_out_of_the_folder_of_results(url, relative):
    [source] = find_images([url])
    assert source.relative.name == source.relative.as_posix()
    assert len(source.relative.name) < 200
    if relative is not None:
        assert source.relative.as_posix() == relative


def test_addresses_mirror_below_their_common_folder():
    sources = find_images(["https://h.com/a/1.jpg", "https://h.com/a/b/2.jpg"])
    assert [s.relative.as_posix() for s in sources] == ["1.jpg", "b/2.jpg"]
    sources = find_images(["https://h.com/a/1.jpg", "http://other.org:81/1.jpg"])
    assert [s.relative.as_posix() for s in sources] == [
        "https-h.com/a/1.jpg",
        "http-other.org_81/1.jpg",
    ]


def test_addresses_that_differ_in_their_query_give_two_results():
    sources = find_images(["https://h.com/get?id=1", "https://h.com/get?id=2"])
    assert len({source.relative for source in sources}) == 2
    assert {source.name for source in sources} == {"https://h.com/get?…"}


def test_parsed_addresses_keep_what_the_server_must_see():
    url = "https://h.com/a%20b/ü.jpg?x=%2F&y=a+b"
    assert parse_address(url).url == "https://h.com/a%20b/%C3%BC.jpg?x=%2F&y=a+b"


def test_a_list_from_elsewhere_names_no_files_of_this_machine(site):
    site.pages["/list.txt"] = Page(b"https://h.com/a.jpg\n/etc/passwd\n")
    with pytest.raises(UsageError, match=r"'/etc/passwd', which is no address"):
        read_list(f"{site.url}/list.txt")
    site.pages["/list.txt"] = Page(b"https://h.com/a.jpg\nhttps://h.com/b.jpg\n")
    assert read_list(f"{site.url}/list.txt") == ["https://h.com/a.jpg", "https://h.com/b.jpg"]


def test_depth_of_addresses_and_files_together(site, tmp_path, capsys):
    model = save_tiny(tmp_path / "model", task="depth")
    site.pages["/x/a.jpg"] = Page(cut=1)
    site.pages["/x/private.jpg"] = Page(statuses=[403])
    local = tmp_path / "here.jpg"
    local.write_bytes(PHOTO)
    signed = f"{site.url}/x/a.jpg?{SECRET}"
    report = tmp_path / "out"
    words = [signed, f"{site.url}/x/private.jpg?{SECRET}", str(local), "-o", str(report), "--json"]
    account = tmp_path / "report.json"
    words += ["--report", str(account), "-m", str(model)]
    code = main(["depth", *words, "-f", "color,npy,ply"])
    said = capsys.readouterr()
    assert code == 1
    names = {path.name for path in report.iterdir() if not path.name.startswith(".")}
    stems = {f"{stem}{end}" for stem in ("a", "here") for end in (".png", ".npy", ".ply", ".json")}
    assert names == {*stems, "failures.jsonl"}
    assert (report / "a.npy").read_bytes() == (report / "here.npy").read_bytes()
    assert (report / "a.ply").read_bytes() == (report / "here.ply").read_bytes()
    files = [path for path in (*report.rglob("*"), account) if path.is_file()]
    assert any(path.parent.name == ".dpt" for path in files)
    for text in (said.out, said.err, *(path.read_bytes().decode("latin1") for path in files)):
        assert "secret" not in text
    assert "private.jpg?… cannot be read: 403" in said.err


def test_an_address_is_read_as_a_stream(site):
    site.pages["/a.jpg"] = Page()
    with open_address(f"{site.url}/a.jpg") as stream:
        assert stream.read(2) == b"\xff\xd8"
        stream.seek(0)
        assert stream.read() == PHOTO
