"""Writing records: many samples at once by column, or one sample by itself."""

from collections.abc import Mapping

import numpy as np

from ctr_tf.data.example import (
    Packed,
    encode_examples,
    encode_feature,
    pack_bytes,
    pack_float,
    pack_int64,
)
from ctr_tf.data.records import record_spec
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import Schema


class SampleWriter:
    """Many samples, put together key by key; of what a record is, the spec decides.

    Args:
        schema: of the samples.
    """

    def __init__(self, schema: Schema):
        self._spec = record_spec(schema)
        self._features: dict[str, list[bytes]] = {}

    def add(
        self,
        key: str,
        packed: Packed,
        start: np.ndarray | None = None,
        stop: np.ndarray | None = None,
    ) -> None:
        """Adds one key of all samples.

        Args:
            key: of the record.
            packed: a column.
            start: the first row of each sample; every row is a sample where None.
            stop: one past the last row of each sample.

        Raises:
            UserError: if records have no such key, or another dtype there.
        """
        assert key not in self._features, key
        if key not in self._spec:
            raise UserError(unknown_name("record key", key, self._spec))
        if packed.dtype != self._spec[key].dtype:
            raise UserError(
                f"'{key}' must be {self._spec[key].dtype}. Received: {packed.dtype}"
            )
        self._features[key] = encode_feature(key, packed, start, stop)

    def records(self) -> list[bytes]:
        """The serialized samples.

        Raises:
            UserError: names the keys that were not added.
        """
        needed = (key for key, field in self._spec.items() if not field.optional)
        missing = [key for key in needed if key not in self._features]
        if missing:
            raise UserError(
                f"A record must have the keys {missing}. "
                f"Received: {list(self._features)}"
            )
        return encode_examples(list(self._features.values()))


def serialize(sample: Mapping[str, np.ndarray]) -> bytes:
    """One sample as a serialized `tf.train.Example`.

    Args:
        sample: record key → values, 1-D; bytes are of dtype object.
    """
    start = np.zeros(1, np.int64)
    features = [
        encode_feature(key, _pack(values), start, start + len(values))
        for key, values in sample.items()
    ]
    (record,) = encode_examples(features)
    return record


def _pack(values: np.ndarray) -> Packed:
    if values.dtype == object:
        return pack_bytes(values.tolist())
    if np.issubdtype(values.dtype, np.floating):
        return pack_float(values)
    return pack_int64(values)
