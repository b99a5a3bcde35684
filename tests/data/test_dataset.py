"""Batches: equal to a slow NumPy version, none lost, the same by seed and by shard."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_schema

from ctr_tf import time as times
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import (
    dataset,
    empty_history,
    history_lengths,
    slate_sizes,
    steps_per_epoch,
)
from ctr_tf.data.prepared import STATISTICS, PreparedData
from ctr_tf.data.reading import diagnosed
from ctr_tf.data.record_files import INDEX
from ctr_tf.data.text_inputs import TextInputs
from ctr_tf.errors import UserError
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)

SCHEMA = make_schema(history_length=16, num_chunks=4)
VOCABULARIES = random_vocabularies(SCHEMA, 30)
SAMPLES = 43


@pytest.fixture(scope="module")
def samples():
    random = np.random.default_rng(0)
    return [
        random_sample(
            SCHEMA,
            VOCABULARIES,
            random,
            behaviors=int(random.integers(0, SCHEMA.history_length + 1)),
            candidates=int(random.integers(1, 8)),
        )
        for _ in range(SAMPLES)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, samples):
    return write(tmp_path_factory.mktemp("prepared") / "data", samples)


def write(folder, samples, schema=SCHEMA, compression="none"):
    write_prepared(
        folder,
        schema,
        VOCABULARIES,
        {"train": samples, "validation": [], "test": samples[:10]},
        shards=3,
        compression=compression,
    )
    return folder


def numpy_input(feature, stored):
    if feature.kind == "categorical":
        return stored
    if feature.kind == "numeric":
        value = np.asarray(stored, np.float32)
        value[np.asarray(stored) == feature.stored_missing] = np.nan
        if feature.transform == "log1p":
            return np.log1p(value)
        return value
    ids = []
    for value in stored:
        if value == feature.stored_missing or value != value:
            ids.append(1)
        elif value < 0 and feature.boundaries is None:
            ids.append(1)
        elif feature.boundaries is not None:
            ids.append(2 + sum(b <= value for b in feature.boundaries))
        elif feature.num_values is not None:
            ids.append(2 + int(value))
        else:
            ids.append(2 + max(int(value), 1).bit_length() - 1)
    return np.array(ids, np.int64)


def expected_inputs(sample, history, slate, num_chunks):
    """One sample as the model takes it, the slow way."""
    result = {"request_time": sample["request_time"][0]}
    kept = sample["behavior_time"][-history:]
    for group, features in SCHEMA.groups().items():
        for feature in features:
            key = f"{group}_{feature.name}"
            value = numpy_input(feature, sample[key])
            if f"{key}_length" in sample:
                lists = np.split(value, np.cumsum(sample[f"{key}_length"])[:-1])
                rows = np.zeros((len(lists), feature.length), value.dtype)
                for row, values in zip(rows, lists, strict=True):
                    row[:] = feature.input_padding
                    row[: len(values)] = values
                value = rows if len(sample[f"{key}_length"]) else rows[:0]
            if group == "behavior":
                row = np.zeros((history, *value.shape[1:]), value.dtype)
                value = value[-history:]
                row[history - len(value) :] = value
            else:
                size = slate if group == "candidate" else feature.length
                row = np.zeros((size, *value.shape[1:]), value.dtype)
                row[: len(value)] = value
            result[key] = row
    time = np.zeros(history, np.int64)
    time[history - len(kept) :] = kept
    result["behavior_time"] = time
    result["behavior_chunk"] = times.chunk_ids(time[None], time[None] > 0, num_chunks)[
        0
    ]
    result["candidate_mask"] = np.arange(slate) < len(sample["label"])
    return result


def by_request(batches):
    """Request id → everything of that sample's row."""
    rows = {}
    for inputs, labels, weights, metadata in batches:
        for i, request in enumerate(metadata["request_id"].numpy()):
            assert request not in rows
            rows[request] = (
                {key: value[i].numpy() for key, value in inputs.items()},
                labels[i].numpy(),
                weights[i].numpy(),
                {key: value[i].numpy() for key, value in metadata.items()},
            )
    return rows


