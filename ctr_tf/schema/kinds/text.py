"""A text of an item, such as its title: the tokens that a language model reads."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ctr_tf.schema.feature import OUT_OF_VOCABULARY_ID, Feature

if TYPE_CHECKING:
    import pyarrow as pa
    import tensorflow as tf

    from ctr_tf.schema.vocabulary import Vocabularies


@dataclasses.dataclass(frozen=True)
class Text(Feature):
    """A text of an item, as tokens of a language model.

    The job tokenizes every item of the item table once (`ctr_tf.schema.texts`). Records
    and batches hold rows of that table, never tokens: 0 is padding, 1 an item that the
    table does not have. A model that reads no text ignores them.

    Args:
        length: T, tokens that are kept of a text, the first ones.
    """

    length: int = 16

    kind: ClassVar[str] = "text"
    DTYPES: ClassVar[tuple[str, ...]] = ("string",)
    is_embedded: ClassVar[bool] = False
    is_text: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.role != "item":
            self._fail(
                "A text feature's `role` is item: its texts are those of the item "
                f"table. Received: role='{self.role}'"
            )
        if self.embedding_dim is not None:
            self._fail(
                "A text feature has no rows that are learned, and so no "
                f"`embedding_dim`. Received: embedding_dim={self.embedding_dim}"
            )

    @property
    def can_decode(self) -> bool:
        """See `Feature`; tokens are less than the text was."""
        return False

    @property
    def wanted(self) -> str:
        """See `Feature`."""
        return "a text"

    @property
    def max_values(self) -> int:
        """See `Feature`: the row."""
        return 1

    @property
    def stored_dtype(self) -> str:
        """See `Feature`: rows."""
        return "int64"

    @property
    def stored_missing(self) -> int:
        """See `Feature`."""
        return OUT_OF_VOCABULARY_ID

    def store(self, values: "pa.Array", vocabularies: "Vocabularies") -> np.ndarray:
        """Rows, which the item table has in place of texts, null where unknown."""
        import pyarrow as pa

        rows = values.cast(pa.int64()).fill_null(OUT_OF_VOCABULARY_ID)
        return rows.to_numpy(zero_copy_only=False)

    def to_input(self, stored: "tf.Tensor") -> "tf.Tensor":
        """See `Feature`: the rows."""
        return stored

    def from_stored(self, stored: Any, vocabularies: "Vocabularies") -> None:
        """See `Feature`; None, for a request carries item ids only."""

    def random(
        self, generator: np.random.Generator, size: int, vocabularies: "Vocabularies"
    ) -> np.ndarray:
        """See `Feature`."""
        rows = vocabularies.known_texts.num_rows
        return generator.integers(OUT_OF_VOCABULARY_ID, rows, size)

    def words(self, stored: Sequence, vocabularies: "Vocabularies") -> list[str]:
        """What is left of the texts in tokens; `"?"` stands for none."""
        return vocabularies.known_texts.words(self.name, [int(row) for row in stored])
