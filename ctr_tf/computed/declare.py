"""Which computed features a schema has."""

import dataclasses
from typing import TYPE_CHECKING

from ctr_tf.computed.clock import CLOCKS
from ctr_tf.computed.counters import EXPOSURES, Counter, make_counter
from ctr_tf.computed.slate import SLATE_SIZE, Place
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema.feature import ITEM_KEY, Feature
from ctr_tf.schema.kinds.numeric import Numeric

if TYPE_CHECKING:
    from ctr_tf.schema import Schema


@dataclasses.dataclass(frozen=True)
class Computed:
    """The computed features of a schema, beside its clocks.

    Args:
        counters: of the candidates.
        places: of the candidates, within their slate.
        slate_size: whether the caller states how many candidates are shown.
    """

    counters: tuple[Counter, ...]
    places: tuple[Place, ...]
    slate_size: bool

    @property
    def features(self) -> tuple[Feature, ...]:
        """All declarations, clocks too, in the order of the schema's features."""
        clocks = [c.feature(role) for role in ("behavior", "context") for c in CLOCKS]
        size = [SLATE_SIZE] if self.slate_size else []
        others = [f for counter in self.counters for f in counter.features]
        others += [f for place in self.places for f in place.features]
        return (*clocks, *size, *others)

    @property
    def counts(self) -> tuple[str, ...]:
        """Names of the counters' features: what whoever asks must know."""
        return tuple(f.name for counter in self.counters for f in counter.features)

    @property
    def placed(self) -> tuple[str, ...]:
        """Names of the places' features, which follow from the counters of a slate."""
        return tuple(f.name for place in self.places for f in place.features)


def declare(schema: "Schema", declared: tuple[Feature, ...]) -> Computed:
    """Reads what a schema says of computed features.

    Args:
        schema: `counters`, `places`, `slate_size` and what counters need.
        declared: the features that the log carries.

    Raises:
        UserError: names the key and the value received.
    """
    single = {f.name: f for f in declared if f.role != "behavior"}
    counters, seen = [], set()
    for i, choice in enumerate(schema.counters):
        try:
            counters.append(make_counter(choice, schema, single))
        except UserError as error:
            raise UserError(f"`counters[{i}]`: {error}") from error
        if (choice.by, choice.source) in seen:
            raise UserError(
                f"`counters[{i}]`: there is one already. Received: by={choice.by!r}"
            )
        seen.add((choice.by, choice.source))
    if schema.newness and (ITEM_KEY, EXPOSURES) not in seen:
        known = ", ".join(sorted(by for by, source in seen if source == EXPOSURES))
        raise UserError(
            f"`newness` needs the counter by '{ITEM_KEY}'. Received: counters by "
            f"{known or 'nothing'}"
        )
    counts = [
        f.name
        for counter in counters
        for f in counter.features
        if isinstance(f, Numeric) and f.dtype == "int64"
    ]
    for i, name in enumerate(schema.places):
        if name not in counts:
            raise UserError(
                f"`places[{i}]`: {unknown_name('counter', name, counts)} "
                f"Received: {name!r}"
            )
    places = tuple(Place(name) for name in schema.places)
    return Computed(tuple(counters), places, schema.slate_size)
