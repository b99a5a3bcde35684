"""`ctr-tf bench online`: what a store of events takes, holds and answers.

    ctr-tf bench online [--length 1024] [--users 500] [--redis redis://…] [--json]

Fills a store with made-up events: every user has a history of the full length, and
exposures of items of which few are shown often. Then, on each kind of store,

* events/s that it takes: a whole log at once, and rows by the thousand as they come;
* bytes of a user, by what they are for, and of an item;
* seconds that it takes to assemble a request of 100 candidates: fetched, counted, and
  as tensors ready to be sent;
* latency of the whole `Client.rank`, assembling and all, on `ctr-tf serve` in a process
  of its own, open loop, from the scheduled time. The model is that of
  `ctr-tf bench serving`.
"""

import argparse
import concurrent.futures
import json
import logging
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks import serving
from benchmarks.schemas import bench_schema
from benchmarks.server_process import running_server
from ctr_tf.errors import check_positive_options
from ctr_tf.schema import Schema
from ctr_tf.time import DAY

_log = logging.getLogger(__name__)
_CANDIDATES = 100
_ITEMS = 10_000
_NOW = 1_700_000_000
_DAYS = 7
_SHOWN = 200  # exposures of a user
_TOGETHER = 1_000  # rows of a stream
_PARALLEL = 8  # calls of `rank` under way at most
_KINDS = {
    "h": "history of a user",
    "e": "last exposures of a user",
    "u": "profile of a user",
    "i": "features of an item",
    "c": "one value of a counter",
}


def make_events(users: int, length: int, seed: int = 0) -> dict[str, list[dict]]:
    """Raw table → rows, by time."""
    random = np.random.default_rng(seed)

    def items(count: int) -> list[int]:
        return (1_000 + (_ITEMS * random.random(count) ** 3).astype(int)).tolist()

    tables = {
        "users": [{"user_id": f"u{n}", "age": 20.0 + n % 50} for n in range(users)],
        "items": [
            {"item_id": 1_000 + n, "category": f"category {n % 40}"}
            for n in range(_ITEMS)
        ],
    }
    for table, each in (("behaviors", length), ("exposures", _SHOWN)):
        count = users * each
        when = np.sort(_NOW - random.integers(0, _DAYS * DAY, count)).tolist()
        who = random.integers(0, users, count).tolist()
        if table == "behaviors":  # as many of each user
            who = random.permutation(np.repeat(np.arange(users), each)).tolist()
        columns = zip(who, when, items(count), strict=True)
        tables[table] = [
            {"user_id": f"u{user}", "time": at, "item_id": item}
            for user, at, item in columns
        ]
    for number, row in enumerate(tables["behaviors"]):
        row["action"] = f"action {number % 7}"
    clicks = (random.random(len(tables["exposures"])) < 0.1).astype(int).tolist()
    for number, (row, click) in enumerate(
        zip(tables["exposures"], clicks, strict=True)
    ):
        row |= {"click": click, "request_id": f"r{number}", "device": "device 1"}
        row["position"] = number % 32
    return tables


