"""One feature of a data set: what every kind of feature has and can do.

A kind is a subclass in `ctr_tf.schema.kinds`, one file each. It owns everything about
its values: how a raw one is checked and typed, stored in a record, encoded, embedded,
given in a request and shown to people, and what a missing one is.

Three forms of a value:

* *raw*, as the log has it, typed by the kind: `arrow_type` in the jobs, `dtype` in
  requests. A missing one is null in Arrow and in JSON, and `MISSING[dtype]` in tensors.
* *stored*, in a record, of `stored_dtype`: ids of categorical features, rows of texts,
  the raw number of others, `stored_missing` where it is missing.
* *input*, what a model takes: int64 ids of embedded features and rows of texts, float32
  numbers of others, NaN where one is missing. Padding is 0 in all of them.

Ids: 0 is padding, 1 is unknown (missing, or in no vocabulary), others follow from 2.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from ctr_tf.errors import UserError, unknown_name

if TYPE_CHECKING:  # neither is needed to read a request
    import pyarrow as pa
    import tensorflow as tf

    from ctr_tf.data.encode import RequestEncoder
    from ctr_tf.schema.vocabulary import Vocabularies

PADDING_ID = 0
OUT_OF_VOCABULARY_ID = 1
FIRST_ID = 2

USER_KEY = "user_id"
ITEM_KEY = "item_id"
ROLES = ("user", "context", "item", "behavior", "candidate", "position")
# How a raw value that is not there is written where every place needs a value, by the
# feature's dtype. A log never holds these: the first is the least int64, the second a
# NUL character alone.
MISSING: dict[str, Any] = {"int64": -(2**63), "string": "\0", "float32": math.nan}
WORDS = {"int64": "a whole number", "float32": "a number", "string": "a string"}
_NUMPY = {"int64": np.int64, "float32": np.float32, "string": object}
_JSON_TYPES: dict[str, set[type]] = {
    "int64": {int},
    "float32": {int, float},
    "string": {str},
}


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a data set; its kind is its class.

    Args:
        name: its column in the raw log.
        role: `"user"`, `"context"` (of the request), `"item"` (on behaviors and
            candidates alike, one shared table), `"behavior"` (only on behaviors),
            `"candidate"` (only on candidates) or `"position"` (of candidates: where
            they were shown, which nobody knows before they are ranked).
        dtype: of a raw value: `"int64"`, `"string"` or `"float32"`, one of the kind's
            `DTYPES`, the first of them by default.
        length: values that one user, request, behavior or candidate may have, 1 for
            most; of longer lists the first values are kept.
        null_values: how the log writes that a value is missing, beside null and NaN:
            texts, or numbers such as -1. The schema's own `null_values` by default.
        embedding_dim: width of the table's rows; the model's own where None.
        computed: whether the jobs compute the feature rather than read it.
        description: one line for people.
        of_clicks: of a feature of behaviors, what a clicked exposure has that says
            nothing of it (`behavior_<name>`), such as the action `"click"`.
    """

    name: str
    role: str
    dtype: str = ""
    length: int = 1
    null_values: tuple[str | int | float, ...] | None = None
    embedding_dim: int | None = None
    computed: bool = False
    description: str = ""
    of_clicks: str | int | float | None = None

    kind: ClassVar[str]
    DTYPES: ClassVar[tuple[str, ...]]
    is_embedded: ClassVar[bool] = True
    is_text: ClassVar[bool] = False  # rows of tokens: neither embedded nor a number
    stores_ids: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", str(self.name)):
            raise UserError(
                "A feature's `name` is lower-case letters, digits and '_', and begins "
                f"with a letter. Received: name={self.name!r}"
            )
        if self.role not in ROLES:
            self._fail(unknown_name("role", self.role, ROLES))
        if not self.dtype:
            object.__setattr__(self, "dtype", self.DTYPES[0])
        if self.dtype not in self.DTYPES:
            self._fail(
                f"A {self.kind} feature's `dtype` is {' or '.join(self.DTYPES)}. "
                f"Received: dtype='{self.dtype}'"
            )
        self._check_positive("length", "embedding_dim")
        self._check_of_clicks()
        if self.null_values is not None:
            object.__setattr__(self, "null_values", tuple(map(str, self.null_values)))

    def _check_of_clicks(self) -> None:
        value = self.of_clicks
        if value is None:
            return
        if self.role != "behavior" or self.length > 1:
            self._fail(
                "`of_clicks` is of a feature of single values of behaviors. Received: "
                f"role='{self.role}', length={self.length}"
            )
        if type(value) not in _JSON_TYPES.get(self.dtype, {str}):
            self._fail(f"`of_clicks` must be {WORDS[self.dtype]}. Received: {value!r}")

    def _fail(self, message: str) -> NoReturn:
        raise UserError(f"Feature '{self.name}': {message}")

    def _check_positive(self, *fields: str) -> None:
        for field in fields:
            value = getattr(self, field)
            if value is not None and (type(value) is not int or value < 1):
                self._fail(f"`{field}` must be a positive integer. Received: {value!r}")

    # The network's side.

    @property
    def vocabulary_name(self) -> str | None:
        """The vocabulary that the values are looked up in, where there is one."""
        return None

    def without_limits(self) -> "Feature":
        """The feature with a vocabulary that leaves out nothing."""
        return self

    @property
    def table(self) -> str:
        """Name of the embedding table; features with one vocabulary share it."""
        return self.vocabulary_name or self.name

    @property
    def num_ids(self) -> int | None:
        """Ids of a feature without vocabulary, padding and unknown included."""
        return None

    @property
    def is_ordered(self) -> bool:
        """Whether ids are buckets in ascending order, the last without an end."""
        return False

    @property
    def is_age(self) -> bool:
        """Whether raw values are seconds that went by, which people read in words."""
        return False

    def least_input(self, value: float) -> int | float:
        """The least input of one that is at least `value`; what is missing is less.

        Args:
            value: a raw number.

        Raises:
            UserError: if the kind's inputs do not tell.
        """
        self._fail(
            "What is at least so much is told by a feature of kind numeric or "
            f"bucketized. Received: kind='{self.kind}'"
        )

    @property
    def input_dtype(self) -> str:
        """Dtype of a model's input, `"int64"` or `"float32"`."""
        return "int64" if self.is_embedded or self.is_text else "float32"

    @property
    def input_padding(self) -> int | float:
        """What stands for a value that a list does not have, in a model's input."""
        return PADDING_ID if self.input_dtype == "int64" else math.nan

    @property
    def can_decode(self) -> bool:
        """Whether a stored value can be turned back into the raw one."""
        return True

    # Raw values in the jobs.

    @property
    def arrow_type(self) -> "pa.DataType":
        """Arrow type of one raw value."""
        import pyarrow as pa

        return {"int64": pa.int64(), "string": pa.string(), "float32": pa.float32()}[
            self.dtype
        ]

    @property
    def wanted(self) -> str:
        """What a raw value must be, in words."""
        return WORDS[self.dtype]

    def unfit(self, values: "pa.Array") -> np.ndarray | None:
        """Which raw values the kind cannot take, though they have its type.

        Args:
            values: of `arrow_type`; null where missing.

        Returns:
            bool, one a value; None where all are fit.
        """
        return None

    # Stored values.

    @property
    def max_values(self) -> int:
        """Most values that a user, request, behavior or candidate has in a record."""
        return self.length

    @property
    def stored_dtype(self) -> str:
        """Dtype in the record, `"int64"` or `"float32"`."""
        return "float32" if self.dtype == "float32" else "int64"

    @property
    def stored_missing(self) -> int | float:
        """What stands in a record for a missing value."""
        return MISSING[self.stored_dtype]

    def store(self, values: "pa.Array", vocabularies: "Vocabularies") -> np.ndarray:
        """Raw values → stored ones, in the job.

        Args:
            values: of `arrow_type`; null where missing.
            vocabularies: of the data set.

        Returns:
            `stored_dtype`, one a value.
        """
        import pyarrow as pa

        dtype = np.dtype(self.stored_dtype)
        filled = values.fill_null(pa.scalar(self.stored_missing, values.type))
        return filled.to_numpy(zero_copy_only=False).astype(dtype)

    def to_stored(self, raw: "tf.Tensor", encoder: "RequestEncoder") -> "tf.Tensor":
        """Raw values → stored ones, in the graph, as `store` does it.

        Args:
            raw: any shape, of `dtype`; `MISSING` where missing.
            encoder: a `ctr_tf.data.encode.RequestEncoder`, which has the vocabularies.
        """
        return raw

    def to_input(self, stored: "tf.Tensor") -> "tf.Tensor":
        """Stored values → what a model takes, value by value, in the graph.

        Args:
            stored: any shape, of `stored_dtype`.

        Returns:
            int64 ids of an embedded feature, else float32.
        """
        raise NotImplementedError

    def from_stored(self, stored: Any, vocabularies: "Vocabularies") -> Any:
        """A stored value → the raw one as JSON has it; None where it is not known."""
        if isinstance(stored, float) and math.isnan(stored):
            return None
        return None if stored == self.stored_missing else stored

    def any_raw(self, stored: Any, vocabularies: "Vocabularies") -> Any:
        """A raw value, as JSON has it, that is stored so; None where none is known."""
        return self.from_stored(stored, vocabularies)

    def random(
        self, generator: np.random.Generator, size: int, vocabularies: "Vocabularies"
    ) -> np.ndarray:
        """Random stored values, some of them missing, for benchmarks and tests."""
        raise NotImplementedError

    # Requests.

    def fits_json(self, values: Sequence) -> bool:
        """Whether values from JSON, none of them null, are all of the feature's type.

        All at once, for a history has many.
        """
        if not set(map(type, values)) <= _JSON_TYPES[self.dtype]:
            return False
        try:
            if self.dtype == "string":
                "".join(values).encode()
                return True
            with np.errstate(over="ignore"):  # beyond a float32 it is infinite
                numbers = np.array(values, _NUMPY[self.dtype])
        except (OverflowError, UnicodeEncodeError):  # such as a lone surrogate
            return False
        return bool(np.isfinite(numbers).all())

    def array(self, values: Sequence) -> np.ndarray:
        """Values from JSON, null or fit, as a tensor of a request holds them."""
        missing = MISSING[self.dtype]
        values = [missing if value is None else value for value in values]
        return np.array(values, _NUMPY[self.dtype])

    # People.

    def words(self, stored: Sequence, vocabularies: "Vocabularies") -> list[str]:
        """Stored values in words."""
        values = (self.from_stored(value, vocabularies) for value in stored)
        return ["-" if value is None else f"{value:.6g}" for value in values]

    def id_words(self, ids: Sequence[int], vocabularies: "Vocabularies") -> list[str]:
        """Ids that a model takes of an embedded feature, from `FIRST_ID` on, in words.

        Args:
            ids: a model's inputs.
            vocabularies: by which they were made.
        """
        return [f"#{i}" for i in ids]

    def from_input(self, value: float) -> float:
        """A number that a model takes → the raw one that it stands for."""
        return value

    @property
    def reads_as_number(self) -> bool:
        """Whether people read the values as numbers, aligned to the right."""
        return self.dtype != "string"
