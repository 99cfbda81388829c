"""Object stores, against a real S3 server on loopback that a proxy spoils."""

import hashlib
import io
import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import s3_server
from PIL import Image
from s3_server import Fault
from tiny import save_tiny

from dptcli.cli import main
from dptcli.errors import ImageError, UsageError
from dptcli.inputs.find import decode_image, find_images
from dptcli.remote import store
from dptcli.remote.places import RemotePath, place
from dptcli.results.claims import claiming
from dptcli.results.files import atomic_write
from dptcli.results.plan import plan_outputs
from dptcli.results.writers import write_whole

s3fs = pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def server():
    with s3_server.serve() as running:
        yield running


@pytest.fixture
def bucket(server, monkeypatch, request):
    """An empty bucket of this test's own; dpt's libraries know the server from the environment."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    server.faults.clear()
    server.requests.clear()
    name = "b" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    return server.bucket(name)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("models") / "depth", task="depth"))


def photo(seed, hw=(30, 40)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PHOTOS = {f"in/{name}": photo(seed) for seed, name in enumerate(["a.png", "sub/b c.png", "ü.png"])}


def fill(server, bucket, files):
    for key, content in files.items():
        server.client().put_object(Bucket=bucket, Key=key, Body=content)


def depth(model, *words):
    return main(["depth", *words, "-m", model])


def results(server, bucket, prefix):
    return {
        key.removeprefix(prefix): content
        for key, content in server.content(bucket).items()
        if key.startswith(prefix)
    }


def test_a_prefix_is_a_folder(server, bucket):
    extra = {"in/notes.txt": b"", "in/.hidden/x.png": b"", "in/sub/": b"", "into/no.png": b""}
    fill(server, bucket, {**PHOTOS, **extra})
    sources = find_images([f"s3://{bucket}/in"])
    assert [s.relative.as_posix() for s in sources] == ["a.png", "sub/b c.png", "ü.png"]
    assert [s.name for s in sources][1] == f"s3://{bucket}/in/sub/b c.png"
    flat = find_images([f"s3://{bucket}/in/"], recursive=False)
    assert [s.relative.as_posix() for s in flat] == ["a.png", "ü.png"]
    matched = find_images([f"s3://{bucket}/in/**/*c.png"])
    assert [s.relative.as_posix() for s in matched] == ["sub/b c.png"]
    assert np.array_equal(
        decode_image(sources[1]), np.asarray(Image.open(io.BytesIO(PHOTOS["in/sub/b c.png"])))
    )


def test_a_key_with_dots_stays_in_the_folder_of_results(server, bucket):
    fill(server, bucket, {"in/../../../etc/x.png": photo(0), "in/a//b.png": photo(1)})
    sources = find_images([f"s3://{bucket}/in/"])
    assert {s.relative.as_posix() for s in sources} <= {"a/b.png", "etc/x.png"}
    twice = f"s3://{bucket}/in/a//b.png"
    assert decode_image(find_images([twice])[0]).shape == (30, 40, 3)


def test_results_in_a_store_are_those_of_a_folder(server, bucket, model, tmp_path, capsys):
    fill(server, bucket, PHOTOS)
    words = ["-f", "color,npy", "--range", "global"]
    assert depth(model, f"s3://{bucket}/in/", "-o", f"s3://{bucket}/out/x", *words) == 0
    assert depth(model, f"s3://{bucket}/in/", "-o", str(tmp_path / "out"), *words) == 0
    local = tmp_path / "out"
    expected = {
        p.relative_to(local).as_posix(): p.read_bytes()
        for p in local.rglob("*")
        if p.is_file() and ".dpt" not in p.parts  # the record of a folder, which a store has not
    }
    assert len(expected) == 9
    found = results(server, bucket, "out/x/")
    assert {key for key in found if not key.startswith(".")} == set(expected)
    for name in expected:
        assert found[name] == expected[name], name
    assert "3 done in s3://" in capsys.readouterr().err
    assert json.loads(found["a.json"])["source"] == f"s3://{bucket}/in/a.png"


def test_masks_and_their_names_go_to_a_store(server, bucket, tmp_path):
    fill(server, bucket, PHOTOS)
    segmenter = str(save_tiny(tmp_path / "segment", task="segment"))
    words = [f"s3://{bucket}/in/", "-o", f"s3://{bucket}/masks", "-m", segmenter]
    assert main(["segment", *words, "--also", "split,legend"]) == 0
    found = results(server, bucket, "masks/")
    assert {"labels.json", "a.png", "a.legend.png", "sub/b c.png"} <= set(found)
    assert any(name.startswith("a.classes/") for name in found)


def test_results_that_exist_are_kept(server, bucket, model, capsys):
    fill(server, bucket, PHOTOS)
    words = [f"s3://{bucket}/in/", "-o", f"s3://{bucket}/out"]
    fill(server, bucket, {"out/a.png": b"mine"})
    assert depth(model, *words) == 2
    assert f"'s3://{bucket}/out/a.png'; add --overwrite" in capsys.readouterr().err
    assert depth(model, *words, "--skip-existing") == 0
    found = results(server, bucket, "out/")
    assert found["a.png"] == b"mine"
    assert "2 done, 1 skipped" in capsys.readouterr().err
    assert depth(model, *words, "--overwrite") == 0
    assert results(server, bucket, "out/")["a.png"] != b"mine"


def test_a_store_that_takes_nothing_is_refused_before_the_model_is_loaded(
    server, bucket, model, capsys
):
    fill(server, bucket, PHOTOS)
    server.faults.append(Fault("POST", "out/a.png", status=403, times=99))
    assert depth(model, f"s3://{bucket}/in/", "-o", f"s3://{bucket}/out") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"dpt: cannot write 's3://{bucket}/out/a.png': access denied; credent")
    assert said.count("\n") == 1
    server.faults.clear()
    assert depth(model, f"s3://{bucket}/in/", "-o", "s3://no-such-bucket-anywhere/out") == 2
    assert "no such object or bucket" in capsys.readouterr().err


def test_asking_whether_a_store_takes_results_leaves_no_upload_open(server, bucket):
    store.try_upload(f"s3://{bucket}/out/a.png")
    assert server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert server.content(bucket) == {}


def test_one_listing_says_what_is_there(server, bucket, model):
    fill(server, bucket, {f"in/{i}.png": b"no image" for i in range(20)})
    assert depth(model, f"s3://{bucket}/in/", "-o", f"s3://{bucket}/out") == 1
    heads = [path for method, path in server.requests if method == "HEAD" and "/out/" in path]
    assert len(heads) <= 3, heads
    assert len(results(server, bucket, "out/")["failures.jsonl"].splitlines()) == 20


def test_results_below_their_photographs_are_no_photographs(server, bucket, model, capsys):
    fill(server, bucket, PHOTOS)
    words = [f"s3://{bucket}/in/", "-o", f"s3://{bucket}/in/depth"]
    assert depth(model, *words) == 0
    assert depth(model, *words, "--skip-existing") == 0
    assert "0 done, 3 skipped" in capsys.readouterr().err


def test_a_result_never_replaces_its_photograph(server, bucket, model, capsys):
    fill(server, bucket, PHOTOS)
    words = [f"s3://{bucket}/in/a.png", "-o", f"s3://{bucket}/in/a.png", "--overwrite"]
    assert depth(model, *words) == 2
    assert "would replace the input" in capsys.readouterr().err
    assert server.content(bucket)["in/a.png"] == PHOTOS["in/a.png"]


def test_faults_that_pass_cost_nothing(server, bucket, model, capsys):
    fill(server, bucket, PHOTOS)
    server.faults += [
        Fault("GET", "in/a.png", cut=True, times=2),
        Fault("GET", "in/ü.png", status=503),
        Fault("GET", "b c.png", delay_s=0.5),
        Fault("PUT", "out/a.png", drop=True),
        Fault("PUT", "out/ü.png", status=500),
    ]
    assert depth(model, f"s3://{bucket}/in/", "-o", f"s3://{bucket}/out") == 0
    assert all(fault.times == 0 for fault in server.faults)
    assert server.count("GET", "in/a.png") == 3
    assert set(results(server, bucket, "out/")) >= {"a.png", "sub/b c.png", "ü.png"}
    assert "3 done" in capsys.readouterr().err


def test_faults_that_stay_are_named_and_cost_no_other(server, bucket, model, capsys):
    fill(server, bucket, PHOTOS)
    server.faults += [
        Fault("GET", "in/a.png", status=403, times=99),
        Fault("PUT", "out/ü.png", status=403, times=99),
    ]
    words = [f"s3://{bucket}/in/", f"s3://{bucket}/in/gone.png", "-o", f"s3://{bucket}/out"]
    assert depth(model, *words) == 1
    said = capsys.readouterr().err
    assert "in/a.png cannot be opened: access denied; credentials come from AWS_PROFILE" in said
    assert f"cannot write 's3://{bucket}/out/ü.png': access denied" in said
    assert "in/gone.png does not exist" in said
    names = [name for name in results(server, bucket, "out/") if not name.startswith(".")]
    assert set(names) == {"sub/b c.png", "failures.jsonl"}


def test_shards_keep_each_others_lists_of_failures(server, bucket, model):
    """A store's list cannot be joined: the part that ended last would replace it, or remove it."""
    bad = {"in/a.png": b"no image", "in/b.png": b"no image"}  # of parts 3 and 1
    fill(server, bucket, {**bad, "in/c.png": photo(3)})
    words = [f"s3://{bucket}/in/", "-o", f"s3://{bucket}/out", "-q"]
    assert [depth(model, *words, "--shard", f"{part}/3") for part in (1, 2, 3)] == [1, 0, 1]
    there = results(server, bucket, "out/")
    for part, name in ((1, "b.png"), (3, "a.png")):
        [line] = there[f"shard-{part}-of-3/failures.jsonl"].splitlines()
        assert json.loads(line)["input"] == f"s3://{bucket}/in/{name}"
    lists = {f"shard-{part}-of-3/failures.jsonl" for part in (1, 3)}
    assert there.keys() == {"c.png"} | lists


