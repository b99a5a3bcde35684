"""The bulk encoder of tf.train.Example against TensorFlow's own parsers."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ctr_tf.data.example import (
    encode_examples,
    encode_feature,
    pack_bytes,
    pack_float,
    pack_int64,
)
from ctr_tf.data.record_files import frame

INT64 = st.integers(-(2**63), 2**63 - 1)


def values_of(example, key):
    feature = example.features.feature[key]
    return list(getattr(feature, feature.WhichOneof("kind")).value)


@given(
    integers=st.lists(INT64 | st.integers(-2, 300), max_size=30),
    data=st.data(),
)
def test_any_ranges_of_any_values(integers, data):
    place = st.integers(0, len(integers))
    ends = data.draw(st.lists(st.tuples(place, place), min_size=1, max_size=5))
    start = np.array([min(pair) for pair in ends])
    stop = np.array([max(pair) for pair in ends])
    floats = np.array(integers, np.float32)
    names = [str(value).encode() * 40 for value in start]
    records = encode_examples(
        [
            encode_feature("i", pack_int64(np.array(integers, np.int64)), start, stop),
            encode_feature("f", pack_float(floats), start, stop),
            encode_feature("name", pack_bytes(names)),
        ]
    )
    for record, begin, end, name in zip(records, start, stop, names, strict=True):
        example = tf.train.Example.FromString(record)
        assert values_of(example, "i") == integers[begin:end]
        assert values_of(example, "f") == floats[begin:end].tolist()
        assert values_of(example, "name") == [name]


def test_small_numbers_are_their_own_bytes():
    values = np.array([0, 1, 127], np.uint8)
    assert pack_int64(values).data == pack_int64(values.astype(np.int64)).data
    large = np.array([0, 128, 255], np.uint8)
    assert pack_int64(large).data == pack_int64(large.astype(np.int64)).data


def test_parse_example_reads_them():
    rows = np.arange(3)
    records = encode_examples(
        [
            encode_feature("a", pack_int64(np.array([5, -1, 7])), rows, rows + 1),
            encode_feature("b", pack_float(np.array([1.5, 2.5])), rows * 0, rows),
        ]
    )
    parsed = tf.io.parse_example(
        records,
        {
            "a": tf.io.FixedLenFeature([], tf.int64),
            "b": tf.io.RaggedFeature(tf.float32),
        },
    )
    assert parsed["a"].numpy().tolist() == [5, -1, 7]
    assert parsed["b"].to_list() == [[], [1.5], [1.5, 2.5]]


def test_tensorflow_reads_the_frames(tmp_path):
    records = [b"", b"x", b"y" * 100_000]
    path = tmp_path / "records"
    path.write_bytes(b"".join(frame(records)))
    read = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    assert read == records
