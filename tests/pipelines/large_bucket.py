"""One worker's largest work, as a process of its own that tells its memory.

large_bucket.py item    ten million exposures of one item are counted
large_bucket.py page    and of one page, of which many users ask the same
large_bucket.py user    a user with a million behaviors is encoded
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.process_memory import peak_bytes
from ctr_tf.schema import Categorical, Schema
from ctr_tf.storage import files
from pipelines import steps
from pipelines.arrow import from_bytes, to_bytes
from pipelines.parts import Parts
from pipelines.shared_counters import event_sums, questions
from pipelines.vocabulary import FOLDER

SCHEMA = Schema(
    name="large",
    history_length=1_000,
    num_chunks=16,
    labels=("click",),
    counters=(CounterChoice("item_id"), CounterChoice("page")),
    features=(
        Categorical("page", "candidate"),
        Categorical("item_id", "item", dtype="int64"),
        Categorical("action", "behavior", dtype="int64"),
    ),
)
BLOCKS = 100  # that a bucket comes in
EXPOSURES = 10_000_000
BEHAVIORS, REQUESTS = 1_000_000, 2_000
SECONDS = 10_000_000


class OnDisk:
    """What a runner brings of one key: read anew each time, never held as a whole."""

    def __init__(self, blocks):
        self._folder = Path(tempfile.mkdtemp())
        self._askers = []
        for asker, block in blocks:
            self._path(len(self._askers)).write_bytes(block)
            self._askers.append(asker)

    def _path(self, number):
        return self._folder / f"{number:05d}"

    def __iter__(self):
        for number, asker in enumerate(self._askers):
            yield asker, self._path(number).read_bytes()


def exposures_of_one_value(counter):
    random, count = np.random.default_rng(0), EXPOSURES // BLOCKS
    for number in range(BLOCKS):
        time = np.sort(random.integers(SECONDS, size=count))
        columns = {
            "key": np.zeros(count, np.int64),
            "time": time,
            "_click_time": np.where(random.random(count) < 0.1, time, -1),
            "_request_time": time,
            "row": np.arange(count, dtype=np.int32),
        }
        events = pa.table(columns)
        yield steps.NOBODY, to_bytes(event_sums(events, counter))
        yield number, to_bytes(questions(events, counter, count).table)


def count(place):
    blocks = OnDisk(exposures_of_one_value(SCHEMA.computed.counters[place]))
    step = steps.CountEvents(SCHEMA)
    rows = 0
    for _, (_, data) in step.process(((place, 0), blocks), []):
        rows += len(from_bytes(data))
    asked = sum(len(from_bytes(data)) for who, data in blocks if who != steps.NOBODY)
    assert rows == asked > EXPOSURES // 2
    assert asked < EXPOSURES  # what is equal was asked once


def behaviors_of_one_user():
    random, count = np.random.default_rng(0), BEHAVIORS // BLOCKS
    for number in range(BLOCKS):
        columns = {
            "user_id": pa.array(["one"] * count),
            "time": random.integers(SECONDS, size=count),
            "item_id": random.integers(100_000, size=count),
            "action": random.integers(4, size=count),
            "_row": number * count + np.arange(count),
        }
        yield to_bytes(pa.table(columns))


def requests_of_one_user():
    count = REQUESTS * 10
    columns = {
        "user_id": pa.array(["one"] * count),
        "request_id": pa.array([f"r{i // 10}" for i in range(count)]),
        "time": SECONDS // 2 + np.arange(count) // 10 * 1_000,
        "item_id": np.arange(count) % 997,
        "click": np.zeros(count, np.int64),
        "_row": np.arange(count),
    }
    yield to_bytes(pa.table(columns))


def encode_user():
    folder = tempfile.mkdtemp()
    rows = {
        "exposures": requests_of_one_user(),
        "behaviors": behaviors_of_one_user(),
        "users": [],
    }
    starts = SECONDS, SECONDS
    build = steps.BuildHistories(SCHEMA, Parts(1, 1), folder, has_users=False)
    found = [*build.process((0, rows), [], starts)]
    paths = [entry[1] for entry in found if isinstance(entry, tuple)]
    told = {}
    for entry in found:
        if getattr(entry, "tag", None) == "events":
            told.setdefault(entry.value[0], []).append(entry.value[1])
    count = steps.CountEvents(SCHEMA)
    answers = [own for keyed in told.items() for _, own in count.process(keyed, [])]
    for name in SCHEMA.vocabularies():
        files.write_text(f"{folder}/{FOLDER}/{name}.txt", "")
    write = steps.WriteSamples(folder, SCHEMA, 1, "none")
    with pytest.raises(RuntimeError, match=r"counter by 'item_id' .* 20000 fewer"):
        [*write.process((0, {"buckets": paths, "counters": []}), [], starts, [])]
    values = {"buckets": paths, "counters": answers}
    written = [*write.process((0, values), [], starts, [])]
    assert sum(getattr(entry, "samples", 0) for entry in written) == REQUESTS


if __name__ == "__main__":
    work = {"item": lambda: count(0), "page": lambda: count(1), "user": encode_user}
    work[sys.argv[1]]()
    print(peak_bytes() / 2**30)
