"""docs/schema.md names every key that a schema and a feature can have."""

import dataclasses
import re
from pathlib import Path

import pytest

from ctr_tf.schema import Bucketized, Categorical, Numeric, Positive, Schema, Text

PAGE = Path(__file__).parents[2] / "docs" / "schema.md"


@pytest.mark.parametrize("cls", [Schema, Categorical, Numeric, Bucketized, Text])
def test_every_key_has_its_row(cls):
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))
    keys = {field.name for field in dataclasses.fields(cls)} - {"computed"}
    assert keys <= rows


def test_its_schema_is_one():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    schema = Schema.from_yaml(text)
    assert schema.zone == "Europe/Copenhagen"
    assert [feature.length for feature in schema.of("item")] == [1, 6, 1, 1, 16]
    assert schema.positive == Positive("rating", 4.0)
