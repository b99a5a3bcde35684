"""Prepared samples in the layout that fuxictr's models of long histories read.

A folder, all of it for `model_zoo.LongCTR` of fuxictr:

* `train.parquet`, `valid.parquet`, `test.parquet`: a row a candidate: `label`,
  `user_index`, `item_index`, `seq_len`, and the columns of user, context and candidate.
  Their loader takes whole numbers only here, so numbers are in units of 2^-16.
* `user_info.parquet`: a row a request, that `user_index` counts: `full_item_seq`, its
  history as rows of the next file, oldest first.
* `item_info.parquet`: every combination of features that a behavior or a candidate's
  item has, once; row 0 is padding. What only a behavior has, such as its action, is
  padding in a candidate's row.
* `feature_map.json`: what the columns are.

Columns are named as our inputs are. Ids are those of our tables' rows, numbers are
standardized as `FeatureEmbedding` does it, so both models see the same.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `F` columns.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.layers.feature_embedding import FeatureEmbedding
from ctr_tf.schema import Feature

SPLITS = {"train": "train", "validation": "valid", "test": "test"}
UNIT = 2.0**-16  # of a row's numbers


class Exporter:
    """Writes a data set as fuxictr reads it.

    Args:
        data: the prepared data set.
        config: how its histories are cut.
        embedding_dim: width of the rows of a feature that does not set its own.
    """

    def __init__(self, data: PreparedData, config: DataConfig, embedding_dim: int):
        self._data, self._config = data, config
        self._schema = schema = data.schema.without_texts()
        for feature in (*schema.behavior, *schema.candidate):
            if feature.length > 1:
                raise UserError(
                    "fuxictr's DIN takes one value of each feature of an item. "
                    f"Received: '{feature.name}' with length={feature.length}"
                )
        self._sizes = data.vocabularies.table_sizes(schema)
        self._embedding_dim = embedding_dim
        self._embedding = FeatureEmbedding(schema, self._sizes, embedding_dim)
        self._embedding.build()
        self._embedding.adapt(inputs for inputs, *_ in self._batches("train"))
        self._item_columns = [
            *(f"candidate_{feature.name}" for feature in schema.of("item")),
            *(f"behavior_{feature.name}" for feature in schema.of("behavior")),
        ]
        self._item_rows: dict[bytes, int] = {}
        self._histories: list[np.ndarray] = []

    def write(self, folder: Path) -> dict[str, int]:
        """Writes all files into a new folder.

        Returns:
            Candidates of each split.
        """
        folder.mkdir(parents=True)
        padding_F = np.zeros((1, len(self._item_columns)))
        self._item_indices(padding_F)  # the first item, and so row 0
        candidates = {}
        for split, name in SPLITS.items():
            rows = [self._rows(*batch) for batch in self._batches(split)]
            columns = {
                key: _column(np.concatenate([part[key] for part in rows]))
                for key in rows[0]
            }
            pq.write_table(pa.table(columns), folder / f"{name}.parquet")
            candidates[split] = len(columns["label"])
        histories = pa.table({"full_item_seq": self._histories})
        pq.write_table(histories, folder / "user_info.parquet")
        items = np.frombuffer(b"".join(self._item_rows)).reshape(-1, padding_F.size)
        columns = {"item_index": np.arange(len(items))}
        for key, values in zip(self._item_columns, items.T, strict=True):
            numeric = key in self._embedding.numeric_keys()
            columns[key] = values.astype("float32" if numeric else "int64")
        pq.write_table(pa.table(columns), folder / "item_info.parquet")
        text = json.dumps(self._feature_map(folder.name), indent=1)
        (folder / "feature_map.json").write_text(text + "\n", "utf-8")
        return candidates

    def _batches(self, split: str):
        chunks = self._schema.num_chunks
        return dataset(
            self._data, split, self._config, num_chunks=chunks, training=False
        ).as_numpy_iterator()

    def _rows(self, inputs: Mapping, labels, weights) -> dict[str, np.ndarray]:
        """The columns of a batch's candidates; remembers items and histories."""
        real_BC, visible_BN = weights > 0, inputs["behavior_time"] > 0
        sizes_B = real_BC.sum(1)
        schema = self._schema
        history_BNF = np.stack(
            [
                np.where(
                    visible_BN, self._values(inputs, f"behavior_{feature.name}"), 0
                )
                for feature in schema.behavior
            ],
            axis=-1,
        )
        target_BCF = np.zeros((*real_BC.shape, len(self._item_columns)))
        for index, feature in enumerate(schema.of("item")):
            target_BCF[..., index] = self._values(inputs, f"candidate_{feature.name}")
        history_BN = self._item_indices(history_BNF)
        first = len(self._histories)
        for row_N, visible_N in zip(history_BN, visible_BN, strict=True):
            # fuxictr cannot take a batch whose histories are all empty.
            self._histories.append(row_N[visible_N] if visible_N.any() else row_N[:1])
        lengths_B = [len(history) for history in self._histories[first:]]
        rows = {
            "label": labels[..., 0][real_BC].astype("int64"),
            "user_index": np.repeat(first + np.arange(len(sizes_B)), sizes_B),
            "item_index": self._item_indices(target_BCF[real_BC]),
            "seq_len": np.repeat(lengths_B, sizes_B),
        }
        for group, features in schema.groups().items():
            for feature in features:
                key = f"{group}_{feature.name}"
                if not _is_of_items(group, feature):
                    values = self._values(inputs, key)
                    of_candidate = group == "candidate"
                    rows |= _row_columns(
                        key,
                        feature,
                        values[real_BC] if of_candidate else values.repeat(sizes_B, 0),
                    )
        return rows

    def _values(self, inputs: Mapping, key: str) -> np.ndarray:
        """Rows of the table, or standardized numbers."""
        embedding = self._embedding
        if key in embedding.ordered_keys():
            return keras.ops.convert_to_numpy(embedding.row_ids(inputs, key))
        numeric = list(embedding.numeric_keys())
        if key not in numeric:
            return inputs[key]
        low, high, mean, deviation = (
            keras.ops.convert_to_numpy(weight)[numeric.index(key)]
            for weight in (
                *(embedding.low, embedding.high, embedding.mean, embedding.deviation),
            )
        )
        values = np.where(np.isnan(inputs[key]), mean, inputs[key])
        return (np.clip(values, low, high) - mean) / deviation

    def _item_indices(self, items: np.ndarray) -> np.ndarray:
        """`[..., F]` to `[...]`, places in `item_info`; new items are added."""
        width = items.shape[-1]
        unique, inverse = np.unique(
            items.reshape(-1, width).astype(np.float64), axis=0, return_inverse=True
        )
        known = self._item_rows
        places = [known.setdefault(item.tobytes(), len(known)) for item in unique]
        return np.array(places)[inverse].reshape(items.shape[:-1])

    def _feature_map(self, name: str) -> dict:
        features, first_of = {}, {}
        for key in ("user_index", "item_index", "seq_len"):
            features[key] = {"source": "", "type": "meta"}
        for group, members in self._schema.groups().items():
            for feature in members:
                if group == "behavior" and feature.role == "item":
                    continue  # the candidate's column serves both
                key = f"{group}_{feature.name}"
                of_items = _is_of_items(group, feature)
                spec = self._spec(feature, "item" if of_items else "request")
                if feature.is_embedded:
                    shared = first_of.setdefault(feature.table, key)
                    spec |= {} if shared == key else {"share_embedding": shared}
                    features[key] = spec
                else:
                    features |= dict.fromkeys(_number_columns(key, feature), spec)
        return {
            "dataset_id": name,
            "labels": ["label"],
            "features": [{key: spec} for key, spec in features.items()],
        }

    def _spec(self, feature: Feature, source: str) -> dict:
        if not feature.is_embedded:
            unit = 1.0 if source == "item" else UNIT
            return {"source": source, "type": "numeric", "unit": unit}
        spec = {
            "source": source,
            "type": "categorical",
            "vocab_size": self._sizes[feature.table],
            "embedding_dim": feature.embedding_dim or self._embedding_dim,
            "padding_idx": 0,
        }
        if feature.length > 1:
            encoder = "layers.MaskedAveragePooling()"
            spec |= {"type": "sequence", "max_len": feature.length}
            spec |= {"feature_encoder": encoder}
        return spec


def _is_of_items(group: str, feature: Feature) -> bool:
    return group == "behavior" or feature.role == "item"


def _number_columns(key: str, feature: Feature) -> list[str]:
    """A column for each of a feature's numbers: fuxictr knows no lists of them."""
    if feature.length == 1:
        return [key]
    return [f"{key}_{index}" for index in range(feature.length)]


def _row_columns(key: str, feature: Feature, values: np.ndarray) -> dict:
    if feature.is_embedded and feature.length > 1:
        return {key: values}
    if not feature.is_embedded:
        values = np.rint(values / UNIT).astype(np.int64)
    columns = values.reshape(len(values), feature.length).T
    return dict(zip(_number_columns(key, feature), columns, strict=True))


def _column(values: np.ndarray):
    return list(values) if values.ndim == 2 else values
