"""Writing samples: what is no record of the schema is refused."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_schema

from ctr_tf.data.example import pack_float, pack_int64
from ctr_tf.data.records import check_example, record_spec
from ctr_tf.data.writing import SampleWriter, serialize
from ctr_tf.synthetic.random_samples import random_sample, random_vocabularies

SCHEMA = make_schema()


def make_sample(behaviors=3):
    random = np.random.default_rng(0)
    vocabularies = random_vocabularies(SCHEMA, 20)
    return random_sample(SCHEMA, vocabularies, random, behaviors, candidates=2)


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
        writer.records()
    text = str(error.value)
    assert "'label'" in text and "Received: ['request_time']" in text
    optional = [key for key, field in record_spec(SCHEMA).items() if field.optional]
    assert optional and not any(f"'{key}'" in text for key in optional)