@pytest.mark.parametrize(
    "histories, slates, num_chunks",
    [
        ((), (), 4),
        ((), (), 3),
        ((10,), (7,), 4),
        ((4, 8, 16), (), 4),
        ((6,), (3, 9), 2),
    ],
)
def test_a_batch_equals_the_slow_version(
    folder, samples, histories, slates, num_chunks
):
    config = DataConfig(batch_size=6, history_lengths=histories, slate_sizes=slates)
    batches = dataset(
        folder,
        "train",
        config,
        num_chunks=num_chunks,
        training=False,
        metadata=True,
    )
    rows = by_request(batches)
    assert len(rows) == SAMPLES
    histories, slates = histories or (16,), slates or (7,)
    for sample in samples:
        inputs, labels, weights, metadata = rows[sample["request_id"][0]]
        behaviors, candidates = len(sample["behavior_time"]), len(sample["label"])
        history, slate = len(inputs["behavior_time"]), len(weights)
        assert history in histories and history >= min(behaviors, histories[-1])
        assert slate in slates and slate >= candidates
        expected = expected_inputs(sample, history, slate, num_chunks)
        assert inputs.keys() == expected.keys()
        for key, value in expected.items():
            assert inputs[key].shape == np.shape(value), key
            np.testing.assert_allclose(inputs[key], value, rtol=1e-6, err_msg=key)
        assert inputs["behavior_time"].dtype == np.int64
        assert inputs["behavior_chunk"].dtype == np.int32
        assert labels.shape == (slate, 1)
        np.testing.assert_array_equal(labels[:candidates, 0], sample["label"])
        assert not labels[candidates:].any()
        np.testing.assert_array_equal(weights, expected["candidate_mask"])
        assert metadata["history_length"] == behaviors
        assert metadata["user_id"] == sample["user_id"][0]
        np.testing.assert_array_equal(
            metadata["true_probability"][:candidates], sample["true_probability"]
        )
        assert np.isnan(metadata["true_probability"][candidates:]).all()


def test_gzip_is_read_as_the_manifest_says(tmp_path, samples):
    folder = write(tmp_path / "data", samples, compression="gzip")
    batches = dataset(
        folder, "train", DataConfig(), num_chunks=4, training=False, metadata=True
    )
    assert len(by_request(batches)) == SAMPLES


def requests(batches, count):
    return [
        tuple(batch[3]["request_id"].numpy().tolist()) for batch in batches.take(count)
    ]


