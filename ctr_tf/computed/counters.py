"""Counters: how often something happened before a request, and how long ago.

A counter looks at the earlier exposures, of all users, that have a value in common with
the candidate: its item, its author, or both that and the user. Events go by the buckets
of `counter_resolution`: what happened in the request's own bucket is not counted yet,
and a window of two hours is the 120 buckets of 60 seconds before it. So a store holds
sums of buckets, and nothing that a request counts can still change.

An impression is an event at its own time; a click is one from when it could be known:
the row's `click_time`, or `feedback_delay` after the exposure. Where a counter's source
are the behaviors, the log's own behaviors are its events, those that are no clicks.
"""

import dataclasses
import functools
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ctr_tf.computed.event_index import EventIndex, Events, GroupEvents
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema.feature import ITEM_KEY, MISSING, USER_KEY, Feature
from ctr_tf.schema.kinds.bucketized import Bucketized
from ctr_tf.schema.kinds.numeric import Numeric
from ctr_tf.time import DAY, day_before, parse_duration

if TYPE_CHECKING:
    from ctr_tf.schema import Schema

ALL = "all"  # the window without a beginning
NEVER = MISSING["int64"]
NO_CLICK = -1  # in place of the time at which a click is known
NOT_SHOWN = -1  # in place of the time of a candidate that was drawn, not shown
EXPOSURES, BEHAVIORS = "exposures", "behaviors"
_EVENTS = {EXPOSURES: ("impressions", "clicks"), BEHAVIORS: ("behaviors",)}
_CROSS = re.compile(rf"{USER_KEY} x (\w+)")
_HOUR = 3_600
_BLOCK = 1 << 20  # exposures whose values are looked up at once, for memory


@dataclasses.dataclass(frozen=True)
class CounterChoice:
    """A counter as a schema declares it.

    Args:
        by: what exposures are counted by: the name of a categorical feature of single
            values (`item_id`, `author`, …), `user_id`, or either's cross with the user,
            `user_id x author`.
        windows: such as `2h`, or `all`; by default the schema's `counter_windows`, and
            `all` where the user is a part.
        source: what is counted: `"exposures"`, impressions and clicks, or
            `"behaviors"` of the log.
    """

    by: str
    windows: tuple[str | int, ...] | None = None
    source: str = EXPOSURES


