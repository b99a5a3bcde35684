"""Tables that are cut into rows over the workers of a training.

Row r of every table lies on worker r % W, with its slots (`ctr_tf.tables.shard`). In a
step each worker sends the ids that it looks up to their owners, each id once, and gets
rows; afterwards it sends the rows' gradients the same way. An owner adds up what it got
for a row, in the order of the workers, and updates the row once.

    ids      [W, c] int      which rows, local to their owner; -1 fills up
    rows     [W, c, width]   their values, back
    of rows  [W, c, width]   their gradients

c, the capacity, is the most ids that any worker has for any other, rounded up. Tables
of one width travel together. Rows lie in the hosts' memory.
"""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.own_variables import own_variables
from ctr_tf.tables.row_wise_optimizers import RowWiseOptimizer, unique_rows
from ctr_tf.tables.shard import place
from ctr_tf.tables.tables import Lookups, Tables
from ctr_tf.tables.wire import Wire

_IDS, _IDS_AGAIN, _ROWS, _GRADIENTS, _EXCHANGES = range(5)  # of one width
# Eight sizes between two powers of two: few shapes, and little that only fills up.
_CAPACITIES = sorted({(8 + part) << power for part in range(8) for power in range(21)})


class _Group:
    """Tables of one width, whose rows on a worker are numbered one table after another.

    Args:
        tables: name → table.
        workers: number of them.
    """

    def __init__(self, tables: Mapping[str, EmbeddingTable], workers: int):
        self.tables = dict(tables)
        self.width = next(iter(self.tables.values())).width
        sizes = [-(-table.rows // workers) for table in self.tables.values()]
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        self.starts = dict(zip(self.tables, starts, strict=True))
        # What is sent; fewer bytes where they are enough.
        self.dtype = tf.int32 if sum(sizes) <= tf.int32.max else tf.int64

    def split(self, keys: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Of each table, places among `keys` `[n]`, and its rows there."""
        starts = tf.constant(list(self.starts.values()), keys.dtype)
        table = tf.searchsorted(starts, keys, side="right")  # 0: it fills up
        parts = len(self.tables) + 1
        places = tf.dynamic_partition(tf.range(tf.size(keys)), table, parts)[1:]
        rows = tf.dynamic_partition(keys, table, parts)[1:]
        begun = zip(rows, self.starts.values(), strict=True)
        return places, [own - start for own, start in begun]


@dataclasses.dataclass(frozen=True)
class _Route:
    """Which way the rows of some lookups in tables of one width go.

    Args:
        group: the tables.
        number: of the group.
        lookups: in these tables.
        places: name of a lookup → for each id, the place of its row in what is sent.
        asked: `[W * c]`, rows that the workers ask of this one.
        capacity: c.
    """

    group: _Group
    number: int
    lookups: Lookups
    places: dict[str, tf.Tensor]
    asked: tf.Tensor
    capacity: tf.Tensor


class ShardedTables(Tables):
    """Tables of which each worker has a share of the rows, and the optimizer of these.

    Its methods are those of `ReplicatedTables`. Every worker has one replica.

    Args:
        tables: name → table, built, all cut alike.
        optimizer: of the rows; None where nothing is trained.
    """

    def __init__(
        self,
        tables: Mapping[str, EmbeddingTable],
        optimizer: RowWiseOptimizer | None = None,
    ):
        super().__init__(tables, optimizer)
        self._workers = self.shard.count
        self._wire = Wire(self.shard)
        widths = dict.fromkeys(table.width for table in self.tables.values())
        self._groups = [
            _Group(
                {name: t for name, t in self.tables.items() if t.width == width},
                self._workers,
            )
            for width in widths
        ]

    def build_slots(self, optimizer: RowWiseOptimizer) -> None:
        """Makes what the optimizer remembers of the rows that are here."""
        with own_variables():
            super().build_slots(optimizer)

    def lookup(self, lookups: Lookups) -> tuple[dict[str, tf.Tensor], list[_Route]]:
        """Gets rows from the workers that have them.

        Args:
            lookups: name → its table, and ids of any shape.

        Returns:
            Name → rows, float32 `[..., width]`; and what `gradients` takes.
        """
        with tf.device("CPU:0"):
            routes = self._routes(lookups, _IDS)
            rows: dict[str, tf.Tensor] = {}
            for route in routes:
                rows |= self._fetched(route)
            return {name: rows[name] for name in lookups}, routes

    def gradients(
        self, routes: list[_Route], of_rows: Mapping[str, tf.Tensor | None]
    ) -> dict[str, tf.IndexedSlices]:
        """Gradients of the rows that are here, over all workers.

        Args:
            routes: from `lookup`.
            of_rows: name → gradient of what `lookup` gave; None: it has none.

        Returns:
            Name of a table → the gradient of its rows here, every row once; for tables
            that have one on any worker.
        """
        lookups = {name: found for r in routes for name, found in r.lookups.items()}
        used = {
            name: (table, ids)
            for name, (table, ids) in lookups.items()
            if of_rows.get(name) is not None and self.tables[table].trainable
        }
        found: dict[str, tf.IndexedSlices] = {}
        with tf.device("CPU:0"):
            if len(used) < len(lookups):  # rows without a gradient must not move
                routes = self._routes(used, _IDS_AGAIN)
            for route in routes:
                found |= self._gathered(route, of_rows)
        return {name: found[name] for name in self.tables if name in found}

    def squared_norm(self, gradients: Mapping[str, tf.IndexedSlices]) -> tf.Tensor:
        """The sum of the squares of all gradients on all workers, a float32 scalar."""
        if not gradients:
            return tf.constant(0.0)
        with tf.device("CPU:0"):
            squares = [2 * tf.nn.l2_loss(g.values) for g in gradients.values()]
            own = tf.reduce_sum(tf.stack(squares))
            first = list(self.tables).index(next(iter(gradients)))
            return self._wire.reduce(own, "Add", 2 + first)

    def apply(self, gradients: Mapping[str, tf.IndexedSlices]) -> None:
        """Updates the rows that are here and have gradients.

        Args:
            gradients: from `gradients`, perhaps scaled.
        """
        if gradients:
            with tf.device("CPU:0"):
                self.updates().apply_here(
                    list(gradients.values()),
                    [self.tables[name].table for name in gradients],
                )

    def _routes(self, lookups: Lookups, purpose: int) -> list[_Route]:
        """Tells the owners which rows are looked up here, and hears what others do."""
        used = [
            (number, group, own)
            for number, group in enumerate(self._groups)
            if (own := {n: v for n, v in lookups.items() if v[0] in group.tables})
        ]
        if not used:
            return []
        sent = [_sorted_out(group, own, self._workers) for _, group, own in used]
        needed = tf.stack([needed for *_, needed in sent])
        capacities = _rounded(self._wire.reduce(needed, "Max", int(purpose != _IDS)))
        routes = []
        for (number, group, own), (keys, owner, slot, inverse, _), capacity in zip(
            used, sent, tf.unstack(capacities), strict=True
        ):
            place_of_key = owner * capacity + slot
            empty = tf.fill([self._workers * capacity], tf.constant(-1, group.dtype))
            asking = tf.tensor_scatter_nd_update(empty, place_of_key[:, None], keys)
            asked = self._exchange(asking[:, None], capacity, number, purpose)[:, 0]
            places = tf.split(
                tf.gather(place_of_key, inverse),
                [tf.size(ids) for _, ids in own.values()],
            )
            places = dict(zip(own, places, strict=True))
            routes.append(_Route(group, number, own, places, asked, capacity))
        return routes

    def _fetched(self, route: _Route) -> dict[str, tf.Tensor]:
        """Gives the others the rows that they asked for, and takes those asked for."""
        group = route.group
        places, rows = group.split(route.asked)
        values = [
            tf.gather(table.table.value, own)
            for table, own in zip(group.tables.values(), rows, strict=True)
        ]
        given = tf.scatter_nd(
            tf.concat(places, 0)[:, None],
            tf.concat(values, 0),
            tf.stack([tf.size(route.asked), group.width]),
        )
        taken = self._exchange(given, route.capacity, route.number, _ROWS)
        found = {}
        for name, (_, ids) in route.lookups.items():
            shape = tf.concat([tf.shape(ids), [group.width]], 0)
            value = tf.reshape(tf.gather(taken, route.places[name]), shape)
            found[name] = tf.ensure_shape(value, [*ids.shape, group.width])
        return found

    def _gathered(
        self, route: _Route, of_rows: Mapping[str, tf.Tensor | None]
    ) -> dict[str, tf.IndexedSlices]:
        """Gives the owners the gradients of their rows, and adds up those it gets."""
        group = route.group
        values = [
            tf.reshape(of_rows[name], (-1, group.width)) for name in route.lookups
        ]
        places = [route.places[name] for name in route.lookups]
        given = tf.math.unsorted_segment_sum(
            tf.concat(values, 0), tf.concat(places, 0), tf.size(route.asked)
        )
        taken = self._exchange(given, route.capacity, route.number, _GRADIENTS)
        real = tf.where(route.asked >= 0)[:, 0]
        own = tf.IndexedSlices(tf.gather(taken, real), tf.gather(route.asked, real))
        own = unique_rows(own)
        places, rows = group.split(own.indices)
        learned = {table for table, _ in route.lookups.values()}
        return {
            name: tf.IndexedSlices(
                tf.gather(own.values, place),
                tf.cast(row, tf.int64),
                tf.constant(list(table.table.shape), tf.int64),
            )
            for (name, table), place, row in zip(
                group.tables.items(), places, rows, strict=True
            )
            if name in learned
        }

    def _exchange(
        self, values: tf.Tensor, capacity: tf.Tensor, number: int, what: int
    ) -> tf.Tensor:
        """Of `values` `[W * capacity, width]`, a part for each worker."""
        width = values.shape[1]
        parts = tf.reshape(values, tf.stack([self._workers, capacity, width]))
        purpose = number * _EXCHANGES + what
        return tf.reshape(self._wire.exchange(parts, purpose), (-1, width))


def _sorted_out(group: _Group, lookups: Lookups, workers: int) -> tuple:
    """Ids of all lookups, each once.

    Returns:
        Of each: its row at its owner, the owner, and how many ids before it have the
        same owner; for all ids as they came, which of these they are; and how many the
        owner of most of them has.
    """
    parts, largest, limits = [], [], []
    for name, ids in lookups.values():
        ids = tf.reshape(tf.cast(ids, tf.int64), (-1,))
        largest.append(tf.reduce_max(tf.bitcast(ids, tf.uint64)))  # also of negative
        limits.append(group.tables[name].rows)
        parts.append(ids + group.starts[name] * workers)
    tf.debugging.assert_less(
        tf.stack(largest),
        tf.constant(limits, tf.uint64),
        "Ids beyond the rows of their tables.",
    )
    ids, inverse = tf.unique(tf.concat(parts, 0))
    owner, keys = place(ids, workers)
    owner = tf.cast(owner, tf.int32)
    belongs = tf.one_hot(owner, workers, dtype=tf.int32)
    slot = tf.reduce_sum(belongs * tf.cumsum(belongs, exclusive=True), axis=1)
    needed = tf.reduce_max(tf.reduce_sum(belongs, axis=0))
    return tf.cast(keys, group.dtype), owner, slot, inverse, needed


def _rounded(capacity: tf.Tensor) -> tf.Tensor:
    sizes = tf.constant(_CAPACITIES)
    return tf.gather(sizes, tf.searchsorted(sizes, capacity))
