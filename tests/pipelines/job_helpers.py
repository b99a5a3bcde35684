"""Runs the listwise job on small logs and reads what it wrote."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.data.manifest import SPLITS, Manifest
from ctr_tf.schema import Bucketized, Categorical, Numeric, Schema
from pipelines import listwise

START = 1_700_000_000

SCHEMA = Schema(
    name="small",
    utc_offset_hours=5.5,
    history_length=6,
    num_chunks=3,
    counter_windows=("30s", "2h"),
    counter_resolution="10s",
    counters=(
        CounterChoice("item_id"),
        CounterChoice("user_id x item_id"),
        CounterChoice("category"),
        CounterChoice("device", windows=("all", "1h")),
        CounterChoice("gender", windows=("1h",)),
        CounterChoice("user_id"),
        CounterChoice("user_id x category", windows=("30s", "all")),
        CounterChoice("item_id", windows=("all", "2h"), source="behaviors"),
        CounterChoice("user_id x category", source="behaviors"),
        CounterChoice("gender", windows=("1h",), source="behaviors"),
    ),
    newness=True,
    places=("clicks_2h", "category_impressions_30s"),
    slate_size=True,
    session_gap="60s",
    labels=("click", "like"),
    features=(
        Categorical("gender", "user"),
        Categorical("tags", "user", dtype="int64", length=2),
        Bucketized("age", "user", dtype="int64", boundaries=(20, 40)),
        Categorical("device", "context"),
        Categorical("item_id", "item", dtype="int64", min_count=2),
        Categorical("category", "item", max_size=2),
        Numeric("price", "item"),
        Categorical("action", "behavior", dtype="int64"),
        Numeric("dwell", "behavior", dtype="int64", transform="log1p"),
        Bucketized("position", "candidate", dtype="int64", num_values=9),
    ),
)


def random_log(seed, exposures=600, behaviors=700, users=12, items=15, seconds=4_000):
    """Tables of a log with ties, missing values, rows told twice."""
    rng = np.random.default_rng(seed)

    def maybe(value, missing=0.1):
        return None if rng.random() < missing else value

    def time():
        return START + int(rng.integers(seconds))

    def item():
        return int(rng.integers(items))

    def user():
        return f"u{rng.integers(users)}"

    log = {"exposures": [], "behaviors": [], "users": [], "items": []}
    while len(log["exposures"]) < exposures:
        request, who, when = len(log["exposures"]), user(), time()
        known = rng.random() < 0.6
        for position in range(int(rng.integers(1, 7))):
            log["exposures"].append(
                {
                    "request_id": f"r{request}" if known else None,
                    "user_id": who,
                    "time": when + int(rng.integers(3)),
                    "item_id": item(),
                    "click": int(rng.random() < 0.3),
                    "like": int(rng.random() < 0.1),
                    "position": position,
                    "category": maybe(f"own{rng.integers(3)}", 0.8),
                    "device": maybe(f"d{request % 3}"),
                    "behavior_action": maybe(int(rng.integers(3))),
                    "true_probability": float(np.float32(rng.random())),
                }
            )
    for row in log["exposures"]:
        if row["request_id"] is not None:  # a context feature has one value a request
            row["device"] = f"d{int(row['request_id'][1:]) % 3}"
        else:
            row["device"] = "d0"
    for _ in range(behaviors):
        log["behaviors"].append(
            {
                "user_id": f"u{rng.integers(users + 3)}",
                "time": time() - seconds // 2,
                "item_id": item(),
                "action": maybe(int(rng.integers(4))),
                "dwell": maybe(int(rng.integers(100))),
            }
        )
    for number in range(users - 2):
        log["users"].append(
            {
                "user_id": f"u{number}",
                "gender": maybe("fm"[number % 2]),
                "tags": maybe([int(t) for t in rng.integers(4, size=number % 4)]),
                "age": maybe(int(rng.integers(70))),
            }
        )
    for number in range(items - 2):
        log["items"].append(
            {
                "item_id": number,
                "category": maybe(f"c{number % 4}"),
                "price": maybe(float(np.float32(rng.random()))),
            }
        )
    return log


def write_log(folder, log, schema):
    """Writes the tables of a log, lists of dicts, as Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    schema.save(folder / "schema.yaml")
    for name, rows in log.items():
        if rows:
            names = dict.fromkeys(key for row in rows for key in row)
            columns = {key: [row.get(key) for row in rows] for key in names}
            pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def run_job(folder, output, *options):
    """Runs the job in this process; returns the manifest."""
    return listwise.run(
        [
            *("--source", "jsonl", "--input", str(folder), "--output", str(output)),
            *("--num_buckets", "3", "--num_shards", "2", *map(str, options)),
        ]
    )


def read_files(output):
    """Split → file name → serialized samples."""
    return {
        split: {
            path.name: [
                record.numpy()
                for record in tf.data.TFRecordDataset(
                    str(path),
                    compression_type="GZIP" if path.suffix == ".gz" else "",
                )
            ]
            for path in sorted((output / split).iterdir())
            if path.suffix != ".index"
        }
        for split in SPLITS
    }


def read_records(output):
    """Split → serialized samples, sorted."""
    return {
        split: sorted(record for records in files.values() for record in records)
        for split, files in read_files(output).items()
    }


def parse(record):
    """A serialized sample as key → list of values."""
    features = tf.train.Example.FromString(record).features.feature
    return {
        key: list(getattr(value, value.WhichOneof("kind")).value)
        for key, value in features.items()
    }


def read_samples(output):
    """(user id, request id) → split and sample."""
    samples = {}
    for split, records in read_records(output).items():
        for record in records:
            sample = parse(record)
            key = sample["user_id"][0].decode(), sample["request_id"][0].decode()
            assert key not in samples
            samples[key] = split, sample
    return samples


def read_manifest(output):
    """The manifest of a prepared data set."""
    return Manifest.load(output / "manifest.json")