@pytest.mark.parametrize(("histories", "streams"), [((), None), ((4, 16), 1)])
def test_training_loses_nothing_and_repeats_by_seed(folder, histories, streams):
    config = DataConfig(
        batch_size=5, history_lengths=histories, shuffle_buffer=16, streams=streams
    )

    def stream(count, **kwargs):
        options = {"num_chunks": 4, "training": True, "metadata": True} | kwargs
        return requests(dataset(folder, "train", config, **options), count)

    steps = 3 * SAMPLES  # of 5 samples each: 15 epochs
    batches = stream(steps)
    seen = np.unique([r for b in batches for r in b], return_counts=True)
    assert len(seen[0]) == SAMPLES
    if streams == 1:
        assert seen[1].min() == seen[1].max() == 15
    epoch = [r for b in batches[: SAMPLES // 5] for r in b]
    assert len(set(epoch)) == len(epoch)
    first = stream(20, seed=3)
    assert all(len(batch) == 5 for batch in first)
    tf.random.set_seed(1)
    assert stream(20, seed=3) == first
    assert stream(20, seed=4) != first
    assert stream(9, seed=3, first_step=11) == first[11:]
    assert first[:4] != first[SAMPLES // 5 : SAMPLES // 5 + 4]


def test_workers_read_their_parts_and_another_number_goes_on(tmp_path, samples):
    folder = write(tmp_path / "data", samples, compression="gzip")
    config = DataConfig(
        batch_size=8, history_lengths=(4, 16), shuffle_buffer=24, streams=4
    )

    def stream(count, **kwargs):
        options = {"num_chunks": 4, "training": True, "metadata": True} | kwargs
        return requests(dataset(folder, "train", config, **options), count)

    def union(workers, count, first=0):
        parts = [
            stream(count, num_shards=workers, shard_index=index, first_step=first)
            for index in range(workers)
        ]
        return [sum(batch, ()) for batch in zip(*parts, strict=True)]

    whole = stream(40)
    assert union(2, 13) + union(4, 17, first=13) == whole[:30]
    assert union(4, 13) + union(1, 27, first=13) == whole


@pytest.mark.parametrize("count, batches", [(41, 7), (1, 1)])
def test_workers_evaluate_their_parts_in_equally_many_batches(
    tmp_path, samples, count, batches
):
    write_prepared(tmp_path / "data", SCHEMA, VOCABULARIES, {"train": samples[:count]})
    config = DataConfig(batch_size=6, history_lengths=(4, 16), shuffle_buffer=12)
    options = {"num_chunks": 4, "training": False, "metadata": True}

    def stream(**kwargs):
        found = dataset(tmp_path / "data", "train", config, **options, **kwargs)
        return requests(found, -1)

    whole = stream()
    assert sorted(sum(whole, ())) == sorted(s["request_id"][0] for s in samples[:count])
    for workers in (2, 3):
        parts = [stream(num_shards=workers, shard_index=i) for i in range(workers)]
        assert {len(part) for part in parts} == {len(whole)} == {batches}
        assert sorted(r for part in parts for batch in part for r in batch) == sorted(
            sum(whole, ())
        )


def test_batches_have_the_sizes_that_hold_their_samples(folder, samples):
    config = DataConfig(
        batch_size=4, history_lengths=(4, 9, 16), slate_sizes=(2, 7), streams=2
    )
    found = dataset(folder, "train", config, num_chunks=4, training=True, metadata=True)
    shapes = set()
    for inputs, _, weights, metadata in found.take(100):
        behaviors = int(metadata["history_length"].numpy().max())
        candidates = int(weights.numpy().sum(axis=1).max())
        shape = inputs["behavior_time"].shape[1], weights.shape[1]
        assert shape == (
            next(size for size in (4, 9, 16) if size >= behaviors),
            next(size for size in (2, 7) if size >= candidates),
        )
        shapes.add(shape)
    assert len(shapes) > 3


def _index(folder, name="part-00001-of-00003.tfrecord"):
    path = folder / "train" / f"{name}.index"
    return path, np.frombuffer(path.read_bytes(), INDEX).copy()


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("offset", lambda old: old + 1, "train/part-00001.*record 0: the index says "),
        ("offset", lambda old: old + 2**40, "part-00001.*record 0: the index says tha"),
        ("history", lambda old: old + 1, "part-00001.*record 0: the index says .* beh"),
        ("slate", lambda old: old * 0, "part-00001.*record 0: the index says .* candi"),
    ],
)
@pytest.mark.parametrize(("compression", "training"), [("none", False), ("gzip", True)])
def test_an_index_that_does_not_fit_is_told(
    tmp_path, samples, field, values, message, compression, training
):
    folder = write(tmp_path / "data", samples, compression=compression)
    ending = "" if compression == "none" else ".gz"
    path, index = _index(folder, f"part-00001-of-00003.tfrecord{ending}")
    index[field] = values(index[field])
    path.write_bytes(index.tobytes())
    data = PreparedData.load(folder)
    with pytest.raises(ValueError, match="part-00001.*index' must have the SHA-256"):
        data.verify()
    config = DataConfig(batch_size=8, shuffle_buffer=16)
    batches = dataset(data, "train", config, num_chunks=4, training=training)
    with pytest.raises(UserError, match=message), diagnosed(data, "train"):
        list(batches.take(20))


def test_shapes_are_static_where_there_is_one_size(folder):
    spec = dataset(
        folder, "train", DataConfig(batch_size=5), num_chunks=4, training=True
    ).element_spec
    assert spec[0]["behavior_item_id"].shape[1] == 16
    assert spec[0]["candidate_item_id"].shape[1] == 7
    assert spec[0]["user_tags"].shape[1] == 3
    assert spec[1].shape[1] == spec[2].shape[1] == 7


@pytest.mark.parametrize(
    ("half", "expected"),
    [(0, (16, 100)), (17, (32, 100)), (33, (100,)), (100, (100,))],
)
def test_histories_are_padded_by_what_the_training_has(
    samples, tmp_path, half, expected
):
    schema = dataclasses.replace(SCHEMA, history_length=100)
    data = PreparedData.load(write(tmp_path / "data", samples, schema))
    assert history_lengths(data, DataConfig()) == (100,)  # nobody counted
    counted = {"train": {"history_length": {"quantiles": {"0.5": half, "1": 100}}}}
    (tmp_path / "data" / STATISTICS).write_text(json.dumps(counted))
    assert history_lengths(data, DataConfig()) == expected
    assert history_lengths(data, DataConfig(history_lengths=(3, 9))) == (3, 9)
    batches = dataset(data, "test", DataConfig(), num_chunks=4, training=False)
    times = [inputs["behavior_time"] for inputs, _, _ in batches]
    assert {time.shape[1] for time in times} <= set(expected)
    total = sum(int((time.numpy() > 0).sum()) for time in times)
    assert total == sum(len(sample["behavior_time"]) for sample in samples[:10])


@pytest.mark.parametrize(
    ("half", "most", "expected"),
    [(1, 2, (1, 2, 7)), (2, 2, (2, 7)), (5, 7, (7,)), (3, 40, (7,))],
)
def test_slates_are_padded_by_what_the_training_has(
    samples, tmp_path, half, most, expected
):
    """KuaiRand's one slate of 41 made nine of ten candidates padding."""
    data = PreparedData.load(write(tmp_path / "data", samples))
    assert slate_sizes(data, DataConfig()) == (7,)  # nobody counted
    quantiles = {"0.5": half, "0.9": most, "1": 7}
    counted = {"train": {"slate_size": {"quantiles": quantiles}}}
    (tmp_path / "data" / STATISTICS).write_text(json.dumps(counted))
    assert slate_sizes(data, DataConfig()) == expected
    assert slate_sizes(data, DataConfig(slate_sizes=(3, 9))) == (3, 9)
    batches = dataset(data, "test", DataConfig(), num_chunks=4, training=False)
    found = [(w.shape[1], int(w.numpy().sum(1).max())) for _, _, w in batches]
    assert {size for size, _ in found} <= set(expected)
    assert all(largest <= size for size, largest in found)
    total = sum(int(w.numpy().sum()) for _, _, w in batches)
    assert total == sum(len(sample["label"]) for sample in samples[:10])


@pytest.mark.parametrize("training", [True, False])
def test_no_iterator_waits_for_a_tuner_at_its_end(folder, training):
    config = DataConfig(batch_size=5, history_lengths=(4, 16))
    batches = dataset(folder, "train", config, num_chunks=4, training=training)
    assert batches.options().autotune.enabled is False
    assert batches.options().deterministic


def test_mistakes_are_told(folder):
    def make(split="train", config=None, **kwargs):
        options = {"num_chunks": 4, "training": True} | kwargs
        return dataset(folder, split, config or DataConfig(), **options)

    with pytest.raises(ValueError, match="largest slate, 7 .* Received: \\[3\\]"):
        make(config=DataConfig(slate_sizes=(3,)))
    with pytest.raises(ValueError, match="Split 'validation' .* has no samples"):
        make("validation")
    with pytest.raises(ValueError, match="Unknown split 'trian'. Did you mean 'train'"):
        make("trian")
    with pytest.raises(
        ValueError,
        match="`data.streams` must be a multiple of the 3 workers that divides "
        "`data.batch_size`, 64: .*Received: data.streams=32",
    ):
        make(num_shards=3)
    with pytest.raises(ValueError, match="multiple of the 3 workers. Received: 64"):
        make(num_shards=3, training=False)
    with pytest.raises(ValueError, match="at most the training's 43 samples.*: 64"):
        make(config=DataConfig(streams=64))
    with pytest.raises(ValueError, match="Unknown `data.label`.*Received: 'like'"):
        make(config=DataConfig(label="like"))
    assert steps_per_epoch(PreparedData.load(folder), "train", DataConfig()) == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "`data.batch_size` must be a positive integer.*0"),
        ({"shuffle_buffer": "9"}, "`data.shuffle_buffer` .* Received: '9'"),
        ({"history_lengths": [8, 4]}, "`data.history_lengths` must be ascending"),
        ({"slate_sizes": [0]}, "`data.slate_sizes` must be a list of positive"),
        ({"streams": 5}, "`data.streams` must .* `data.batch_size`, 64. Received: 5"),
        ({"streams": 0}, "`data.streams` must be a positive integer .* Received: 0"),
        ({"slate_sizes": 8}, "`data.slate_sizes` must be a list .* Received: 8"),
    ],
)
def test_config_mistakes_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**options)