def test_a_list_of_failures_goes_when_all_have_results(server, bucket, model):
    """Whoever made them: then the run that looks has nothing to do."""
    fill(server, bucket, {"in/a.png": b"no image", "in/c.png": photo(3)})
    words = [f"s3://{bucket}/in/", "-o", f"s3://{bucket}/out", "-q", "--skip-existing"]
    assert depth(model, *words) == 1
    assert "failures.jsonl" in results(server, bucket, "out/")
    fill(server, bucket, {"out/a.png": photo(1)})
    assert depth(model, *words) == 0
    assert results(server, bucket, "out/").keys() == {"a.png", "c.png"}


def test_credentials_are_never_told(server, bucket, model, capsys, caplog):
    fill(server, bucket, PHOTOS)
    server.faults.append(Fault("GET", "a.png", status=403, times=99))
    caplog.set_level(logging.DEBUG, "dptcli")
    words = [f"s3://{bucket}/in/", "-o", f"s3://{bucket}/out", "-v", "--json"]
    assert depth(model, *words) == 1
    said = capsys.readouterr()
    told = said.out + said.err + caplog.text
    told += "".join(c.decode("latin1") for c in results(server, bucket, "out/").values())
    for secret in s3_server.KEY.values():
        assert secret not in told


def test_without_credentials_the_message_says_where_they_come_from(bucket, monkeypatch):
    for name in s3_server.KEY:
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UsageError, match=r"no credentials; they come from AWS_PROFILE"):
        find_images([f"s3://{bucket}/in/"])


