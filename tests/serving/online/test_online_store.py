"""The store that knows what a request needs: both kinds, against records and itself."""

import dataclasses
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from running_server import Server

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.schema import Categorical, Numeric, Schema
from pipelines.sources.source import get_source
from serving.client import Client
from serving.online import item_cache
from serving.online.ingest import Ingestion, ingest_source
from serving.online.replay import TOLERANCE, model_scores, replay
from serving.online.store import LATE, OnlineStore
from serving.score import Scorer

pytestmark = pytest.mark.long

START = 1_700_000_000
SCHEMA = Schema(
    "shop",
    (
        Categorical("item_id", "item", dtype="int64"),
        Categorical("brand", "item"),
        Numeric("price", "item"),
        Categorical("city", "user"),
        Categorical("device", "context"),
        Categorical("action", "behavior"),
    ),
    history_length=4,
)


def exposure(item, after, user="u", **more):
    row = {"user_id": user, "item_id": item, "time": START + after, "click": 0}
    return row | more


@pytest.fixture
def store(where):
    store = OnlineStore.open(where, SCHEMA)
    yield store
    store.close()


@pytest.fixture(scope="module")
def filled(world, prepared, tmp_path_factory):
    """The world's whole log, taken at once; and where it lies."""
    folder = tmp_path_factory.mktemp("filled")
    store = OnlineStore.open(folder / "store", prepared.schema, sync=False)
    ingestion = Ingestion(store, folder / "rejected.jsonl")
    source = get_source("synthetic")
    ingest_source(ingestion, source, str(world / "raw"))
    yield store, folder / "store"
    store.close()


def test_the_world_event_by_event_scores_like_its_records(world, prepared, where):
    store = OnlineStore.open(where, prepared.schema, sync=False)
    score = model_scores(world / "run" / "export")
    most = None if "://" not in where else 200
    source = get_source("synthetic")
    result = replay(source, str(world / "raw"), prepared, store, score, most)
    total = sum(prepared.num_samples(split) for split in prepared.splits)
    assert result.requests == (most or total) and total > 500
    assert result.scored == result.requests
    assert result.largest <= TOLERANCE
    store.close()


def test_a_log_taken_at_once_is_the_same_as_event_by_event(
    world, prepared, filled, tmp_path
):
    slowly = OnlineStore.open(tmp_path / "store", prepared.schema, sync=False)
    source = get_source("synthetic")
    replay(source, str(world / "raw"), prepared, slowly)
    at_once, _ = filled
    now = slowly.latest  # of the last request: a few events are later
    ingestion = Ingestion(at_once, tmp_path / "rejected.jsonl")
    with pytest.raises(ValueError, match="would count twice. Give an empty store. Rec"):
        ingest_source(ingestion, source, str(world / "raw"))
    context = {f.name: None for f in prepared.schema.context if not f.computed}
    for user in range(0, 120, 3):
        asked = (user, list(range(40)), context)
        expected = at_once.request(*asked, time=now)
        assert slowly.request(*asked, time=now) == expected
    assert any(
        slowly.request(u, [1], context, time=now)["behaviors"]["time"]
        for u in range(120)
    )
    slowly.close()