@pytest.mark.parametrize("num_chunks", [4, 3])
@pytest.mark.parametrize("texts", [False, True])
def test_an_empty_history_is_that_of_a_sample_without_behaviors(
    tmp_path, num_chunks, texts
):
    schema = make_schema(history_length=16, num_chunks=4, texts=texts)
    vocabularies, random = random_vocabularies(schema, 30), np.random.default_rng(0)
    samples = [random_sample(schema, vocabularies, random, 0, 3) for _ in range(2)]
    write_prepared(tmp_path / "data", schema, vocabularies, {"train": samples})
    data = PreparedData.load(tmp_path / "data")
    config = DataConfig(batch_size=2, history_lengths=(6, 16))
    inputs_of = TextInputs.of_tokens(data.vocabularies.texts)
    reading = {"num_chunks": num_chunks, "texts": inputs_of}
    ((inputs, *_),) = dataset(data, "train", config, training=False, **reading)
    expected = {k: v for k, v in inputs.items() if k.startswith("behavior_")}
    found = empty_history(data, config, **reading)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert value.dtype == expected[key].dtype
        assert value.shape == (1, *expected[key].shape[1:])
        np.testing.assert_array_equal(np.repeat(value, 2, axis=0), expected[key], key)
    assert found["behavior_time"].shape == (1, 6)