@pytest.mark.parametrize(("key", "words"), [("", "does not exist"), ("empty/", "nothing lies")])
def test_nothing_there_is_said_before_work_starts(bucket, key, words):
    name = bucket if key else "no-such-bucket"
    with pytest.raises(UsageError, match=words):
        find_images([f"s3://{name}/{key}"])


def test_a_large_object_is_never_seen_in_part(server, bucket):
    """Above two blocks it goes in parts; when one of them fails, what was there stays."""
    target = RemotePath(f"s3://{bucket}/big.bin")
    content = np.random.default_rng(0).bytes((2 * store._BLOCK) + 12345)
    fill(server, bucket, {"big.bin": b"before"})
    server.faults.append(Fault("PUT", "big.bin", status=403, times=99))

    def write():
        with atomic_write(target) as stream:
            stream.write(content)

    with pytest.raises(PermissionError):
        write()
    assert server.content(bucket) == {"big.bin": b"before"}
    uploads = server.client().list_multipart_uploads(Bucket=bucket)
    assert not uploads.get("Uploads")
    server.faults.clear()
    server.faults.append(Fault("PUT", "big.bin", drop=True))
    write()
    assert server.content(bucket) == {"big.bin": content}
    assert any("uploadId" in path for _, path in server.requests)
    with store.fetch(str(target)) as stream:
        assert stream.read() == content


