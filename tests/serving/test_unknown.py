"""What of a request a model does not know is told, and nothing else."""

import pytest

from ctr_tf.schema import Categorical, Numeric, Schema
from ctr_tf.schema.vocabulary import Vocabularies
from serving.request import request_to_tensors
from serving.unknown import unknown_values

SCHEMA = Schema(
    name="small",
    counters=(),
    features=(
        Categorical("city", "user"),
        Categorical("tags", "user", length=3),
        Categorical("item_id", "item", dtype="int64"),
        Categorical("shop", "item", hash_buckets=5),
        Numeric("price", "item"),
    ),
)
VOCABULARIES = Vocabularies(
    {"city": ["bern"], "tags": ["a", "b"], "item_id": ["5", "7"]}
)


def item(number):
    return {"item_id": number, "shop": "new", "price": None}


def request(city="bern", tags=("a",), behaviors=(5,), candidates=(5, 7)):
    return {
        "request_time": 100,
        "user": {"city": city, "tags": list(tags)},
        "behaviors": [{"time": 9, **item(number)} for number in behaviors],
        "candidates": [item(number) for number in candidates],
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"city": None, "behaviors": ()}, []),  # missing is not unknown
        ({"city": "ulm"}, ["user city: 1 of 1 are unknown to the model: ulm"]),
        ({"tags": ("b", "z")}, ["user tags: 1 of 2 are unknown to the model: z"]),
        (
            {"behaviors": (1, 1, 5), "candidates": (5, *range(10, 18))},
            [
                "behavior item_id: 2 of 3 are unknown to the model: 1",
                "candidate item_id: 8 of 9 are unknown to the model: "
                "10, 11, 12, 13, 14, …",
            ],
        ),
    ],
)
def test_unknown_values(changes, expected):
    tensors = request_to_tensors(request(**changes), SCHEMA)
    assert unknown_values(tensors, SCHEMA, VOCABULARIES) == expected
