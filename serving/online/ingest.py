"""`ctr-tf ingest`: events into an online store, from raw logs or as they happen.

    ctr-tf ingest --store runs/store --source jsonl --input LOGS    # to begin with
    … | ctr-tf ingest --store runs/store                            # and from then on
    ctr-tf ingest --store runs/store --stream HOST:PORT --topics events    # or of Kafka

Standard input has one JSON object a line, a row of a raw table (`docs/data_format.md`)
that says which: {"table": "exposures", "user_id": "u1", "time": 1700000000, …}. Rows
are taken together, a thousand or those of a second, and are in the store once their
number is printed.

Messages of a Kafka broker hold the same. What was taken is committed to the broker once
it is in the store, so that nothing is left out after a crash, and some come twice: the
store merges events that are told again within an hour of the latest. Topics whose
partitions are by user keep the order of each user's events; several processes of one
`--group` share them.

A raw log is read whole: its events must fit into memory (some 1 KB each). Rows that are
unfit for use stand in the file of `--rejected`, each with its reason.
"""

import argparse
import collections
import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from ctr_tf.commands.arguments import Parser
from ctr_tf.data.topics import Topics
from ctr_tf.errors import UserError, check_positive_options
from ctr_tf.schema import ITEM_KEY, USER_KEY, Schema
from ctr_tf.storage import as_local, as_path
from pipelines.sources.source import TABLES, Source, get_source
from pipelines.validation import rejected_line
from serving.online.rows import not_in_future, python_rows, source_tables, typed_lines
from serving.online.store import LATE, OnlineStore

_log = logging.getLogger(__name__)
_EVENTS = ("behaviors", "exposures")
_TOGETHER = 20_000  # rows of a raw log, whole users
_TELL_EVERY = 10.0  # seconds


class Ingestion:
    """Feeds a store, and keeps what is unfit.

    Args:
        store: to feed.
        rejected: file to which unfit rows are appended.
    """

    def __init__(self, store: OnlineStore, rejected: Path):
        self._store = store
        self._rejected = rejected
        self.counts: collections.Counter = collections.Counter()
        self._started = self._told = time.monotonic()

    @property
    def schema(self) -> Schema:
        """Of the store."""
        return self._store.schema

    def check_new(self, times: Iterable[int]) -> None:
        """Raises UserError where events are from before the store's, and would be two.

        Args:
            times: of events, the earliest among them.
        """
        latest, first = self._store.latest, min(times, default=0)
        if latest and first < latest - LATE * self._store.schema.ticks:
            raise UserError(
                f"The store has events until {latest} already, and those of this log "
                f"would count twice. Give an empty store. Received: events from {first}"
            )

    def take(self, table: str, rows: list[dict], latest: int | None = None) -> None:
        """Takes rows that are fit for use."""
        if rows:
            self.counts += self._store.ingest_typed(table, rows, latest)
        if time.monotonic() - self._told > _TELL_EVERY:
            self._told = time.monotonic()
            _log.info("%s", self.summary())

    def reject(self, table: str, lines: list[str]) -> None:
        """Puts rows aside, lines of `rejected/`."""
        if lines:
            self.counts[f"{table} rejected"] += len(lines)
            with self._rejected.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)

    def summary(self) -> str:
        """What came in, in one line."""
        total = sum(self.counts[f"{table} read"] for table in TABLES)
        rate = total / max(time.monotonic() - self._started, 1e-9)
        counts = ", ".join(f"{n} {c:,}" for n, c in sorted(self.counts.items()) if c)
        return f"{total:,} rows, {rate:,.0f}/s: {counts or 'nothing'}"


