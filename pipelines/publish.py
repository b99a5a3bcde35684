"""Steps that write a prepared data set into the folder of an `Output`."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from ctr_tf.data.manifest import (
    SPLITS,
    Counts,
    Document,
    Manifest,
    RecordFile,
    Split,
    TableCounts,
)
from ctr_tf.data.negatives import Negatives
from ctr_tf.data.prepared import STATISTICS
from ctr_tf.schema import Schema
from ctr_tf.schema.vocabulary import content_digests, hash_of
from ctr_tf.storage import as_path, files
from pipelines.output import REPORT
from pipelines.sources.source import TABLES
from pipelines.statistics import Statistics
from pipelines.vocabulary import read_vocabularies


class WriteRejected(beam.DoFn):
    """(part, [(table, line)]) → one file; output: (table, reason, count, an example).

    Args:
        folder: of the data set in the making.
    """

    def __init__(self, folder: str):
        self._folder = folder

    def process(self, keyed: tuple[int, Iterable[tuple[str, str]]]) -> Iterator[tuple]:
        """Writes one file."""
        part, entries = keyed
        entries = sorted(entries)
        path = as_path(self._folder) / "rejected" / f"part-{part:05d}.jsonl"
        files.write_text(path, "".join(f"{line}\n" for _, line in entries))
        counts: Counter[tuple[str, str]] = Counter()
        examples: dict[tuple[str, str], str] = {}
        for table, line in entries:
            key = table, json.loads(line)["reason"]
            counts[key] += 1
            examples.setdefault(key, line)
        for key, count in sorted(counts.items()):
            yield (*key, count, examples[key])


@dataclasses.dataclass(frozen=True)
class TextFiles:
    """What was written of the texts.

    Args:
        digests: file of the data set → SHA-256.
        statistics: text feature → what its texts are like.
    """

    digests: dict[str, str]
    statistics: dict[str, dict[str, Any]]


class WriteReport(beam.DoFn):
    """Writes schema, vocabularies, statistics and what the manifest is made of.

    Args:
        folder: of the data set in the making.
        schema: of the data set.
        compression: of the samples.
        begin: unix seconds of the earliest sample that there may be; None: any.
        negatives: what was drawn beside the candidates of the log, if anything.
    """

    def __init__(
        self,
        folder: str,
        schema: Schema,
        compression: str,
        begin: int | None = None,
        negatives: Negatives | None = None,
    ):
        self._negatives = negatives
        self._folder = folder
        self._schema = schema
        self._compression = compression
        self._begin = begin

    def process(
        self,
        _: bytes,
        starts: tuple[int, int],
        vocabularies: list[str],
        counts: dict[str, int],
        statistics: Statistics,
        rejected: list[tuple[str, str, int, str]],
        files: list[RecordFile],
        texts: list[TextFiles],
    ) -> None:
        """Writes them."""
        self._write("schema.yaml", self._schema.to_yaml().encode())
        assert set(vocabularies) == set(self._schema.vocabularies())
        words = read_vocabularies(self._folder, self._schema)
        report = statistics.report(self._schema, words)
        content = content_digests(self._schema, words)
        for written in texts:
            content |= written.digests
            report["texts"] = written.statistics
        self._write(STATISTICS, _json(report))
        manifest = Manifest(
            name=self._schema.name,
            compression=self._compression,
            content_hash=hash_of(content),
            content=content,
            events={table: _table_counts(table, counts, rejected) for table in TABLES},
            clicks=Counts(counts.get("clicks read", 0), counts.get("clicks kept", 0)),
            out_of_vocabulary=statistics.unknown_shares(),
            joins={
                name.removeprefix("join "): count
                for name, count in sorted(counts.items())
                if name.startswith("join ")
            },
            splits=_splits(statistics, (self._begin, *starts)),
            files=tuple(sorted(files, key=lambda file: file.path)),
            negatives=self._negatives,
        )
        write_report(self._folder, manifest, rejected)

    def _write(self, name: str, data: bytes) -> None:
        files.write_bytes(as_path(self._folder) / name, data)


def _table_counts(
    table: str, counts: dict[str, int], rejected: list[tuple[str, str, int, str]]
) -> TableCounts:
    reasons: Counter[str] = Counter()
    for where, reason, count, _ in sorted(rejected):
        if where == table:
            reasons[reason] += count
    read, kept, merged = (
        counts.get(f"{table} {kind}", 0) for kind in ("read", "kept", "merged")
    )
    older = counts.get(f"{table} older", 0)
    return TableCounts(read, kept, merged, dict(reasons), older)


def _splits(statistics: Statistics, starts: tuple[int | None, ...]) -> dict[str, Split]:
    begins = dict(zip(SPLITS, starts, strict=True))
    ranges = statistics.time_ranges()
    return {
        split: Split(**totals, begins=begins[split], time_range=ranges[split])
        for split, totals in statistics.totals().items()
    }


def write_report(
    folder: str, manifest: Document, rejected: list[tuple[str, str, int, str]]
) -> None:
    """Writes what `Output.finish` decides by.

    Args:
        folder: of the data set in the making.
        manifest: to be published, if not too much was rejected.
        rejected: outputs of `WriteRejected`.
    """
    examples: dict[str, str] = {}
    for _, reason, _, example in sorted(rejected):
        examples.setdefault(reason, example)
    report = {"manifest": manifest.to_mapping(), "examples": examples}
    files.write_bytes(as_path(folder) / REPORT, _json(report))


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
