"""An id: one of many values that have no order, by vocabulary or by hash."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ctr_tf.schema.feature import (
    FIRST_ID,
    MISSING,
    OUT_OF_VOCABULARY_ID,
    Feature,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import tensorflow as tf

    from ctr_tf.data.encode import RequestEncoder
    from ctr_tf.schema.vocabulary import Vocabularies


@dataclasses.dataclass(frozen=True)
class Categorical(Feature):
    """A value that becomes an id.

    Args:
        vocabulary: its vocabulary's name, the feature's own by default. Features that
            name the same vocabulary share one table.
        hash_buckets: hash into so many buckets, no vocabulary.
        min_count: rarer values are out-of-vocabulary.
        max_size: the most entries the vocabulary may have.
    """

    vocabulary: str | None = None
    hash_buckets: int | None = None
    min_count: int = 1
    max_size: int | None = None

    kind: ClassVar[str] = "categorical"
    DTYPES: ClassVar[tuple[str, ...]] = ("string", "int64")
    stores_ids: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("hash_buckets", "min_count", "max_size")
        if self.hash_buckets is not None:
            if self.vocabulary:
                self._fail("Give `vocabulary` or `hash_buckets`, not both.")
        elif self.vocabulary is None:
            object.__setattr__(self, "vocabulary", self.name)

    @property
    def vocabulary_name(self) -> str | None:
        """See `Feature`; None where the values are hashed."""
        return self.vocabulary

    def without_limits(self) -> "Categorical":
        """See `Feature`."""
        return dataclasses.replace(self, min_count=1, max_size=None)

    @property
    def num_ids(self) -> int | None:
        """See `Feature`; None where the vocabulary decides."""
        if self.hash_buckets is None:
            return None
        return FIRST_ID + self.hash_buckets

    @property
    def can_decode(self) -> bool:
        """See `Feature`; a hash cannot be undone."""
        return self.hash_buckets is None

    @property
    def wanted(self) -> str:
        """See `Feature`."""
        if self.dtype == "string":
            return "a string without line breaks or NUL"
        return super().wanted

    def unfit(self, values: "pa.Array") -> np.ndarray | None:
        """Texts with a line break, which no vocabulary holds, or a NUL."""
        if self.dtype != "string":
            return None
        import pyarrow.compute as pc

        broken = pc.match_substring_regex(values, "[\n\r\0]")
        if not pc.any(broken).as_py():
            return None
        return pc.fill_null(broken, False).to_numpy(zero_copy_only=False)

    @property
    def stored_dtype(self) -> str:
        """See `Feature`: ids."""
        return "int64"

    @property
    def stored_missing(self) -> int:
        """See `Feature`."""
        return OUT_OF_VOCABULARY_ID

    def store(self, values: "pa.Array", vocabularies: "Vocabularies") -> np.ndarray:
        """See `Feature`."""
        return vocabularies.encode(self, values)

    def to_stored(self, raw: "tf.Tensor", encoder: "RequestEncoder") -> "tf.Tensor":
        """See `Feature`."""
        if self.hash_buckets is None:
            return encoder.table(self).lookup(raw)
        import tensorflow as tf

        words = raw if raw.dtype == tf.string else tf.strings.as_string(raw)
        bucket = tf.strings.to_hash_bucket_fast(words, self.hash_buckets)
        missing = tf.equal(raw, tf.constant(MISSING[self.dtype], raw.dtype))
        unknown = tf.constant(OUT_OF_VOCABULARY_ID, tf.int64)
        return tf.where(missing, unknown, bucket + FIRST_ID)

    def to_input(self, stored: "tf.Tensor") -> "tf.Tensor":
        """See `Feature`: the ids."""
        return stored

    def from_stored(
        self, stored: Any, vocabularies: "Vocabularies"
    ) -> int | str | None:
        """See `Feature`."""
        if not self.can_decode or stored < FIRST_ID:
            return None
        (word,) = vocabularies.decode(self, [stored])
        return int(word) if self.dtype == "int64" else word

    def any_raw(self, stored: Any, vocabularies: "Vocabularies") -> int | str | None:
        """See `Feature`; of a hash it is made up."""
        if self.can_decode:
            return self.from_stored(stored, vocabularies)
        return vocabularies.made_up(self).get(int(stored))

    def random(
        self, generator: np.random.Generator, size: int, vocabularies: "Vocabularies"
    ) -> np.ndarray:
        """See `Feature`."""
        rows = vocabularies.table_size(self)
        return generator.integers(OUT_OF_VOCABULARY_ID, rows, size)

    def id_words(self, ids: Sequence[int], vocabularies: "Vocabularies") -> list[str]:
        """See `Feature`: the values."""
        return self.words(ids, vocabularies)

    def words(self, stored: Sequence, vocabularies: "Vocabularies") -> list[str]:
        """See `Feature`; `"?"` stands for unknown."""
        return vocabularies.decode(self, [int(value) for value in stored])
