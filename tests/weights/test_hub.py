"""Downloads: the real client, in a process of its own, against a hub on loopback with faults."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import memory_disk
from hub_server import COMMIT, GOOD_TOKEN, Hub, Repository, serve

# Loading reads environment variables when it is imported, so every case is a process.
FETCH = """
import logging, sys
logging.basicConfig(level=logging.WARNING, format="%(message)s")
from dptcli.errors import ModelError
from dptcli.weights.catalog import find_model
name, task, *flags = sys.argv[1:]
try:
    print(find_model(name, task=task or None, **{flag: True for flag in flags}))
except ModelError as error:
    print(error)
    sys.exit(2)
"""
WEIGHTS = os.urandom(200_000)
CONFIG = json.dumps({"model_type": "dpt", "architectures": ["DPTForDepthEstimation"]}).encode()
NOWHERE = "http://127.0.0.1:9"  # the port of `discard`: nobody listens


def files(**others: bytes) -> dict[str, bytes]:
    return {"config.json": CONFIG, "preprocessor_config.json": b"{}", **others}


def whole() -> dict[str, bytes]:
    return files(**{"model.safetensors": WEIGHTS})


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


class Fetch:
    """Fetches models into one cache, each time in a new process."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.home = home
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith("HF_")
        } | {"HF_HOME": str(home), "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1,localhost"}

    def run(
        self, name: str, *flags: str, task: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", FETCH, name, task, *flags],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def folder(self, name: str, *flags: str, task: str = "", **environment: str) -> Path:
        """The folder of a model that must be found."""
        done = self.run(name, *flags, task=task, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return Path(done.stdout.strip())

    def refusal(self, name: str, *flags: str, task: str = "", **environment: str) -> str:
        """The one line that refuses a model."""
        done = self.run(name, *flags, task=task, **environment)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout.count("\n") == 1, "one line"
        return done.stdout.strip()

    def cached_names(self) -> set[str]:
        """The names of all files in the cache that a loader could take for whole ones."""
        return {path.name for path in self.home.glob("hub/models--*/snapshots/*/*")}


@pytest.fixture
def fetch(hub: Hub, tmp_path: Path) -> Fetch:
    return Fetch(hub, tmp_path / "home")


def test_a_download_takes_only_the_files_that_loading_reads(hub: Hub, fetch: Fetch) -> None:
    others = {"README.md": b"#", "pytorch_model.bin": b"old", "tf_model.h5": b"tf", "x.png": b""}
    hub.repositories["owner/model"] = Repository({**others, **whole()})
    folder = fetch.folder("owner/model")
    assert {path.name for path in folder.iterdir()} == set(whole())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_cached_model_is_used_without_asking_the_hub(hub: Hub, fetch: Fetch) -> None:
    hub.repositories["owner/model"] = Repository(whole())
    folder = fetch.folder("owner/model")
    asked = len(hub.requests)
    assert fetch.folder("owner/model") == folder
    assert fetch.folder("owner/model", HF_ENDPOINT=NOWHERE) == folder
    assert len(hub.requests) == asked


def test_refresh_fetches_what_is_new_on_the_hub(hub: Hub, fetch: Fetch) -> None:
    hub.repositories["owner/model"] = Repository(whole())
    old = fetch.folder("owner/model")
    newer = files(**{"model.safetensors": b"newer"})
    hub.repositories["owner/model"] = Repository(newer, commit="f" * 40)
    assert fetch.folder("owner/model") == old
    folder = fetch.folder("owner/model", "refresh")
    assert folder.name == "f" * 40
    assert (folder / "model.safetensors").read_bytes() == b"newer"
    assert fetch.folder("owner/model") == folder


def test_shards_are_fetched_as_their_index_names_them(hub: Hub, fetch: Fetch) -> None:
    shards = {f"model-0000{n}-of-00002.safetensors": bytes([n]) for n in (1, 2)}
    index = json.dumps({"weight_map": {"a": next(iter(shards)), "b": list(shards)[1]}}).encode()
    stray = {"model-00001-of-00001.safetensors": b"stray"}
    content = files(**{"model.safetensors.index.json": index, **shards, **stray})
    hub.repositories["owner/model"] = Repository(content)
    folder = fetch.folder("owner/model")
    assert {path.name for path in folder.iterdir()} == set(content) - set(stray)


def test_a_shard_that_the_repository_lacks_is_refused(hub: Hub, fetch: Fetch) -> None:
    index = json.dumps({"weight_map": {"a": "../../outside.safetensors"}}).encode()
    hub.repositories["owner/model"] = Repository(files(**{"model.safetensors.index.json": index}))
    assert "'../../outside.safetensors', which it does not hold" in fetch.refusal("owner/model")


def test_an_old_pickle_is_fetched_where_there_is_nothing_better(hub: Hub, fetch: Fetch) -> None:
    hub.repositories["owner/model"] = Repository(files(**{"pytorch_model.bin": WEIGHTS}))
    assert (fetch.folder("owner/model") / "pytorch_model.bin").read_bytes() == WEIGHTS


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_a_revision_is_pinned_with_an_at_sign(hub: Hub, fetch: Fetch, revision: str) -> None:
    hub.repositories["owner/model"] = Repository(whole())
    folder = fetch.folder(f"owner/model@{revision}")
    assert folder.name == COMMIT
    assert all(f"/resolve/{COMMIT}/" in path for _, path, _ in hub.requests if "/main/" in path)
    assert fetch.folder(f"owner/model@{revision}", HF_ENDPOINT=NOWHERE) == folder


def test_a_gated_model_opens_with_a_token(hub: Hub, fetch: Fetch) -> None:
    hub.repositories["owner/model"] = Repository(whole(), gated=True)
    message = fetch.refusal("owner/model")
    assert f"accept its licence at {hub.url}/owner/model, then set HF_TOKEN" in message
    assert "HF_TOKEN" in fetch.refusal("owner/model", HF_TOKEN="hf_bad")
    assert fetch.folder("owner/model", HF_TOKEN=GOOD_TOKEN).name == COMMIT


def test_a_cut_connection_is_resumed_where_it_broke(hub: Hub, fetch: Fetch) -> None:
    content = os.urandom(24 << 20)  # the client keeps what came in blocks of 10 MB
    hub.repositories["owner/model"] = Repository(
        files(**{"model.safetensors": content}), cut={"model.safetensors": 1}
    )
    assert (fetch.folder("owner/model") / "model.safetensors").read_bytes() == content
    starts = [range_ for method, path, range_ in hub.requests if "/large/" in path]
    assert starts[-1] is not None, "the second request asks for the rest alone"


def test_a_connection_that_stays_cut_leaves_nothing_that_looks_whole(
    hub: Hub, fetch: Fetch
) -> None:
    hub.repositories["owner/model"] = Repository(whole(), cut={"model.safetensors": 99})
    assert "could not be downloaded" in fetch.refusal("owner/model")
    assert "model.safetensors" not in fetch.cached_names()
    assert "not in the cache" in fetch.refusal("owner/model", HF_HUB_OFFLINE="1")
    hub.repositories["owner/model"].cut.clear()
    assert (fetch.folder("owner/model") / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"spoiled": {"model.safetensors"}}, "model.safetensors arrived damaged"),
        ({"short": {"model.safetensors"}}, "wrong size"),
        ({"spoiled": {"config.json"}}, "config.json arrived damaged"),
        ({"claimed_size": 10**15}, "make room, or set HF_HOME"),
        ({"status": 503}, "answered 503; try again later"),
        ({"status": 403}, "answered 403; check HF_TOKEN"),
    ],
    ids=["wrong hash", "wrong size", "wrong hash of a small file", "huge", "503", "403"],
)
def test_a_fault_of_the_hub_is_one_line_and_leaves_no_weights(
    hub: Hub, fetch: Fetch, fault: dict[str, object], said: str
) -> None:
    hub.repositories["owner/model"] = Repository(whole(), **fault)  # type: ignore[arg-type]
    assert said in fetch.refusal("owner/model")
    assert "model.safetensors" not in fetch.cached_names()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("owner/unknown", "no folder and no public repository 'owner/unknown'"),
        ("Intel/dpt-larg", "did you mean 'Intel/dpt-large'?"),
        ("dpt-lrge", "unknown model 'dpt-lrge'; did you mean 'dpt-large'?"),
        ("./no/such/folder", "unknown model './no/such/folder'"),
        ("owner/model@none", "owner/model has no revision 'none'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(
    hub: Hub, fetch: Fetch, name: str, said: str
) -> None:
    hub.repositories["owner/model"] = Repository(whole())
    assert said in fetch.refusal(name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"config.json": CONFIG, "model.safetensors": b""}, "does not hold config.json, prepro"),
        ({"preprocessor_config.json": b"{}", "model.safetensors": b""}, "does not hold config"),
        (files(), "does not hold config.json, preprocessor_config.json and weights"),
        (
            {**whole(), "config.json": b'{"model_type": "bert", "architectures": ["BertModel"]}'},
            "is a 'bert' model with architectures ['BertModel'], for neither depth nor",
        ),
        ({**whole(), "config.json": b"[]"}, "holds a list, not an object"),
        ({**whole(), "config.json": b'{"hidden_size": 10000000}'}, "beyond the 16384"),
    ],
    ids=["no processor", "no config", "no weights", "another model", "no object", "absurd"],
)
def test_what_is_no_model_of_ours_is_refused_before_its_weights_are_fetched(
    hub: Hub, fetch: Fetch, content: dict[str, bytes], said: str
) -> None:
    hub.repositories["owner/model"] = Repository(content)
    assert said in fetch.refusal("owner/model")
    assert "model.safetensors" not in hub.downloads()


