"""What the features of a data set are: read by jobs, input, models and serving alike.

A schema is one YAML file. Beside the features that a log carries it declares how the
log counts time and which features are computed (`ctr_tf.computed`); those (hour,
weekend, point-in-time counters, …) appear in :attr:`Schema.features` like any other, so
that nothing downstream needs to know where a value came from.

```yaml
name: shop
time_unit: seconds          # of the raw log: seconds | milliseconds | microseconds
utc_offset_hours: 8         # local time, for hour of day and weekend
history_length: 256         # N, latest behaviors kept per sample
horizon: 90d                # what is older does not count; by default all does
num_chunks: 16              # P of the chunk ids written into the samples
counter_windows: [30m, 2h, 1d, 3d]
counters:                   # what a candidate's impressions and clicks are counted by
  - {by: item_id}
  - {by: user_id x item_id}
session_gap: 30m            # groups rows into a slate where the log has no request id
positive: {feature: rating, at_least: 4}   # where the log has behaviors not liked
features:
  - {name: item_id, role: item, kind: categorical, dtype: int64}
  - {name: age, role: user, kind: bucketized, boundaries: [18, 25, 35, 50]}
  - {name: rating, role: behavior, kind: numeric}
```

Ids of categorical features: 0 is padding, 1 is out-of-vocabulary, and the entries of
the vocabulary follow from 2 by descending frequency. Bucketized features use the same
convention: 0 is padding, 1 is missing, buckets follow from 2.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ctr_tf import config as configs
from ctr_tf.computed.counters import EXPOSURES, CounterChoice
from ctr_tf.computed.declare import Computed, declare
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema.feature import ITEM_KEY, USER_KEY, Feature
from ctr_tf.schema.kinds import kind_class
from ctr_tf.schema.nulls import NullValues
from ctr_tf.schema.positive import Positive
from ctr_tf.storage import as_path, files
from ctr_tf.time import day_before, parse_duration, transitions

TIME_UNITS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
RESERVED_KEYS = (
    *("request_id", "request_time", "user_id", "label", "true_probability"),
    *("behavior_time", "behavior_chunk", "candidate_mask"),
)
# What columns of the raw tables are called, whatever the features.
RAW_COLUMNS = (
    USER_KEY,
    "time",
    ITEM_KEY,
    "request_id",
    "click_time",
    "true_probability",
)


@dataclasses.dataclass(frozen=True)
class Schema:
    """The one description of a data set.

    Args:
        name: of the data set.
        features: those declared, followed by the computed ones (see the module).
        time_unit: of the raw log, a key of `TIME_UNITS`. Samples hold seconds.
        utc_offset_hours: local time minus UTC.
        time_zone: instead of the offset: the name of a zone, such as
            `"Europe/Copenhagen"`, exact over daylight saving.
        history_length: N, the latest behaviors kept in a sample.
        horizon: such as `90d`: a request knows what happened from the beginning of the
            UTC day on that is so long before it, in its history and its counters;
            None: all that ever happened.
        num_chunks: P of the chunk ids written into the samples.
        counter_windows: of the candidates' counters that say nothing else.
        counter_resolution: buckets by which events count, 0 for exactly; what happened
            in the request's own bucket does not count yet.
        counters: what the candidates' impressions and clicks are counted by.
        newness: whether items have the number `newness`.
        places: counters of which candidates have their places within the slate.
        slate_size: whether requests have the feature `slate_size`, which whoever asks
            must then state: how many candidates are shown.
        session_gap: rows of one user closer than this make one slate, where the raw
            log has no request id; a request id that comes back later than this is
            another slate.
        feedback_delay: how long after an exposure its click is known, where the row
            has no `click_time` of its own.
        labels: names of the label columns; the first is the one trained on by
            default.
        null_values: how the log writes that a value is missing, beside null and NaN;
            of a feature that has its own, those.
        positive: which behaviors were liked, where the log also has others.
        all_clicked: whether every exposure of the log was clicked, so that the log has
            no column of the first label; the job draws candidates without a click.
    """

    name: str
    features: tuple[Feature, ...]
    time_unit: str = "seconds"
    utc_offset_hours: float = 0.0
    time_zone: str | None = None
    history_length: int = 256
    horizon: str | int | None = None
    num_chunks: int = 16
    counter_windows: tuple[str | int, ...] = ("30m", "2h", "1d", "3d")
    counter_resolution: str | int = "60s"
    counters: tuple[CounterChoice, ...] = (
        CounterChoice(ITEM_KEY),
        CounterChoice(f"{USER_KEY} x {ITEM_KEY}"),
    )
    newness: bool = False
    places: tuple[str, ...] = ()
    slate_size: bool = False
    session_gap: str | int = "30m"
    feedback_delay: str | int = "0s"
    labels: tuple[str, ...] = ("click",)
    null_values: tuple[str | int | float, ...] = ("",)
    positive: Positive | None = None
    all_clicked: bool = False

    def __post_init__(self) -> None:
        if self.time_unit not in TIME_UNITS:
            raise UserError(unknown_name("time_unit", self.time_unit, TIME_UNITS))
        for field in ("history_length", "num_chunks"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise UserError(
                    f"`{field}` must be a positive integer. Received: {value!r}"
                )
        if not -14 <= self.utc_offset_hours <= 14:
            raise UserError(
                "`utc_offset_hours` lies between -14 and 14. "
                f"Received: {self.utc_offset_hours!r}"
            )
        if self.time_zone is not None:
            if self.utc_offset_hours:
                raise UserError(
                    "Give `utc_offset_hours` or `time_zone`, not both. Received: "
                    f"{self.utc_offset_hours!r} and {self.time_zone!r}"
                )
            transitions(self.time_zone)  # there is such a zone
        if not self.labels:
            raise UserError("`labels` must name at least one label. Received: []")
        # One spelling of each value, so that the schema's text is its identity.
        object.__setattr__(self, "utc_offset_hours", float(self.utc_offset_hours))
        object.__setattr__(self, "session_gap", str(self.session_gap))
        object.__setattr__(self, "null_values", tuple(map(str, self.null_values)))
        object.__setattr__(self, "feedback_delay", str(self.feedback_delay))
        _check_duration("session_gap", self.session_gap)
        _check_duration("feedback_delay", self.feedback_delay, may_be_zero=True)
        if self.horizon is not None:
            object.__setattr__(self, "horizon", str(self.horizon))
            _check_duration("horizon", self.horizon)
        windows = tuple(str(window) for window in self.counter_windows)
        for window in windows:
            is_all = window == "all"
            hint = " (`all` is a window of single `counters`)" if is_all else ""
            _check_duration("counter_windows", window, hint=hint)
        object.__setattr__(self, "counter_windows", windows)
        resolution = str(self.counter_resolution)
        object.__setattr__(self, "counter_resolution", resolution)
        features = self.declared + self.computed.features
        object.__setattr__(self, "features", features)
        self._check_labels()
        self._check_positions()
        self._check_record_keys()
        self._check_raw_columns()
        if self.positive is not None:
            object.__setattr__(self, "positive", self.positive.bound(self.declared))
        if not any(f.name == ITEM_KEY for f in self.of("item")):
            raise UserError(
                f"Schema '{self.name}' lacks the feature '{ITEM_KEY}' with role 'item'."
            )

    def _check_labels(self) -> None:
        for label in self.labels:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", str(label)) or label in RAW_COLUMNS:
                raise UserError(
                    "A label is lower-case letters, digits and '_', and none of the "
                    f"raw columns {', '.join(RAW_COLUMNS)}. Received: labels={label!r}"
                )
        if len(set(self.labels)) < len(self.labels):
            raise UserError(f"`labels` must differ. Received: {', '.join(self.labels)}")

    def _check_positions(self) -> None:
        for feature in self.position:
            if feature.kind != "bucketized" or feature.length > 1:
                raise UserError(
                    f"Feature '{feature.name}': a position is one value of kind "
                    f"bucketized, such as `num_values: 50`. Received: kind="
                    f"'{feature.kind}', length={feature.length}"
                )

    def _check_record_keys(self) -> None:
        seen = set(RESERVED_KEYS)
        for group, features in self.record_groups().items():
            for feature in features:
                keys = [f"{group}_{feature.name}"]
                if feature.max_values > 1:
                    keys.append(f"{keys[0]}_length")
                for key in keys:
                    if key in seen:
                        raise UserError(
                            f"Feature '{feature.name}': '{key}' is taken, by another "
                            "feature or by the sample format."
                        )
                    seen.add(key)

    def _check_raw_columns(self) -> None:
        """A column of a raw table means one thing."""
        declared = self.declared
        exposures = dict.fromkeys(RAW_COLUMNS, "a raw column")
        exposures |= dict.fromkeys(self.labels, "a label")
        columns = [
            (f"behavior_{f.name}" if f.role == "behavior" else f.name, f)
            for f in declared
            if f.role != "user" and not (f.role == "item" and f.name == ITEM_KEY)
        ]
        for column, feature in columns:
            if column in exposures:
                raise UserError(
                    f"Feature '{feature.name}': its column '{column}' of the exposures "
                    f"is {exposures[column]} already. "
                    f"Received: name='{feature.name}', role='{feature.role}'"
                )
            exposures[column] = "that of another feature"
        for feature in declared:
            taken = RAW_COLUMNS if feature.role != "user" else ("time", "request_id")
            if feature.name in taken and feature.role != "item":
                raise UserError(
                    f"Feature '{feature.name}': raw tables have a column of that name. "
                    f"Received: role='{feature.role}'"
                )

    @property
    def declared(self) -> tuple[Feature, ...]:
        """The features that the log carries."""
        return tuple(f for f in self.features if not f.computed)

    @functools.cached_property
    def computed(self) -> Computed:
        """The features that are computed."""
        return declare(self, self.declared)

    @property
    def zone(self) -> int | str:
        """Local time, as `ctr_tf.time.local_time` takes it."""
        return self.time_zone or int(self.utc_offset_hours * 3_600)

    @property
    def ticks(self) -> int:
        """How many units of the raw log's time a second has."""
        return TIME_UNITS[self.time_unit]

    @property
    def history_may_tie(self) -> bool:
        """Whether a behavior before a request may stand in the request's own second.

        Samples and requests hold seconds. Of a log that counts finer, what came before
        a request within its second has the request's time there.
        """
        return self.ticks > 1

    def known_since(self, request_time: Any, ticks: int = 1) -> Any:
        """From when on what happened counts for a request; 0 without a horizon.

        Args:
            request_time: int64, a number, an array or a tensor.
            ticks: units of these times in a second.
        """
        if self.horizon is None:
            return 0
        return day_before(request_time, parse_duration(self.horizon), ticks)

    def in_history(self, time: Any, request_time: Any) -> Any:
        """Whether behaviors are before a request, and within the horizon.

        Args:
            time: int64, an array or a tensor, in seconds as samples hold them.
            request_time: int64, likewise, that goes with it.
        """
        before = time <= request_time if self.history_may_tie else time < request_time
        return before & (time >= self.known_since(request_time))

    def of(self, *roles: str) -> tuple[Feature, ...]:
        """The features that have one of these roles, in the schema's order."""
        return tuple(f for f in self.features if f.role in roles)

    def nulls_of(self, feature: Feature) -> NullValues:
        """How the log writes that a value of a feature is missing; none if computed."""
        if feature.computed:
            return ()
        return feature.null_values or self.null_values

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

    @property
    def position(self) -> tuple[Feature, ...]:
        """Features whose record key begins with ``position_``: training's alone."""
        return self.of("position")

    def record_groups(self) -> dict[str, tuple[Feature, ...]]:
        """`groups`, and the positions: of what is logged, not of what is asked."""
        positions = {"position": self.position} if self.position else {}
        return self.groups() | positions

    def vector_groups(self) -> dict[str, tuple[Feature, ...]]:
        """`groups`, without texts: what enters the vector of each group."""
        return {
            group: tuple(f for f in features if not f.is_text)
            for group, features in self.groups().items()
        }

    @property
    def texts(self) -> tuple[Feature, ...]:
        """The features that are texts of items."""
        return tuple(f for f in self.features if f.is_text)

    def without_texts(self) -> "Schema":
        """The schema of the same log, its texts left unread."""
        declared = tuple(f for f in self.declared if not f.is_text)
        return dataclasses.replace(self, features=declared)

    def vocabularies(self) -> dict[str, tuple[Feature, ...]]:
        """Vocabulary name → the features that use it."""
        result: dict[str, tuple[Feature, ...]] = {}
        for feature in self.features:
            if name := feature.vocabulary_name:
                result[name] = (*result.get(name, ()), feature)
        return result

    def to_yaml(self) -> str:
        """The schema as YAML text that `from_yaml` reads back to an equal schema."""
        data = dataclasses.asdict(self)
        data["features"] = [_to_mapping(f) for f in self.features if not f.computed]
        for key in ("counter_windows", "labels", "null_values", "places"):
            data[key] = list(data[key])
        data["counters"] = [_choice_to_mapping(choice) for choice in self.counters]
        del data["positive"], data["horizon"]
        if self.horizon is not None:
            data["horizon"] = self.horizon
        if self.positive is not None:  # without it the text is as it always was
            data["positive"] = configs.to_mapping(self.positive)
        if not self.all_clicked:
            del data["all_clicked"]
        return yaml.safe_dump(data, sort_keys=False, width=88)

    @classmethod
    def from_yaml(cls, text: str, source: str = "the schema") -> "Schema":
        """Reads a schema.

        Args:
            text: YAML.
            source: where it came from, for error messages.

        Raises:
            UserError: names the key, the value received, and `source`.
        """
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{source} is not YAML: {error}") from error
        try:
            return cls._from_mapping(data)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "Schema":
        """Reads a schema file.

        Raises:
            FileNotFoundError: names the path.
            UserError: see `from_yaml`.
        """
        path = as_path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no schema file at '{path}'.")
        return cls.from_yaml(files.read_text(path), source=str(path))

    def save(self, path: str | Path) -> None:
        """Writes the schema as YAML."""
        as_path(path).write_text(self.to_yaml(), "utf-8")

    @classmethod
    def _from_mapping(cls, data: Any) -> "Schema":
        if not isinstance(data, Mapping):
            raise UserError(f"A schema has keys and values. Received: {data!r}")
        features = data.get("features")
        if not isinstance(features, list):
            raise UserError(f"`features` must be a list. Received: {features!r}")
        parsed = tuple(_to_feature(entry, i) for i, entry in enumerate(features))
        return configs.parse(cls, {**data, "features": parsed}, what="schema key")


