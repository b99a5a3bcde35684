"""Where, in time, validation and test begin, and samples at all."""

import dataclasses
import datetime
import re

import numpy as np

from ctr_tf.errors import UserError
from ctr_tf.schema import Schema
from ctr_tf.time import DAY, MAX_TIME, MIN_TIME, parse_duration
from pipelines.sources.source import Split

_NEVER = np.iinfo(np.int64).max


def parse_time(option: str, text: str) -> int:
    """Reads unix seconds, or an ISO date-time (UTC where it has no offset).

    Args:
        option: the option's name, for the error message.
        text: its value.

    Raises:
        UserError: if it is neither, or seconds that are rather a date.
    """
    if re.fullmatch(r"-?[0-9]+", text):
        if int(text) >= MIN_TIME:
            return int(text)
        raise UserError(
            f"`--{option}` must be an ISO date-time, such as 2024-05-01T00:00, or unix "
            f"seconds from {MIN_TIME:,} on; earlier ones are written as a date-time. "
            f"Received: {text!r}"
        )
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"`--{option}` must be an ISO date-time, such as 2024-05-01T00:00, or unix "
            f"seconds. Received: {text!r}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp())


@dataclasses.dataclass(frozen=True)
class Period:
    """When requests are made samples of; others are only known to those.

    Args:
        start: unix seconds, of the first; None: from the log's begin.
        stop: unix seconds, past the last; None: to the log's end.

    Raises:
        UserError: if it ends before it begins.
    """

    start: int | None = None
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.stop is not None and self.start > self.stop:
            raise UserError(
                "`--samples_from` must not be after `--samples_until`. "
                f"Received: {date_of(self.start)} and {date_of(self.stop)}"
            )

    def has(self, times: np.ndarray) -> np.ndarray:
        """Which unix seconds lie in it, bool."""
        inside = np.ones(len(times), bool)
        if self.start is not None:
            inside &= times >= self.start
        if self.stop is not None:
            inside &= times < self.stop
        return inside

    def first_known(self, schema: Schema) -> int:
        """Unix seconds, before which nothing is known to any of its samples.

        Before the horizon of the first one by what a slate that began earlier may have
        of it, a day or `session_gap`, and by what a click may be known later.
        """
        if self.start is None or schema.horizon is None:
            return 0
        resolution = parse_duration(schema.counter_resolution, may_be_zero=True)
        slate = max(DAY, parse_duration(schema.session_gap))
        delay = parse_duration(schema.feedback_delay, may_be_zero=True)
        return max(0, schema.known_since(self.start - resolution) - slate - delay)


ALWAYS = Period()


class SplitRule:
    """Decides when validation and test begin.

    Args:
        default: the source's own way to split.
        validation_from: unix seconds; None for another rule.
        test_from: likewise.
        validation_days: length of the validation, which ends where the test begins.
        test_days: length of the test, which ends with the last exposure.
        period: of the samples: exposures outside of it count for no rule, and what
            begins after it begins at its end.

    Attributes:
        meant_empty: splits of no days.

    Raises:
        UserError: if two rules are given for one split, or one is negative.
    """

    def __init__(
        self,
        default: Split,
        validation_from: int | None = None,
        test_from: int | None = None,
        validation_days: float | None = None,
        test_days: float | None = None,
        period: Period = ALWAYS,
    ):
        for name, start, days in (
            ("validation", validation_from, validation_days),
            ("test", test_from, test_days),
        ):
            if start is not None and days is not None:
                raise UserError(
                    f"Give `--{name}_from` or `--{name}_days`, not both. "
                    f"Received: {start} and {days}"
                )
            if days is not None and days < 0:
                raise UserError(
                    f"`--{name}_days` must not be negative. Received: {days}"
                )
        self._default = default
        self._from = validation_from, test_from
        self._days = validation_days, test_days
        self.meant_empty = [
            name
            for name, days in (("validation", validation_days), ("test", test_days))
            if days == 0
        ]
        self.period = period

    def starts(self, times: np.ndarray, counts: np.ndarray) -> tuple[int, int]:
        """When validation and test begin, unix seconds.

        Args:
            times: of the exposures, ascending, each once.
            counts: exposures at each of them.

        Raises:
            UserError: if the test would begin before the validation.
        """
        end = _NEVER if self.period.stop is None else self.period.stop
        inside = self.period.has(times)
        times, counts = times[inside], counts[inside]
        if not len(times):
            return end, end
        default = self._default
        test = self._start(1, default.test_start, int(times[-1]) + 1)
        if test is None:
            test = _quantile(times, counts, default.test_fraction)
        validation = self._start(0, default.validation_start, test)
        if validation is None:
            earlier = times < test
            fraction = default.validation_fraction * counts.sum()
            fraction /= max(1, counts[earlier].sum())
            validation = min(test, _quantile(times[earlier], counts[earlier], fraction))
        if validation > test:
            raise UserError(
                "The validation must begin before the test. Received: validation from "
                f"{date_of(validation)}, test from {date_of(test)}"
            )
        return min(validation, end), min(test, end)

    def _start(self, place: int, default: int | None, end: int) -> int | None:
        if self._from[place] is not None:
            return self._from[place]
        days = self._days[place]
        if days is not None:
            return end - int(days * DAY)
        return default


def _quantile(times: np.ndarray, counts: np.ndarray, fraction: float) -> int:
    """The first time of the latest `fraction` of exposures."""
    before = np.cumsum(counts) - counts
    place = np.searchsorted(before, (1 - fraction) * counts.sum(), side="left")
    return int(times[place]) if place < len(times) else _NEVER


def date_of(time: int) -> str:
    """Unix seconds as an ISO date-time, UTC; those of no year that there is as such."""
    if time >= MAX_TIME:
        return "the end of the log"
    return datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat()


def nothing_since(since: int) -> UserError:
    """The error for a log whose exposures are all older than any sample knows."""
    return UserError(
        f"The log has no exposures since {date_of(since)}, from when on the schema's "
        "`horizon` lets them count for `--samples_from`. Received: older ones alone"
    )
