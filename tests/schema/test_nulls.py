"""How a missing value is spelled: the jobs' columns and requests read it alike."""

import math

import pyarrow as pa
import pytest

from ctr_tf.schema import Categorical, Numeric, Schema
from ctr_tf.schema.nulls import null_numbers, without_nulls
from pipelines.sources.columns import Column, typed

TYPES = {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}
NULLS = ("unknown", "-1", "0.1", "1e39", "9007199254740993")


@pytest.mark.parametrize(
    ("dtype", "value", "is_null"),
    [
        ("string", "unknown", True),
        ("string", "-1", True),
        ("string", "", True),  # whatever the schema says
        ("string", "-1.0", False),
        ("string", "Unknown", False),
        ("int64", -1, True),
        ("int64", "-1", True),
        ("int64", "unknown", True),
        ("int64", 1, False),
        ("int64", 2**53 + 1, True),
        ("int64", 2**53, False),
        ("float32", -1, True),
        ("float32", -1.0, True),
        ("float32", "", True),
        ("float32", 0.1, True),
        ("float32", 0.10000000149011612, True),  # what a float32 has of it
        ("float32", 0.1000001, False),
    ],
)
def test_spellings_are_the_same_in_jobs_and_in_requests(dtype, value, is_null):
    found = without_nulls([value], NULLS, dtype)
    assert found == [None if is_null else value]
    array, bad = typed([value], Column("x", TYPES[dtype], null_values=NULLS), 1)
    assert not bad and array.null_count == is_null


def test_what_is_of_another_type_stays():
    values = [[1], True, {"a": 1}, None, math.inf, 10**400]
    assert without_nulls(values, ("1", "-1"), "float32") == values
    assert without_nulls(values, ("1", "-1"), "string") == values


def test_a_number_that_the_type_cannot_hold_spells_nothing():
    assert null_numbers(("-9999", "1", "0.5", "nan", "inf"), "int8") == {1}


def test_a_feature_may_have_spellings_of_its_own():
    item = Categorical("item_id", "item", dtype="int64")
    price = Numeric("price", "item", null_values=(-1,))
    schema = Schema("x", (item, price), null_values=("NULL",))
    assert schema.nulls_of(item) == ("NULL",)
    assert schema.nulls_of(price) == ("-1",)
    counter = next(f for f in schema.candidate if f.computed)
    assert schema.nulls_of(counter) == ()
