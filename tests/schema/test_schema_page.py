"""docs/schema.md names every key that a schema and a feature can have."""

import dataclasses
import pkgutil
import re
from pathlib import Path

import pytest
import yaml

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.schema import Positive, Schema, kinds
from ctr_tf.schema.kinds import kind_class

PAGE = (Path(__file__).parents[2] / "docs" / "schema.md").read_text("utf-8")
# Key → the last cell of its first row, the default where the table has that column;
# `null_values` is a key of the schema, and then of a feature.
ROWS = {
    key: row.split("|")[-1].strip()
    for key, row in reversed(re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE, re.MULTILINE))
}
KINDS = [kind_class(module.name) for module in pkgutil.iter_modules(kinds.__path__)]


def keys(cls):
    """Those that a file may have: what the code computes is not given."""
    return [f for f in dataclasses.fields(cls) if f.name != "computed"]


@pytest.mark.parametrize("cls", [Schema, *KINDS])
def test_every_key_has_its_row(cls):
    assert {field.name for field in keys(cls)} <= set(ROWS)


@pytest.mark.parametrize("cls", [CounterChoice, Positive])
def test_every_key_of_a_value_is_named(cls):
    for field in keys(cls):
        assert re.search(rf"`[^`]*\b{field.name}\b[^`]*`", PAGE), field.name


def test_defaults_are_those_of_the_code():
    for field in keys(Schema):
        told = ROWS[field.name]
        if field.default is dataclasses.MISSING:
            assert told == "needed", field.name
        elif field.name == "counters":
            by = [choice.by for choice in field.default]
            assert re.findall(r"`([^`]+)`", told) == by
        elif field.default is None:
            assert not told, field.name
        else:
            default = field.default
            default = list(default) if isinstance(default, tuple) else default
            assert yaml.safe_load(told.strip("`")) == default, field.name


def test_its_schema_is_one():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    schema = Schema.from_yaml(text)
    assert schema.zone == "Europe/Copenhagen"
    assert [feature.length for feature in schema.of("item")] == [1, 6, 1, 1, 16]
    assert schema.positive == Positive("rating", 4.0)
