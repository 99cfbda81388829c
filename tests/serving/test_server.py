"""`dpt serve` as a process: what clients get for good, bad, large, slow and cut requests."""

import io
import json
import re
import signal
import threading
import time
import zipfile

import httpx
import numpy as np
import pytest
from faults import WAIT_S, end, start
from PIL import Image
from serving import form, head, photograph, serving
from tiny import save_both

from dptcli.cli import main
from dptcli.cli.serve_orders import ASKED

LIMITS = ["--queue", "3", "--max-bytes", "300k", "--max-pixels", "60k", "--timeout", "2"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return save_both(folder)


@pytest.fixture(scope="module")
def server(models):
    with serving("-m", models["depth"], *LIMITS) as found:
        yield found


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as found:
        yield found


def ask(client, content, *, task="depth", name="photo.png", **options):
    return client.post(f"/{task}", files={"image": (name, content)}, data=options)


def taken(client):
    return client.get("/health").json()["images_taken"]


def wait_until_idle(client):
    deadline = time.monotonic() + WAIT_S
    while taken(client):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- results -------------------------------------------------------------------------------------


def test_a_result_is_that_of_the_command_line(client, models, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(photograph(1))
    out = tmp_path / "depth.npy"
    code, _, err = end(start("depth", photo, "-o", out, "-m", models["depth"]))
    assert code == 0, err
    answer = ask(client, photo.read_bytes(), format="npy")
    assert answer.status_code == 200
    assert answer.content == out.read_bytes()
    assert answer.headers["content-disposition"] == 'inline; filename="photo.npy"'


def test_a_picture_comes_with_its_facts_and_without_the_servers_paths(client):
    answer = ask(client, photograph(1), name="../../etc/my photo.png")
    assert answer.headers["content-type"] == "image/png"
    facts = json.loads(answer.headers["x-dpt-facts"])
    assert (facts["height"], facts["width"], facts["kind"]) == (30, 40, "inverse_depth")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (40, 30)
        [text] = [text for text in picture.text.values() if "kind" in text]
    assert json.loads(text)["source"] == "my photo.png"
    assert "dpt-serve-" not in text


def test_a_bare_image_takes_its_options_from_the_query(client):
    answer = client.post(
        "/depth?format=npy&target_size=20x10",
        content=photograph(1),
        headers={"Content-Type": "image/png"},
    )
    assert np.load(io.BytesIO(answer.content)).shape == (20, 10)


def test_several_formats_come_in_a_zip_with_their_sidecar(client):
    answer = ask(client, photograph(1), format="color,png16")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["photo.depth16.png", "photo.json", "photo.png"]
        assert json.loads(archive.read("photo.json"))["source"] == "photo.png"


def test_anchors_are_sent_as_a_file(client):
    values = np.load(io.BytesIO(ask(client, photograph(1), format="npy").content))
    (y, x), (v, u) = (divmod(int(at), 40) for at in (values.argmax(), values.argmin()))
    known = f"x,y,metres\n{x},{y},1\n{u},{v},4\n".encode()
    files = {"image": photograph(1), "anchors": ("known.csv", known)}
    answer = client.post("/depth", files=files, data={"format": "npy"})
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.headers["x-dpt-facts"])["kind"] == "depth_m"


def test_results_of_many_at_once_are_each_ones_own(client):
    found = {}

    def one(seed):
        answer = ask(client, photograph(seed), format="npy")
        while answer.status_code == 503:
            time.sleep(0.05)
            answer = ask(client, photograph(seed), format="npy")
        found[seed] = answer.content

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = {seed: ask(client, photograph(seed), format="npy").content for seed in found}
    assert found == alone
    assert len(set(found.values())) == 8


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gamma": "99"}, "gamma '99' must be from 0.05 to 20"),
        ({"format": "jpgg"}, "unknown format 'jpgg'; did you mean 'jpg'?"),
        ({"format": "mm"}, "format mm stores metres"),
        ({"colour": "red"}, "'colour' is no option of depth here; GET /docs lists them"),
        ({"output": "/etc/passwd"}, "'output' is no option of depth here"),
        ({"from-file": "/etc/passwd"}, "'from-file' is no option of depth here"),
        ({"model": "dpt-large"}, "model is chosen where the server is started"),
        ({"intrinsics": "/etc/passwd"}, "intrinsics '/etc/passwd': send the file itself"),
        ({"views": "yes"}, "'views' is no option of depth here"),
        ({"anchors": "/etc/passwd"}, "anchors '/etc/passwd': send the file itself"),
        ({"invert": "perhaps"}, "invert 'perhaps' must be true or false"),
        ({"range": "global"}, "range global spans a run of many images"),
        ({"tile": "64"}, "tile '64' must be auto here"),
        ({"bits": "16", "colorbar": "yes"}, "--bits 16 makes 16-bit grey"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_option_is_named_with_its_value_and_remedy(client, options, said):
    answer = ask(client, photograph(1), **options)
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"no picture", "notes.txt", "notes.txt is not an image"),
        (photograph(1)[:1000], "cut.png", "cut.png is damaged"),
        (photograph(1), "clip.mp4", ".mp4 is a video, and photographs are served"),
        (b"", "empty.png", "no image came"),
    ],
    ids=["text", "damaged", "video", "empty"],
)
def test_what_is_no_photograph_is_named_as_it_was_sent(client, content, name, said):
    answer = ask(client, content, name=name)
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert "/tmp" not in answer.json()["error"]


