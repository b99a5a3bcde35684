"""docs/computed_features.md says of each feature what the code says."""

import re
from pathlib import Path

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.schema import Categorical, Schema

PAGE = (Path(__file__).parents[2] / "docs" / "computed_features.md").read_text("utf-8")


def test_every_feature_has_its_sentence():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    schema = Schema.from_yaml(text)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    computed = [f for f in schema.features if f.computed]
    assert rows == [(f.name, f.role, f.description) for f in computed]


def test_a_feature_whose_name_begins_like_the_users_is_none_of_the_user():
    device = Categorical("user_id_device", "context")
    schema = Schema(
        "shop",
        (Categorical("item_id", "item"), device),
        counter_windows=("1d",),
        counters=(
            CounterChoice("user_id_device"),
            CounterChoice("user_id x user_id_device"),
        ),
    )
    one, cross = schema.computed.counters
    assert not one.of_user and one.windows == ("1d",)
    assert cross.of_user and cross.is_cross and cross.windows == ("all",)
    assert one.features[0].description.startswith(
        "impressions with the candidate's user_id_device by any user in [t - 1d, t)"
    )
