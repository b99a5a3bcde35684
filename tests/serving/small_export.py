"""The small model that the tests of serving share, and how it is exported."""

import keras
import numpy as np
import tensorflow as tf
from helpers import make_schema

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.writing import serialize
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.synthetic.random_samples import random_sample, random_vocabularies
from serving.export import ExportOptions

SCHEMA = make_schema(history_length=16, num_chunks=4)
VOCABULARIES = random_vocabularies(SCHEMA, 30)
HISTORIES = (16, 0, 1, 5, 16, 12)
SLATES = (3, 4, 1, 7, 2, 5)
OPTIONS = ExportOptions(
    history_lengths=(6, 16), slate_sizes=(2, 5, 8, 40), batch_sizes=(1, 2)
)


def make_ranker(seed):
    """Untrained, biases and scores far from zero; other scores for another seed."""
    keras.utils.set_random_seed(seed)
    config = SparseCTRConfig(dim=16, num_heads=2, embedding_dim=4)
    ranker = build_ranker(config, SCHEMA, VOCABULARIES.table_sizes(SCHEMA))
    random = np.random.default_rng(seed)
    for variable in ranker.trainable_variables:
        variable.assign(variable + random.normal(scale=0.2, size=variable.shape))
    ranker.embedding.adapt([many_inputs(ranker, random)])
    return ranker


def many_inputs(ranker, random):
    """A batch that numbers are standardized by, as in training."""
    samples = [random_sample(SCHEMA, VOCABULARIES, random, 16, 5) for _ in range(50)]
    reader = BatchReader(SCHEMA, ranker.num_chunks, 16, with_labels=False)
    (inputs,) = reader.read(tf.constant([serialize(sample) for sample in samples]))
    return inputs
