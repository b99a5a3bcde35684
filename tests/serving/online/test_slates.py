"""Exposures in any order, held against the job's grouping of all rows at once."""

import numpy as np
import pyarrow as pa
import pytest

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.schema import Categorical, Schema
from ctr_tf.time import DAY
from pipelines.arrow import add_columns
from pipelines.exposures import merge_exposures
from serving.online.counter_state import CLICK, IMPRESSION, CounterState
from serving.online.rows import typed_rows
from serving.online.store import OnlineStore

START = 1_700_000_000 // 60 * 60
SCHEMA = Schema(
    "shop",
    (
        Categorical("item_id", "item", dtype="int64"),
        Categorical("action", "behavior", dtype="int64"),
    ),
    history_length=500,
    num_chunks=2,
    counters=(
        CounterChoice("item_id", windows=("10m", "1d")),
        CounterChoice("user_id x item_id"),
    ),
    session_gap="10m",
)


@pytest.fixture
def store(tmp_path):
    store = OnlineStore.open(tmp_path / "store", SCHEMA, sync=False)
    yield store
    store.close()


def row(item, after, **more):
    given = {"user_id": "u", "time": START + after, "item_id": item, "click": 0}
    return given | {"behavior_action": 0} | more


def merged(rows):
    """What the job makes of them: item, time, time and action of the click."""
    typed, rejected = typed_rows("exposures", rows, SCHEMA)
    assert not rejected
    names = {name for row in typed for name in row}
    table = pa.table({name: [row.get(name) for row in typed] for name in names})
    item = np.array(table.column("item_id"))
    table = add_columns(table, _user=np.zeros(len(typed), np.int64), _item=item)
    columns = ("item_id", "time", "_click_time")
    found = merge_exposures(table, SCHEMA)
    clicked = np.array(found.column("click")) == 1
    item, time, click = (np.array(found.column(name)) for name in columns)
    action = found.column("behavior_action").to_pylist()
    return item, time, np.where(clicked, click, -1), action


def check(store, rows, now):
    """Holds what the store knows against the job's exposures."""
    item, time, click, action = merged(rows)
    items = np.unique(item).tolist()
    request = store.request("u", items, time=now)
    bucket = now // 60 * 60
    for number, found in zip(items, request["candidates"], strict=True):
        for kind, times in (("impressions", time), ("clicks", click)):
            own = times[(item == number) & (times >= 0)]
            for window, span in (("10m", 600), ("1d", 86_400)):
                count = ((own >= bucket - span) & (own < bucket)).sum()
                assert found[f"{kind}_{window}"] == count, (number, kind, window, now)
            assert found[f"user_{kind}"] == (own < bucket).sum()
        own = time[(item == number) & (time < bucket)]
        assert found["item_age"] == (now - own.min() if len(own) else None)
        assert found["since_shown"] == (now - own.max() if len(own) else None)
    known = (click >= 0) & (click < now)
    clicks = {(int(click[i]), int(item[i]), action[i]) for i in np.flatnonzero(known)}
    behaviors = request["behaviors"]
    columns = (behaviors[name] for name in ("time", "item_id", "action"))
    assert list(zip(*columns, strict=True)) == sorted(clicks)


def random_rows(random):
    """Rows of an hour and a half, some clicked, and when each of them comes."""
    rows = []
    for _ in range(40):
        after, item = int(random.integers(5_400)), int(random.integers(6))
        more = {
            "request_id": f"r{random.integers(3)}",
            "click": int(random.integers(2)),
            "behavior_action": int(random.integers(9)),
        }
        if random.random() < 0.1:
            more["request_id"] = None
        if more["click"] and random.random() < 0.5:
            more["click_time"] = START + after + int(random.integers(900))
        rows.append(row(item, after, **more))
    return rows


@pytest.mark.parametrize("seed", range(8))
def test_rows_in_any_order_within_the_hour_and_twice(store, seed):
    random = np.random.default_rng(seed)
    rows = random_rows(random) * 2
    comes = [row["time"] + random.uniform(0, 3_500) for row in rows]
    rows = [rows[place] for place in np.argsort(comes)]
    latest, start = 0, 0
    while start < len(rows):
        stop = start + int(random.integers(1, 6))
        counts = store.ingest("exposures", rows[start:stop])
        assert not counts["exposures more than an hour late"]
        latest, start = store.latest, stop
        for now in (latest + 1, latest + 200, latest - 1_000):
            check(store, rows[:start], now)


