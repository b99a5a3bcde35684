"""A share of the training samples: a fixed, nested, counted part of every stream."""

import numpy as np
import pytest
from helpers import make_schema

from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset, num_samples, steps_per_epoch
from ctr_tf.data.share import Share
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)

SAMPLES = 203
SHARES = (0.05, 0.25, 0.3, 0.5, 0.9, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "data"
    schema = make_schema(history_length=8)
    vocabularies = random_vocabularies(schema, 20)
    random = np.random.default_rng(0)
    samples = [
        random_sample(schema, vocabularies, random, int(n), 3)
        for n in random.integers(0, 9, SAMPLES)
    ]
    splits = {"train": samples, "validation": samples[:9], "test": samples[:10]}
    write_prepared(folder, schema, vocabularies, splits, shards=3)
    return folder


def requests(folder, share, split="train", training=False, count=-1, **options):
    config = DataConfig(batch_size=4, train_share=share, shuffle_buffer=32)
    options = {"num_chunks": 4, "metadata": True, **options}
    batches = dataset(folder, split, config, training=training, **options)
    return [
        request
        for batch in batches.take(count)
        for request in batch[3]["request_id"].numpy()
    ]


def test_shares_are_nested_and_exactly_counted(folder):
    smaller = set()
    for share in SHARES:
        found = requests(folder, share)
        config = DataConfig(batch_size=4, train_share=share)
        assert len(set(found)) == len(found) == num_samples(folder, "train", config)
        assert abs(len(found) - share * SAMPLES) <= 2
        assert steps_per_epoch(folder, "train", config) == len(found) // 4
        assert smaller < set(found)
        smaller = set(found)
    assert len(smaller) == SAMPLES


def test_every_epoch_run_and_worker_has_the_same_part(folder):
    share = set(requests(folder, 0.3))
    steps = 3 * len(share) // 4
    for seed in (0, 1):
        stream = requests(folder, 0.3, training=True, count=steps, seed=seed)
        assert set(stream) == share
        first = stream[: len(share) // 4 * 4]
        assert len(set(first)) == len(first)
        rest = {"training": True, "seed": seed, "first_step": 7}
        assert requests(folder, 0.3, count=steps - 7, **rest) == stream[4 * 7 :]
    halves = [
        requests(
            folder, 0.3, training=True, count=9, num_shards=2, shard_index=i, seed=1
        )
        for i in range(2)
    ]
    batches = np.array(stream[: 4 * 9]).reshape(9, 2, 2)
    for half, mine in zip(halves, (batches[:, 0], batches[:, 1]), strict=True):
        assert half == mine.ravel().tolist()


def test_only_the_training_is_cut(folder):
    assert len(requests(folder, 0.3, split="test")) == 10
    config = DataConfig(train_share=0.3)
    assert num_samples(folder, "test", config) == 10


def test_a_share_is_spread_evenly_over_files_and_times():
    numbers = np.arange(1 << 17) + 12_345
    for share in (1 / 64, 1 / 16, 0.25, 0.7):
        kept = Share(share).has(numbers).reshape(-1, 1 << 11).sum(1)
        assert np.abs(kept - share * (1 << 11)).max() <= 4


def test_counts_of_many_samples_need_no_walk_through_them():
    samples = (1 << 21) + 100_001
    for share in (1e-9, 1 / 3, 1.0):
        walked = np.flatnonzero(Share(share).has(np.arange(samples)))
        assert Share(share).count(samples) == len(walked) >= 1
        places = np.arange(0, len(walked), 1_013)
        np.testing.assert_array_equal(Share(share).number(places), walked[places])
        assert (Share(share).count(walked[places]) == places).all()
    assert Share(1.0).count(samples) == samples
    assert Share(0.25).count(1 << 40) == 1 << 38


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
def test_a_share_that_is_none_is_told(share):
    with pytest.raises(ValueError, match="`data.train_share` must be above 0"):
        DataConfig(train_share=share)
