"""`ctr-tf bench pipeline`: the listwise job's events/s, polars' same join beside it.

Both read the same synthetic Parquet logs in one run. The job does everything
`ctr-tf prepare` does: reading, validation, slates, histories, counters, vocabularies,
chunks, encoding, TFRecord files, statistics, manifest. It runs in this process, where
its steps say how long they take, and in worker processes of Beam's own runner. polars
does the join alone, on all cores: the latest behaviors of every request, clicks
included, and all counters of every candidate, into memory; it builds no vocabulary,
encodes nothing and writes nothing.
"""

import argparse
import collections
import dataclasses
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_tf.data.manifest import Manifest
from ctr_tf.errors import UserError, check_positive_options
from ctr_tf.schema import Bucketized, Categorical, Schema, parse_duration
from ctr_tf.time import DAY
from pipelines import listwise

_log = logging.getLogger(__name__)
_SLATE = 10
_START = 1_700_000_000
_DAYS = 14

SCHEMA = Schema(
    name="bench",
    features=(
        Categorical("user_id", "user", dtype="int64"),
        Bucketized("age", "user", dtype="int64", boundaries=(25, 40, 60)),
        Categorical("item_id", "item", dtype="int64"),
        Categorical("category", "item", dtype="int64"),
        Categorical("action", "behavior", dtype="int64"),
        Bucketized("position", "candidate", dtype="int64", num_values=20),
    ),
)