def measure_store(where: str, schema: Schema, tables: dict, calls: int) -> dict:
    """Fills a store and asks it.

    Args:
        where: a folder or a URL, of an empty store.
        schema: of the events.
        tables: see `make_events`.
        calls: requests to assemble.
    """
    from serving.online.store import OnlineStore
    from serving.request import request_to_tensors

    store = OnlineStore.open(where, schema)
    for table in ("users", "items"):
        store.ingest_typed(table, tables[table])
    report = {"at_once_events_per_second": _fill(store, tables)}
    rows = _later(tables["exposures"], 20 * _TOGETHER)
    started = time.perf_counter()
    for start in range(0, len(rows), _TOGETHER):
        store.ingest_typed("exposures", rows[start : start + _TOGETHER])
    report["stream_events_per_second"] = len(rows) / (time.perf_counter() - started)
    random = np.random.default_rng(1)
    seconds, fetching = [], []
    for _ in range(calls + calls // 10):
        asked = _asked(random, len(tables["users"]))
        started = time.perf_counter()
        request = store.request(*asked, time=_NOW + 60)
        fetched = time.perf_counter()
        request_to_tensors(request, schema)
        seconds.append(time.perf_counter() - started)
        fetching.append(fetched - started)
    for name, values in (("assembling", seconds), ("fetching", fetching)):
        values = 1e3 * np.array(values[calls // 10 :])  # without the first ones
        for q in (50, 99):
            report[f"{name}_p{q}_ms"] = float(np.percentile(values, q))
    report["keys"], report["bytes"] = store.size()
    report["bytes_by_kind"] = _bytes_by_kind(store)
    store.close()
    return report


def _fill(store, tables: dict) -> float:
    """Events/s of a whole log, user by user as `ctr-tf ingest` takes it."""
    started, count = time.perf_counter(), 0
    for table in ("behaviors", "exposures"):
        by_user = defaultdict(list)
        for row in tables[table]:
            by_user[row["user_id"]].append(row)
        rows = []
        for of_user in by_user.values():
            rows += of_user
            if len(rows) >= 20_000:
                store.ingest_typed(table, rows, _NOW)
                rows = []
        if rows:
            store.ingest_typed(table, rows, _NOW)
        count += len(tables[table])
    return count / (time.perf_counter() - started)


def _later(rows: list[dict], count: int) -> list[dict]:
    """Rows that come after all others, within a minute."""
    return [
        row | {"request_id": f"later {n}", "time": _NOW + n * 60 // count}
        for n, row in enumerate((rows * (count // len(rows) + 1))[:count])
    ]


def _asked(random: np.random.Generator, users: int) -> tuple:
    items = 1_000 + (_ITEMS * random.random(_CANDIDATES) ** 3).astype(int)
    candidates = [
        {"item_id": item, "position": i % 32} for i, item in enumerate(items.tolist())
    ]
    return f"u{random.integers(users)}", candidates, {"device": "device 1"}


def _bytes_by_kind(store) -> dict[str, dict]:
    """Kind → keys, and mean, p99 and largest bytes of key and value."""
    sizes = defaultdict(list)
    for key, value in store.items():
        kind = _KINDS.get(chr(key[0])) if len(key) > 1 and key[1] > 127 else None
        if kind:
            sizes[kind].append(len(key) + len(value))
    return {
        kind: {
            "keys": len(found),
            "mean": float(np.mean(found)),
            "p99": float(np.percentile(found, 99)),
            "largest": max(found),
        }
        for kind, found in sorted(sizes.items())
    }


def measure_rank(
    models: Path, where: str, users: int, rates: list[float], seconds: float
) -> dict:
    """Latencies of `Client.rank` by rate; see `serving.load.Load.report`."""
    from serving.client import Client
    from serving.load import run_load

    random, reports = np.random.default_rng(2), {}
    with (
        running_server(models) as server,
        concurrent.futures.ThreadPoolExecutor(_PARALLEL) as pool,
        Client(server.grpc, model_dir=models, store=where, timeout=60.0) as client,
    ):

        def rank() -> None:
            client.rank(*_asked(random, users), time=_NOW + 60)

        def send(done) -> None:
            def call() -> None:
                try:
                    rank()
                except Exception as error:
                    done(type(error).__name__)
                else:
                    done(None)

            pool.submit(call)

        for _ in range(20):
            rank()
        for rate in rates:
            _log.info("rank: %g requests/s for %g s …", rate, seconds)
            reports[f"{rate:g}"] = run_load(send, rate, seconds, 60.0).report()
    return reports


def measure(length, users, calls, rates, seconds, redis: str | None) -> dict:
    """Everything, as the JSON object that `--json` prints."""
    # As `ctr-tf bench serving`, and before TensorFlow is imported.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    schema, report = bench_schema(length), {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _log.info("Exporting …")
        models = serving.export(folder, length)
        tables = make_events(users, length)
        stores = {"embedded": str(folder / "store")} | (
            {"redis": redis} if redis else {}
        )
        for name, where in stores.items():
            _log.info("Filling: %s …", name)
            report[name] = measure_store(where, schema, tables, calls)
            report[name]["rank"] = measure_rank(models, where, users, rates, seconds)
    return {
        "bench": "online",
        "history_length": length,
        "candidates": _CANDIDATES,
        "users": users,
        "cores": len(os.sched_getaffinity(0)),
        **report,
    }


def _table(report: dict) -> str:
    lines = [
        f"N = {report['history_length']}, {report['candidates']} candidates, "
        f"{report['users']:,} users, {report['cores']} cores"
    ]
    for name in ("embedded", "redis"):
        if name not in report:
            continue
        found = report[name]
        lines += ["", f"{name}: {found['keys']:,} keys, {found['bytes'] / 1e6:,.1f} MB"]
        for what in ("at_once", "stream"):
            rate = found[f"{what}_events_per_second"]
            lines.append(f"  {what.replace('_', ' '):<12}{rate:>12,.0f} events/s")
        for what in ("fetching", "assembling"):
            values = (f"p{q} {found[f'{what}_p{q}_ms']:.2f}" for q in (50, 99))
            lines.append(f"  {what:<12}{'  '.join(values)} ms")
        for rate, load in found["rank"].items():
            values = "  ".join(f"{k} {v:.1f}" for k, v in load["latency_ms"].items())
            failed = sum(load["errors"].values())
            lines.append(f"  rank, {rate}/s: {values} ms, {failed} failed")
        for kind, sizes in found["bytes_by_kind"].items():
            lines.append(
                f"  {kind:<26}{sizes['mean']:>9,.0f} bytes on average, p99 "
                f"{sizes['p99']:,.0f}, largest {sizes['largest']:,}"
            )
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench online",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--length", type=int, default=1_024, help="N, behaviors")
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--calls", type=int, default=300, help="requests to assemble")
    parser.add_argument("--rates", default="10,100", help="requests/s of `rank`")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each rate")
    parser.add_argument("--redis", help="URL of an empty database to measure, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    check_positive_options(options, "length", "users", "calls", "seconds")
    report = measure(
        options.length,
        options.users,
        options.calls,
        [float(rate) for rate in options.rates.split(",")],
        options.seconds,
        options.redis,
    )
    print(json.dumps(report) if options.json else _table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
