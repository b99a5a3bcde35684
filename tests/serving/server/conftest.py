import shutil

import numpy as np
import pytest
import tensorflow as tf
from live_server import LiveServer, bytes_inside
from small_export import SCHEMA, VOCABULARIES, make_ranker

from ctr_tf.data.writing import serialize
from serving.request import request_from_sample, request_to_tensors
from serving.signatures import ServingModule


@pytest.fixture(scope="session")
def inputs(samples):
    """Tensors of each sample's request; strings are bytes."""
    return [
        {
            name: bytes_inside(array)
            for name, array in request_to_tensors(
                request_from_sample(sample, SCHEMA, VOCABULARIES), SCHEMA
            ).items()
        }
        for sample in samples
    ]


@pytest.fixture(scope="session")
def records(samples):
    return [serialize(sample) for sample in samples]


@pytest.fixture(scope="session")
def exports(tmp_path_factory, small_export, data):
    """Versions 1, a whole export, and 2, a bare SavedModel whose scores differ."""
    exports = tmp_path_factory.mktemp("served")
    shutil.copytree(small_export, exports / "1")
    module = ServingModule(make_ranker(1), data.folder / "vocabularies", (16,), (4, 8))
    tf.saved_model.save(module, str(exports / "2"), module.signatures())
    return exports


@pytest.fixture(scope="session")
def expected(exports, inputs):
    """Version → probabilities of each request, by Python TensorFlow's own loader."""
    result = {}
    for version in (1, 2):
        model = tf.saved_model.load(str(exports / str(version)))
        score = model.signatures["serving_default"]
        specs = score.structured_input_signature[1]
        result[version] = [
            score(
                **{
                    name: tf.constant(array, specs[name].dtype)
                    for name, array in tensors.items()
                }
            )["probability"].numpy()
            for tensors in inputs
        ]
    one, two = (np.concatenate(result[v], axis=None) for v in (1, 2))
    assert np.abs(one - two).max() > 1e-2
    return result


@pytest.fixture(scope="session")
def model(tmp_path_factory, exports):
    """A folder of versions that holds version 1 only."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copytree(exports / "1", folder / "1")
    return folder


@pytest.fixture(scope="session")
def bare_model(tmp_path_factory, exports):
    """The same without warm-up records, which loads faster."""
    folder = tmp_path_factory.mktemp("bare")
    ignore = shutil.ignore_patterns("assets.extra")
    shutil.copytree(exports / "1", folder / "1", ignore=ignore)
    return folder


@pytest.fixture(scope="session")
def server(model):
    """A server of version 1 for all tests that leave it as it is."""
    with LiveServer(model) as live:
        yield live
        assert live.process.poll() is None, live.log()