def test_ids_are_ranked_as_by_the_saved_model(world, filled):
    store, _ = filled
    scorer = Scorer(world / "run" / "export")
    context = {f.name: None for f in store.schema.context if not f.computed}
    items = list(range(5, 25))
    request = store.request(7, items, context, time=store.latest)
    expected = scorer.score(request)
    server = Server(world / "run" / "export")
    server.start()
    try:
        server.wait()
        with Client(
            server.grpc, model_dir=world / "run" / "export", store=store, timeout=30.0
        ) as client:
            found = client.rank(7, items, context, time=store.latest)
        with Client(server.grpc) as client, pytest.raises(ValueError, match="needs a"):
            client.rank(7, items)
    finally:
        server.stop()
    assert [row["item_id"] for row in found] == [row["item_id"] for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
        assert items[one["position"]] == one["item_id"]


def test_the_commands_rank_what_was_ingested(world, tmp_path):
    run = [sys.executable, "-m", "ctr_tf"]
    model, where = str(world / "run" / "export"), str(tmp_path / "store")
    words = ["ingest", "--store", where, "--source", "synthetic"]
    found = subprocess.run(
        [*run, *words, "--input", str(world / "raw")], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert "exposures read" in found.stdout and "keys" in found.stdout
    store = OnlineStore.open(where)
    now = store.latest + 60
    context = {f.name: None for f in store.schema.context if not f.computed}
    before = store.request(7, [3], context, time=now + 60)
    store.close()
    rows = [
        {"user_id": 7, "time": now, "item_id": 3, "click": 1, "request_id": 10**9},
        {"user_id": 7, "time": now, "item_id": 4, "click": 2, "request_id": 10**9},
    ]
    lines = [json.dumps({"table": "exposures"} | row) for row in rows]
    lines += ["not JSON", json.dumps({"table": "exposure"})]
    found = subprocess.run(
        [*run, "ingest", "--store", where],
        input="\n".join(lines), capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "3 rows are unfit" in found.stdout
    told = (tmp_path / "store.rejected.jsonl").read_text("utf-8")
    reasons = {json.loads(line)["reason"] for line in told.splitlines()}
    assert "label click is neither 0 nor 1" in reasons and len(reasons) == 2
    store = OnlineStore.open(where)
    after = store.request(7, [3], context, time=now + 60)
    store.close()
    assert after["behaviors"]["item_id"][-1] == 3
    name = "user_clicks"
    assert after["candidates"][0][name] == before["candidates"][0][name] + 1
    words = ["rank", "--export", model, "--store", where, "--user", "7", "--json"]
    words += ["--candidates", "3,4,5", "--time", str(now + 60)]
    words += ["--context", json.dumps(context)]
    found = subprocess.run([*run, *words], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    ranked = json.loads(found.stdout)["candidates"]
    assert {row["item_id"] for row in ranked} == {3, 4, 5}
    assert "unknown" not in found.stderr and "history" not in found.stderr
    strange = "3,4,987654321"
    words = [{"7": "0", "3,4,5": strange}.get(word, word) for word in words]
    found = subprocess.run([*run, *words], capture_output=True, text=True)
    assert len(json.loads(found.stdout)["candidates"]) == 3
    assert "no earlier behavior of user '0': scored without a history" in found.stderr
    unknown = "candidate item_id: 1 of 3 are unknown to the model: 987654321"
    assert unknown in found.stderr


def test_what_is_known_before_a_request(store):
    store.ingest("items", [{"item_id": 1, "brand": "x"}, {"item_id": 2, "price": 2.5}])
    store.ingest("users", [{"user_id": "u", "city": "Ulm"}])
    store.ingest("behaviors", [exposure(2, -50, action="view")])
    rows = [exposure(1, 0, request_id="r", click=1), exposure(2, 0, request_id="r")]
    store.ingest("exposures", rows)
    counts = store.ingest("exposures", rows)  # told again
    assert counts["exposures merged"] == 2
    request = store.request("u", [1, 2, 3], {"device": None}, time=START + 100)
    assert request["user"] == {"city": "Ulm"}
    assert request["behaviors"] == {
        "time": [START - 50, START],
        "item_id": [2, 1],
        "brand": [None, "x"],
        "price": [2.5, None],
        "action": ["view", None],
    }
    one, two, three = request["candidates"]
    assert (one["impressions_2h"], one["clicks_2h"], one["user_clicks"]) == (1, 1, 1)
    assert (two["impressions_2h"], two["clicks_2h"]) == (1, 0)
    assert (one["since_clicked"], two["since_clicked"]) == (100, None)
    assert (three["impressions_2h"], three["item_age"]) == (0, None)
    assert store.counts["unknown items"] == 1
    # The same bucket of 60 s: nothing counts yet, but the history has it.
    request = store.request("u", [1], {"device": None}, time=START + 1)
    assert request["candidates"][0]["impressions_2h"] == 0
    assert request["behaviors"]["item_id"] == [2, 1]
    request = store.request("nobody", [1], {"device": None}, time=START + 100)
    assert request["behaviors"]["item_id"] == []
    assert request["candidates"][0]["impressions_2h"] == 1
    assert store.counts["unknown users"] == 1


def test_candidates_may_have_features_of_their_own(store):
    store.ingest("items", [{"item_id": 1, "brand": "x", "price": 1.0}])
    store.ingest("exposures", [exposure(1, 0, price=3.0, click=1)])
    request = store.request("u", [{"item_id": 1, "price": 2.0}], {}, time=START + 9)
    assert request["candidates"][0]["price"] == 2.0
    assert request["candidates"][0]["brand"] == "x"
    assert request["behaviors"]["price"] == [3.0]
    with pytest.raises(ValueError, match=r"`candidates\[0\]` lacks 'item_id'"):
        store.request("u", [{"price": 2.0}], {}, time=START)


def test_an_item_that_changes_is_read_anew(store):
    store.ingest("items", [{"item_id": 1, "price": 1.0}])
    store.ingest("behaviors", [exposure(1, 0)])
    for price in (2.0, 3.0):
        request = store.request("u", [1], {}, time=START + 9)
        assert request["candidates"][0]["price"] == price - 1
        assert request["behaviors"]["price"] == [price - 1]
        store.ingest("items", [{"item_id": 1, "price": price}])


def test_many_threads_ask_while_items_are_forgotten(store, monkeypatch):
    monkeypatch.setattr(item_cache, "_MOST", 20)
    monkeypatch.setattr(item_cache, "_SECONDS", 0.001)
    items = [{"item_id": n, "price": float(n)} for n in range(200)]
    store.ingest("items", items)
    store.ingest("behaviors", [exposure(n, n) for n in range(200)])
    errors = []

    def ask(seed):
        random = np.random.default_rng(seed)
        try:
            for _ in range(60):
                wanted = random.choice(200, 30, replace=False).tolist()
                request = store.request("u", wanted, {}, time=START + 300)
                prices = [c["price"] for c in request["candidates"]]
                assert prices == [float(item) for item in wanted]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_unfit_rows_are_refused_and_nothing_is_kept(store):
    rows = [exposure(1, 0), exposure("one", 0)]
    with pytest.raises(ValueError, match="1 unfit: .*bad value of item_id"):
        store.ingest("exposures", rows)
    with pytest.raises(ValueError, match="Unknown table 'exposure'"):
        store.ingest("exposure", rows)
    assert store.latest == 0
    store.ingest("exposures", [])
    assert store.latest == 0


ASKED = {"context": {"device": "phone"}, "candidates": [1, 2]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": 1.0}, "`user` must be a string or a whole number. Received: 1.0"),
        ({"user": None}, "`user` must be a string or a whole number. Received: None"),
        ({"user": True}, "`user` must be a string or a whole number. Received: True"),
        ({"user": "\ud83d"}, "`user` must be a string or a whole number. Received: '"),
        (
            {"candidates": [1, "2"]},
            "`candidates[1].item_id` must be a whole number, or",
        ),
        ({"candidates": [2**70]}, f"where it is unknown. Received: {2**70}"),
        ({"candidates": [True]}, "`candidates[0].item_id` must be a whole number, or"),
        ({"candidates": [1.0]}, "`candidates[0].item_id` must be a whole number, or"),
        ({"candidates": [float("nan")]}, "`candidates[0]` lacks 'item_id'."),
        (
            {"candidates": [1, {"item_id": 2, "price": 1e39}]},
            "`candidates[1].price` must be a number, or null where it is unknown. "
            "Received: 1e+39",
        ),
        ({"context": {"device": 3}}, "`context.device` must be a string"),
        ({"context": {"device": "caf\ud83d"}}, "`context.device` must be a string"),
        ({"context": ["device"]}, "`context` must be an object {…}. Received: ['dev"),
    ],
)
def test_what_is_asked_is_checked(store, change, message):
    asked = {"user": "u", **ASKED, **change}
    with pytest.raises(ValueError) as error:
        store.request(**asked, time=START)
    assert message in str(error.value)


def test_a_user_whose_id_is_a_number(tmp_path):
    user = Categorical("user_id", "user", dtype="int64")
    schema = dataclasses.replace(SCHEMA, features=(*SCHEMA.declared, user))
    store = OnlineStore.open(tmp_path / "store", schema)
    store.ingest("behaviors", [exposure(1, -9, user=7)])
    for name in (7, "7", np.int64(7), "07"):
        request = store.request(name, **ASKED, time=START)
        assert request["behaviors"]["item_id"] == [1]
        assert request["user"]["user_id"] == 7
    for name in ("abc", 7.0, 2**70):
        with pytest.raises(ValueError, match="`user` must be a whole number. Received"):
            store.request(name, **ASKED, time=START)
    store.close()


def test_values_of_numpy_are_as_good_as_pythons(store):
    nothing = float("nan")
    row = exposure(np.int64(1), 0, device=np.str_("phone"), price=np.float32(2.5))
    store.ingest("exposures", [row, exposure(2, 0, device=nothing, price=np.float64())])
    store.ingest("items", [{"item_id": np.int32(2), "brand": None, "price": nothing}])
    context = {"device": np.float32("nan")}
    candidates = [{"item_id": np.int64(1), "price": nothing}, np.int64(2)]
    request = store.request("u", candidates, context, time=np.int64(START + 60))
    assert json.loads(json.dumps(request)) == request
    assert request["request_time"] == START + 60
    assert request["context"] == {"device": None}
    assert [c["item_id"] for c in request["candidates"]] == [1, 2]
    assert [c["price"] for c in request["candidates"]] == [None, None]
    assert [c["impressions_2h"] for c in request["candidates"]] == [1, 1]
    array = np.array([1, 2])
    assert store.request("u", array, {}, time=START + 60)["candidates"]
    with pytest.raises(ValueError, match="not a finite number"):
        store.ingest("items", [{"item_id": 3, "price": float("inf")}])
    with pytest.raises(
        ValueError, match=r"`rows\[1\]` is not JSON: .* Received: {'item"
    ):
        store.ingest("items", [{"item_id": 3}, {"item_id": 4, "brand": {1, 2}}])


def test_events_before_their_items_row_are_told(tmp_path):
    schema = dataclasses.replace(SCHEMA, counters=(CounterChoice("brand", ("1d",)),))
    store = OnlineStore.open(tmp_path / "store", schema)
    rows = [exposure(1, 0), exposure(2, 0, brand="y"), exposure(3, 0)]
    assert store.ingest("exposures", rows)["exposures of unknown items"] == 2
    store.ingest("items", [{"item_id": 1, "brand": "x"}, {"item_id": 3}])
    rows = [exposure(item, 60) for item in (1, 2, 3)]
    assert store.ingest("exposures", rows)["exposures of unknown items"] == 1
    assert store.counts["exposures of unknown items"] == 3
    counts = store.ingest("behaviors", [exposure(4, 60)])  # no counter needs its item
    assert not counts["behaviors of unknown items"]
    store.close()


def test_a_request_of_long_ago_is_refused(store):
    store.ingest("exposures", [exposure(1, 0), exposure(1, 2 * LATE)])
    assert store.request("u", [1], {}, time=START + LATE)["candidates"]
    late = store.ingest("exposures", [exposure(1, 5)])
    assert late["exposures more than an hour late"] == 1
    with pytest.raises(ValueError, match="within 3600 s before its latest event, at"):
        store.request("u", [1], {}, time=START + LATE - 1)


def test_a_store_belongs_to_its_schema(where):
    with pytest.raises(ValueError, match="is empty, and no schema was given"):
        OnlineStore.open(where)
    OnlineStore.open(where, SCHEMA).close()
    store = OnlineStore.open(where)
    assert store.schema == SCHEMA
    store.close()
    for change, key in (
        ({"counter_resolution": "30s"}, "counter_resolution"),
        ({"history_length": 9}, "history_length"),
        ({"features": SCHEMA.features[:4]}, "features.context.device"),
    ):
        other = dataclasses.replace(SCHEMA, **change)
        with pytest.raises(ValueError, match=f"for another schema.*{key}"):
            OnlineStore.open(where, other)
    item = dataclasses.replace(SCHEMA.features[0], min_count=3)  # changes no event
    other = dataclasses.replace(SCHEMA, features=(item, *SCHEMA.declared[1:]))
    OnlineStore.open(where, other).close()


def test_many_writers_lose_nothing(where):
    OnlineStore.open(where, SCHEMA).close()
    errors = []

    def write(number):
        try:
            store = OnlineStore(shared or OnlineStore.open(where)._values)
            for i in range(20):
                rows = [exposure(1, 60 * i, user=f"u{number}", click=1)]
                store.ingest("exposures", rows)
        except Exception as error:
            errors.append(error)

    # LMDB wants one environment a process.
    shared = None if "://" in where else OnlineStore.open(where)._values
    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    store = OnlineStore(shared or OnlineStore.open(where)._values)
    request = store.request("u0", [1], {}, time=START + 60 * 20)
    assert request["candidates"][0]["impressions_30m"] == 80
    assert request["candidates"][0]["clicks_30m"] == 80
    assert len(request["behaviors"]["time"]) == 4
    store.close()


def test_events_of_the_future_are_refused(store):
    """One of them would make all others late."""
    now = int(time.time())
    for after in (4 * 10**9, now - START + 3_598, now - START + 70):
        with pytest.raises(ValueError, match="1 unfit: .*more than 60 s ahead of"):
            store.ingest("exposures", [exposure(1, 0), exposure(1, after)])
    assert store.latest == 0


def test_a_clock_that_is_ahead_makes_nobody_late(store):
    now = int(time.time()) - START
    store.ingest("exposures", [exposure(1, now - 60), exposure(9, now + 45, user="v")])
    counts = store.ingest("exposures", [exposure(2, now - LATE + 120)])
    assert counts["exposures more than an hour late"] == 0
    assert store.request("u", [1], {}, time=START + now - 5)["candidates"]


def test_a_store_that_was_never_filled_answers_nothing(where, tmp_path):
    nowhere = where if "://" in where else str(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="There is no online store at"):
        Client("127.0.0.1:1", store=nowhere)
    assert not (tmp_path / "nothing").exists()
    OnlineStore.open(where, SCHEMA).close()
    OnlineStore.open_filled(where).close()


def test_a_redis_that_evicts_keys_is_refused(redis, caplog):
    import redis as client

    server = client.Redis.from_url(redis.url)
    server.flushdb()
    refused = "Received: maxmemory=50000000, maxmemory-policy=allkeys-lru"
    try:
        server.config_set("maxmemory-policy", "allkeys-lru")
        OnlineStore.open(redis.url, SCHEMA).close()  # it has all the machine's memory
        server.config_set("maxmemory", 50_000_000)
        for open_it in (OnlineStore.open, OnlineStore.open_filled):
            with pytest.raises(ValueError, match=refused):
                open_it(redis.url, SCHEMA)
        server.config_set("maxmemory-policy", "noeviction")
        OnlineStore.open_filled(redis.url, SCHEMA).close()
        assert not caplog.records
        server.acl_setuser(
            "guest", enabled=True, passwords=["+x"], keys=["*"],
            commands=["+@all", "-info"],
        )  # fmt: skip
        url = redis.url.replace("redis://", "redis://guest:x@")
        OnlineStore.open_filled(url, SCHEMA).close()
        assert "Redis does not tell its `maxmemory-policy`" in caplog.text
    finally:
        server.acl_deluser("guest")
        server.config_set("maxmemory", 0)
        server.config_set("maxmemory-policy", "noeviction")


def test_a_store_that_is_not_there():
    with pytest.raises(ConnectionError, match="No Redis answers at 'redis://127"):
        OnlineStore.open("redis://127.0.0.1:1/0", SCHEMA)
    with pytest.raises(ValueError, match="a folder or `redis://host:port/number`"):
        OnlineStore.open("postgres://x", SCHEMA)


def test_old_buckets_become_one_sum(store):
    rows = [exposure(1, 3_600 * hour, user=f"u{hour % 5}") for hour in range(24 * 8)]
    store.ingest("exposures", rows)
    now = START + 3_600 * 24 * 8
    request = store.request("u0", [1], {}, time=now)
    (one,) = request["candidates"]
    start = np.array([r["time"] for r in rows])
    bucket = now // 60 * 60
    for window, seconds in (("2h", 7_200), ("1d", 86_400), ("3d", 3 * 86_400)):
        expected = ((start >= bucket - seconds) & (start < bucket)).sum()
        assert one[f"impressions_{window}"] == expected
    assert one["item_age"] == now - START
    assert one["user_impressions"] == sum(r["user_id"] == "u0" for r in rows)
