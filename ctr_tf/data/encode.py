"""From raw values to stored ones to model inputs, in the graph.

Two steps, each the same for training and for serving:

* *raw → stored* (`Feature.to_stored`): what the Beam job does with `Feature.store`.
  Categorical values become ids by `RequestEncoder`, numbers stay as they are.
* *stored → input* (`Feature.to_input`): transforms and buckets, when a batch is made.
"""

from pathlib import Path

import tensorflow as tf

from ctr_tf.schema import FIRST_ID, MISSING, OUT_OF_VOCABULARY_ID, Feature, Schema
from ctr_tf.storage import as_path


class RequestEncoder(tf.Module):
    """The vocabularies in the graph, where they travel as assets.

    Args:
        schema: of the data.
        folder: of the vocabularies, `<name>.txt` each.

    Raises:
        FileNotFoundError: names the vocabulary that is missing.
    """

    def __init__(self, schema: Schema, folder: str | Path):
        super().__init__()
        self.tables: dict[str, tf.lookup.StaticHashTable] = {}
        for feature in schema.features:
            key = _table_key(feature)
            if feature.vocabulary_name and key not in self.tables:
                self.tables[key] = _vocabulary_table(feature, as_path(folder))

    def table(self, feature: Feature) -> tf.lookup.StaticHashTable:
        """The vocabulary of a feature, raw values → ids."""
        return self.tables[_table_key(feature)]


def _table_key(feature: Feature) -> str:
    return f"{feature.vocabulary_name}_{feature.dtype}"


def _vocabulary_table(feature: Feature, folder: Path) -> tf.lookup.StaticHashTable:
    path = folder / f"{feature.vocabulary_name}.txt"
    if not path.is_file():
        raise FileNotFoundError(
            f"Vocabulary '{feature.vocabulary_name}' of feature '{feature.name}' is "
            f"missing: there is no file '{path}'."
        )
    values = path.read_text("utf-8").split("\n")[:-1]
    if "" in values or not values:  # TensorFlow's text files have no empty lines
        keys = tf.constant([MISSING[feature.dtype], *values], feature.dtype)
        ids = tf.range(tf.size(keys, tf.int64)) + OUT_OF_VOCABULARY_ID
        initializer = tf.lookup.KeyValueTensorInitializer(keys, ids)
        return tf.lookup.StaticHashTable(initializer, OUT_OF_VOCABULARY_ID)
    initializer = tf.lookup.TextFileInitializer(
        str(path),
        key_dtype=tf.as_dtype(feature.dtype),
        key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
        value_dtype=tf.int64,
        value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
        value_index_offset=FIRST_ID,
    )
    return tf.lookup.StaticHashTable(initializer, OUT_OF_VOCABULARY_ID)
