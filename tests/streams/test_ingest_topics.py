"""Events from a real broker: the store is that of the same lines on standard input."""

import json

import numpy as np
import pytest
from broker import Broker

from ctr_tf.data.topics import Topics
from ctr_tf.schema import Categorical, Numeric, Schema
from serving.online import ingest
from serving.online.store import OnlineStore

pytestmark = pytest.mark.long

START = 1_700_000_000
SCHEMA = Schema(
    "shop",
    (
        Categorical("item_id", "item", dtype="int64"),
        Numeric("price", "item"),
        Categorical("device", "context"),
        Categorical("action", "behavior"),
    ),
    history_length=5,
)
USERS, ITEMS = 8, 6


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


def events(count):
    """(user, line) each, in the order of time; two of them unfit."""
    random = np.random.default_rng(0)
    rows = []
    for item in range(ITEMS):
        rows.append(("", {"table": "items", "item_id": item, "price": item / 2}))
    for number in range(count):
        user = f"u{random.integers(USERS)}"
        row = {"user_id": user, "item_id": int(random.integers(ITEMS))}
        row |= {"time": START + 3 * number}
        if random.random() < 0.5:
            row |= {"table": "behaviors", "action": "view"}
        else:
            row |= {"table": "exposures", "request_id": f"r{number}"}
            row["click"] = int(random.random() < 0.3)
        rows.append((user, row))
    lines = [(user, json.dumps(row).encode()) for user, row in rows]
    return [*lines, ("u1", b"not JSON"), ("u1", b'{"table": "exposure"}')]


def publish(broker, partitions, lines):
    from confluent_kafka import Producer

    topic = broker.make_topic(partitions)
    producer = Producer({"bootstrap.servers": broker.address})
    for user, line in lines:
        partition = int(user[1:] or 0) % partitions if user else 0
        producer.produce(topic, line, user, partition=partition)
    assert producer.flush(60) == 0
    return topic


def answers(folder):
    store = OnlineStore.open(str(folder))
    found = [
        store.request(f"u{user}", list(range(ITEMS)), {"device": None}, time=time)
        for user in range(USERS)
        for time in (store.latest + 1, store.latest + 7_200)
    ]
    store.close()
    return found


def empty(folder):
    OnlineStore.open(str(folder), SCHEMA).close()
    return str(folder)


def words(broker, store, topic):
    return [
        *("--store", store, "--stream", broker.address, "--topics", topic),
        *("--group", f"group-{topic}", "--to_end", "--batch", "40"),
    ]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What a store says that was told the lines on standard input."""
    folder = tmp_path_factory.mktemp("lines")
    store = OnlineStore.open(str(folder / "store"), SCHEMA)
    ingestion = ingest.Ingestion(store, folder / "rejected.jsonl")
    ingest.ingest_stream(ingestion, [line for _, line in events(400)], 40)
    store.close()
    return answers(folder / "store")


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_stream_is_taken_as_standard_input_is(
    broker, expected, tmp_path, capsys, partitions
):
    topic = publish(broker, partitions, events(400))
    store = empty(tmp_path / "store")
    assert ingest.main(words(broker, store, topic)) == 0
    assert "2 rows are unfit" in capsys.readouterr().out
    assert answers(store) == expected
    assert ingest.main(words(broker, store, topic)) == 0  # all are committed
    assert "0 rows" in capsys.readouterr().out


def test_a_crash_before_a_commit_leaves_nothing_out(
    broker, expected, tmp_path, capsys, monkeypatch
):
    """The worst moment: events are in the store, and the broker does not know it."""

    class CrashError(Exception):
        pass

    taken = []

    def dies(*arguments):
        take(*arguments)
        taken.append(len(arguments[1]))
        if len(taken) == 4:
            raise CrashError

    topic = publish(broker, 2, events(400))
    store = empty(tmp_path / "store")
    take = ingest._take_lines
    with monkeypatch.context() as patch, pytest.raises(CrashError):
        patch.setattr(ingest, "_take_lines", dies)
        ingest.main(words(broker, store, topic))
    # Its store was left open, as a process leaves it that is gone.
    assert ingest.main(words(broker, store, topic)) == 0
    told = capsys.readouterr().out
    assert "behaviors merged" in told or "exposures merged" in told  # came twice
    assert answers(store) == expected


def test_what_is_no_stream(broker, tmp_path):
    store = empty(tmp_path / "store")
    with pytest.raises(ValueError, match="topic 'evnets'"):
        Topics(broker.address, ["evnets"], "group")
    with pytest.raises(ValueError, match="belong together. Received: stream="):
        ingest.main(["--store", store, "--stream", broker.address])
    with pytest.raises(ValueError, match="or `--stream`, not both"):
        more = ["--source", "jsonl", "--input", "logs"]
        ingest.main([*words(broker, store, "events"), *more])
