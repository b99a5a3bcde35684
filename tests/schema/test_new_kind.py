"""A kind of feature is one class: raw logs to a served score know it by that alone."""

import dataclasses
import json
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.data.dataset import DataConfig, dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import read_examples
from ctr_tf.data.records import check_example
from ctr_tf.models import build_ranker
from ctr_tf.models.din import DINConfig
from ctr_tf.schema import FIRST_ID, OUT_OF_VOCABULARY_ID, Feature, Schema
from pipelines import listwise
from serving.request import request_from_sample, request_to_tensors
from serving.saved_model import call
from serving.signatures import ServingModule

START = 1_700_000_000


@dataclasses.dataclass(frozen=True)
class Sign(Feature):
    """Whether a number is below, at or above zero."""

    kind: ClassVar[str] = "sign"
    DTYPES: ClassVar[tuple[str, ...]] = ("int64",)

    @property
    def num_ids(self):
        return FIRST_ID + 3

    def to_input(self, stored):
        known = stored != self.stored_missing
        return tf.where(known, tf.sign(stored) + 1 + FIRST_ID, OUT_OF_VOCABULARY_ID)


SCHEMA = f"""
name: shop
history_length: 8
num_chunks: 2
features:
  - {{name: item_id, role: item, kind: categorical, dtype: int64}}
  - {{name: trend, role: item, kind: {Sign.kind}, length: 2}}
  - {{name: balance, role: user, kind: {Sign.kind}}}
"""


def write_log(folder):
    folder.mkdir()
    (folder / "schema.yaml").write_text(SCHEMA, "utf-8")
    exposures = [
        {"user_id": f"u{u}", "request_id": f"r{u}.{r}", "item_id": 10 * r + i}
        | {"time": START + 1_000 * r + u, "click": int(i == 1)}
        for u in range(6)
        for r in range(4)
        for i in range(3)
    ]
    tables = {
        "exposures": exposures,
        "users": [
            {"user_id": "u0", "balance": -5},
            {"user_id": "u1", "balance": 0},
            {"user_id": "u2", "balance": 2**62},
            {"user_id": "u3", "balance": None},
        ],
        "items": [{"item_id": i, "trend": [i - 11, 11 - i, 7]} for i in range(40)],
    }
    for name, rows in tables.items():
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sign")
    write_log(folder / "logs")
    words = ["--source", "jsonl", "--input", str(folder / "logs")]
    words += ["--output", str(folder / "data"), "--num_shards", "1"]
    split = ["--validation_from", str(START + 2_000), "--test_from", str(START + 3_000)]
    listwise.run([*words, *split])
    return PreparedData.load(folder / "data")


def test_records_hold_its_values_and_a_model_takes_its_ids(data):
    batches = dataset(
        data, "test", DataConfig(), num_chunks=2, training=False, metadata=True
    )
    inputs, _, _, metadata = next(iter(batches))
    users = metadata["user_id"].numpy().tolist()
    balance = dict(
        zip(users, inputs["user_balance"].numpy()[:, 0].tolist(), strict=True)
    )
    assert balance == {b"u0": 2, b"u1": 3, b"u2": 4, b"u3": 1, b"u4": 1, b"u5": 1}
    assert inputs["behavior_trend"].shape[1:] == (8, 2)
    # Clicked were the items 1, 11 and 21; of their three trends two are kept.
    assert inputs["behavior_trend"].numpy()[0, -3:].tolist() == [[2, 4], [3, 3], [4, 2]]
    assert inputs["behavior_trend"].numpy()[0, :-3].max() == 0


def test_an_export_takes_it_raw(data, tmp_path):
    schema, vocabularies = data.schema, data.vocabularies
    ranker = build_ranker(
        DINConfig(dim=8, num_heads=2), schema, vocabularies.table_sizes(schema)
    )
    (inputs, *_) = next(
        iter(dataset(data, "test", DataConfig(), num_chunks=2, training=False))
    )
    expected = tf.sigmoid(ranker(inputs))[..., 0].numpy()
    module = ServingModule(ranker, data.folder / "vocabularies", (8,), (3,))
    tf.saved_model.save(module, str(tmp_path / "1"), module.signatures())
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    examples = read_examples(data.files("test"), data.compression)
    for scores, (_, _, example) in zip(expected, examples, strict=True):
        sample = check_example(example, schema)
        request = request_from_sample(sample, schema, vocabularies)
        shown = int(sample["request_id"][0].split(b".")[1]) * 10
        trends = [candidate["trend"] for candidate in request["candidates"]]
        assert trends == [[shown + i - 11, 11 - shown - i] for i in range(3)]
        tensors = request_to_tensors(request, schema)
        outputs = call(loaded.signatures["serving_default"], tensors)
        np.testing.assert_allclose(outputs["probability"][0], scores, atol=1e-5)


def test_its_name_is_known_to_the_schema():
    assert isinstance(Schema.from_yaml(SCHEMA).of("user")[0], Sign)
    with pytest.raises(ValueError, match="Did you mean 'sign'"):
        Schema.from_yaml(SCHEMA.replace("kind: sign", "kind: sing", 1))