def ingest_source(ingestion: Ingestion, source: Source, folder: str) -> None:
    """Takes a whole raw log: users and items first, then events, user by user."""
    tables = collections.defaultdict(list)
    for table, rows, rejected in source_tables(source, folder, ingestion.schema):
        ingestion.reject(table, rejected)
        tables[table].append(rows)
    for table, key in (("users", USER_KEY), ("items", ITEM_KEY)):
        rows = first_rows(tables[table], key)
        again = sum(map(len, tables[table])) - len(rows)
        ingestion.counts[f"{table} told again, the first one counts"] += again
        for chunk in _chunks(rows):
            ingestion.take(table, chunk)
    events = {}
    for table in _EVENTS:
        found = []
        for part in tables.pop(table, []):
            rows = python_rows(part)
            rows, later = not_in_future(table, rows, ingestion.schema, folder)
            ingestion.reject(table, later)
            found.append(rows)
        events[table] = _by_user(found)
    times = [rows[-1]["time"] for of in events.values() for rows in of]
    ingestion.check_new(rows[0]["time"] for of in events.values() for rows in of)
    for table in _EVENTS:
        for rows in _whole_users(events[table]):
            ingestion.take(table, rows, max(times))


def first_rows(tables: list[pa.Table], key: str) -> list[dict]:
    """Rows of users or items, the first of each."""
    rows: dict[Any, dict] = {}
    for table in tables:
        for row in python_rows(table):
            rows.setdefault(row[key], row)
    return list(rows.values())


def _by_user(tables: list[list[dict]]) -> list[list[dict]]:
    users = collections.defaultdict(list)
    for table in tables:
        for row in table:
            users[row[USER_KEY]].append(row)
    for rows in users.values():
        rows.sort(key=lambda row: row["time"])
    return list(users.values())


def _whole_users(users: list[list[dict]]) -> Iterator[list[dict]]:
    rows = []
    for of_user in users:
        rows += of_user
        if len(rows) >= _TOGETHER:
            yield rows
            rows = []
    if rows:
        yield rows


def _chunks(rows: list) -> Iterator[list]:
    for start in range(0, len(rows), _TOGETHER):
        yield rows[start : start + _TOGETHER]


def ingest_stream(ingestion: Ingestion, stream: Iterable[bytes], most: int) -> None:
    """Takes JSON lines until the stream ends.

    Args:
        ingestion: takes the rows.
        stream: of bytes.
        most: lines that are taken together; or those of a second.
    """
    lines, number = _Lines(stream), 1
    while (block := lines.next(most, 1.0)) is not None:
        _take_lines(ingestion, block, number, "standard input")
        number += len(block)


def ingest_topics(
    ingestion: Ingestion, topics: Topics, most: int, to_end: bool
) -> None:
    """Takes messages of a broker, each a JSON line.

    Args:
        ingestion: takes the rows.
        topics: of the broker.
        most: messages that are taken together; or those of a second.
        to_end: whether to stop where there are no more for now.
    """
    number = 1
    for block in topics.blocks(most, 1.0, to_end):
        _take_lines(ingestion, block, number, "messages")
        number += len(block)


def _take_lines(
    ingestion: Ingestion, block: list[bytes], number: int, where: str
) -> None:
    """Takes lines, the first of which is that of the number, from 1."""
    by_table = collections.defaultdict(list)
    for place, line in enumerate(block, number):
        by_table[_table(line)].append((place, line))
    for place, line in by_table.pop(None, ()):
        reason = f"no JSON object with a `table` of {', '.join(TABLES)}"
        text = line.decode("utf-8", "backslashreplace")
        told = rejected_line("unknown", reason, f"{where}:{place}", text)
        ingestion.reject("unknown", [told])
    for table in ("users", "items", *_EVENTS):
        if found := by_table[table]:
            lines_of = [line for _, line in found]
            schema = ingestion.schema
            rows, rejected = typed_lines(table, lines_of, schema, found[0][0])
            rows, later = not_in_future(table, rows, schema, where)
            ingestion.reject(table, rejected + later)
            ingestion.take(table, rows)


