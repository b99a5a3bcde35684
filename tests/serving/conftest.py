"""One small export for all tests in here, which leave it as it is."""

import numpy as np
import pytest
from small_export import (
    HISTORIES,
    OPTIONS,
    SCHEMA,
    SLATES,
    VOCABULARIES,
    make_ranker,
)

from ctr_tf.data.prepared import PreparedData
from ctr_tf.synthetic.random_samples import random_sample, write_prepared
from serving.export import export_ranker


@pytest.fixture(scope="session")
def samples():
    random = np.random.default_rng(0)
    return [
        random_sample(SCHEMA, VOCABULARIES, random, behaviors, candidates)
        for behaviors, candidates in zip(HISTORIES, SLATES, strict=True)
    ]


@pytest.fixture(scope="session")
def data(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("prepared") / "data"
    splits = {"train": samples, "validation": [], "test": samples}
    write_prepared(folder, SCHEMA, VOCABULARIES, splits)
    return PreparedData.load(folder)


@pytest.fixture(scope="session")
def ranker():
    return make_ranker(0)


@pytest.fixture(scope="session")
def small_export(tmp_path_factory, ranker, data):
    """Version 1, alone in its folder."""
    return export_ranker(ranker, data, tmp_path_factory.mktemp("export"), OPTIONS)
