"""Writing samples: what is no record of the schema is refused."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_schema

from ctr_tf.data.example import pack_bytes, pack_float, pack_int64
from ctr_tf.data.reading import read_records
from ctr_tf.data.record_files import INDEX
from ctr_tf.data.records import check_example, record_spec
from ctr_tf.data.writing import Samples, SampleWriter, serialize, write_records
from ctr_tf.synthetic.random_samples import random_sample, random_vocabularies

SCHEMA = make_schema()


def make_sample(behaviors=3):
    random = np.random.default_rng(0)
    vocabularies = random_vocabularies(SCHEMA, 20)
    return random_sample(SCHEMA, vocabularies, random, behaviors, candidates=2)


def packed(values):
    if values.dtype == object:
        return pack_bytes(values.tolist())
    return (pack_float if values.dtype.kind == "f" else pack_int64)(values)


def by_protobuf(sample):
    """The slow and obvious way."""
    example = tf.train.Example()
    for key, values in sample.items():
        feature = example.features.feature[key]
        if values.dtype == object:
            feature.bytes_list.value.extend(values)
        elif values.dtype.kind == "f":
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
            feature.int64_list.SetInParent()
    return example


@pytest.mark.parametrize("behaviors", [0, 3])
def test_one_sample_is_what_protobuf_writes(behaviors):
    sample = make_sample(behaviors)
    example = tf.train.Example.FromString(serialize(sample))
    # NaN does not equal NaN, but its bytes do.
    both = (example, by_protobuf(sample))
    found, expected = (e.SerializeToString(deterministic=True) for e in both)
    assert found == expected
    found = check_example(example, SCHEMA)
    for key, values in sample.items():
        np.testing.assert_array_equal(found[key], values, err_msg=key)


def test_an_unknown_key():
    writer = SampleWriter(SCHEMA)
    with pytest.raises(ValueError, match="Unknown record key 'labels'.*'label'"):
        writer.add("labels", pack_float(np.zeros(1)))


def test_another_dtype():
    writer = SampleWriter(SCHEMA)
    with pytest.raises(ValueError, match="'label' must be float32. Received: int64"):
        writer.add("label", pack_int64(np.zeros(1, np.int64)))


def test_a_missing_key():
    writer = SampleWriter(SCHEMA)
    writer.add("request_time", pack_int64(np.zeros(1, np.int64)))
    with pytest.raises(ValueError) as error:
        writer.samples(np.arange(1))
    text = str(error.value)
    assert "'label'" in text and "Received: ['request_time']" in text
    optional = [key for key, field in record_spec(SCHEMA).items() if field.optional]
    assert optional and not any(f"'{key}'" in text for key in optional)


def block(records):
    """Records of as many behaviors as they have bytes."""
    lengths = np.array([len(record) for record in records], np.int64)
    return Samples(records, lengths, lengths * 0 + 1)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_file_its_index_and_their_entry(tmp_path, compression):
    blocks = [[b"one", b"two"], [], [b"three" * 1000], [b"%d" % i for i in range(140)]]
    records = [record for block in blocks for record in block]
    entry = write_records(tmp_path, "train/part", map(block, blocks), compression)
    content = (tmp_path / "train" / "part").read_bytes()
    index = (tmp_path / "train" / "part.index").read_bytes()
    assert (entry.path, entry.samples, entry.bytes) == ("train/part", 143, len(content))
    assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert entry.index_sha256 == hashlib.sha256(index).hexdigest()
    assert list(read_records(str(tmp_path / "train" / "part"), compression)) == records

    entries = np.frombuffer(index, INDEX)
    assert entries["history"].tolist() == [len(record) for record in records]
    assert entries["slate"].tolist() == [1] * 143
    rest = tmp_path / "rest"
    for number in (0, 1, 2, 3, 63, 64, 127, 128, 142):
        rest.write_bytes(content[entries["offset"][number] :])
        first = number if compression == "none" else number // 64 * 64
        assert list(read_records(str(rest), compression)) == records[first:]
    rest.unlink()

    again = write_records(tmp_path, "again", [block(records)], compression)
    assert (again.sha256, again.index_sha256) == (entry.sha256, entry.index_sha256)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        *("again", "again.index", "part", "part.index", "train")
    ]


def test_a_file_that_cannot_be_finished_is_not_there(tmp_path):
    def blocks():
        yield block([b"one"])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_records(tmp_path, "part", blocks(), "none")
    assert list(tmp_path.iterdir()) == []


def test_samples_are_put_together_in_any_order():
    samples = [make_sample(n) for n in (2, 0, 3)]
    writer = SampleWriter(SCHEMA)
    for key in samples[0]:
        values = np.concatenate([sample[key] for sample in samples])
        stop = np.cumsum([len(sample[key]) for sample in samples])
        start = stop - [len(sample[key]) for sample in samples]
        writer.add(key, packed(values), start, stop)
    expected = [serialize(samples[i]) for i in (2, 0)]
    found = writer.samples(np.array([2, 0]))
    assert found.records == expected
    assert found.history.tolist() == [3, 2] and found.slate.tolist() == [2, 2]
