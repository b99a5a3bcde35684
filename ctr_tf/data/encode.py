"""From raw values to stored ones to model inputs, in the graph.

Two steps, each the same for training and for serving:

* *raw → stored* (`RequestEncoder`): what the Beam job does with `Vocabularies.encode`.
  Categorical values become ids, numbers stay as they are.
* *stored → input* (`to_input`): transforms and buckets, when a batch is made.
"""

import math
from pathlib import Path

import tensorflow as tf

from ctr_tf import time_ops
from ctr_tf.data.missing import MISSING
from ctr_tf.schema import FIRST_ID, OUT_OF_VOCABULARY_ID, Feature, Schema

_MAX_FLOAT_AS_INT64 = float(2**62)


def to_input(feature: Feature, stored: tf.Tensor) -> tf.Tensor:
    """Turns stored values into what the model takes, value by value.

    Args:
        feature: whose values they are.
        stored: any shape, of the feature's `stored_dtype`.

    Returns:
        Categorical: the ids. Bucketized: int64 ids, 1 where the value is negative, not
        a number or beyond `num_values`, else 2 + bucket. Numeric: float32, transformed;
        0 where the value is not finite.
    """
    if feature.kind == "categorical":
        return stored
    if feature.kind == "bucketized":
        return _bucketize(feature, stored)
    value = tf.cast(stored, tf.float32)
    value = tf.where(tf.math.is_finite(value), value, 0.0)
    if feature.transform == "log1p":
        value = tf.math.log1p(tf.maximum(value, 0.0))
    return value


def _bucketize(feature: Feature, stored: tf.Tensor) -> tf.Tensor:
    known = stored >= 0  # False for NaN
    if feature.boundaries is not None:
        bucket = _count_boundaries(feature.boundaries, stored)
    else:
        if stored.dtype.is_floating:
            # NaN has no integer; `known` leaves it out below.
            stored = tf.clip_by_value(
                tf.where(known, stored, 0.0), 0.0, _MAX_FLOAT_AS_INT64
            )
        bucket = tf.cast(stored, tf.int64)
        if feature.log2:
            bucket = time_ops.log2_bucket(bucket)
        else:
            known &= bucket < feature.num_values
    return tf.where(known, bucket + FIRST_ID, OUT_OF_VOCABULARY_ID)


def _count_boundaries(boundaries: tuple[float, ...], stored: tf.Tensor) -> tf.Tensor:
    if stored.dtype == tf.int64:  # value >= 1.5 is value >= 2, without a float
        boundaries = [math.ceil(boundary) for boundary in boundaries]
    sorted_boundaries = tf.constant(boundaries, stored.dtype)
    flat = tf.searchsorted(
        sorted_boundaries, tf.reshape(stored, [-1]), side="right", out_type=tf.int64
    )
    return tf.reshape(flat, tf.shape(stored))


class RequestEncoder(tf.Module):
    """Encodes raw values as the Beam job does; its vocabularies travel as assets.

    A missing value (`MISSING`) becomes what a null of the log becomes: id 1 for a
    categorical feature, 0 for a numeric one, -1 for a bucketized one.

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
            if feature.vocabulary and key not in self.tables:
                self.tables[key] = _vocabulary_table(feature, Path(folder))

    def to_stored(self, feature: Feature, raw: tf.Tensor) -> tf.Tensor:
        """Turns raw values into stored ones, value by value.

        Args:
            feature: whose values they are.
            raw: any shape, of the feature's dtype.

        Returns:
            Of the feature's `stored_dtype`.
        """
        if feature.hash_buckets is not None:
            words = raw if raw.dtype == tf.string else tf.strings.as_string(raw)
            bucket = tf.strings.to_hash_bucket_fast(words, feature.hash_buckets)
            missing = tf.equal(raw, tf.constant(MISSING[feature.dtype], raw.dtype))
            return tf.where(missing, OUT_OF_VOCABULARY_ID, bucket + FIRST_ID)
        if feature.kind == "categorical":
            return self.tables[_table_key(feature)].lookup(raw)
        if feature.kind == "numeric" and feature.dtype == "int64":
            return tf.where(raw == MISSING["int64"], tf.zeros_like(raw), raw)
        return raw


def _table_key(feature: Feature) -> str:
    return f"{feature.vocabulary}_{feature.dtype}"


def _vocabulary_table(feature: Feature, folder: Path) -> tf.lookup.StaticHashTable:
    path = folder / f"{feature.vocabulary}.txt"
    if not path.is_file():
        raise FileNotFoundError(
            f"Vocabulary '{feature.vocabulary}' of feature '{feature.name}' is "
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