def _check_duration(
    key: str, text: str | int, may_be_zero: bool = False, hint: str = ""
) -> None:
    try:
        parse_duration(text, may_be_zero)
    except UserError as error:
        raise UserError(f"`{key}`: {error}{hint}") from error


def _choice_to_mapping(choice: CounterChoice) -> dict[str, Any]:
    windows = {} if choice.windows is None else {"windows": list(choice.windows)}
    source = {} if choice.source == EXPOSURES else {"source": choice.source}
    return {"by": choice.by} | windows | source


def _to_mapping(feature: Feature) -> dict[str, Any]:
    """What a schema file says of a feature: what differs from the defaults."""
    mapping: dict[str, Any] = {
        "name": feature.name,
        "role": feature.role,
        "kind": feature.kind,
    }
    for field in dataclasses.fields(feature):
        value = getattr(feature, field.name)
        if field.name not in mapping and value != field.default:
            mapping[field.name] = list(value) if isinstance(value, tuple) else value
    return mapping


def _to_feature(entry: Any, index: int) -> Feature:
    key = f"features[{index}]"
    if not isinstance(entry, Mapping):
        raise UserError(f"`{key}` must hold keys and values. Received: {entry!r}")
    for needed in ("name", "role", "kind"):
        if needed not in entry:
            raise UserError(f"`{key}` lacks `{needed}`. Received: {entry!r}")
    if "computed" in entry:
        raise UserError(
            f"`{key}`: computed features are not declared. Received: {entry!r}"
        )
    try:
        cls = kind_class(entry["kind"])
    except UserError as error:
        raise UserError(f"Feature '{entry['name']}': {error}") from error
    values = {k: v for k, v in entry.items() if k != "kind"}
    return configs.parse(cls, values, key, what=f"key of a {cls.kind} feature")