def _table(line: bytes) -> str | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    table = row.get("table") if isinstance(row, dict) else None
    return table if table in TABLES else None


class _Lines:
    """Lines of a stream, those that are there or come within a time."""

    def __init__(self, stream: Iterable[bytes]):
        self._queue: queue.Queue[bytes | None] = queue.Queue(maxsize=100_000)
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: Iterable[bytes]) -> None:
        for line in stream:
            if line.strip():
                self._queue.put(line.rstrip(b"\r\n"))
        self._queue.put(None)

    def next(self, most: int, seconds: float) -> list[bytes] | None:
        """Some lines, at least one; None at the end."""
        line = self._queue.get()
        if line is None:
            return None
        lines, until = [line], time.monotonic() + seconds
        while len(lines) < most:
            try:
                line = self._queue.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                break
            if line is None:
                self._queue.put(None)
                break
            lines.append(line)
        return lines


def main(argv: list[str]) -> int:
    """The verb `ctr-tf ingest`."""
    parser = Parser("ingest", __doc__)
    parser.add_argument("--store", required=True, help="a folder, or redis://…")
    parser.add_argument("--source", help="kind of raw logs; default: standard input")
    parser.add_argument("--input", help="folder of the raw logs")
    parser.add_argument(
        "--schema", help="of the data set; default: the store's, the log's or source's"
    )
    parser.add_argument("--rejected", help="file; default: <store>.rejected.jsonl")
    parser.add_argument("--stream", metavar="HOST:PORT", help="a Kafka broker")
    parser.add_argument("--topics", help="of the broker, with commas between")
    parser.add_argument(
        "--group", default="ctr-tf-ingest", help="whose positions the broker keeps"
    )
    parser.add_argument(
        "--to_end", action="store_true", help="stop where the topics have no more"
    )
    parser.add_argument("--batch", type=int, default=1_000, help="lines taken together")
    options = parser.parse_args(argv)
    check_positive_options(options, "batch")
    if (options.source is None) != (options.input is None):
        raise UserError(
            "`--source` and `--input` belong together. "
            f"Received: source={options.source!r}, input={options.input!r}"
        )
    if (options.stream is None) != (options.topics is None):
        raise UserError(
            "`--stream` and `--topics` belong together. "
            f"Received: stream={options.stream!r}, topics={options.topics!r}"
        )
    if options.stream and options.source:
        raise UserError(
            "Give `--source` or `--stream`, not both. "
            f"Received: {options.source!r} and {options.stream!r}"
        )
    source = get_source(options.source) if options.source else None
    store = OnlineStore.open(options.store, _schema(options, source))
    ingestion = Ingestion(store, _rejected_file(options))
    if options.stream:
        topics = Topics(options.stream, options.topics.split(","), options.group)
        try:
            ingest_topics(ingestion, topics, options.batch, options.to_end)
        finally:
            topics.close()
    elif source:
        ingest_source(ingestion, source, options.input)
    else:
        ingest_stream(ingestion, sys.stdin.buffer, options.batch)
    keys, size = store.size()
    store.close()
    print(f"{ingestion.summary()}\nthe store: {keys:,} keys, {size / 1e6:,.1f} MB")
    rejected = sum(c for n, c in ingestion.counts.items() if n.endswith("rejected"))
    if rejected:
        print(f"{rejected:,} rows are unfit, see {_rejected_file(options)}")
    return 0


def _schema(options: argparse.Namespace, source: Source | None) -> Schema | None:
    if options.schema or source is None:
        return Schema.load(options.schema) if options.schema else None
    own = as_path(options.input) / "schema.yaml"
    return Schema.load(own) if own.is_file() else source.schema(options.input)


def _rejected_file(options: argparse.Namespace) -> Path:
    if options.rejected:
        return as_local(options.rejected, "`--rejected`")
    name = "redis" if "://" in options.store else options.store.rstrip("/")
    return Path(f"{name}.rejected.jsonl")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
