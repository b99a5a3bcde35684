"""A DCN-V2 ranking model as a user of tensorflow-recommenders would build it.

Everything of the model is theirs: `tfrs.Model`, `tfrs.tasks.Ranking`, three
`tfrs.layers.dcn.Cross`, Keras' embeddings and its Adam over all of them. A history is
the mean of its behaviors' embeddings. tensorflow-recommenders works with Keras 2 only,
so this module needs a process in which nothing has touched `tf.keras` before, and
nothing but `benchmarks.tfrs` imports it.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` width.

Reference:
    DCN V2: Improved Deep & Cross Network (WWW 2021).
"""

import os
from collections.abc import Iterable, Mapping

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_recommenders as tfrs  # noqa: E402

from ctr_tf.schema import PADDING_ID, Feature, Schema  # noqa: E402

CROSS_LAYERS = 3
DEEP_UNITS = (64, 32)
_REQUEST = ("user", "context")
_ADAPT_BATCHES = 100


class TFRSPeer(tfrs.Model):
    """Cross layers, then a deep network, on one candidate's features at a time.

    Args:
        schema: of the data.
        table_sizes: embedding table name → rows.
        embedding_dim: width of the rows of a feature that does not set its own.
    """

    def __init__(
        self, schema: Schema, table_sizes: Mapping[str, int], embedding_dim: int = 8
    ):
        super().__init__()
        self._groups = schema.vector_groups()
        self.tables = {
            feature.table: tf.keras.layers.Embedding(
                table_sizes[feature.table], feature.embedding_dim or embedding_dim
            )
            for features in self._groups.values()
            for feature in features
            if feature.is_embedded
        }
        self.scales = {
            f"{group}_{feature.name}": tf.keras.layers.Normalization(axis=None)
            for group, features in self._groups.items()
            for feature in features
            if not feature.is_embedded
        }
        self.cross = [tfrs.layers.dcn.Cross() for _ in range(CROSS_LAYERS)]
        layers = [tf.keras.layers.Dense(units, "relu") for units in DEEP_UNITS]
        self.deep = tf.keras.Sequential([*layers, tf.keras.layers.Dense(1)])
        self.task = tfrs.tasks.Ranking(
            tf.keras.losses.BinaryCrossentropy(from_logits=True),
            metrics=[tf.keras.metrics.AUC(from_logits=True, name="auc")],
        )

    def adapt(self, batches: tf.data.Dataset) -> None:
        """Measures the numeric features; padding does not count.

        Args:
            batches: of the training samples.
        """
        if not self.scales:
            return
        values = {key: [] for key in self.scales}
        for inputs, *_ in batches.take(_ADAPT_BATCHES).as_numpy_iterator():
            real = {
                "behavior": inputs["behavior_time"] > 0,
                "candidate": inputs["candidate_mask"],
            }
            for key, of_key in values.items():
                mask = real.get(key.split("_")[0], ...)
                found = inputs[key][mask].ravel()
                of_key.append(found[~np.isnan(found)])
        for key, scale in self.scales.items():
            scale.adapt(np.concatenate(values[key]))

    def call(self, inputs, training=False):
        """Logits `[B, C]`."""
        request_BD = [self._mean(g, f, inputs) for g, f in self._features(_REQUEST)]
        history_BD = [
            self._mean(g, f, inputs) for g, f in self._features(("behavior",))
        ]
        candidate_BCD = [
            self._rows(g, f, inputs) for g, f in self._features(("candidate",))
        ]
        count = tf.shape(inputs["candidate_mask"])[1]
        shared_BD = tf.concat([*request_BD, *history_BD], -1)
        shared_BCD = tf.repeat(shared_BD[:, None], count, axis=1)
        first = x = tf.concat([shared_BCD, *candidate_BCD], -1)
        for layer in self.cross:
            x = layer(first, x)
        return tf.squeeze(self.deep(x), -1)

    def compute_loss(self, inputs, training=False):
        """Mean binary cross-entropy over the batch's candidates."""
        features, labels, weights = inputs
        real = weights > 0
        logits = tf.boolean_mask(self(features, training=training), real)
        labels = tf.boolean_mask(labels, real)
        return self.task(labels, logits[:, None])

    def _features(self, groups: Iterable[str]) -> list[tuple[str, Feature]]:
        return [(group, f) for group in groups for f in self._groups[group]]

    def _rows(self, group: str, feature: Feature, inputs):
        """`[…, D]`, a row for each value, or behavior's or candidate's list of them."""
        key = f"{group}_{feature.name}"
        values = inputs[key]
        if feature.is_embedded:
            rows, real = self.tables[feature.table](values), values != PADDING_ID
        else:
            real = ~tf.math.is_nan(values)
            rows = self.scales[key](tf.where(real, values, 0.0))[..., None]
            rows = tf.where(real[..., None], rows, 0.0)  # missing: the mean
        if feature.length == 1 or group not in ("behavior", "candidate"):
            return rows
        weight = tf.cast(real, tf.float32)[..., None]
        return tf.math.divide_no_nan(
            tf.reduce_sum(rows * weight, -2), tf.reduce_sum(weight, -2)
        )

    def _mean(self, group: str, feature: Feature, inputs):
        """`[B, D]`, the mean over a list's values or a history's behaviors."""
        values = inputs[f"{group}_{feature.name}"]
        real = values != PADDING_ID if feature.is_embedded else values == values
        if group == "behavior":
            real = inputs["behavior_time"] > 0
        weight = tf.cast(real, tf.float32)[..., None]
        rows = self._rows(group, feature, inputs)
        return tf.math.divide_no_nan(
            tf.reduce_sum(rows * weight, 1), tf.reduce_sum(weight, 1)
        )

    def parameters(self) -> dict[str, int]:
        """Trained weights of the `network` and of the `tables`."""
        tables = sum(table.count_params() for table in self.tables.values())
        every = sum(int(tf.size(v)) for v in self.trainable_variables)
        return {"network": every - tables, "tables": tables}
