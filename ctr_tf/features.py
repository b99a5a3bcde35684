"""One feature of a data set, and the features that the jobs compute for every one.

Ids of categorical features: 0 is padding, 1 is out-of-vocabulary, and the entries of
the vocabulary follow from 2 by descending frequency. Bucketized features use the same
convention: 0 is padding, 1 is missing (a negative number), buckets follow from 2.
"""

import dataclasses
import re

from ctr_tf.errors import unknown_name

PADDING_ID = 0
OUT_OF_VOCABULARY_ID = 1
FIRST_ID = 2

ROLES = ("user", "context", "item", "behavior", "candidate")
KINDS = ("categorical", "numeric", "bucketized")
DTYPES = ("int64", "string", "float32")
TRANSFORMS = ("none", "log1p")
NUM_LOG2_BUCKETS = 64


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a data set.

    Args:
        name: its column in the raw log.
        role: `"user"` (one value, or `length` values, a user), `"context"` (of the
            request), `"item"` (on behaviors and candidates alike, one shared table),
            `"behavior"` (only on behaviors) or `"candidate"` (only on candidates).
        kind: `"categorical"` (an id, by vocabulary or by hash), `"numeric"` (a float
            that enters the network as it is, after `transform`) or `"bucketized"` (a
            number that becomes a small id, by exactly one of `boundaries`,
            `num_values` and `log2`).
        dtype: of the raw value: `"int64"`, `"string"` or `"float32"`. Default:
            `"string"` for categorical, `"float32"` for the others.
        length: values a user or context feature has, 1 for most; shorter lists are
            padded, longer ones cut. Other roles have exactly one value.
        vocabulary: categorical only; the vocabulary's name, the feature's own by
            default. Features that name the same vocabulary share one table.
        hash_buckets: categorical only; hash into so many buckets, no vocabulary.
        min_count: categorical only; rarer values are out-of-vocabulary.
        max_size: categorical only; the most entries the vocabulary may have.
        transform: numeric only; `"none"`, or `"log1p"` (of `max(value, 0)`).
        boundaries: bucketized only; ascending; bucket k holds
            `boundaries[k-1] <= value < boundaries[k]`.
        num_values: bucketized only; whole numbers 0 … num_values - 1 as they are.
        log2: bucketized only; bucket `floor(log2(max(value, 1)))`, exact for int64.
        embedding_dim: width of the table's rows; the model's own where None.
        computed: whether the jobs compute the feature rather than read it.
        description: one line for people.
    """

    name: str
    role: str
    kind: str
    dtype: str | None = None
    length: int = 1
    vocabulary: str | None = None
    hash_buckets: int | None = None
    min_count: int = 1
    max_size: int | None = None
    transform: str = "none"
    boundaries: tuple[float, ...] | None = None
    num_values: int | None = None
    log2: bool = False
    embedding_dim: int | None = None
    computed: bool = False
    description: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", str(self.name)):
            raise ValueError(
                "A feature's `name` is lower-case letters, digits and '_', and begins "
                f"with a letter. Received: name={self.name!r}"
            )
        for field, value, known in (
            ("role", self.role, ROLES),
            ("kind", self.kind, KINDS),
            ("transform", self.transform, TRANSFORMS),
        ):
            if value not in known:
                self._fail(unknown_name(field, value, known))
        if self.dtype is None:
            dtype = "string" if self.kind == "categorical" else "float32"
            object.__setattr__(self, "dtype", dtype)
        if self.dtype not in DTYPES:
            self._fail(unknown_name("dtype", self.dtype, DTYPES))
        if self.boundaries is not None:
            object.__setattr__(self, "boundaries", tuple(self.boundaries))
        if self.kind == "categorical":
            self._check_categorical()
        elif self.vocabulary or self.hash_buckets is not None:
            self._fail("Only a categorical feature has a vocabulary or hash buckets.")
        if self.kind != "categorical" and self.dtype == "string":
            self._fail(f"A {self.kind} feature is a number. Received: dtype='string'")
        self._check_buckets()
        for field in ("length", "min_count", "max_size", "embedding_dim"):
            value = getattr(self, field)
            if value is not None and (not isinstance(value, int) or value < 1):
                self._fail(f"`{field}` must be a positive integer. Received: {value!r}")
        if self.length > 1 and self.role not in ("user", "context"):
            self._fail(
                "Only user and context features hold several values. "
                f"Received: role='{self.role}', length={self.length}"
            )

    def _fail(self, message: str):
        raise ValueError(f"Feature '{self.name}': {message}")

    def _check_categorical(self):
        if self.dtype == "float32":
            self._fail("A categorical feature is an int64 or a string, not a float32.")
        if self.hash_buckets is not None:
            if self.vocabulary:
                self._fail("Give `vocabulary` or `hash_buckets`, not both.")
            if self.hash_buckets < 1:
                self._fail(
                    "`hash_buckets` must be a positive integer. "
                    f"Received: {self.hash_buckets!r}"
                )
        elif self.vocabulary is None:
            object.__setattr__(self, "vocabulary", self.name)

    def _check_buckets(self):
        given = [
            key
            for key, value in (
                ("boundaries", self.boundaries),
                ("num_values", self.num_values),
                ("log2", self.log2 or None),
            )
            if value is not None
        ]
        if len(given) != (1 if self.kind == "bucketized" else 0):
            self._fail(
                "A bucketized feature has exactly one of `boundaries`, `num_values` "
                f"and `log2`, other kinds have none. Received: kind='{self.kind}' with "
                f"{given or 'none of them'}"
            )
        if self.boundaries is not None and (
            not self.boundaries
            or any(
                a >= b
                for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)
            )
        ):
            self._fail(
                "`boundaries` must be ascending and not empty. "
                f"Received: {list(self.boundaries)}"
            )
        if self.num_values is not None and self.num_values < 1:
            self._fail(f"`num_values` must be positive. Received: {self.num_values!r}")

    @property
    def is_embedded(self) -> bool:
        """Whether the feature enters the network through an embedding table."""
        return self.kind != "numeric"

    @property
    def table(self) -> str:
        """Name of the embedding table; features with one vocabulary share it."""
        return self.vocabulary or self.name

    @property
    def num_buckets(self) -> int | None:
        """Ids a feature without vocabulary can take, padding and missing included."""
        if self.hash_buckets is not None:
            return FIRST_ID + self.hash_buckets
        if self.boundaries is not None:
            return FIRST_ID + len(self.boundaries) + 1
        if self.num_values is not None:
            return FIRST_ID + self.num_values
        if self.log2:
            return FIRST_ID + NUM_LOG2_BUCKETS
        return None

    @property
    def stored_dtype(self) -> str:
        """Dtype in the record: `"int64"` for ids and whole numbers, else float32.

        Categorical features are stored as ids (already encoded); numeric and
        bucketized ones as the raw number, transformed when a batch is made.
        """
        return "float32" if self.dtype == "float32" else "int64"


def computed_features(windows: tuple[str, ...]) -> tuple[Feature, ...]:
    """The features that the jobs compute, for these counter windows."""

    def count(name, description):
        return Feature(
            name,
            "candidate",
            "numeric",
            transform="log1p",
            dtype="int64",
            computed=True,
            description=description,
        )

    def elapsed(name, description):
        return Feature(
            name,
            "candidate",
            "bucketized",
            log2=True,
            dtype="int64",
            computed=True,
            description=description + ", seconds; -1 for never",
        )

    def clock(role, name, num_values, description):
        return Feature(
            name,
            role,
            "bucketized",
            num_values=num_values,
            dtype="int64",
            computed=True,
            description=description,
        )

    return (
        clock("behavior", "hour", 24, "local hour of the behavior"),
        clock("behavior", "weekend", 2, "1 on Saturday and Sunday, local time"),
        clock("context", "hour", 24, "local hour of the request"),
        clock("context", "weekend", 2, "1 on Saturday and Sunday, local time"),
        Feature(
            "slate_size",
            "context",
            "numeric",
            transform="log1p",
            dtype="int64",
            computed=True,
            description="candidates of the request",
        ),
        *(
            count(f"{what}_{window}", f"{what} of the candidate in the last {window}")
            for window in windows
            for what in ("impressions", "clicks")
        ),
        count("user_impressions", "times this user was shown the candidate before"),
        count("user_clicks", "times this user clicked the candidate before"),
        elapsed("since_shown", "time since this user was last shown the candidate"),
        elapsed("since_clicked", "time since this user last clicked the candidate"),
        elapsed("item_age", "time since the candidate's first impression"),
    )