def test_an_interrupted_write_leaves_what_was_there(server, bucket):
    fill(server, bucket, {"a.bin": b"before"})

    def write():
        with atomic_write(RemotePath(f"s3://{bucket}/a.bin")) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert server.content(bucket) == {"a.bin": b"before"}


def test_a_broken_object_fails_by_name(server, bucket):
    fill(server, bucket, {"a.png": PHOTOS["in/a.png"][:50], "b.png": b""})
    for name, words in (("a.png", "is damaged"), ("b.png", "is empty")):
        with pytest.raises(ImageError, match=f"s3://{bucket}/{name} {words}"):
            decode_image(find_images([f"s3://{bucket}/{name}"])[0])


def test_a_place_in_a_store_has_the_manners_of_a_path():
    folder = place("s3://bucket/out/")
    file = folder / "sub" / "a.png"
    assert str(file) == "s3://bucket/out/sub/a.png"
    assert str(file.with_suffix(".json").parent) == "s3://bucket/out/sub"
    assert str(file.with_name("b.npy")) == "s3://bucket/out/sub/b.npy"
    again = pickle.loads(pickle.dumps(file))
    assert type(again) is RemotePath
    assert again == file
    with pytest.raises(TypeError, match="not a file of this machine"):
        open(file)  # noqa: PTH123, SIM115
    assert isinstance(place("out/x"), Path)
    assert not isinstance(place("out/x"), RemotePath)


@pytest.mark.parametrize("out", ["https://h.com/out/", "s3://bucket/a/../b/", "s3://bucket/a//b/"])
def test_places_that_cannot_hold_results_are_refused(out):
    with pytest.raises(UsageError):
        place(out)


# --- runs side by side ---------------------------------------------------------------------------


def claimed(bucket, folder):
    """The job of FOLDER/1.png into the bucket's out/, planned while that is empty."""
    return plan_outputs(find_images([f"s3://{bucket}/{folder}/1.png"]), f"s3://{bucket}/out/").jobs[
        0
    ]


def put(job, content):
    with claiming(job):
        write_whole(job.path, lambda stream: stream.write(content))


@pytest.mark.parametrize("size", [10, 2 * store._BLOCK + 5], ids=["small", "in parts"])
@pytest.mark.parametrize("knows", [True, False], ids=["exclusive", "asked before"])
def test_a_name_that_another_run_has_taken_since_is_refused(
    server, bucket, monkeypatch, size, knows
):
    monkeypatch.setattr(store, "_knows_create", lambda _url: knows)
    fill(server, bucket, {f"{folder}/1.png": photo(1) for folder in "ab"})
    one, other = claimed(bucket, "a"), claimed(bucket, "b")
    put(one, b"a" * size)
    with pytest.raises(ImageError, match="another run"):
        put(other, b"b" * size)
    assert server.content(bucket)["out/1.png"] == b"a" * size
    put(one, b"a" * size)  # a worker that was lost after its result was there


def test_an_answer_that_was_lost_does_not_make_a_run_meet_itself(server, bucket):
    fill(server, bucket, {"a/1.png": photo(1)})
    job = claimed(bucket, "a")
    server.faults.append(Fault("PUT", "out/1.png", cut=True))
    put(job, b"content")
    assert server.content(bucket)["out/1.png"] == b"content"


def test_overwrite_replaces_what_came_meanwhile(server, bucket):
    fill(server, bucket, {f"{folder}/1.png": photo(1) for folder in "ab"})
    jobs = [
        plan_outputs(
            find_images([f"s3://{bucket}/{folder}/1.png"]),
            f"s3://{bucket}/out/",
            existing="overwrite",
        ).jobs[0]
        for folder in "ab"
    ]
    for job, content in zip(jobs, (b"a", b"b"), strict=True):
        put(job, content)
    assert server.content(bucket)["out/1.png"] == b"b"
