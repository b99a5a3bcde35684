"""Versions come, go, are damaged and return while clients ask."""

import concurrent.futures
import shutil
import signal
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from live_server import LiveServer, assert_close

from serving.server.protos import PredictionLog
from serving.server.versions import Versions


@pytest.fixture
def folder(tmp_path, bare_model):
    shutil.copytree(bare_model, tmp_path / "model")
    return tmp_path / "model"


def publish(source, folder, version):
    """Atomically, as `ctr-tf export` does it."""
    shutil.copytree(source, folder / f".{version}")
    (folder / f".{version}").rename(folder / str(version))


class Clients:
    """Threads that ask all the time, and hold every answer against the right one."""

    def __init__(self, server, inputs, expected):
        self._stop = threading.Event()
        self.versions = []
        self.wrong = []
        self._pool = concurrent.futures.ThreadPoolExecutor(3)
        self._work = [
            self._pool.submit(self._ask, server, inputs, expected) for _ in range(3)
        ]

    def _ask(self, server, inputs, expected):
        while not self._stop.is_set():
            for i, tensors in enumerate(inputs):
                scores = server.predict(tensors)["probability"]
                near = [
                    version
                    for version, right in expected.items()
                    if np.allclose(scores, right[i], rtol=2e-4, atol=2e-6)
                ]
                self.wrong += [] if near else [scores]
                self.versions += near
                time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._pool.shutdown()

    def finish(self):
        self._stop.set()
        for work in self._work:
            work.result()  # raises what a request failed with
        assert not self.wrong
        return self.versions


def test_hot_swap_under_load(tmp_path, folder, exports, inputs, expected):
    with LiveServer(folder, tmp_path / "log", "--max_batch_size=8") as server:
        server.wait_for(v1="AVAILABLE")
        with Clients(server, inputs, expected) as clients:
            publish(exports / "2", folder, 2)
            server.wait_for(v1="END", v2="AVAILABLE")
            publish(folder / "1", folder, 3)
            server.wait_for(v2="END", v3="AVAILABLE")
            (folder / "3").rename(folder / ".3")  # back to the one before
            server.wait_for(v2="AVAILABLE", v3="END")
            time.sleep(0.3)
            seen = clients.finish()
        assert set(seen) == {1, 2}
        for tensors, scores in zip(inputs, expected[2], strict=True):
            assert_close(server.predict(tensors, version=2)["probability"], scores)
        with pytest.raises(grpc.RpcError) as error:
            server.predict(inputs[0], version=3)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        shutil.rmtree(folder / "1")
        shutil.rmtree(folder / "2")
        server.wait_for(v2="END")
        with pytest.raises(grpc.RpcError) as error:
            server.predict(inputs[0])
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        assert server.rest("/healthz")[0] == 503
        assert server.stop(signal.SIGINT) == 0


def _half_graph(folder):
    path = folder / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:100_000])


def _no_graph(folder):
    (folder / "saved_model.pb").unlink()


def _zeros_in_weights(folder):
    path = folder / "variables" / "variables.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)


def _no_vocabulary(folder):
    next((folder / "assets").iterdir()).unlink()


def _bad_warmup(folder):
    (folder / "assets.extra").mkdir()
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(PredictionLog().SerializeToString())
    path.write_bytes(path.read_bytes()[:-3])


def _vocabulary_of_one_word(folder):
    """TensorFlow loads it: vocabularies and graphs have no checksum."""
    for name in ("golden.json", "schema.yaml"):
        (folder / "assets.extra").mkdir(exist_ok=True)
        source = folder.parent.parent / "exported" / "assets.extra" / name
        shutil.copy(source, folder / "assets.extra" / name)
    for path in (folder / "assets").iterdir():
        path.write_text(path.read_text().splitlines()[0] + "\n")


