"""Which versions serve, and what is said of one that cannot."""

import shutil
import signal

import grpc
import pytest
import tensorflow as tf
from live_server import LiveServer, assert_close
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.server.model import Version, find_versions

pytestmark = pytest.mark.long


def test_the_newest_versions_serve(exports, inputs, expected):
    with LiveServer(exports, "--versions=2") as server:
        assert server.status() == {n: ("AVAILABLE", 0, "") for n in (2, 1)}
        for version, asked in ((1, 1), (2, 2), (2, None)):
            found = server.predict(inputs[0], version=asked)["probability"]
            assert_close(found, expected[version][0])
        assert server.stop(signal.SIGINT) == 0
    with LiveServer(exports) as server:
        assert list(server.status()) == [2]
        with pytest.raises(grpc.RpcError) as error:
            server.predict(inputs[0], version=1)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        status, answer = server.http("/v1/models/ctr/versions/1:predict", {"inputs": 1})
        assert status == 404 and "Specific(ctr, 1)" in answer["error"]


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


def _half_warmup(folder):
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.write_bytes(path.read_bytes()[:-3])


def _vocabulary_of_one_word(folder):
    """TensorFlow loads it: vocabularies and graphs have no checksum."""
    (folder / "assets.extra" / "tf_serving_warmup_requests").unlink()
    for path in (folder / "assets").iterdir():
        path.write_text(path.read_text().splitlines()[0] + "\n")


@pytest.mark.parametrize(
    "damage, message",
    [
        (_half_graph, "Error parsing message"),
        (_no_graph, "No such file or directory"),
        (_zeros_in_weights, "Checksum does not match"),
        (_no_vocabulary, "No such file or directory"),
        (_half_warmup, "Warm-up file .* is damaged"),
        (_vocabulary_of_one_word, "was changed after the export"),
    ],
)
def test_a_damaged_version_does_not_serve(tmp_path, exports, damage, message):
    shutil.copytree(exports / "1", tmp_path / "5")
    damage(tmp_path / "5")
    with pytest.raises(ValueError, match=f"Cannot load version 5 from .*{message}"):
        Version(5, tmp_path / "5")


def test_a_failing_warmup_record_is_told(tmp_path, exports):
    shutil.copytree(exports / "1", tmp_path / "5")
    path = tmp_path / "5" / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(PredictionLog().SerializeToString())
    with pytest.raises(ValueError, match="Warm-up record 1 of .* fails"):
        Version(5, tmp_path / "5")


def test_which_folders_are_versions(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of versions '.*nowhere'"):
        find_versions(tmp_path / "nowhere", 1)
    with pytest.raises(FileNotFoundError, match="There is no version in"):
        find_versions(tmp_path, 1)
    for name in ("1", "2", "10", ".11.unfinished", "new"):
        (tmp_path / name).mkdir()
    assert list(find_versions(tmp_path, 1)) == [10]
    assert list(find_versions(tmp_path, 2)) == [2, 10]
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(ValueError, match="must hold numbered version folders"):
        find_versions(tmp_path / "1", 1)
