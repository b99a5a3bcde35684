"""Writing a prepared data set so that a reader sees all of it or nothing.

Workers write into a temporary folder beside the output; one rename publishes it.
"""

import contextlib
import dataclasses
import glob
import json
import logging
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from ctr_tf import files
from ctr_tf.data.manifest import (
    MANIFEST,
    SPLITS,
    Content,
    Counts,
    Document,
    Manifest,
    RecordFile,
    Split,
    TableCounts,
)
from ctr_tf.data.prepared import STATISTICS
from ctr_tf.data.record_files import compressed, file_name
from ctr_tf.errors import UserError
from ctr_tf.schema import Schema
from ctr_tf.schema.vocabulary import content_digests, hash_of
from pipelines.arrow import column, concat, from_bytes
from pipelines.limits import RejectionLimits
from pipelines.sources.source import TABLES
from pipelines.statistics import Statistics
from pipelines.vocabulary import complete

REPORT = "report.json"
_LONGEST_EXAMPLE = 1_000
D = TypeVar("D", bound=Document)
_log = logging.getLogger(__name__)


def write_file(path: str, data: bytes | memoryview) -> None:
    """Writes a file under a temporary name, then renames it; folders are made."""
    folder, name = FileSystems.split(path)
    with contextlib.suppress(OSError):  # it exists, or another worker is making it
        FileSystems.mkdirs(folder)
    temporary = FileSystems.join(folder, f".{name}.{uuid.uuid4().hex}")
    with (
        files.naming(path),
        FileSystems.create(
            temporary, compression_type=CompressionTypes.UNCOMPRESSED
        ) as file,
    ):
        file.write(data)
        if is_local(path):
            file.flush()
            os.fsync(file.fileno())
    FileSystems.rename([temporary], [path])


def is_local(path: str) -> bool:
    """Whether a path is one of this machine's file system, as Beam names them."""
    return "://" not in path


def read_file(path: str) -> bytes:
    """Reads a whole file."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        return file.read()


def remove(path: str) -> None:
    """Deletes a folder or file, if it exists."""
    if FileSystems.exists(path):
        FileSystems.delete([path])


class WriteShard(beam.DoFn):
    """((split, shard), samples) → one TFRecord file; output: its entry in the manifest.

    Samples are in the order of request time, request id and user id.

    Args:
        folder: of the data set in the making.
        num_shards: of each split.
        compression: of the file, a key of `ctr_tf.data.record_files.COMPRESSIONS`.
    """

    def __init__(self, folder: str, num_shards: int, compression: str):
        self._folder = folder
        self._num_shards = num_shards
        self._compression = compression

    def process(
        self, keyed: tuple[tuple[str, int], Iterable[bytes]]
    ) -> Iterator[RecordFile]:
        """Writes one file."""
        (split, shard), blocks = keyed
        name = file_name(split, shard, self._num_shards, self._compression)
        samples = concat(from_bytes(block) for block in blocks if block)
        data: Content = b""
        if len(samples):
            keys = ("request_time", "request_id", "user_id")
            data = _content(samples.sort_by([(key, "ascending") for key in keys]))
        data = compressed(data, self._compression)
        write_file(FileSystems.join(self._folder, name), data)
        yield RecordFile.of(name, len(samples), data)


def _content(samples: pa.Table) -> memoryview:
    """The records, one after another, without a copy."""
    records = column(samples, "record")
    size = pc.sum(pc.binary_length(records)).as_py()
    _, offsets, data = records.buffers()
    first = memoryview(offsets).cast("q")[records.offset]
    return memoryview(data)[first : first + size]


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
        path = FileSystems.join(self._folder, "rejected", f"part-{part:05d}.jsonl")
        write_file(path, "".join(f"{line}\n" for _, line in entries).encode())
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
    """

    def __init__(self, folder: str, schema: Schema, compression: str):
        self._folder = folder
        self._schema = schema
        self._compression = compression

    def process(
        self,
        _: bytes,
        starts: tuple[int, int],
        vocabularies: dict[str, str],
        counts: dict[str, int],
        statistics: Statistics,
        rejected: list[tuple[str, str, int, str]],
        files: list[RecordFile],
        texts: list[TextFiles],
    ) -> None:
        """Writes them."""
        self._write("schema.yaml", self._schema.to_yaml().encode())
        words = complete(vocabularies, self._schema)
        for name in words.names:
            text = vocabularies.get(name, "")
            self._write(f"vocabularies/{name}.txt", text.encode())
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
            splits=_splits(statistics, starts),
            files=tuple(sorted(files, key=lambda file: file.path)),
        )
        write_report(self._folder, manifest, rejected)

    def _write(self, name: str, data: bytes) -> None:
        write_file(FileSystems.join(self._folder, *name.split("/")), data)


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
    return TableCounts(read, kept, merged, dict(reasons))


