"""Tables cut over workers hold, learn and save what whole ones do.

Workers are threads here, with a wire of their own; `tests/training/test_distribution`
has real processes.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.replicated import ReplicatedTables
from ctr_tf.tables.row_wise_optimizers import (
    RowScalarAdagrad,
    RowWiseAdagrad,
    RowWiseAdam,
)
from ctr_tf.tables.saved_tables import missing_shards, read_rows
from ctr_tf.tables.shard import Shard
from ctr_tf.tables.sharded import ShardedTables
from ctr_tf.tables.wire import Wire

SIZES = {"items": (23, 4), "users": (40, 4), "days": (2, 4), "wide": (31, 6)}
STEPS = 3


class ThreadsWire(Wire):
    """As `Wire`, between the threads of one process, whose places are not in order."""

    def __init__(self, shard, sent, barrier):
        super().__init__(shard)
        self.sent = sent
        self.barrier = barrier
        self.places = sorted(range(shard.count), key=lambda index: (index * 7) % 5)

    def _all(self, values, purpose):
        self.barrier.wait()
        self.sent[self._worker] = (purpose, values)
        self.barrier.wait()
        every = [self.sent[index] for index in range(self.barrier.parties)]
        assert len({(what, tuple(v.shape)) for what, v in every}) == 1
        return [v for _, v in every]

    def all_to_all(self, values, key):
        every = self._all(values, ("exchange", int(key)))
        own = self.places.index(self._worker)
        return tf.stack([every[worker][own] for worker in self.places])

    def reduce(self, values, how, purpose):
        every = self._all(values, (how, purpose))
        together = {"Max": tf.reduce_max, "Add": tf.reduce_sum}[how]
        return together(tf.stack(every), axis=0)


def make(optimizer=None, shard=None, seed=0, sizes=SIZES):
    tables = {}
    for index, (name, (rows, width)) in enumerate(sizes.items()):
        tables[name] = EmbeddingTable(rows, width, seed=seed + index)
        if shard is not None:
            tables[name].cut(shard)
        tables[name].build()
    store = ReplicatedTables if shard is None or shard.is_whole else ShardedTables
    return store(tables, optimizer and optimizer(0.1))


def on_workers(count, work, optimizer=None, **options):
    """What `work(store, index)` returns on each worker."""
    stores = [make(optimizer, Shard(index, count), **options) for index in range(count)]
    sent, barrier = {}, threading.Barrier(count, timeout=60)

    def run(index):
        stores[index]._wire = ThreadsWire(Shard(index, count), sent, barrier)
        try:
            return work(stores[index], index)
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def lookups(step, index, workers):
    """A worker's share of a step's samples; the last worker has few of them."""
    random = np.random.default_rng(step)
    ids = {
        "seen": ("items", random.integers(0, 23, (12, 3))),
        "shown": ("items", random.integers(0, 5, (12,))),
        "asked": ("users", random.integers(30, 40, (12, 2))),
        "day": ("days", random.integers(0, 2, (12, 1))),
        "extra": ("wide", random.integers(0, 31, (12,))),
        "unlearned": ("users", random.integers(0, 30, (12,))),
    }
    own = np.arange(12) % workers == index
    return {
        name: (table, tf.constant(value[own])) for name, (table, value) in ids.items()
    }


def gradient(rows, step):
    """Of any row looked up, from its values: the same wherever it is looked up."""
    return {
        name: None if name == "unlearned" else tf.sin(value * (step + 1)) * 3
        for name, value in rows.items()
    }


def learn(store, index=0, workers=1):
    norms = []
    for step in range(STEPS):
        rows, looked_up = store.lookup(lookups(step, index, workers))
        gradients = store.gradients(looked_up, gradient(rows, step))
        norms.append(float(store.squared_norm(gradients)))
        store.apply(gradients)
    return [v.numpy() for v in store.variables], norms


def joined(parts):
    """Whole variables of the shares that workers have."""
    if parts[0].ndim == 0:
        assert len(set(map(float, parts))) == 1
        return parts[0]
    rows = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    for index, part in enumerate(parts):
        rows[index :: len(parts)] = part
    return rows


@pytest.mark.parametrize("workers", [2, 3, 5])
@pytest.mark.parametrize("optimizer", [RowWiseAdam, RowWiseAdagrad, RowScalarAdagrad])
def test_workers_learn_what_one_learns(optimizer, workers):
    expected, norms = learn(make(optimizer))
    found = on_workers(workers, lambda s, i: learn(s, i, workers), optimizer)
    for variables, whole in zip(
        zip(*(variables for variables, _ in found), strict=True), expected, strict=True
    ):
        np.testing.assert_allclose(joined(variables), whole, rtol=1e-6, atol=1e-6)
    for _, own in found:
        assert own == pytest.approx(norms, rel=1e-6)
    untouched = make().export()["users"].numpy()[:30]
    np.testing.assert_array_equal(expected[1][:30], untouched)  # no gradient
    assert (expected[1][30:] != make().export()["users"].numpy()[30:]).any()


def test_each_worker_has_its_share_in_memory():
    one = sum(v.numpy().nbytes for v in make(RowWiseAdam).variables)
    shares = on_workers(
        2, lambda s, _: sum(v.numpy().nbytes for v in s.variables), RowWiseAdam
    )
    assert max(shares) <= 0.6 * one


def test_a_worker_without_samples_takes_part():
    def work(store, index):
        ids = [[3, 5, 3]] if index else np.zeros((0, 3), np.int64)
        rows, looked_up = store.lookup({"a": ("items", tf.constant(ids))})
        found = store.gradients(looked_up, {"a": tf.ones_like(rows["a"])})
        return rows["a"].numpy(), found["items"]

    (none, of_first), (rows, of_second) = on_workers(2, work)
    table = make().export()["items"].numpy()
    np.testing.assert_array_equal(rows, table[[[3, 5, 3]]])
    assert none.shape == (0, 3, 4)
    assert len(of_first.indices) == 0
    np.testing.assert_array_equal(of_second.indices, [1, 2])
    np.testing.assert_array_equal(of_second.values.numpy()[:, 0], [2, 1])


def test_ids_travel_once_and_tables_of_one_width_together():
    def work(store, index):
        wire, sent = store._wire, []
        exchange = wire.exchange
        wire.exchange = lambda v, purpose: sent.append(v) or exchange(v, purpose)
        items = tf.constant([7] * 500 + [9])
        users = tf.constant([index])
        rows, looked_up = store.lookup({"a": ("items", items), "b": ("users", users)})
        ids = [values for values in sent if values.dtype == tf.int32]
        store.gradients(looked_up, {n: tf.ones_like(v) for n, v in rows.items()})
        return [int((values >= 0).numpy().sum()) for values in ids], len(sent)

    for asked, exchanges in on_workers(2, work):
        assert asked == [3] and exchanges == 3


@pytest.mark.parametrize("wrong", [23, -1])
def test_an_id_beyond_its_table_is_no_row_of_another(wrong):
    def work(store, index):
        store.lookup({"a": ("items", tf.constant([1, wrong]))})

    with pytest.raises(
        tf.errors.InvalidArgumentError, match="beyond the rows of their"
    ):
        on_workers(2, work)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 3), (2, 2), (5, 2)])
def test_any_number_of_workers_goes_on_from_any_other(before, after, tmp_path):
    def save(store, index):
        learned, _ = learn(store, index, before)
        store.save(tmp_path)
        return learned

    def load(store, _):
        store.load(tmp_path)
        return [v.numpy() for v in store.variables]

    saved = on_workers(before, save, RowWiseAdam)
    loaded = on_workers(after, load, RowWiseAdam, seed=100)
    for one, other in zip(
        zip(*saved, strict=True), zip(*loaded, strict=True), strict=True
    ):
        np.testing.assert_array_equal(joined(one), joined(other))
    items = joined([own[0] for own in saved])
    np.testing.assert_array_equal(
        read_rows(tmp_path, "items", np.array([22, 0, 7])), items[[22, 0, 7]]
    )


def test_a_shard_that_is_missing_is_named(tmp_path):
    on_workers(3, lambda store, _: store.save(tmp_path), RowWiseAdam)
    (tmp_path / "tables-00001-of-00003.index").unlink()
    assert missing_shards(tmp_path, [Shard(i, 3) for i in range(3)]) == [
        "tables-00001-of-00003"
    ]
    for count in (1, 2, 3):
        with pytest.raises(FileNotFoundError, match="lacks tables-00001-of-00003"):
            on_workers(count, lambda store, _: store.load(tmp_path), RowWiseAdam)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_other_tables_are_told_with_the_sizes_of_the_whole(count, tmp_path):
    on_workers(2, lambda store, _: store.save(tmp_path), RowWiseAdam)
    other = SIZES | {"users": (42, 4)}
    with pytest.raises(ValueError) as error:
        on_workers(count, lambda s, _: s.load(tmp_path), RowWiseAdam, sizes=other)
    assert "'users' must have the shape [42, 4]. Received: [40, 4]" in str(error.value)
