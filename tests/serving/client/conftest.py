"""One small export and one development server on it for all tests in here."""

import numpy as np
import pytest
from running_server import OPTIONS, SCHEMA, VOCABULARIES, Server, make_ranker, offline

from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.random_samples import random_sample, write_prepared
from serving.export import export_ranker
from serving.request import request_from_sample


@pytest.fixture(scope="session")
def samples():
    random = np.random.default_rng(0)
    sizes = [(16, 12), (3, 5), (16, 1), (9, 30)]
    return [random_sample(SCHEMA, VOCABULARIES, random, *size) for size in sizes]


@pytest.fixture(scope="session")
def data(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("prepared") / "data"
    splits = {"train": samples, "validation": [], "test": samples}
    write_prepared(folder, SCHEMA, VOCABULARIES, splits)
    return PreparedData.load(folder)


@pytest.fixture(scope="session")
def models(tmp_path_factory, data):
    """A folder with one version."""
    folder = tmp_path_factory.mktemp("models")
    export_ranker(make_ranker(0), data, folder, OPTIONS)
    return folder


@pytest.fixture(scope="session")
def other_version(tmp_path_factory, data):
    """A version of another model, outside the server's folder."""
    return export_ranker(make_ranker(1), data, tmp_path_factory.mktemp("new"), OPTIONS)


@pytest.fixture(scope="session")
def requests(samples):
    return [request_from_sample(s, SCHEMA, VOCABULARIES) for s in samples]


@pytest.fixture(scope="session")
def expected(models, requests):
    """Probabilities by the SavedModel in this process, in the candidates' order."""
    return offline(models, requests)


@pytest.fixture(scope="session")
def server(models):
    server = Server(models)
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.stop()