def _splits(statistics: Statistics, starts: tuple[int, int]) -> dict[str, Split]:
    begins = dict(zip(SPLITS, (None, *starts), strict=True))
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
    write_file(FileSystems.join(folder, REPORT), _json(report))


class Output:
    """The folder that a job publishes.

    Args:
        path: of the folder.
        overwrite: whether it may replace an existing one.

    Raises:
        FileExistsError: if it exists and must not be replaced.
    """

    def __init__(self, path: str, overwrite: bool):
        self.path = path.rstrip("/")
        self._overwrite = overwrite
        self._temporary = f"{self.path}.{uuid.uuid4().hex[:8]}.unfinished"
        if is_local(self.path):
            self._clean_up()
        if FileSystems.exists(self.path) and not overwrite:
            raise FileExistsError(
                f"The output '{self.path}' exists. Give another `--output`, or "
                "`--overwrite` to replace it."
            )

    @contextlib.contextmanager
    def unfinished(self) -> Iterator[str]:
        """A folder to write into; it is gone afterwards, unless it was published."""
        FileSystems.mkdirs(self._temporary)
        try:
            with contextlib.ExitStack() as stack:
                if is_local(self.path):
                    stack.enter_context(files.held(self._temporary))
                yield self._temporary
        finally:
            remove(self._temporary)

    def finish(self, kind: type[D], limits: RejectionLimits) -> D:
        """Publishes the folder.

        Args:
            kind: of the manifest.
            limits: of the rows put aside.

        Returns:
            The manifest.

        Raises:
            UserError: if more rows were rejected; their lines are in
                `<output>.rejected` then.
        """
        report_path = FileSystems.join(self._temporary, REPORT)
        report = json.loads(read_file(report_path))
        remove(report_path)
        manifest = kind.from_mapping(report["manifest"])
        self._check_rejected(manifest, report["examples"], limits)
        path = FileSystems.join(self._temporary, MANIFEST)
        write_file(path, manifest.to_json().encode())
        self._publish()
        return manifest

    def _publish(self) -> None:
        if is_local(self.path):
            if self._overwrite:
                files.replace(self._temporary, self.path)
            else:
                os.rename(self._temporary, self.path)
            return
        if self._overwrite:
            remove(self.path)
        FileSystems.rename([self._temporary], [self.path])

    def _clean_up(self) -> None:
        """Mends what a job left that was killed; a living one holds its folder."""
        if done := files.recover(self.path):
            _log.warning("An earlier job was killed: %s.", done)
        for left in files.remove_left(f"{glob.escape(self.path)}.*.unfinished"):
            _log.warning("An earlier job was killed: removed '%s'.", left)

    def _check_rejected(
        self, manifest: Document, examples: dict[str, str], limits: RejectionLimits
    ) -> None:
        faults = limits.faults(manifest.counts)
        if not faults:
            return
        reasons: Counter[str] = Counter()
        for count in manifest.counts.values():
            reasons.update({r: n for r, n in count.lost.items() if r in examples})
        kept_at = f"{self.path}.rejected"
        remove(kept_at)
        FileSystems.rename([FileSystems.join(self._temporary, "rejected")], [kept_at])
        listed = "".join(
            f"\n  {count:,} {reason}, such as {_shortened(examples[reason])}"
            for reason, count in reasons.most_common()
        )
        raise UserError(
            f"{'; '.join(faults)}. See `--max_rejected_fraction` and "
            f"`--allow_rejected`. Nothing was published; all that is unfit is in "
            f"'{kept_at}'.{listed}\nReceived: max_rejected_fraction={limits.fraction}"
        )


def _shortened(line: str) -> str:
    """A line for people; whole, it is in `rejected/`."""
    return line if len(line) <= _LONGEST_EXAMPLE else line[:_LONGEST_EXAMPLE] + "…"


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
