"""A user's exposures of late: which rows are one slate, and which one exposure.

In whatever order rows come, they are grouped as `pipelines.slates` and
`pipelines.exposures` do it: rows of a request id closer than the session gap are a
slate, and rows of a slate and item an exposure, its first row's, of whose clicks the
earliest counts, and says what it is as a behavior. Without a request id it is the rows
of one time and item.
"""

import collections
import dataclasses
import functools
from typing import Any, NamedTuple

import msgpack


class Exposure(NamedTuple):
    """One exposure, or one row of it.

    Args:
        time: of the first row, in ticks.
        keys: for each counter, the key of the state that it counts in.
        row: item features, of the first row.
        click: from when its click is known; None without one.
        told: time of the row that tells the click.
        behavior: behavior features, of that row.
    """

    time: int
    keys: list[bytes | None]
    row: dict
    click: int | None
    told: int
    behavior: dict

    @property
    def as_behavior(self) -> dict:
        """What its click is as a behavior; see `Timeline.add`."""
        return self.row | self.behavior

    def merged(self, other: "Exposure") -> "Exposure":
        """Both as one; this one is the first where the times are equal."""
        first = other if other.time < self.time else self
        clicks = [e for e in (self, other) if e.click is not None]
        click = min(clicks, key=lambda e: (e.click, e.told), default=first)
        return first._replace(
            click=click.click, told=click.told, behavior=click.behavior
        )


@dataclasses.dataclass(eq=False)
class _Slate:
    request: object
    first: int
    last: int
    exposures: dict[Any, Exposure]

    def is_near(self, time: int, gap: int) -> bool:
        return self.first - gap < time < self.last + gap


class Slates:
    """One user's slates.

    Args:
        gap: of a session, in ticks.
        data: as `to_bytes` wrote it; none where None.
    """

    def __init__(self, gap: int, data: bytes | None = None):
        self._gap = gap
        self._slates: dict[tuple, list[_Slate]] = collections.defaultdict(list)
        for request, first, last, of in _unpacked(data):
            exposures = {item: Exposure(*values) for item, values in of}
            slate = _Slate(request, first, last, exposures)
            self._slates[_key(request, first)].append(slate)

    def to_bytes(self, after: int) -> bytes:
        """For the store, without slates that ended before a time."""
        slates = (slate for of in self._slates.values() for slate in of)
        return msgpack.packb(
            [
                [slate.request, slate.first, slate.last, list(slate.exposures.items())]
                for slate in slates
                if slate.last >= after
            ]
        )

    def add(
        self, request: object, item: object, row: Exposure
    ) -> list[tuple[object, list[Exposure], Exposure]]:
        """Adds a row; it may join slates that were apart.

        Args:
            request: id, or None.
            item: raw id.
            row: as an exposure of its own.

        Returns:
            Of the row's item, and of others in slates that were joined: the exposures
            that there were of it, and the one that there is now.
        """
        slates = self._slates[_key(request, row.time)]
        near = [slate for slate in slates if slate.is_near(row.time, self._gap)]
        if not near:
            near = [_Slate(request, row.time, row.time, {})]
            slates += near
        slate, *others = near
        changed = []
        for name in dict.fromkeys([item, *(n for s in others for n in s.exposures)]):
            there = [s.exposures[name] for s in near if name in s.exposures]
            rows = [*there, row] if name == item else there
            slate.exposures[name] = functools.reduce(Exposure.merged, rows)
            changed.append((name, there, slate.exposures[name]))
        slate.first = min(row.time, *(s.first for s in near))
        slate.last = max(row.time, *(s.last for s in near))
        for other in others:
            slates.remove(other)
        return changed


def _key(request: object, time: int) -> tuple:
    """What rows of one slate share."""
    return (request,) if request is not None else (None, time)


def _unpacked(data: bytes | None) -> list:
    return [] if data is None else msgpack.unpackb(data, strict_map_key=False)
