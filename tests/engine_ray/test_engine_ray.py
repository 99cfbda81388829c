"""`--engine ray` on a real cluster of three nodes, against the local run."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ray_cluster
import s3_server
from faults import wait_for
from PIL import Image
from places import SAMPLES
from process import DPT, NEEDS_PROC, WAIT_S, environment, hear_ctrl_c, warm_dpt
from tiny import save_tiny

pytest.importorskip("ray")
pytestmark = [pytest.mark.cluster, NEEDS_PROC]


@pytest.fixture(scope="module")
def store():
    with s3_server.serve() as running:
        yield running


@pytest.fixture(scope="module")
def cluster(store):
    # Not tmp_path: the sockets' names have room for 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    with ray_cluster.serve(folder, **store.environment) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {task: save_tiny(folder / task, task=task) for task in ("depth", "segment")}


def photographs(folder, number, *, seed=0, larger=1):
    """Noise of three shapes, with which no two photographs are alike; `larger`: their sides."""
    shapes = [(60 * larger, 80 * larger), (80 * larger, 60 * larger), (64 * larger, 64 * larger)]
    for index in range(number):
        pixels = np.random.default_rng([seed, index]).integers(
            0, 256, (*shapes[index % 3], 3), np.uint8
        )
        path = folder / f"{index // 100}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=1)
    return folder


def command(task, *words, cluster=None):
    where = [] if cluster is None else ["--engine", "ray", "--ray-address", cluster.address]
    is_local = cluster is None and "--engine" not in words
    return [*(warm_dpt() if is_local else DPT), task, *map(str, words), *where]


def run(task, *words, cluster=None, timeout=WAIT_S, **variables):
    return subprocess.run(
        command(task, *words, cluster=cluster),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env=environment(**ray_cluster.SETTINGS, **variables),
    )


def tree(folder):
    """The results by name, without the record of who made them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and ".dpt" not in path.parts and path.name != "failures.jsonl"
    }


def differences(ours, theirs):
    """The names of files that only one tree has, or whose bytes differ."""
    return {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}


