"""Which rows are a worker's, and what cannot be cut."""

import types

import pytest

from ctr_tf.tables.shard import Shard
from ctr_tf.training import distribution
from ctr_tf.training.config import TrainingConfig


def strategy(replicas):
    return types.SimpleNamespace(num_replicas_in_sync=replicas)


def test_rows_are_cut_over_workers_of_one_replica(monkeypatch):
    monkeypatch.setattr(distribution, "worker", lambda _: (1, 4))
    assert distribution.shard_of("sharded", strategy(4)) == Shard(1, 4)
    assert distribution.shard_of("replicated", strategy(8)).is_whole
    with pytest.raises(ValueError, match="tables=sharded, workers=4, replicas=8"):
        distribution.shard_of("sharded", strategy(8))


def test_one_process_has_all_rows_and_two_devices_of_it_are_refused(monkeypatch):
    monkeypatch.setattr(distribution, "worker", lambda _: (0, 1))
    assert distribution.shard_of("sharded", strategy(1)).is_whole
    with pytest.raises(ValueError, match="workers=1, replicas=2"):
        distribution.shard_of("sharded", strategy(2))


def test_an_unknown_kind_of_tables():
    with pytest.raises(ValueError, match="Unknown training.tables 'shard'. Did you me"):
        TrainingConfig(tables="shard")
