"""docs/computed_features.md says of each feature what the code says."""

import re
from pathlib import Path

from ctr_tf.schema import Schema

PAGE = (Path(__file__).parents[2] / "docs" / "computed_features.md").read_text("utf-8")


def test_every_feature_has_its_sentence():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    schema = Schema.from_yaml(text)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    computed = [f for f in schema.features if f.computed]
    assert rows == [(f.name, f.role, f.description) for f in computed]
