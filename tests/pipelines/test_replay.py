"""What the online store answers, event by event, is what the job wrote."""

import dataclasses

import numpy as np
import pytest
from job_helpers import SCHEMA, START, random_log, run_job, write_log

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.data.prepared import PreparedData
from ctr_tf.time import DAY
from pipelines.sources.source import get_source
from serving.online.replay import ReplayError, replay
from serving.online.store import OnlineStore

SCHEMAS = {
    "seconds": SCHEMA,
    "exact": dataclasses.replace(SCHEMA, counter_resolution="0s"),
    "minutes": dataclasses.replace(
        SCHEMA,
        counter_windows=("30m", "1h"),
        counter_resolution="60s",
        counters=(
            CounterChoice("item_id"),
            CounterChoice("user_id x item_id", windows=("all", "10m")),
            CounterChoice("category", windows=("all",)),
            CounterChoice("gender"),
            CounterChoice("category", source="behaviors"),
            CounterChoice("user_id", source="behaviors"),
            CounterChoice("user_id x item_id", windows=("10m",), source="behaviors"),
        ),
        places=("category_clicks",),
        slate_size=False,
    ),
    "delay": dataclasses.replace(SCHEMA, feedback_delay="25s"),
    "milliseconds": dataclasses.replace(SCHEMA, time_unit="milliseconds"),
    "horizon": dataclasses.replace(SCHEMA, horizon="50h", history_length=40),
    "horizon in milliseconds": dataclasses.replace(
        SCHEMA, horizon="30h", history_length=40, time_unit="milliseconds"
    ),
}


def replayed(folder, log, schema, **options):
    write_log(folder / "raw", log, schema)
    run_job(folder / "raw", folder / "data")
    data = PreparedData.load(folder / "data")
    store = OnlineStore.open(folder / "store", schema, sync=False)
    try:
        source = get_source("jsonl")
        return replay(source, str(folder / "raw"), data, store, **options)
    finally:
        store.close()


def told_again(log, seed):
    """Clicks as rows of their own, some known later; behaviors told twice."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in log["exposures"]:
        if row["click"] and row["request_id"] is not None and rng.random() < 0.5:
            rows.append(row | {"click": 0})
            again = row | {"time": row["time"] + int(rng.integers(20))}
            again["behavior_action"] = int(rng.integers(4))
            rows.append(again)
        else:
            rows.append(row)
        if rows[-1]["click"] and rng.random() < 0.4:
            known = rows[-1]["time"] + int(rng.integers(200))
            rows[-1] = rows[-1] | {"click_time": known}
    behaviors = [r for r in log["behaviors"] for _ in range(1 + (rng.random() < 0.2))]
    clicks = [
        {"user_id": r["user_id"], "time": r["time"], "item_id": r["item_id"]}
        for r in rows
        if r["click"] and rng.random() < 0.3
    ]
    return log | {"exposures": rows, "behaviors": behaviors + clicks}


def in_milliseconds(log, seed):
    rng = np.random.default_rng(seed)
    result = dict(log)
    for table in ("exposures", "behaviors"):
        result[table] = []
        for row in log[table]:
            row = row | {"time": row["time"] * 1_000 + int(rng.integers(3)) * 400}
            if row.get("click_time") is not None:
                row["click_time"] = max(row["click_time"] * 1_000, row["time"])
            result[table].append(row)
    return result


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_request_is_its_record(tmp_path, name, seed):
    schema = SCHEMAS[name]
    seconds = 4_000 if schema.horizon is None else 9 * DAY
    log = told_again(random_log(seed, seconds=seconds), seed)
    if schema.ticks > 1:
        log = in_milliseconds(log, seed)
    result = replayed(tmp_path, log, schema)
    assert result.requests > 150
    rows = len(log["exposures"]) + len(log["behaviors"])
    assert 0.9 * rows < result.events <= rows  # but for those after the last request


def test_a_request_id_that_comes_back_is_another_request(tmp_path):
    rows = [
        {
            **{"user_id": "a", "item_id": item, "click": click, "like": 0},
            **{"request_id": "r", "time": START + after},
        }
        for after, item, click in [
            *[(0, 1, 1), (0, 2, 0), (30, 1, 1)],  # one request, its click told twice
            *[(200, 1, 1), (200, 2, 0), (400, 2, 1)],
        ]
    ]
    result = replayed(tmp_path, {"exposures": rows}, SCHEMA)
    assert result.requests == 3


def test_a_difference_is_told(tmp_path, monkeypatch):
    log = random_log(3, exposures=60, behaviors=60)
    request = OnlineStore.request

    def wrong(change):
        def changed(*args, **kwargs):
            result = request(*args, **kwargs)
            change(result)
            return result

        return changed

    def later(result):
        result["behaviors"]["time"] = [t + 1 for t in result["behaviors"]["time"]]

    def more(result):
        result["candidates"][-1]["impressions_2h"] += 1

    def other(result):
        result["candidates"][0]["price"] = 7.0

    for number, (change, key) in enumerate(
        [(later, "behavior_time"), (more, "impressions_2h"), (other, "candidate_price")]
    ):
        monkeypatch.setattr(OnlineStore, "request", wrong(change))
        with pytest.raises(ReplayError, match=f"{key}.*in the record. Received: "):
            replayed(tmp_path / str(number), log, SCHEMA)