def test_a_model_for_the_other_task_is_refused_before_its_weights_are_fetched(
    hub: Hub, fetch: Fetch
) -> None:
    hub.repositories["owner/model"] = Repository(whole())
    message = fetch.refusal("owner/model", task="segment")
    assert message == "model 'owner/model' is for `dpt depth`, not for `dpt segment`"
    assert "model.safetensors" not in hub.downloads()


def test_without_a_network_the_message_says_what_to_do(fetch: Fetch) -> None:
    message = fetch.refusal("Intel/dpt-large", HF_ENDPOINT=NOWHERE)
    assert "not in the cache and could not be downloaded from http://127.0.0.1:9" in message
    assert "check the network or HF_ENDPOINT" in message


def test_offline_takes_the_cache_and_asks_nobody(hub: Hub, fetch: Fetch) -> None:
    hub.repositories["owner/model"] = Repository(whole())
    for flags, environment in ((["offline"], {}), ([], {"HF_HUB_OFFLINE": "1"})):
        message = fetch.refusal("owner/model", *flags, **environment)
        assert "offline mode forbids to download it; run `dpt models download own" in message
    assert not hub.requests
    folder = fetch.folder("owner/model")
    asked = len(hub.requests)
    for flags, environment in ((["offline"], {}), ([], {"HF_HUB_OFFLINE": "1"})):
        assert fetch.folder("owner/model", *flags, **environment) == folder
        assert fetch.folder("owner/model", "refresh", *flags, **environment) == folder
    assert len(hub.requests) == asked


