import shutil

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_schema
from live_server import LiveServer, bytes_inside

from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.random_samples import (
    random_sample,
    random_vocabularies,
    serialize,
    write_prepared,
)
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr import SparseCTRConfig
from serving.export import ExportOptions, export_ranker
from serving.request import request_from_sample, request_to_tensors
from serving.signatures import ServingModule

SCHEMA = make_schema(history_length=16, num_chunks=4)
VOCABULARIES = random_vocabularies(SCHEMA, 30)
HISTORIES, SLATES = (16, 0, 1, 5, 16, 12), (3, 4, 1, 7, 2, 5)


@pytest.fixture(scope="session")
def samples():
    random = np.random.default_rng(0)
    return [
        random_sample(SCHEMA, VOCABULARIES, random, behaviors, candidates)
        for behaviors, candidates in zip(HISTORIES, SLATES, strict=True)
    ]


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
def exports(tmp_path_factory, samples):
    """Versions 1, a whole export, and 2, a bare SavedModel whose scores differ."""
    folder = tmp_path_factory.mktemp("served")
    data = folder / "data"
    splits = {"train": samples, "validation": [], "test": samples}
    write_prepared(data, SCHEMA, VOCABULARIES, splits)
    config = SparseCTRConfig(dim=16, num_heads=2, embedding_dim=4, num_blocks=1)
    ranker = build_ranker(config, SCHEMA, VOCABULARIES.table_sizes(SCHEMA))
    random = np.random.default_rng(0)

    def shake():
        for variable in ranker.trainable_variables:
            variable.assign(variable + random.normal(scale=0.3, size=variable.shape))

    shake()
    options = ExportOptions(slate_sizes=(4, 8), batch_sizes=(1, 4), samples=2)
    export_ranker(ranker, PreparedData.load(data), folder / "export", options)
    shake()
    module = ServingModule(ranker, data / "vocabularies", (16,), (4, 8))
    signatures = module.signatures()
    tf.saved_model.save(module, str(folder / "export" / "2"), signatures)
    return folder / "export"


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
def server(tmp_path_factory, model):
    """A server of version 1 for all tests that leave it as it is."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with LiveServer(model, log) as live:
        live.wait_for(v1="AVAILABLE")
        yield live
        assert live.process.poll() is None, log.read_text()