@dataclasses.dataclass(frozen=True)
class Counter:
    """Impressions and clicks, or behaviors, that share a value with the candidate.

    Args:
        by: see `CounterChoice`.
        windows: durations, or `"all"`.
        resolution: of the buckets, in ticks, at least 1.
        ticks: units of the log's time in a second.
        newness: whether to tell how new an item is, as a number.
        source: see `CounterChoice`.
        horizon: the schema's, such as `90d`; None: all that ever happened counts.
    """

    by: str
    windows: tuple[str, ...]
    resolution: int
    ticks: int = 1
    newness: bool = False
    source: str = EXPOSURES
    horizon: str | None = None

    @property
    def counts_behaviors(self) -> bool:
        """Whether its events are the log's behaviors, not exposures."""
        return self.source == BEHAVIORS

    @property
    def key(self) -> str:
        """The feature whose value is shared; `user_id` for the user alone."""
        cross = _CROSS.fullmatch(self.by)
        return cross[1] if cross else self.by

    @property
    def of_user(self) -> bool:
        """Whether only the same user's exposures count."""
        return self.by == USER_KEY or _CROSS.fullmatch(self.by) is not None

    @functools.cached_property
    def longest(self) -> int:
        """The longest window in ticks, apart from `"all"`."""
        spans = [self._span(window) for window in self.windows if window != ALL]
        return max(spans, default=0)

    @functools.cached_property
    def features(self) -> tuple[Feature, ...]:
        """The declarations, features of candidates."""
        counts = [
            Numeric(
                self._name(what, window),
                "candidate",
                "int64",
                transform="log1p",
                computed=True,
                description=self._sentence(what, window),
            )
            for window in self.windows
            for what in _EVENTS[self.source]
        ]
        return (*counts, *self._ages())

    def _ages(self) -> list[Feature]:
        ages = []
        if self.is_cross:
            for what, done in self._done:
                sentence = f"seconds since the last {done} {self._whose} {self._ever}"
                name = f"since_{self._of_key}{what}"
                ages.append(_age(name, f"{sentence}, missing without one; {self._t}"))
        if self.tells_age:
            first = f"the first impression {self._whose}"
            without = f"where there is none {self._ever}"
            if self.horizon is not None:
                first = f"{first} {self._ever}, rounded down likewise"
                without = "where there is none"
            description = f"seconds since {first}, missing {without}; {self._t}"
            ages.append(_age("item_age", description))
            if self.newness:
                description = f"-log(1 + hours since {first}), 0 {without}; {self._t}"
                ages.append(
                    Numeric(
                        "newness", "candidate", computed=True, description=description
                    )
                )
        return ages

    def values(
        self, shown: Events, clicked: Events, request_time: np.ndarray | int
    ) -> dict[str, np.ndarray]:
        """All the counter's features; the batch form and the online form in one.

        Args:
            shown: events of each candidate's group, see `GroupEvents`: impressions, or
                behaviors.
            clicked: the same, clicks, at the times from which they are known; of
                behaviors there are none.
            request_time: in ticks, one a candidate.

        Returns:
            Feature name → int64 (newness float32), one a candidate.
        """
        now = self.bucket_of(request_time)
        since = self.known_since(now)
        result = {}
        for what, events in zip(_EVENTS[self.source], (shown, clicked), strict=False):
            until = events.before(now)
            for window in self.windows:
                start = since if window == ALL else now - self._span(window)
                result[self._name(what, window)] = until - events.before(start)
        if self.is_cross:
            for (what, _), events in zip(self._done, (shown, clicked), strict=False):
                last = events.last_before(now)
                if since is not None:
                    last = np.where(last < since, -1, last)
                age = self._age_of(last, request_time)
                result[f"since_{self._of_key}{what}"] = age
        if self.tells_age:
            first = shown.first(since)
            if since is not None:
                first = np.where(first < 0, -1, self.bucket_of(first))
            first = np.where(first < now, first, -1)
            result["item_age"] = age = self._age_of(first, request_time)
            if self.newness:
                hours = np.where(age == NEVER, 0, age) / _HOUR
                result["newness"] = -np.log1p(hours).astype(np.float32)
        return result

    def batch(
        self,
        group: np.ndarray,
        time: np.ndarray,
        click_time: np.ndarray,
        request_time: np.ndarray | int,
    ) -> dict[str, np.ndarray]:
        """The counter's features of every exposure, from all exposures.

        Args:
            group: code of the value that each exposure is counted by.
            time: of the exposure itself, in ticks, as all times here; `NOT_SHOWN` for
                what counts others and is not counted.
            click_time: when its click could be known, `NO_CLICK` without one.
            request_time: as of when to count.

        Returns:
            See `values`.
        """
        is_click = click_time != NO_CLICK
        clicks = EventIndex(group[is_click], click_time[is_click])
        is_shown = time != NOT_SHOWN
        shown = EventIndex(group[is_shown], time[is_shown])
        as_of = np.broadcast_to(request_time, group.shape)
        result: dict[str, np.ndarray] = {}
        for start in range(0, max(len(group), 1), _BLOCK):
            block = slice(start, start + _BLOCK)
            own = group[block]
            values = self.values(
                GroupEvents(shown, own), GroupEvents(clicks, own), as_of[block]
            )
            for name, part in values.items():
                if name not in result:
                    result[name] = np.empty(len(group), part.dtype)
                result[name][block] = part
        return result

    def bucket_of(self, time: Any) -> Any:
        """When the bucket of the counter's resolution begins that a time lies in."""
        return time // self.resolution * self.resolution

    def known_since(self, now: Any) -> Any:
        """From when on events count at a bucket's beginning; None: from any start."""
        if self.horizon is None:
            return None
        return day_before(now, parse_duration(self.horizon), self.ticks)

    @property
    def is_cross(self) -> bool:
        """Whether exposures share both the user and another value."""
        return self.of_user and self.key != USER_KEY

    @property
    def tells_age(self) -> bool:
        """Whether it tells how old an item is, to the second of the request."""
        return self.by == ITEM_KEY and not self.counts_behaviors

    @property
    def _done(self) -> tuple[tuple[str, str], ...]:
        """How names and sentences of ages tell the events."""
        if self.counts_behaviors:
            return (("behavior", "behavior"),)
        return ("shown", "impression"), ("clicked", "click")

    @property
    def _of_key(self) -> str:
        """How names of features tell the key: not at all for an item."""
        return "" if self.key == ITEM_KEY else f"{self.key}_"

    def _name(self, what: str, window: str) -> str:
        user = "user_" if self.is_cross else ""
        suffix = "" if window == ALL else f"_{window}"
        return f"{user}{self._of_key}{what}{suffix}"

    def _span(self, window: str) -> int:
        return parse_duration(window) * self.ticks

    @property
    def _whose(self) -> str:
        if self.key == USER_KEY:
            return "of anything by this user"
        what = "of the candidate's item"
        if self.key != ITEM_KEY:
            what = f"with the candidate's {self.key}"
        return f"{what} by {'this' if self.of_user else 'any'} user"

    @property
    def _t(self) -> str:
        if self.resolution == 1:
            return "t is the request's time"
        seconds = self.resolution / self.ticks
        return f"t is the request's time, rounded down to {seconds:g} s"

    @property
    def _ever(self) -> str:
        """How sentences tell the time in which events count at all."""
        if self.horizon is None:
            return "before t"
        return f"before t, from the UTC day of t - {self.horizon} on"

    def _sentence(self, what: str, window: str) -> str:
        span = self._ever if window == ALL else f"in [t - {window}, t)"
        return f"{what} {self._whose} {span}; {self._t}"

    def _age_of(self, time: np.ndarray, request_time: np.ndarray | int) -> np.ndarray:
        return np.where(time < 0, NEVER, (request_time - time) // self.ticks)


def _age(name: str, description: str) -> Feature:
    return Bucketized(
        name, "candidate", "int64", log2=True, computed=True, description=description
    )


def make_counter(
    choice: CounterChoice, schema: "Schema", declared: dict[str, Feature]
) -> Counter:
    """A counter from its declaration.

    Args:
        choice: of the schema.
        schema: has windows, resolution, ticks and newness.
        declared: name → feature, of all roles but behaviors'.

    Raises:
        UserError: names what cannot be counted by, or the window.
    """
    resolution = parse_duration(schema.counter_resolution, may_be_zero=True)
    if choice.source not in _EVENTS:
        raise UserError(unknown_name("`source`", choice.source, _EVENTS))
    windows = choice.windows
    if windows is None:
        windows = schema.counter_windows
        if Counter(choice.by, (), 1).of_user:
            windows = (ALL,)
    counter = Counter(
        choice.by,
        tuple(map(str, windows)),
        max(resolution * schema.ticks, 1),
        schema.ticks,
        schema.newness,
        choice.source,
        None if schema.horizon is None else str(schema.horizon),
    )
    if counter.horizon is not None:
        _check_horizon(counter, counter.horizon, schema)
    if counter.key != USER_KEY:
        feature = declared.get(counter.key)
        if feature is None:
            known = (USER_KEY, *(n for n, f in declared.items() if _can_count_by(f)))
            raise UserError(
                f"{unknown_name('feature to count by', counter.key, known)} "
                f"Received: by={choice.by!r}"
            )
        if not _can_count_by(feature):
            raise UserError(
                "Exposures are counted by a categorical feature of single values. "
                f"Received: by={choice.by!r}, of kind '{feature.kind}' and length "
                f"{feature.length}"
            )
        if counter.counts_behaviors and feature.role not in ("item", "user"):
            raise UserError(
                "Behaviors are counted by features of items or users. Received: "
                f"by={choice.by!r}, of role '{feature.role}'"
            )
    if not counter.features:
        raise UserError(f"The counter by '{choice.by}' needs a window. Received: []")
    for window in counter.windows:
        if window != ALL and resolution and parse_duration(window) % resolution:
            raise UserError(
                "A window is a whole number of buckets of `counter_resolution`, "
                f"{schema.counter_resolution}. Received: '{window}'"
            )
    return counter


def _check_horizon(counter: Counter, horizon: str, schema: "Schema") -> None:
    if counter.longest > parse_duration(horizon) * counter.ticks:
        raise UserError(
            f"No window is longer than the schema's `horizon`, {horizon}. "
            f"Received: windows={list(counter.windows)}"
        )
    if DAY * counter.ticks % counter.resolution:
        raise UserError(
            "With a `horizon`, `counter_resolution` divides a day. "
            f"Received: {schema.counter_resolution!r}"
        )


def _can_count_by(feature: Feature) -> bool:
    return feature.stores_ids and feature.length == 1
