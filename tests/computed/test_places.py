"""Places within the slate, beside a slow computation of each candidate alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr_tf.computed.slate import Place
from ctr_tf.schema import MISSING, Categorical, Schema

UNKNOWN = MISSING["int64"]
COUNTS = st.lists(st.sampled_from([UNKNOWN, 0, 0, 1, 2, 5, 1_000]), min_size=1)


def slowly(counts):
    known = [c for c in counts if c != UNKNOWN]
    rows = []
    for count in counts:
        if count == UNKNOWN:
            rows.append((math.nan,) * 3)
            continue
        others = len(known) - 1
        smaller = sum(c < count for c in known)
        equal = sum(c == count for c in known) - 1
        rank = (smaller + equal / 2) / others if others else 0.5
        share = count / max(known) if max(known) else 0.0
        ratio = math.log((1 + count) / (1 + sum(known) / len(known)))
        rows.append((rank, share, ratio))
    return np.array(rows, np.float32)


@given(st.lists(COUNTS, min_size=1, max_size=6))
def test_every_slate_for_itself(slates):
    values = np.array([c for slate in slates for c in slate], np.int64)
    start = np.cumsum([0, *map(len, slates)])[:-1]
    found = Place("clicks_1d").values(values, start)
    assert list(found) == [f"clicks_1d_{form}" for form in ("rank", "share", "ratio")]
    expected = np.concatenate([slowly(slate) for slate in slates])
    np.testing.assert_allclose(np.stack(list(found.values()), 1), expected, atol=1e-6)


def test_the_order_of_candidates_changes_nothing():
    values = np.array([3, 0, UNKNOWN, 7, 3])
    order = np.array([4, 2, 0, 1, 3])
    start = np.zeros(1, np.int64)
    one = Place("clicks_1d").values(values, start)
    other = Place("clicks_1d").values(values[order], start)
    for name, found in one.items():
        np.testing.assert_array_equal(found[order], other[name])


SCHEMA = """
name: shop
features:
  - {name: item_id, role: item, kind: categorical}
  - {name: tags, role: item, kind: categorical, length: 3}
  - {name: price, role: item, kind: numeric}
  - {name: action, role: behavior, kind: categorical}
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("counters: [{by: itm_id}]", "by 'itm_id'. Did you mean 'item_id'? Known: "),
        ("counters: [{by: tags}]", "of single values. Received: by='tags', of kind"),
        ("counters: [{by: price}]", "counted by a categorical feature of single"),
        ("counters: [{by: action}]", "Unknown feature to count by 'action'"),
        ("counters: [{by: user_id x tags}]", "Received: by='user_id x tags'"),
        ("counters: [{by: item_id}, {by: item_id}]", "`counters[1]`: there is one"),
        ("counters: [{by: user_id, windows: []}]", "needs a window. Received: []"),
        ("counters: [{by: item_id, window: [1d]}]", "counters[0].window"),
        ("counter_windows: [90s]", "a whole number of buckets of `counter_resolution`"),
        ("counter_resolution: fast", "A duration is a whole number and a unit"),
        ("newness: true\ncounters: []", "`newness` needs the counter by 'item_id'"),
        ("places: [clicks_9d]", "Unknown counter 'clicks_9d'. Did you mean 'clicks_"),
        ("places: [item_age]", "`places[0]`: Unknown counter 'item_age'"),
        ("slate_size: 10", "`slate_size` must be true or false. Received: 10"),
    ],
)
def test_what_cannot_be_computed_is_told(words, message):
    with pytest.raises(ValueError) as error:
        Schema.from_yaml(SCHEMA + words)
    assert message in str(error.value)


def test_a_counter_that_is_a_feature_of_the_log_is_told():
    with pytest.raises(ValueError, match="'candidate_clicks_2h' is taken"):
        Schema(
            "shop",
            (Categorical("item_id", "item"), Categorical("clicks_2h", "candidate")),
        )