def write_logs(
    folder: Path,
    events: int,
    events_a_user: int = 50,
    schema: Schema = SCHEMA,
    seed: int = 0,
) -> int:
    """Writes synthetic logs: as many exposures as behaviors, ten to a request.

    Args:
        folder: to write into.
        events: exposures and behaviors together.
        events_a_user: of these, on average.
        schema: to write beside them, `SCHEMA` but for its lengths.
        seed: of the random numbers.

    Returns:
        How many events were written.
    """
    rng = np.random.default_rng(seed)
    users, items = max(events // events_a_user, 1), max(events // 100, _SLATE)
    requests = max(events // 2 // _SLATE, 1)
    request_user = rng.integers(users, size=requests)
    request_time = _START + rng.integers(_DAYS * DAY, size=requests)
    shown = requests * _SLATE
    # Distinct items within a slate: a random start and random strides.
    stride = rng.integers(1, items // _SLATE + 1, (requests, 1))
    first = (items * rng.random((requests, 1)) ** 2).astype(np.int64)
    item = (first + stride * np.arange(_SLATE)) % items
    exposures = {
        "request_id": np.repeat(np.arange(requests), _SLATE),
        "user_id": np.repeat(request_user, _SLATE),
        "time": np.repeat(request_time, _SLATE),
        "item_id": item.ravel(),
        "click": (rng.random(shown) < 0.1).astype(np.int8),
        "position": np.tile(np.arange(_SLATE), requests),
    }
    past = events - shown
    behaviors = {
        "user_id": rng.integers(users, size=past),
        "time": _START + rng.integers(-30 * DAY, _DAYS * DAY, past),
        "item_id": (items * rng.random(past) ** 2).astype(np.int64),
        "action": rng.integers(4, size=past),
    }
    profiles = {"user_id": np.arange(users), "age": rng.integers(15, 80, users)}
    table = {"item_id": np.arange(items), "category": rng.integers(100, size=items)}
    for name, columns in (
        ("exposures", exposures),
        ("behaviors", behaviors),
        ("users", profiles),
        ("items", table),
    ):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    schema.save(folder / "schema.yaml")
    return shown + past


def run_polars(folder: Path, schema: Schema) -> int:
    """The job's join in polars, into memory.

    Args:
        folder: of `write_logs`.
        schema: says how long histories are and which windows to count.

    Returns:
        How many behaviors stand in the histories of all requests.
    """
    import polars as pl  # an extra, wanted here alone

    exposures = pl.read_parquet(folder / "exposures.parquet").with_columns(
        pl.col("time").min().over("user_id", "request_id").alias("request_time")
    )
    clicked = exposures.filter(pl.col("click") == 1)
    columns = ("user_id", "time", "item_id")
    timeline = (
        pl.concat(
            [
                pl.read_parquet(folder / "behaviors.parquet"),
                clicked.select(columns).with_columns(action=None),
            ],
            how="vertical_relaxed",
        )
        .unique(columns, keep="first", maintain_order=True)
        .sort(columns)
        .join(
            pl.read_parquet(folder / "items.parquet"),
            on="item_id",
            how="left",
            maintain_order="left",
        )
        .with_row_index("row")
        .cast({"row": pl.Int64})
        .with_columns(first=pl.col("row").min().over("user_id"))
    )
    requests = exposures.unique(["user_id", "request_id"]).sort("request_time")
    requests = requests.join_asof(
        timeline.select("user_id", "time", "row", "first").sort("time", "row"),
        left_on="request_time",
        right_on="time",
        by="user_id",
        allow_exact_matches=False,
        check_sortedness=False,  # polars cannot check it within groups
    ).join(pl.read_parquet(folder / "users.parquet"), on="user_id", how="left")
    start = pl.max_horizontal("first", pl.col("row") + 1 - schema.history_length)
    histories = (
        requests.filter(pl.col("row").is_not_null())
        .select("request_id", row=pl.int_ranges(start, pl.col("row") + 1))
        .explode("row")
        .join(timeline.drop("user_id", "first"), on="row", how="left")
        .group_by("request_id", maintain_order=True)
        .agg("time", "item_id", "category", "action")
    )
    counted = _polars_counters(exposures, schema)
    assert len(counted) == len(exposures)
    return int(histories["time"].list.len().sum())


def _polars_counters(exposures, schema: Schema):
    import polars as pl

    def past(keys, rows, prefix):
        return (
            rows.sort("time")
            .with_columns(
                pl.int_range(1, pl.len() + 1).over(keys).alias(f"{prefix}_count"),
                pl.col("time").alias(f"{prefix}_last"),
                pl.col("time").min().over(keys).alias(f"{prefix}_first"),
            )
            .select(
                *keys, "time", f"{prefix}_count", f"{prefix}_last", f"{prefix}_first"
            )
        )

    clicked = exposures.filter(pl.col("click") == 1)
    result = exposures
    for keys in (["item_id"], ["user_id", "item_id"]):
        windows = (0, *map(parse_duration, schema.counter_windows))
        for what, rows in (("shown", exposures), ("clicked", clicked)):
            for window in windows if keys == ["item_id"] else (0,):
                name = f"{'_'.join(keys)}_{what}_{window}"
                result = (
                    result.with_columns(until=pl.col("request_time") - window)
                    .sort("until")
                    .join_asof(
                        past(keys, rows, name),
                        left_on="until",
                        right_on="time",
                        by=keys,
                        allow_exact_matches=False,
                        check_sortedness=False,
                        suffix=f"_{name}",
                    )
                )
    return result


class StepSeconds(logging.Handler):
    """Adds up what the job's steps in this process say that they took.

    Attributes:
        seconds: by step.
    """

    def __init__(self):
        super().__init__()
        self.seconds = collections.Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Adds what one line says."""
        if hasattr(record, "seconds"):
            self.seconds[record.step] += record.seconds


def run_job(raw: Path, output: Path, *options: str) -> tuple[Manifest, dict]:
    """The listwise job.

    Args:
        raw: folder of the logs.
        output: folder to write.
        options: of the job and of Beam.

    Returns:
        The manifest; and how long it took, of which CPU in this process, and steps.
    """
    steps, logger = StepSeconds(), logging.getLogger("pipelines.steps")
    level = logger.level
    logger.addHandler(steps)
    logger.setLevel(logging.DEBUG)
    started, cpu = time.perf_counter(), time.process_time()
    try:
        manifest = listwise.run(
            ["--source=jsonl", f"--input={raw}", f"--output={output}", *options]
        )
    finally:
        logger.removeHandler(steps)
        logger.setLevel(level)
    seconds = time.perf_counter() - started
    return manifest, {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "steps": {**steps.seconds, "all else": seconds - sum(steps.seconds.values())},
    }


def measure(
    events: int, events_a_user: int, history_length: int, processes: int
) -> dict:
    """Runs both on the same logs.

    Args:
        events: how many.
        events_a_user: of these, on average.
        history_length: N.
        processes: of the job's workers, the second time.

    Returns:
        The results, as printed by `--json`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = folder / "raw"
        raw.mkdir()
        schema = dataclasses.replace(SCHEMA, history_length=history_length)
        events = write_logs(raw, events, events_a_user, schema)
        _log.info("Wrote %s events", f"{events:,}")
        manifest, alone = run_job(raw, folder / "alone")
        workers = ("--direct_running_mode=multi_processing",)
        workers += (f"--direct_num_workers={processes}",)
        other, shared = run_job(raw, folder / "shared", *workers)
        if other.files != manifest.files:
            raise RuntimeError("The files of the two runs differ.")
        started = time.perf_counter()
        behaviors = run_polars(raw, schema)
        polars = time.perf_counter() - started
        expected = sum(split.behaviors for split in manifest.splits.values())
        if behaviors != expected:
            raise RuntimeError(
                f"polars found {behaviors} behaviors, the job {expected}: the two do "
                "not do the same."
            )
        return {
            "events": events,
            "events_a_user": events_a_user,
            "history_length": history_length,
            "samples": sum(s.samples for s in manifest.splits.values()),
            "behaviors_in_histories": behaviors,
            "bytes_written": sum(file.bytes for file in manifest.files),
            "job_seconds": alone["seconds"],
            "job_cpu_seconds": alone["cpu_seconds"],
            "job_step_seconds": alone["steps"],
            "job_events_per_second": events / alone["seconds"],
            "processes": processes,
            "job_in_processes_seconds": shared["seconds"],
            "job_in_processes_events_per_second": events / shared["seconds"],
            "polars_join_seconds": polars,
            "polars_join_events_per_second": events / polars,
            "job_to_polars_join": polars / alone["seconds"],
            "job_in_processes_to_polars_join": polars / shared["seconds"],
        }


def report(result: dict) -> str:
    """The results as a person reads them."""
    processes = f"listwise job, {result['processes']} processes"
    lines = [
        f"{name:<30}{result[f'{key}_events_per_second']:>12,.0f} events/s"
        for name, key in (
            ("listwise job, one process", "job"),
            (processes, "job_in_processes"),
            ("polars, the join alone", "polars_join"),
        )
    ]
    ratios = (result["job_to_polars_join"], result["job_in_processes_to_polars_join"])
    lines.append(f"{'job / polars join':<30}{' and '.join(f'{r:.2f}' for r in ratios)}")
    lines += ["", "where one process spends its time"]
    for step, seconds in result["job_step_seconds"].items():
        share = seconds / result["job_seconds"]
        lines.append(f"  {step:<28}{seconds:>10,.1f} s  {share:>4.0%}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """The verb `ctr-tf bench pipeline`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--events_a_user", type=int, default=50)
    parser.add_argument("--history_length", type=int, default=SCHEMA.history_length)
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="of the job's workers"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.events < 1_000:
        raise UserError(
            f"`--events` must be at least 1000. Received: {arguments.events}"
        )
    sizes = ("events_a_user", "history_length", "processes")
    check_positive_options(arguments, *sizes)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    result = measure(arguments.events, *(getattr(arguments, size) for size in sizes))
    if arguments.json:
        print(json.dumps(result))
        return 0
    print(report(result))
    return 0


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s  %(message)s", force=True
    )
    sys.exit(main(sys.argv[1:]))
