"""A model that reads titles alone, whose scores can be told by hand, and its export."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from ctr_tf.data.prepared import PreparedData
from ctr_tf.layers.state_spec import StateSpec
from ctr_tf.models.din import DINConfig
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import Schema
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from serving.export import ExportOptions, export_ranker

SCHEMA = Schema.from_yaml("""
name: shop
history_length: 8
num_chunks: 2
counters: []
features:
  - {name: item_id, role: item, kind: categorical, dtype: int64}
  - {name: title, role: item, kind: text, length: 5}
""")
ITEMS = 20
VOCABULARIES = random_vocabularies(SCHEMA, ITEMS)


class TitleReader(Ranker):
    """The summed words of the history, times those of the candidate."""

    config_class = DINConfig
    reads_texts = True

    def build_parts(self):
        self.words = self.add_weight(shape=(103, 4), initializer="normal", name="words")

    def vector(self, texts):
        tokens = ops.cast(texts, "int32")
        known = ops.cast(tokens != 0, "float32")[..., None]
        return ops.sum(ops.take(self.words, tokens, axis=0) * known, axis=-2)

    def state_spec(self):
        return {**self.request_spec(), "titles": StateSpec((4,))}

    def encode(self, user, behaviors, context, training=False):
        titles = ops.sum(self.vector(behaviors["texts"]["title"]), axis=1)
        return {**self.request_state(user, context), "titles": titles}

    def score(self, state, candidates, training=False):
        titles = self.vector(candidates["texts"]["title"])
        return ops.sum(state["titles"][:, None] * titles, axis=-1, keepdims=True)


def make_title_reader():
    """Untrained, with words far from each other."""
    keras.utils.set_random_seed(0)
    ranker = TitleReader(SCHEMA, VOCABULARIES.table_sizes(SCHEMA), DINConfig())
    ranker.build()
    ranker.words.assign(np.random.default_rng(0).normal(size=(103, 4)) / 3)
    return ranker


def export_title_reader(ranker, folder):
    """Writes data and an export to a folder; returns that of the version."""
    folder = Path(folder)
    random = np.random.default_rng(0)
    samples = [random_sample(SCHEMA, VOCABULARIES, random, n, 4) for n in (8, 0, 3, 5)]
    write_prepared(folder / "data", SCHEMA, VOCABULARIES, {"test": samples})
    options = ExportOptions((4, 8), (4, 6), (1,), samples=4)
    return export_ranker(
        ranker, PreparedData.load(folder / "data"), folder / "export", options
    )
