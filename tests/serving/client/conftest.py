"""One development server for all tests in here."""

import numpy as np
import pytest
from running_server import Server, offline
from small_export import SCHEMA, VOCABULARIES, make_ranker

from ctr_tf.synthetic.random_samples import random_sample
from serving.export import ExportOptions, export_ranker
from serving.request import request_from_sample


@pytest.fixture(scope="session")
def models(small_export):
    """A folder with one version."""
    return small_export.parent


@pytest.fixture(scope="session")
def other_version(tmp_path_factory, data):
    """A version of another model, outside the server's folder."""
    options = ExportOptions(slate_sizes=(40,), batch_sizes=(1,))
    return export_ranker(make_ranker(1), data, tmp_path_factory.mktemp("new"), options)


@pytest.fixture(scope="session")
def requests():
    random = np.random.default_rng(0)
    sizes = [(16, 12), (3, 5), (16, 1), (9, 30)]
    samples = [random_sample(SCHEMA, VOCABULARIES, random, *size) for size in sizes]
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