DAMAGES = {
    2: (_half_graph, "Read less bytes than requested"),
    3: (_no_graph, "Could not find SavedModel"),
    4: (_zeros_in_weights, "Checksum does not match"),
    5: (_no_vocabulary, "No such file or directory"),
    6: (_bad_warmup, "is damaged: a record's CRC is wrong"),
    7: (_vocabulary_of_one_word, "was changed after the export"),
}


def test_damaged_versions(tmp_path, folder, exports, inputs, expected):
    """The old version serves on; once mended, the new one does; kill -9 in between."""
    log = tmp_path / "log"
    shutil.copytree(exports / "1", tmp_path / "exported")
    with LiveServer(folder, log) as server:
        server.wait_for(v1="AVAILABLE")
        with Clients(server, inputs, {1: expected[1]}) as clients:
            for version, (damage, _) in DAMAGES.items():
                whole = exports / ("1" if version == 7 else "2")
                ignore = shutil.ignore_patterns("assets.extra")
                shutil.copytree(whole, folder / f".{version}", ignore=ignore)
                damage(folder / f".{version}")
                (folder / f".{version}").rename(folder / str(version))
            server.wait_for(v1="AVAILABLE", **{f"v{n}": "END" for n in DAMAGES})
            clients.finish()
        for version, (_, message) in DAMAGES.items():
            _, code, text = server.status()[version]
            assert code and message in text, (version, text)
            assert f"Cannot load version {version} from" in text
        server.stop(signal.SIGKILL)
    with LiveServer(folder, log) as server:
        server.wait_for(v1="AVAILABLE", **{f"v{n}": "END" for n in DAMAGES})
        assert_close(server.predict(inputs[0])["probability"], expected[1][0])
        shutil.copy(exports / "2" / "saved_model.pb", folder / "3" / "saved_model.pb")
        server.wait_for(v1="END", v3="AVAILABLE")
        assert_close(server.predict(inputs[0])["probability"], expected[2][0])
        assert server.stop() == 0


class Loader:
    """Stands for TensorFlow: notes what is loaded and closed."""

    def __init__(self):
        self.events = []

    def __call__(self, folder):
        self.events.append(f"load {folder.name}")
        loader = self

        class Model:
            def close(self):
                loader.events.append(f"close {folder.name}")

        return Model()


def write_version(folder, number, content="x"):
    (folder / str(number)).mkdir(exist_ok=True)
    (folder / str(number) / "saved_model.pb").write_text(content)


def test_a_folder_that_still_changes_is_left_alone(tmp_path):
    write_version(tmp_path, 1)
    loader = Loader()
    versions = Versions("ctr", tmp_path, loader, poll_seconds=60)
    versions.poll(settled=True)
    write_version(tmp_path, 2, "half")
    versions.poll()
    write_version(tmp_path, 2, "the whole")
    versions.poll()
    assert loader.events == ["load 1"]
    assert versions.states()[2].state == 10  # START
    versions.poll()
    assert loader.events == ["load 1", "load 2", "close 1"]


def test_several_versions_serve_at_once(tmp_path):
    for number in (1, 2, 10):
        write_version(tmp_path, number)
    loader = Loader()
    versions = Versions("ctr", tmp_path, loader, num_versions=2)
    versions.poll(settled=True)
    assert loader.events == ["load 10", "load 2"]
    latest, older = versions.acquire(None), versions.acquire(2)
    assert (latest.number, older.number) == (10, 2)
    write_version(tmp_path, 11)
    poll = threading.Thread(target=versions.poll, args=[True])
    poll.start()
    poll.join(0.2)
    assert poll.is_alive()  # version 2 is in use
    assert versions.acquire(None).number == 11
    older.release()
    poll.join(10)
    assert loader.events == ["load 10", "load 2", "load 11", "close 2"]


def test_wrong_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of versions '.*nowhere'"):
        Versions("ctr", tmp_path / "nowhere", Loader())
    write_version(tmp_path, 1)
    with pytest.raises(ValueError, match="must hold numbered version folders"):
        Versions("ctr", tmp_path / "1", Loader())