@pytest.mark.parametrize("is_stated", [True, False], ids=["stated", "in chunks"])
def test_too_many_bytes_are_413(client, is_stated):
    content = b"x" * 400_000
    parts = iter([content[:200_000], content[200_000:]])
    answer = client.post("/depth", content=content if is_stated else parts)
    assert answer.status_code == 413
    assert "above the limit of 300,000; send a smaller file" in answer.json()["error"]


def test_too_many_pixels_are_413(client):
    buffer = io.BytesIO()
    Image.new("RGB", (300, 300)).save(buffer, "PNG")
    answer = ask(client, buffer.getvalue(), name="large.png")
    assert answer.status_code == 413
    said = "large.png has 300 × 300 pixels, above the limit of 60,000; send a smaller one"
    assert answer.json()["error"] == said


def test_too_large_a_result_is_413(client):
    answer = ask(client, photograph(1), **{"target-size": "300x300"})
    assert answer.status_code == 413
    assert "target-size: a result of 300 × 300 pixels" in answer.json()["error"]
    answer = ask(client, photograph(1), size="4000")
    assert answer.status_code == 413, "for the network, too"
    assert answer.json()["error"].startswith("size 4000 is above the limit of 1036")


def test_an_upload_that_takes_too_long_is_408(server, client):
    body = form(photograph(1))
    with server.open() as connection:
        connection.sendall(head(len(body)) + body[:500])
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 408")
    assert "the upload was not whole after 2 s, 500 bytes of it came" in answer
    wait_until_idle(client)


def test_an_upload_that_is_cut_leaves_nothing_behind(server, client):
    body = form(photograph(1))
    for at in (0, 100, len(body) - 1):
        with server.open() as connection:
            connection.sendall(head(len(body)) + body[:at])
    wait_until_idle(client)
    assert ask(client, photograph(1)).status_code == 200


def test_a_client_that_leaves_before_the_result_costs_no_other(server, client):
    body = form(photograph(1))
    for _ in range(3):
        with server.open() as connection:
            connection.sendall(head(len(body)) + body)
    wait_until_idle(client)
    assert ask(client, photograph(1)).status_code == 200