def told(text):
    """JSON lines without times, in the order of inputs."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        line.pop("elapsed_s", None)
        line.pop("at", None)
    return sorted(lines, key=lambda line: line["input"])


def test_a_cluster_gives_what_the_local_run_gives(cluster, models, tmp_path, monkeypatch):
    """Files, reports, exit codes, failures by name; and each goes on where the other was."""
    monkeypatch.chdir(tmp_path)
    photographs(Path("in"), 40)
    Path("in/bad.png").write_bytes(b"no image")
    Path("in/cut.png").write_bytes(Path("in/0/1.png").read_bytes()[:2000])
    words = ["in", "-m", models["depth"], "-f", "color,npy", "--json"]
    local = run("depth", *words, "-o", "out", "--report", "local.json")
    Path("out").rename("local")
    ray = run("depth", *words, "-o", "out", "--report", "ray.json", cluster=cluster)
    assert local.returncode == ray.returncode == 1, ray.stderr
    assert len(tree("local")) == 120
    assert not differences(tree("local"), tree("out"))
    assert told(local.stdout) == told(ray.stdout)
    reports = [json.loads(Path(name).read_text()) for name in ("local.json", "ray.json")]
    assert reports[0]["totals"] == reports[1]["totals"]
    images = [told("\n".join(map(json.dumps, report["images"]))) for report in reports]
    assert images[0] == images[1]
    assert reports[1]["stage_s"]["network"] > 0
    failures = [told(Path(f"{folder}/failures.jsonl").read_text()) for folder in ("local", "out")]
    assert failures[0] == failures[1]

    again = run("depth", *words[:-1], "-o", "out")
    assert "0 done, 40 skipped, 2 failed" in again.stderr
    for name in ("0/0", "0/5"):
        Path(f"local/{name}.png").unlink()
    again = run("depth", *words[:-1], "-o", "local", cluster=cluster)
    assert "2 done, 38 skipped, 2 failed" in again.stderr
    assert not differences(tree("local"), tree("out"))


def test_a_bad_image_does_not_cost_its_batch(cluster, models, tmp_path):
    photographs(tmp_path / "in", 12)
    (tmp_path / "in" / "0" / "1.png").write_bytes(b"no image")
    words = [tmp_path / "in", "-o", tmp_path / "out", "-m", models["segment"], "--batch-size", "4"]
    done = run("segment", *words, "--also", "legend,split", cluster=cluster)
    assert done.returncode == 1, done.stderr
    assert "11 done, 1 failed" in done.stderr
    assert "0/1.png is not an image" in done.stderr
    masks = [path for path in (tmp_path / "out").glob("0/*.png") if "legend" not in path.name]
    assert len(masks) == 11


def test_a_client_outside_the_cluster_takes_from_a_bucket_into_a_bucket(
    cluster, store, models, tmp_path
):
    photographs(tmp_path / "in", 6)
    local = run("depth", tmp_path / "in", "-m", models["depth"], "-o", tmp_path / "local")
    assert local.returncode == 0, local.stderr
    store.bucket("photos", {f"in/{name}": data for name, data in tree(tmp_path / "in").items()})
    address = ["--engine", "ray", "--ray-address", cluster.client]
    words = ["s3://photos/in", "-m", models["depth"], "-o", "s3://photos/out", *address]
    done = run("depth", *words, **store.environment)
    assert done.returncode == 0, done.stderr
    found = store.content("photos")
    for name, data in tree(tmp_path / "local").items():
        mine, theirs = (Image.open(io.BytesIO(file)) for file in (data, found[f"out/{name}"]))
        assert mine.tobytes() == theirs.tobytes()  # the files also say where the photograph lies
    again = run("depth", *words, "--skip-existing", **store.environment)
    assert "0 done, 6 skipped" in again.stderr


def test_a_run_is_complete_though_workers_and_a_machine_are_lost(cluster, models, tmp_path):
    photographs(tmp_path / "in", 300, larger=3)
    words = [tmp_path / "in", "-m", models["depth"], "-q"]
    assert run("depth", *words, "-o", tmp_path / "local").returncode == 0
    out = tmp_path / "out"
    with (tmp_path / "told").open("w") as stdout, (tmp_path / "said").open("w") as stderr:
        process = subprocess.Popen(
            command("depth", *words[:-1], "--json", "-o", out, cluster=cluster),
            stdout=stdout,
            stderr=stderr,
            env=environment(**ray_cluster.SETTINGS),
        )
    try:
        # By what is at work and what lies there: the driver tells of results in blocks, and late.
        for named in (").submit", "_write"):
            while process.poll() is None and not (at_work := cluster.workers(named=named)):
                pass
            os.kill(at_work[0], signal.SIGKILL)  # none where the run was over
        wait_for(process, out, 100)
        num_left = 300 - len(list(out.rglob("*.png")))
        cluster.tell("lose")
        code = process.wait(timeout=WAIT_S)
    finally:
        process.kill()
        cluster.tell("add")
    said = (tmp_path / "said").read_text()
    assert code == 0, said[-2000:]
    assert num_left > 0
    assert len(told((tmp_path / "told").read_text())) == 300  # and nothing of Ray's between them
    assert "300 done" in said
    assert len(re.findall(r"^\[\d+/300\] \S+ -> ", said, re.MULTILINE)) == 300
    assert not differences(tree(tmp_path / "local"), tree(out))


def test_ctrl_c_ends_the_clusters_work(cluster, models, tmp_path):
    photographs(tmp_path / "in", 600)
    out = tmp_path / "out"
    with (tmp_path / "said").open("w") as stderr:
        process = subprocess.Popen(
            command("depth", tmp_path / "in", "-o", out, "-m", models["depth"], cluster=cluster),
            stderr=stderr,
            env=environment(**ray_cluster.SETTINGS),
            preexec_fn=hear_ctrl_c,
        )
    wait_for(process, out, 20)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=WAIT_S) == 130
    assert "interrupted; finished results are kept" in (tmp_path / "said").read_text()
    deadline = time.monotonic() + WAIT_S
    before, files = {}, tree(out)
    while cluster.workers(named="Map") or differences(before, files):
        assert time.monotonic() < deadline
        time.sleep(1)
        before, files = files, tree(out)
    assert 0 < len(files) < 600
    for path in out.rglob("*.png"):
        with Image.open(path) as picture:
            picture.load()


def test_memory_is_flat_over_a_thousand_images(cluster, models, tmp_path):
    photographs(tmp_path / "in", 1000, larger=3)
    process = subprocess.Popen(
        command(
            "depth", tmp_path / "in", "-o", tmp_path / "out", "-m", models["depth"], cluster=cluster
        ),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**ray_cluster.SETTINGS),
    )
    timer = threading.Timer(480, process.kill)
    timer.start()
    seen = {}
    for line in process.stderr:
        if found := re.match(r"\[(\d+)00/1000\]", line):
            own = {pid: private_kib(pid) for pid in [process.pid, *cluster.workers()]}
            seen[int(found[1])] = own
    process.stderr.close()
    timer.cancel()
    assert process.wait(timeout=WAIT_S) == 0
    assert len(tree(tmp_path / "out")) == 1000
    # Every process that was there at a third: images under way come and go, what stays would grow
    # by a hundred images' pixels, 13 MB, with each hundred.
    early, late = seen[3], seen[9]
    grown = {pid: late[pid] - early[pid] for pid in early if pid in late}
    assert len(grown) >= 3
    assert max(grown.values()) < 30_000, grown


def private_kib(pid):
    """Memory of a process that it shares with none, such as Ray's object store."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"RssAnon:\s+(\d+)", status)
    return int(found[1]) if found else 0


def test_a_cluster_that_is_not_there_is_named_at_once(tmp_path, models):
    photographs(tmp_path / "in", 1)
    started = time.monotonic()
    words = ["--engine", "ray", "--ray-address", "127.0.0.1:1"]
    done = run("depth", tmp_path / "in", "-o", tmp_path / "out", "-m", models["depth"], *words)
    assert done.returncode == 2
    assert "cannot join the Ray cluster '127.0.0.1:1'" in done.stderr
    assert time.monotonic() - started < 60


def test_this_machine_alone_gives_what_the_local_run_gives_in_bfloat16(tmp_path, monkeypatch):
    """With the built-in model and all of this machine's cores, as both take them by themselves."""
    monkeypatch.chdir(tmp_path)
    photos = [SAMPLES / name for name in ("astronaut.jpg", "coffee.png")]
    variables = environment(**ray_cluster.SETTINGS)
    del variables["OMP_NUM_THREADS"]
    for out, words in (("local", []), ("out", ["--engine", "ray"])):
        done = subprocess.run(
            [*DPT, "depth", *photos, "-o", out, "-f", "color,npy", "--dtype", "bfloat16", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S,
            env=variables,
        )
        assert done.returncode == 0, done.stderr
    assert len(tree("local")) == 6
    assert not differences(tree("local"), tree("out"))
