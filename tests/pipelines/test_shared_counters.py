"""Counters by way of sums, held against counters of all events at once."""

import numpy as np
import pyarrow as pa
import pytest

from ctr_tf.computed.counters import NEVER, NO_CLICK, NOT_SHOWN, Counter
from ctr_tf.time import DAY
from pipelines import shared_counters
from pipelines.arrow import concat
from pipelines.shared_counters import (
    SharedCounts,
    add_up,
    event_sums,
    in_blocks,
    questions,
)

USER_BUCKETS = 7
SLOWER = 2_161


def random_events(random, count, words):
    """Exposures of a bucket of users, every fifth of them drawn, not shown."""
    time = random.integers(0, 400, count)
    drawn = random.random(count) < 0.2
    clicked = (random.random(count) < 0.3) & ~drawn
    return pa.table(
        {
            "key": pa.array(random.choice(words, count)),
            "time": np.where(drawn, NOT_SHOWN, time),
            "_click_time": np.where(clicked, time + random.integers(50), NO_CLICK),
            "_request_time": np.maximum(time - random.integers(0, 30, count), 0),
            "row": np.arange(count, dtype=np.int32),
        }
    )


def slower(events):
    """The same events with more time between them."""
    for i, name in enumerate(events.column_names):
        if "time" in name:
            time = events[name].to_numpy()
            longer = np.where(time < 0, time, time * SLOWER)  # what is no time stays
            events = events.set_column(i, name, pa.array(longer))
    return events


@pytest.mark.parametrize("words", [["red", "blue", "green"], range(100, 140)])
@pytest.mark.parametrize("resolution", [1, 60])
@pytest.mark.parametrize("by", ["item_id", "color"])
@pytest.mark.parametrize("at_once", [1 << 20, 16])
@pytest.mark.parametrize("horizon", [None, 2 * DAY])
def test_sums_answer_as_all_events_do(
    monkeypatch, by, resolution, words, at_once, horizon
):
    monkeypatch.setattr(shared_counters, "_BLOCK", at_once)
    random = np.random.default_rng(0)
    if horizon is None:
        counter = Counter(by, ("60s", "240s", "all"), resolution)
    else:  # its windows and times are longer: 400 of them are ten days
        windows = (str(60 * SLOWER), str(2 * DAY), "all")
        counter = Counter(by, windows, resolution, newness=True, horizon=horizon)
    sizes = [0, *random.integers(1, 120, USER_BUCKETS - 1)]
    buckets = [random_events(random, size, list(words)) for size in sizes]
    if horizon is not None:
        buckets = [slower(events) for events in buckets]
    every = concat(buckets)
    code = np.unique(every["key"], return_inverse=True)[1]
    times = (every[name].to_numpy() for name in ("time", "_click_time"))
    expected = counter.batch(code, *times, every["_request_time"].to_numpy())

    sums = add_up(event_sums(events, counter) for events in buckets)
    assert len(sums) == len({(r["key"], r["time"]) for r in sums.to_pylist()})
    counts = SharedCounts(counter, sums)
    asked = [questions(events, counter, len(events)) for events in buckets]
    answers = []
    for block in in_blocks((number, own.table) for number, own in enumerate(asked)):
        answer, start = counts.answer(concat(table for _, table in block)), 0
        for number, table in block:
            assert number == len(answers)
            answers.append(answer.slice(start, len(table)))
            start += len(table)
    assert len(answers) == USER_BUCKETS
    for name, values in expected.items():
        found = [
            answer[name].to_numpy()[own.row_of]
            for answer, own in zip(answers, asked, strict=True)
        ]
        np.testing.assert_array_equal(np.concatenate(found), values, err_msg=name)
        assert len(np.unique(values)) > 2


def test_equal_candidates_ask_once():
    random = np.random.default_rng(0)
    events = random_events(random, 1_000, ["red", "blue"])
    asked = questions(events, Counter("color", ("60s",), 60), 1_000)
    assert len(asked.table) == 2 * 7  # colors, and minutes of 400 seconds
    of_items = questions(events, Counter("item_id", ("60s",), 60), 1_000)
    assert len(of_items.table) > 500  # an item's age is of the request's own second


def test_candidates_without_a_value_ask_nothing():
    events = random_events(np.random.default_rng(0), 4, ["red"])
    asked = questions(events.slice(1, 2), Counter("color", ("60s",), 60), 4)
    assert asked.row_of[0] == asked.row_of[3] == -1
    assert (asked.row_of[1:3] >= 0).all()


def test_values_that_never_happened_have_counts_of_nothing():
    counter = Counter("item_id", ("60s", "all"), 60, newness=True)
    events = random_events(np.random.default_rng(0), 3, ["red"])
    asked = questions(events, counter, 3).table
    others = event_sums(random_events(np.random.default_rng(0), 9, ["blue"]), counter)
    for sums in (add_up([]), add_up([others])):
        answer = SharedCounts(counter, sums).answer(asked).to_pydict()
        assert answer["impressions"] == answer["clicks_60s"] == [0, 0, 0]
        assert answer["item_age"] == [NEVER] * 3
        assert answer["newness"] == [0, 0, 0]