def test_beyond_the_room_comes_503_with_the_time_to_come_again(server, client):
    wait_until_idle(client)
    body = form(photograph(1))
    waiting = [server.open() for _ in range(3)]
    for connection in waiting:
        connection.sendall(head(len(body)) + body[:100])
    while taken(client) < 3:
        time.sleep(0.01)
    answer = ask(client, photograph(1))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"].startswith("no room beside 3 images waiting")
    for connection in waiting:  # those that were taken in are done
        connection.sendall(body[100:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.close()
    assert ask(client, photograph(1)).status_code == 200


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_a_page_elsewhere_cannot_ask(client, header):
    answer = client.post("/depth", content=photograph(1), headers=header)
    assert answer.status_code == 403


@pytest.mark.parametrize(("method", "path"), [("GET", "/depth"), ("POST", "/dept"), ("GET", "/x")])
def test_another_address_is_told_which_there_are(client, method, path):
    answer = client.request(method, path)
    assert answer.status_code in {404, 405}
    assert "POST /depth or /segment" in answer.json()["error"]


# --- what watches it -----------------------------------------------------------------------------


def counted(client):
    lines = [line for line in client.get("/metrics").text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_count_requests_by_status_batches_and_stages(client):
    wait_until_idle(client)
    before = counted(client)
    ask(client, photograph(1))
    ask(client, b"no picture")
    after = counted(client)

    def more(name):
        return after[name] - before.get(name, 0)

    assert more('dpt_requests_total{status="200",task="depth"}') == 1
    assert more('dpt_requests_total{status="422",task="depth"}') == 1
    assert more("dpt_batch_images_count") == 1
    assert more('dpt_stage_seconds_total{stage="network"}') > 0
    assert after["dpt_images_taken"] == 0
    assert after["dpt_room"] == 3


def test_health_says_what_is_served(client, models):
    assert client.get("/health").json() == {
        "status": "ok",
        "models": {"depth": str(models["depth"])},
        "images_taken": 0,
        "room": 3,
    }


def test_openapi_describes_every_option_and_its_page_needs_nothing_from_elsewhere(client):
    document = client.get("/openapi.json").json()
    body = document["paths"]["/depth"]["post"]["requestBody"]["content"]["multipart/form-data"]
    options = body["schema"]["properties"]
    assert len(options) == len(ASKED["depth"]) + 2  # the image, zip
    assert options["anchor"]["type"] == "array"
    assert options["anchors"]["format"] == "binary"
    assert "[cyan]" not in json.dumps(document)
    assert "security" not in json.dumps(document)
    page = client.get("/docs")
    assert page.status_code == 200
    assert not re.search(r"https?://", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]


# --- beginning and end ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_was_taken_in_and_the_token_is_asked_for(models, number):
    token = "0123456789abcdef"
    words = ["-m", models["segment"], "--host", "0.0.0.0"]
    with serving(*words, DPT_SERVE_TOKEN=token) as server:
        body = form(photograph(1))
        url = f"http://127.0.0.1:{server.port}"
        with httpx.Client(base_url=url, trust_env=False) as client:
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                answer = client.get("/metrics", headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert client.get("/health").status_code == 200
            document = client.get("/openapi.json").json()
            assert "security" in document["paths"]["/segment"]["post"], "its page shows the field"
            assert ask(client, photograph(1), task="segment").status_code == 401
        right = head(len(body), path="/segment").replace(
            b"Host", f"Authorization: Bearer {token}\r\nHost".encode()
        )
        with server.open() as connection:
            connection.sendall(right + body[:200])
            while httpx.get(f"{url}/health", trust_env=False).json()["images_taken"] < 1:
                time.sleep(0.01)
            server.process.send_signal(number)
            time.sleep(0.3)
            connection.sendall(body[200:])
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        _, err = server.process.communicate(timeout=WAIT_S)
        assert server.process.returncode == 0, err
        assert err.splitlines()[-1] == "stopped; took in 1 image"
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "--host '0.0.0.0' listens beyond this machine: give a secret"),
        (["--port", "99999"], "--port '99999' must be a whole number from 0 to 65535"),
        (["--queue", "0"], "--queue '0' must be a whole number from 1"),
        (["--timeout", "soon"], "--timeout 'soon' must be a number"),
        (["--token-file", "nowhere"], "--token-file 'nowhere' cannot be read"),
        (["-m", "dpt-larg", "--port", "0"], "unknown model 'dpt-larg'"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_a_server_that_cannot_be_is_refused_in_one_line(words, said, capsys):
    assert main(["serve", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_port_in_use_is_named(server, capsys):
    assert main(["serve", "--port", str(server.port)]) == 2
    said = f"cannot listen at 127.0.0.1:{server.port}: Address already in use"
    assert said in capsys.readouterr().err
