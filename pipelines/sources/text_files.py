"""Reading JSON lines and separated values by byte ranges."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from ctr_tf.errors import UserError
from pipelines.sources import text
from pipelines.sources.batches import batch_of
from pipelines.sources.columns import Column
from pipelines.sources.raw_files import RawFile, readable
from pipelines.sources.source import Batch, Shard

SHARD_BYTES = 32 << 20
BLOCK_BYTES = 4 << 20  # that are parsed at once


def text_shards(
    table: str, file: RawFile, used: tuple[str, ...], dialect: text.Dialect
) -> list[Shard]:
    """Ranges that begin and end at line breaks, with the number of their first line."""
    shards = []
    with readable(file.path, 1), file.open() as stream:
        start, line = 0, 1
        if file.format == "csv" and not dialect.names:
            start, line = len(text.first_line(stream)), 2
        if file.compression:
            return [file.shard(table, used, start, None, line)]
        size = stream.size()
        if size - start <= SHARD_BYTES:
            return [file.shard(table, used, start, size, line)]
        for block in text.line_blocks(stream, start, size, SHARD_BYTES):
            stop = start + len(block)
            shards.append(file.shard(table, used, start, stop, line))
            start, line = stop, line + text.count_lines(block)
    return shards


def read_text(
    shard: Shard, columns: Sequence[Column], dialect: text.Dialect
) -> Iterator[Batch]:
    """Reads a shard of `text_shards`, block by block.

    Raises:
        UserError: if the file has become shorter since.
    """
    file = RawFile(shard.path, shard.format, shard.compression)
    if shard.format == "jsonl":
        parser: text.JsonParser | text.CsvParser = text.JsonParser(columns)
    else:
        with file.open() as stream:
            header = dialect.names or text.csv_fields(text.first_line(stream))
        parser = text.CsvParser(header, columns, dialect)
    line, place = shard.first_row, shard.start
    with file.open() as stream:
        blocks = text.line_blocks(stream, shard.start, shard.stop, BLOCK_BYTES)
        while True:
            with readable(shard.path, line):
                block = next(blocks, None)
            if block is None:
                break
            rows, numbers, rejected = parser.parse(block, line, shard.origin)
            raw = text.Lines(block, line, dialect.encoding)
            line, place = line + text.count_lines(block), place + len(block)
            if shard.format == "jsonl":
                rows = _without_absent(rows, columns)
            yield batch_of(shard, rows, numbers, rejected, raw)
    if shard.stop is not None and place < shard.stop:
        raise UserError(
            f"{shard.path}: it has become shorter since the job began, and must have "
            f"{shard.stop:,} bytes at least. Received: {place:,}"
        )


def _without_absent(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """Leaves out optional columns of which the rows have no value."""
    return rows.select(
        [c.name for c in columns if c.required or rows[c.name].null_count < len(rows)]
    )
