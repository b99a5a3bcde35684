"""What the features of a data set are: read by jobs, input, models and serving alike.

A schema is one YAML file. Beside the features that a log carries it declares how the
log counts time and which features the jobs compute; those *computed* features (hour,
weekend, point-in-time counters, …) appear in :attr:`Schema.features` like any other, so
that nothing downstream needs to know where a value came from.

```yaml
name: shop
time_unit: seconds          # of the raw log: seconds | milliseconds | microseconds
utc_offset_hours: 8         # local time, for hour of day and weekend
history_length: 256         # N, latest behaviors kept per sample
num_chunks: 16              # P of the chunk ids written into the samples
counter_windows: [2h, 1d, 3d]
session_gap: 30m            # groups rows into a slate where the log has no request id
features:
  - {name: item_id, role: item, kind: categorical, dtype: int64}
  - {name: age, role: user, kind: bucketized, boundaries: [18, 25, 35, 50]}
```

Ids of categorical features: 0 is padding, 1 is out-of-vocabulary, and the entries of
the vocabulary follow from 2 by descending frequency. Bucketized features use the same
convention: 0 is padding, 1 is missing (a negative number), buckets follow from 2.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ctr_tf.errors import unknown_name

PADDING_ID = 0
OUT_OF_VOCABULARY_ID = 1
FIRST_ID = 2

ROLES = ("user", "context", "item", "behavior", "candidate")
KINDS = ("categorical", "numeric", "bucketized")
DTYPES = ("int64", "string", "float32")
TRANSFORMS = ("none", "log1p")
TIME_UNITS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
NUM_LOG2_BUCKETS = 64
RESERVED_KEYS = (
    *("request_id", "request_time", "user_id", "label", "true_probability"),
    *("behavior_time", "behavior_chunk", "candidate_mask"),
)
USER_KEY = "user_id"
ITEM_KEY = "item_id"

_DURATION_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_duration(text: str | int) -> int:
    """Reads a duration such as ``"2h"``, ``"3d"``, ``"30m"`` or ``"45s"``.

    Args:
        text: the duration; a bare integer counts seconds.

    Returns:
        Seconds, positive.

    Raises:
        ValueError: if it is no such duration or not positive.
    """
    match = re.fullmatch(r"(\d+)([smhd]?)", str(text).strip())
    seconds = int(match[1]) * _DURATION_UNITS[match[2] or "s"] if match else 0
    if seconds <= 0:
        raise ValueError(
            "A duration is a positive whole number and a unit, s, m, h or d "
            f"(such as '2h'). Received: {text!r}"
        )
    return seconds


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


def _computed_features(windows: tuple[str, ...]) -> tuple[Feature, ...]:
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


@dataclasses.dataclass(frozen=True)
class Schema:
    """The one description of a data set.

    Args:
        name: of the data set.
        features: those declared, followed by the computed ones (see the module).
        time_unit: of the raw log, a key of `TIME_UNITS`. Samples hold seconds.
        utc_offset_hours: local time minus UTC.
        history_length: N, the latest behaviors kept in a sample.
        num_chunks: P of the chunk ids written into the samples.
        counter_windows: of the candidates' point-in-time counters.
        session_gap: rows of one user closer than this make one slate, where the raw
            log has no request id.
        labels: names of the label columns; the first is the one trained on by
            default.
    """

    name: str
    features: tuple[Feature, ...]
    time_unit: str = "seconds"
    utc_offset_hours: float = 0.0
    history_length: int = 256
    num_chunks: int = 16
    counter_windows: tuple[str, ...] = ("2h", "1d", "3d")
    session_gap: str = "30m"
    labels: tuple[str, ...] = ("click",)

    def __post_init__(self):
        if self.time_unit not in TIME_UNITS:
            raise ValueError(unknown_name("time_unit", self.time_unit, TIME_UNITS))
        for field in ("history_length", "num_chunks"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{field}` must be a positive integer. Received: {value!r}"
                )
        if not -14 <= self.utc_offset_hours <= 14:
            raise ValueError(
                "`utc_offset_hours` lies between -14 and 14. "
                f"Received: {self.utc_offset_hours!r}"
            )
        if not self.labels:
            raise ValueError("`labels` must name at least one label. Received: []")
        parse_duration(self.session_gap)
        declared = tuple(f for f in self.features if not f.computed)
        windows = tuple(str(window) for window in self.counter_windows)
        for window in windows:
            parse_duration(window)
        object.__setattr__(self, "counter_windows", windows)
        object.__setattr__(self, "features", declared + _computed_features(windows))
        seen = {}
        for feature in self.features:
            for group in (
                ("behavior", "candidate") if feature.role == "item" else (feature.role,)
            ):
                key = f"{group}_{feature.name}"
                if key in seen or key in RESERVED_KEYS:
                    raise ValueError(
                        f"Feature '{feature.name}': '{key}' is taken, by another "
                        "feature or by the sample format."
                    )
                seen[key] = feature
        if "behavior_" + ITEM_KEY not in seen:
            raise ValueError(
                f"Schema '{self.name}' lacks the feature '{ITEM_KEY}' with role 'item'."
            )

    @property
    def utc_offset(self) -> int:
        """Local time minus UTC, seconds."""
        return int(self.utc_offset_hours * 3_600)

    def of(self, *roles: str) -> tuple[Feature, ...]:
        """The features that have one of these roles, in the schema's order."""
        return tuple(f for f in self.features if f.role in roles)

    @property
    def user(self) -> tuple[Feature, ...]:
        """Features whose record key begins with ``user_``."""
        return self.of("user")

    @property
    def context(self) -> tuple[Feature, ...]:
        """Features whose record key begins with ``context_``."""
        return self.of("context")

    @property
    def behavior(self) -> tuple[Feature, ...]:
        """Features whose record key begins with ``behavior_``: item's first."""
        return self.of("item") + self.of("behavior")

    @property
    def candidate(self) -> tuple[Feature, ...]:
        """Features whose record key begins with ``candidate_``: item's first."""
        return self.of("item") + self.of("candidate")

    def groups(self) -> dict[str, tuple[Feature, ...]]:
        """Record key prefix → its features: user, context, behavior, candidate."""
        return {
            "user": self.user,
            "context": self.context,
            "behavior": self.behavior,
            "candidate": self.candidate,
        }

    def vocabularies(self) -> dict[str, tuple[Feature, ...]]:
        """Vocabulary name → the features that use it."""
        result: dict[str, tuple[Feature, ...]] = {}
        for feature in self.features:
            if feature.vocabulary:
                users = result.get(feature.vocabulary, ())
                result[feature.vocabulary] = (*users, feature)
        return result

    def to_yaml(self) -> str:
        """The schema as YAML text that `from_yaml` reads back to an equal schema."""
        data = dataclasses.asdict(self)
        defaults = {f.name: f.default for f in dataclasses.fields(Feature)}
        data["features"] = [
            {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in dataclasses.asdict(feature).items()
                if value != defaults[key]
            }
            for feature in self.features
            if not feature.computed
        ]
        for key in ("counter_windows", "labels"):
            data[key] = list(data[key])
        return yaml.safe_dump(data, sort_keys=False, width=88)

    @classmethod
    def from_yaml(cls, text: str, source: str = "the schema") -> "Schema":
        """Reads a schema.

        Args:
            text: YAML.
            source: where it came from, for error messages.

        Raises:
            ValueError: names the key, the value received, and `source`.
        """
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{source} is not YAML: {error}") from error
        try:
            return cls._from_mapping(data)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "Schema":
        """Reads a schema file.

        Raises:
            FileNotFoundError: names the path.
            ValueError: see `from_yaml`.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no schema file at '{path}'.")
        return cls.from_yaml(path.read_text("utf-8"), source=str(path))

    def save(self, path: str | Path) -> None:
        """Writes the schema as YAML."""
        Path(path).write_text(self.to_yaml(), "utf-8")

    @classmethod
    def _from_mapping(cls, data: Any) -> "Schema":
        _check_keys("schema key", data, cls)
        features = data.get("features")
        if not isinstance(features, list):
            raise ValueError(f"`features` must be a list. Received: {features!r}")
        parsed = []
        for entry in features:
            _check_keys("feature key", entry, Feature)
            missing = [key for key in ("name", "role", "kind") if key not in entry]
            if missing:
                raise ValueError(
                    f"A feature lacks {', '.join(missing)}. Received: {entry!r}"
                )
            if entry.get("computed"):
                raise ValueError(
                    f"Feature '{entry['name']}': computed features are not declared."
                )
            parsed.append(Feature(**entry))
        rest = {key: value for key, value in data.items() if key != "features"}
        for key in ("counter_windows", "labels"):
            if key in rest:
                rest[key] = tuple(rest[key])
        if "name" not in rest:
            raise ValueError("The schema lacks `name`.")
        return cls(features=tuple(parsed), **rest)


def _check_keys(what: str, data: Any, cls: type) -> None:
    if not isinstance(data, Mapping):
        raise ValueError(f"Expected keys and values. Received: {data!r}")
    known = {field.name for field in dataclasses.fields(cls)}
    for key in data:
        if key not in known:
            raise ValueError(unknown_name(what, key, known))
