"""From encoded features to vectors: one table a vocabulary, one width by default.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` width.
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterable
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.number_statistics import NumberStatistics, measure
from ctr_tf.schema import FIRST_ID, PADDING_ID, Feature, Schema
from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.shard import Shard
from ctr_tf.tensors import Shape, Tensor

_log = logging.getLogger(__name__)
_NO_LIMIT = 2**31 - 1
PROGRESS = "training_progress"  # of inputs; see `Ranker`
ITEM_VECTORS = "item_vectors"  # of inputs: `text_vectors` of candidates
_MASKS = {"behavior": "behavior_time", "candidate": "candidate_mask"}


@dataclasses.dataclass(frozen=True)
class ExtraTable:
    """A table that a model has beside a feature's own, read by the same ids.

    Args:
        name: of the table, and of its rows in the group.
        key: of the input, `behavior_<feature>` or `candidate_<feature>`.
        width: of a row.
    """

    name: str
    key: str
    width: int


@keras.saving.register_keras_serializable(package="ctr_tf")
class FeatureEmbedding(keras.layers.Layer):
    """Looks up every embedded feature and concatenates the groups' vectors.

    Item features come first in behaviors and candidates alike, from the same tables,
    so that the first `item_dim` channels of both mean the same. Of numbers among them
    the scale differs: each group has statistics of its own.

    Numeric features are clipped and standardized, ``(clip(x) - mean) / deviation``, by
    the statistics that `adapt` measures (`ctr_tf.layers.number_statistics`): a
    counter's logarithm is a hundred times as large as a new table's rows, and a network
    that sees it so learns from nothing else at first. A missing number is the mean. The
    statistics are weights that are not trained, saved and exported with the model.

    So is the largest bucket that `adapt` sees of each feature with ordered buckets: a
    later value beyond it takes its row. An item's age, say, outgrows whatever the
    training saw, and the row of an age never seen means nothing.

    Args:
        schema: of the data.
        table_sizes: table name → rows.
        embedding_dim: width of the rows of a feature that does not set its own.
        extra_tables: which tables to look up beside the features' own; their rows do
            not enter the groups' embeddings.
        features: whether features enter the groups at all; texts, times and masks do.

    Raises:
        UserError: if features that share a table differ in width, or a table's size
            is not given, or an extra table has the name of another.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import FeatureEmbedding
        >>> from ctr_tf.schema import Categorical, Schema
        >>> schema = Schema("shop", (Categorical("item_id", "item"),))
        >>> sizes = {f.table: 100 for f in schema.features if f.is_embedded}
        >>> layer = FeatureEmbedding(schema, sizes, embedding_dim=4)
        >>> rows = layer.lookup({"behavior_item_id": np.array([[0, 7, 8]])})
        >>> tuple(rows["behavior_item_id"].shape), layer.item_dim
        ((1, 3, 4), 4)
    """

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        embedding_dim: int = 8,
        extra_tables: Iterable[ExtraTable] = (),
        features: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.schema = schema
        self.features = features
        self.groups = {
            group: tuple(of_group) if features else ()
            for group, of_group in schema.vector_groups().items()
        }
        self.table_sizes = dict(table_sizes)
        self.embedding_dim = embedding_dim
        self.extra_tables = tuple(extra_tables)
        self.tables: dict[str, EmbeddingTable] = {}
        self._features = {
            f"{group}_{feature.name}": feature
            for group, of_group in self.groups.items()
            for feature in of_group
        }
        for feature in schema.features if features else ():
            if feature.is_embedded and feature.role != "position":
                self._add_feature(feature)
        for extra in self.extra_tables:
            if extra.name in self.tables:
                raise UserError(
                    "An extra table needs a name of its own. "
                    f"Received: name='{extra.name}'"
                )
            rows = self.table_sizes[self.embedded_keys()[extra.key].table]
            self._add_table(extra.name, rows, extra.width)

    def _add_table(self, name: str, rows: int, width: int) -> None:
        self.tables[name] = EmbeddingTable(
            rows, width, dtype=self.dtype_policy, name=f"table_{name}"
        )

    def _add_feature(self, feature: Feature) -> None:
        width = feature.embedding_dim or self.embedding_dim
        table = self.tables.get(feature.table)
        if table is None:
            if feature.table not in self.table_sizes:
                raise UserError(
                    f"`table_sizes` lacks table '{feature.table}' of feature "
                    f"'{feature.name}'. Received: {sorted(self.table_sizes)}"
                )
            self._add_table(feature.table, self.table_sizes[feature.table], width)
        elif table.width != width:
            raise UserError(
                f"Features that share table '{feature.table}' must agree on "
                f"`embedding_dim`. Received: {table.width} and {width}"
            )

    def share(self, other: "FeatureEmbedding") -> None:
        """Takes another's tables of the features, before its own are built.

        Args:
            other: of the same schema.

        Raises:
            UserError: names a table whose rows differ in width.
        """
        extras = {extra.name for extra in self.extra_tables}
        for name in self.tables.keys() - extras:
            own, theirs = self.tables[name].width, other.tables[name].width
            if own != theirs:
                raise UserError(
                    f"Rankers that share table '{name}' must agree on "
                    f"`embedding_dim`. Received: {own} and {theirs}"
                )
            self.tables[name] = other.tables[name]

    def cut(self, shard: Shard) -> None:
        """Decides, before tables are made, which of their rows are here.

        Those that are made already, and shared, stay as they are.
        """
        for table in self.tables.values():
            if not table.built:
                table.cut(shard)

    def build(self, input_shape: Shape | None = None) -> None:
        """Makes the tables and the statistics of numeric features."""
        for table in self.tables.values():
            if not table.built:
                table.build()
        limit = keras.initializers.Constant
        for name, initializer in (
            ("low", limit(-np.inf)),
            ("high", limit(np.inf)),
            ("mean", "zeros"),
            ("deviation", "ones"),
        ):
            weight = self.add_weight(
                name=name,
                shape=(len(self.numeric_keys()),),
                initializer=initializer,
                trainable=False,
                dtype="float32",
                autocast=False,
            )
            setattr(self, name, weight)
        self.largest_id = self.add_weight(
            name="largest_id",
            shape=(len(self.ordered_keys()),),
            initializer=keras.initializers.Constant(_NO_LIMIT),
            trainable=False,
            dtype="int64",
        )
        self.built = True

    def adapt(self, batches: Iterable[dict]) -> None:
        """Measures the numeric features, and the largest buckets of ordered ones.

        Args:
            batches: inputs as `ctr_tf.data` makes them; padding does not count.
        """
        keys, ordered = self.numeric_keys(), self.ordered_keys()
        found: dict[str, list[np.ndarray]] = {key: [] for key in keys}
        largest = np.zeros(len(ordered), np.int64)
        for inputs in batches:
            wanted = {*keys, *ordered, *_MASKS.values()}
            inputs = {k: ops.convert_to_numpy(inputs[k]) for k in wanted}
            for key, group in keys.items():
                values = inputs[key]
                if group in _MASKS:
                    values = values[inputs[_MASKS[group]] > 0]
                found[key].append(values.ravel())
            for index, key in enumerate(ordered):
                largest[index] = max(largest[index], inputs[key].max(initial=0))
        measured = [
            measure(np.concatenate([np.zeros(0), *values])) for values in found.values()
        ]
        for name in ("low", "high", "mean", "deviation"):
            getattr(self, name).assign([getattr(m, name) for m in measured])
        self.largest_id.assign(np.where(largest < FIRST_ID, _NO_LIMIT, largest))
        _warn_of_constants(found, measured)
        _warn_of_outliers(found, measured)

    def width(self, group: str) -> int:
        """Channels of a group: `"user"`, `"context"`, `"behavior"`, `"candidate"`."""
        # A group without features is one channel of zeros: products of width 0 make
        # oneDNN's kernels abort.
        return sum(self.widths(group)) or 1

    def widths(self, group: str) -> tuple[int, ...]:
        """Channels of each feature of a group, in the order of the group's vector."""
        return tuple(self._feature_width(f) for f in self.groups[group])

    @property
    def item_dim(self) -> int:
        """Leading channels that behaviors and candidates have in common."""
        return sum(self._feature_width(f) for f in self.schema.of("item"))

    @property
    def shared_dim(self) -> int:
        """Width of `shared`."""
        items = self.schema.of("item")
        return sum(self._feature_width(f) for f in items if f.is_embedded)

    def shared(self, vectors: Tensor) -> Tensor:
        """Of behaviors or candidates, what their common tables say.

        Numbers are left out: beside a table's rows they are large, and what measures
        angles would see little else.

        Args:
            vectors: `[..., width]`, the `"embedding"` of either group.

        Returns:
            `[..., shared_dim]`, the rows of the items' embedded features.
        """
        rows, start = [], 0
        for feature in self.schema.of("item"):
            stop = start + self._feature_width(feature)
            if feature.is_embedded:
                rows.append(vectors[..., start:stop])
            start = stop
        return ops.concatenate(rows, axis=-1)

    def _feature_width(self, feature: Feature) -> int:
        if feature.is_embedded:
            return self.tables[feature.table].width
        return 0 if feature.is_text else feature.length

    def lookup(self, inputs: dict) -> dict:
        """Gathers the rows of everything that `inputs` has the ids of.

        Args:
            inputs: encoded features, `{key: ids}` among others.

        Returns:
            `{name: [..., width]}`, names as in `sources`, in the tables' variable
            dtype.
        """
        if not self.built:
            self.build()
        lookups = self.lookups(inputs)
        return {name: self.tables[table](ids) for name, (table, ids) in lookups.items()}

    def lookups(self, inputs: dict) -> dict[str, tuple[str, Any]]:
        """Name → its table, and the ids of the rows that it takes there.

        Args:
            inputs: encoded features, `{key: ids}` among others.
        """
        return {
            name: (table, self.row_ids(inputs, key))
            for name, (key, table) in self.sources().items()
            if key in inputs
        }

    def sources(self) -> dict[str, tuple[str, str]]:
        """Name → input key and table: of features, named by their key, and extras."""
        features = self.embedded_keys().items()
        extras = self.extra_tables
        return {
            **{key: (key, feature.table) for key, feature in features},
            **{extra.name: (extra.key, extra.name) for extra in extras},
        }

    def row_ids(self, inputs: dict, key: str) -> Tensor:
        """Ids of the rows that an embedded feature takes, of the shape of its input."""
        ordered = self.ordered_keys()
        if key not in ordered:
            return inputs[key]
        limit = self.largest_id[ordered.index(key)]
        return ops.minimum(inputs[key], ops.cast(limit, inputs[key].dtype))

    def embedded_keys(self) -> dict[str, Feature]:
        """Input key → feature, for all that go through a table."""
        return {
            key: feature
            for key, feature in self._features.items()
            if feature.is_embedded
        }

    def ordered_keys(self) -> list[str]:
        """Keys of embedded features whose buckets have an order and an open end."""
        return [
            key for key, feature in self.embedded_keys().items() if feature.is_ordered
        ]

    def numeric_keys(self) -> dict[str, str]:
        """Input key → group, for all that enter the network as numbers."""
        return {
            f"{group}_{feature.name}": group
            for group, features in self.groups.items()
            for feature in features
            if not feature.is_embedded
        }

    def assemble(self, inputs: dict, rows: dict) -> dict:
        """Concatenates each group's vectors; a list of values becomes their mean.

        Behaviors and candidates also get the ids of their embedded features, the rows
        of their extra tables, and what `inputs` has of their texts; candidates what a
        model has read of these, where `inputs` has that; behaviors which of them are
        positive, where the schema says it.

        Args:
            inputs: encoded features; a group whose keys are absent is left out.
            rows: from `lookup`, float.

        Returns:
            The groups that `Ranker.encode` and `Ranker.score` take.
        """
        groups = {}
        if "request_time" in inputs:
            user = self._vectors("user", inputs, rows)
            groups["user"] = {"embedding": user}
            groups["context"] = {
                "embedding": self._vectors("context", inputs, rows),
                "time": inputs["request_time"],
            }
            if PROGRESS in inputs:
                groups["context"]["progress"] = inputs[PROGRESS]
        if "behavior_time" in inputs:
            groups["behaviors"] = {
                "embedding": self._vectors("behavior", inputs, rows),
                "time": inputs["behavior_time"],
                "mask": inputs["behavior_time"] > 0,
                "chunk": inputs["behavior_chunk"],
                **self._ids_and_extras("behavior", inputs, rows),
                **self._positive(inputs),
            }
        if "candidate_mask" in inputs:
            groups["candidates"] = {
                "embedding": self._vectors("candidate", inputs, rows),
                "mask": inputs["candidate_mask"],
                **self._ids_and_extras("candidate", inputs, rows),
            }
            if ITEM_VECTORS in inputs:
                groups["candidates"]["text_vectors"] = inputs[ITEM_VECTORS]
        return groups

    def _ids_and_extras(self, group: str, inputs: dict, rows: dict) -> dict:
        prefix = f"{group}_"
        ids = {
            key.removeprefix(prefix): inputs[key]
            for key in self.embedded_keys()
            if key.startswith(prefix)
        }
        extras = {
            extra.name: ops.cast(rows[extra.name], self.compute_dtype)
            for extra in self.extra_tables
            if extra.key.startswith(prefix)
        }
        texts = {f.name: inputs[f"{prefix}{f.name}"] for f in self.schema.texts}
        return {"ids": ids, "texts": texts, **extras}

    def _positive(self, inputs: dict) -> dict:
        rule = self.schema.positive
        if rule is None:
            return {}
        mask_BN = rule.mask(inputs[f"behavior_{rule.feature}"])
        return {"positive": ops.logical_and(mask_BN, inputs["behavior_time"] > 0)}

    def _vectors(self, group: str, inputs: dict, rows: dict) -> Tensor:
        listed = group in ("user", "context")
        vectors = []
        for is_embedded, run in itertools.groupby(
            self.groups[group], lambda feature: feature.is_embedded
        ):
            keys = [f"{group}_{feature.name}" for feature in run]
            if not is_embedded:
                vectors.append(self._numbers(keys, inputs, listed))
                continue
            for key in keys:
                vector = ops.cast(rows[key], self.compute_dtype)
                if listed or self._features[key].length > 1:
                    vector = _masked_mean(vector, inputs[key] != PADDING_ID)
                vectors.append(vector)
        if vectors:
            return ops.concatenate(vectors, axis=-1)
        places = ops.shape(inputs[_MASKS.get(group, "request_time")])
        return ops.zeros((*places, 1), self.compute_dtype)

    def _numbers(self, keys: list[str], inputs: dict, listed: bool) -> Tensor:
        """Numeric features that follow one another, standardized, side by side."""
        known = list(self.numeric_keys())
        lengths = [self._features[key].length for key in keys]
        index = np.repeat([known.index(key) for key in keys], lengths)
        numbers = [ops.cast(inputs[key], "float32") for key in keys]
        numbers = [
            value if listed or length > 1 else value[..., None]
            for value, length in zip(numbers, lengths, strict=True)
        ]
        numbers = ops.concatenate(numbers, axis=-1)
        mean = ops.take(self.mean, index)
        numbers = ops.where(ops.isnan(numbers), mean, numbers)
        low, high = (ops.take(bound, index) for bound in (self.low, self.high))
        numbers = ops.minimum(ops.maximum(numbers, low), high)
        numbers = (numbers - mean) / ops.take(self.deviation, index)
        return ops.cast(numbers, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Config with the schema as YAML."""
        return {
            **super().get_config(),
            "schema": self.schema.to_yaml(),
            "table_sizes": self.table_sizes,
            "embedding_dim": self.embedding_dim,
            "extra_tables": [dataclasses.asdict(extra) for extra in self.extra_tables],
            "features": self.features,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Inverse of `get_config`."""
        schema = Schema.from_yaml(config["schema"])
        extras = [ExtraTable(**extra) for extra in config["extra_tables"]]
        return cls(**{**config, "schema": schema, "extra_tables": extras})


def _masked_mean(vectors_BLD, mask_BL):
    mask_BL1 = ops.cast(mask_BL, vectors_BLD.dtype)[..., None]
    total_BD = ops.sum(vectors_BLD * mask_BL1, axis=-2)
    return total_BD / ops.maximum(ops.sum(mask_BL1, axis=-2), 1)


def _warn_of_constants(
    found: dict[str, list[np.ndarray]], measured: list[NumberStatistics]
) -> None:
    """Clipped to the one value that there is, they are 0 whatever a request gives."""
    constant = [
        f"'{key}' ({statistics.mean:.6g})"
        for key, statistics in zip(found, measured, strict=True)
        if statistics.is_constant
    ]
    if constant:
        _log.warning(
            "left out of the network, since no weight of theirs could be learned, are "
            "features of one value: %s",
            ", ".join(constant),
        )


def _warn_of_outliers(
    found: dict[str, list[np.ndarray]], measured: list[NumberStatistics]
) -> None:
    for key, statistics in zip(found, measured, strict=True):
        if statistics.outliers:
            values = np.concatenate(found[key])
            _log.warning(
                "feature '%s': %d of %s values are outliers and count as %.6g or %.6g; "
                "the farthest are %.6g and %.6g",
                key, statistics.outliers, f"{len(values):,}", statistics.low,
                statistics.high, np.nanmin(values), np.nanmax(values),
            )  # fmt: skip