def test_a_row_of_long_ago_is_of_the_slate_that_goes_on(store):
    rows = [row(item, 500 * item, request_id="r") for item in range(5)]
    for each in rows:
        store.ingest("exposures", [each])
    rows.append(rows[0] | {"click": 1, "click_time": START + 2_100})
    counts = store.ingest("exposures", [rows[0], rows[-1]])
    assert counts["exposures merged"] == 2 and counts["clicks"] == 1
    check(store, rows, START + 2_400)


def test_a_row_joins_slates_that_were_apart(store):
    rows = [
        row(1, 0, request_id="r", click=1, click_time=START + 30),
        row(1, 1_000, request_id="r", click=1, click_time=START + 1_010),
        row(2, 1_000, request_id="r"),
    ]
    store.ingest("exposures", rows)
    assert store.request("u", [1], time=START + 1_300)["candidates"][0] == {
        **{"item_id": 1, "impressions_10m": 1, "clicks_10m": 1},
        **{"impressions_1d": 2, "clicks_1d": 2, "user_impressions": 2},
        **{"user_clicks": 2, "since_shown": 300, "since_clicked": 290},
        "item_age": 1_300,
    }
    rows.append(row(3, 500, request_id="r"))
    store.ingest("exposures", rows[-1:])
    check(store, rows, START + 1_300)
    assert len(store.request("u", [1], time=START + 1_300)["behaviors"]["time"]) == 1


def test_an_event_that_is_but_a_sum_is_taken_back():
    state = CounterState()
    state.add(IMPRESSION, [10, 70, 130], 60)
    state.add(CLICK, [10], 60)
    state.forget(120)
    state.remove(IMPRESSION, 10, 60)
    state.remove(CLICK, 10, 60)
    assert [state.before(IMPRESSION, time) for time in (120, 180)] == [1, 2]
    assert state.before(CLICK, 180) == 0
    state.remove(IMPRESSION, 130, 60)
    assert [state.before(IMPRESSION, time) for time in (120, 180)] == [1, 1]


def test_an_event_of_a_day_that_is_one_entry_is_taken_back():
    state = CounterState()
    state.add(IMPRESSION, [5 * DAY + 36_000, 5 * DAY + 82_800], 60)
    state.thin(6 * DAY, DAY, with_firsts=True)
    state.forget(3 * DAY)
    state.remove(IMPRESSION, 5 * DAY + 36_000, 60, DAY)
    counts = [state.before(IMPRESSION, day * DAY) for day in (3, 5, 6)]
    assert counts == [0, 0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_days_that_are_one_entry_count_like_all_their_events(seed):
    """Events of ten days, each taken back within the hour with a chance of a third."""
    random = np.random.default_rng(seed)
    state, known = CounterState(), []
    window, horizon, minute = 7_200, 3 * DAY, 60
    for now in np.sort(random.integers(0, 10 * DAY, 400)).tolist():
        late = now - int(random.integers(0, 3_000))
        state.add(IMPRESSION, [late], minute)
        known.append(late)
        if random.random() < 0.33:
            back = known.pop(
                int(random.choice(np.flatnonzero(np.array(known) > now - 3_600)))
            )
            state.remove(IMPRESSION, back, minute, DAY)
        earliest = (now - 3_600) // minute * minute  # that a request may have
        state.thin(earliest - window, DAY, with_firsts=True)
        state.forget((earliest - horizon) // DAY * DAY)
        state = CounterState(state.to_bytes())
        events = np.array(known)
        for asked in (earliest, now // minute * minute):
            begin = (asked - horizon) // DAY * DAY
            for since in (begin, asked - window):
                found = state.before(IMPRESSION, asked) - state.before(
                    IMPRESSION, since
                )
                assert found == ((events >= since) & (events < asked)).sum()
            first = min(events[events >= begin], default=-1)
            assert state.first(begin) // minute == first // minute
