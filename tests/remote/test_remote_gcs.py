"""gs:// through gcsfs, against a server on loopback that speaks its protocol."""

import os

import gcs_server
import numpy as np
import pytest
from places import SAMPLES
from tiny import save_tiny

from dptcli.cli import main
from dptcli.inputs.find import find_images
from dptcli.remote import store
from dptcli.remote.places import RemotePath
from dptcli.results.files import atomic_write

# Read when it is imported: the kind of a bucket is asked through gRPC, which is not served here.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
gcsfs = pytest.importorskip("gcsfs")
PHOTO = (SAMPLES / "room.jpg").read_bytes()


@pytest.fixture
def server(monkeypatch):
    objects = {"in/a.jpg": PHOTO, "in/sub/b.jpg": PHOTO, "in/notes.txt": b""}
    with gcs_server.serve(objects) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield running
    gcsfs.GCSFileSystem.clear_instance_cache()


def test_photographs_come_from_and_go_to_google(server, tmp_path, capsys):
    model = str(save_tiny(tmp_path / "model", task="depth"))
    server.statuses["in/a.jpg"] = [503]
    words = ["gs://photos/in/", "-o", "gs://photos/out", "-m", model]
    assert main(["depth", *words]) == 0
    assert {"out/a.png", "out/sub/b.png"} <= set(server.objects)
    assert server.objects["out/a.png"].startswith(b"\x89PNG")
    assert server.statuses["in/a.jpg"] == []
    assert main(["depth", *words, "--skip-existing"]) == 0
    assert "0 done, 2 skipped" in capsys.readouterr().err


def test_a_refused_object_is_named(server):
    server.statuses["in/a.jpg"] = [403] * 20
    with pytest.raises(PermissionError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        store.read("gs://photos/in/a.jpg")
    with pytest.raises(FileNotFoundError):
        store.read("gs://photos/in/gone.jpg")


@pytest.mark.filterwarnings("ignore:Sending a large body")  # gcsfs's own way
def test_a_large_object_is_there_when_it_is_whole(server):
    content = np.random.default_rng(0).bytes(2 * store._BLOCK + 123)
    with atomic_write(RemotePath("gs://photos/big.bin")) as stream:
        stream.write(content)
        assert "big.bin" not in server.objects
    assert server.objects["big.bin"] == content
    assert store.read("gs://photos/big.bin") == content


def test_a_prefix_is_searched(server):
    found = find_images(["gcs://photos/in"])
    assert [source.url for source in found] == ["gs://photos/in/a.jpg", "gs://photos/in/sub/b.jpg"]
    assert len(server.objects) == 3
