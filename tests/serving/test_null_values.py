"""What the log spells as missing is missing in a request, too."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import read_examples
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.schema import MISSING, Bucketized, Categorical, Numeric, Schema
from pipelines import listwise
from serving.describe import describe
from serving.online.store import OnlineStore
from serving.request import request_to_tensors
from serving.signatures import ServingModule

START = 1_700_000_000
SCHEMA = Schema(
    "shop",
    (
        Categorical("item_id", "item", dtype="int64"),
        Numeric("price", "item", null_values=(-1,)),
        Bucketized("age", "user", boundaries=(20, 40), null_values=(-1,)),
        Categorical("page", "context"),
        Numeric("load", "context", null_values=(-1,)),
        Categorical("action", "behavior"),
    ),
    null_values=("", "unknown"),
    history_length=8,
    num_chunks=2,
    counters=(CounterChoice("item_id"), CounterChoice("page", windows=("1d",))),
)
TABLES = {
    "users": [{"user_id": "ann", "age": -1}, {"user_id": "bob", "age": 30}],
    "items": [{"item_id": 1, "price": 2.5}, {"item_id": 2, "price": -1}],
    "behaviors": [
        {"user_id": "ann", "time": START - 90, "item_id": 2, "action": "unknown"},
        {"user_id": "ann", "time": START - 80, "item_id": 1, "action": "view"},
    ],
    "exposures": [
        {"user_id": "bob", "time": START, "item_id": 1, "click": 0}
        | {"page": "home", "load": 0.5},
    ]
    + [
        {"request_id": f"r{request}", "user_id": "ann", "time": START + 600 * request}
        | {"item_id": item, "click": int(item == 1), "page": page, "price": -1}
        | {"load": -1}
        for request, page in enumerate(["unknown", "", "unknown"])
        for item in (1, 2, 3)
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nulls")
    (folder / "raw").mkdir()
    SCHEMA.save(folder / "raw" / "schema.yaml")
    for table, rows in TABLES.items():
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / "raw" / f"{table}.jsonl").write_text(text)
    words = ["--source", "jsonl", "--input", str(folder / "raw")]
    listwise.run([*words, "--output", str(folder / "data"), "--num_buckets", "1"])
    return PreparedData.load(folder / "data")


@pytest.fixture(scope="module")
def module(data):
    keras.utils.set_random_seed(0)
    config = SparseCTRConfig(dim=16, num_heads=2, embedding_dim=4)
    sizes = data.vocabularies.table_sizes(data.schema)
    ranker = build_ranker(config, data.schema, sizes)
    for variable in ranker.trainable_variables:
        variable.assign(variable + np.random.normal(scale=0.3, size=variable.shape))
    return ServingModule(ranker, data.folder / "vocabularies", (8,), (3,))


def request_of_the_store(folder):
    """The last request, as a store of the events before it knows it."""
    store = OnlineStore.open(folder, SCHEMA)
    for table, rows in TABLES.items():
        store.ingest(table, rows[:7] if table == "exposures" else rows)
    candidates = [{"item_id": item, "price": -1} for item in (1, 2, 3)]
    asked = {"page": "unknown", "load": -1}
    request = store.request("ann", candidates, asked, time=START + 1_200)
    store.close()
    return request


def test_a_request_scores_as_its_record(data, module, tmp_path):
    records = [
        example.SerializeToString()
        for split in filter(data.num_samples, data.splits)
        for _, _, example in read_examples(data.files(split), data.compression)
        if example.features.feature["request_id"].bytes_list.value[0] == b"r2"
    ]
    expected = module.score_examples(examples=tf.constant(records))["logit"][0]
    request = request_of_the_store(tmp_path / "store")
    candidates = request["candidates"]
    assert [candidate["page_impressions_1d"] for candidate in candidates] == [None] * 3
    assert [candidate["price"] for candidate in candidates] == [2.5, None, None]
    # As the log spells them, whoever asks:
    columns = request["behaviors"]
    spelled = {
        "user": {"age": -1},
        "context": {"page": "", "load": -1.0},
        "behaviors": columns
        | {"price": [-1.0 if price is None else price for price in columns["price"]]}
        | {"action": [action or "unknown" for action in columns["action"]]},
        "candidates": [c | {"price": c["price"] or ""} for c in candidates],
    }
    for asked in (request, request | spelled):
        tensors = request_to_tensors(asked, data.schema)
        inputs = {
            name: tf.constant(v, tf.string if v.dtype == object else None)
            for name, v in tensors.items()
        }
        found = module.score(**inputs)["logit"][0]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert tensors["context_page"].tolist() == [[MISSING["string"]]]
    assert np.ptp(expected) > 1e-3


def test_a_signature_names_the_spellings(data, module):
    described = describe(data.schema, module.signatures())["serving_default"]["inputs"]
    assert described["context_page"]["null_values"] == ["", "unknown"]
    assert described["candidate_price"]["null_values"] == ["", "-1"]
    assert "null_values" not in described["candidate_impressions_1d"]
    assert "null_values" not in described["request_time"]