def test_a_short_name_stands_for_its_repository(hub: Hub, fetch: Fetch) -> None:
    hub.repositories["Intel/dpt-large"] = Repository(whole())
    assert "models--Intel--dpt-large" in str(fetch.folder("dpt-large"))


@pytest.mark.parametrize(
    ("licence", "is_shown"), [("cc-by-nc-4.0", True), ("apache-2.0", False), (None, False)]
)
def test_a_non_commercial_licence_is_shown_before_the_first_download(
    hub: Hub, fetch: Fetch, licence: str | None, is_shown: bool
) -> None:
    hub.repositories["owner/model"] = Repository(whole(), licence=licence)
    notice = "owner/model: licence cc-by-nc-4.0, not for commercial use"
    assert (notice in fetch.run("owner/model").stderr) is is_shown
    assert notice not in fetch.run("owner/model").stderr, "only before the first"


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
@pytest.mark.parametrize(
    ("claimed_size", "said"),
    [(None, "has 1.0 MB left; make room"), (1, "is full; make room, or set HF_HOME")],
    ids=["known before", "seen while writing"],
)
def test_a_full_disk_is_one_line_and_leaves_no_weights(
    hub: Hub, tmp_path: Path, claimed_size: int | None, said: str
) -> None:
    content = files(**{"model.safetensors": os.urandom(3 << 20)})
    hub.repositories["owner/model"] = Repository(content, claimed_size=claimed_size)
    with memory_disk(tmp_path / "disk", "size=1m") as disk:
        fetch = Fetch(hub, disk)
        assert said in fetch.refusal("owner/model")
        assert "model.safetensors" not in fetch.cached_names()


def test_the_newer_file_of_the_whole_processing_is_fetched(hub: Hub, fetch: Fetch) -> None:
    held = whole()
    del held["preprocessor_config.json"]
    hub.repositories["who/new"] = Repository({**held, "processor_config.json": b"{}"})
    folder = fetch.folder("who/new")
    assert (folder / "processor_config.json").is_file()
