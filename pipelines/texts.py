"""Texts of the item table → tables of tokens, once for all of a data set."""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from ctr_tf.errors import UserError
from ctr_tf.schema import FIRST_ID, ITEM_KEY, PADDING_ID, Schema
from ctr_tf.schema.texts import Texts
from ctr_tf.storage import as_path, check_store, files
from ctr_tf.text.tokenizer import TOKENIZER, Tokenizer
from pipelines.arrow import column, read_table
from pipelines.publish import TextFiles
from pipelines.sources.source import Shard

_log = logging.getLogger(__name__)
_BLOCK = 10_000  # texts that are tokenized together


def read_tokenizer(path: str) -> str:
    """The text of a `tokenizer.json`.

    Args:
        path: of the file, or of a folder that has it.

    Raises:
        UserError: if there is none, or it is not what it should be.
    """
    place = check_store(path)
    for candidate in (place / TOKENIZER, place):
        if candidate.is_file():
            try:
                text = candidate.read_text("utf-8")
            except UnicodeDecodeError:
                break
            Tokenizer(text, str(candidate))
            return text
    raise UserError(
        f"`--tokenizer` must be a Hugging Face {TOKENIZER}, or a folder that has it. "
        f"Received: {path!r}"
    )


def check_texts(schema: Schema, shards: Sequence[Shard], tokenizer: str | None) -> None:
    """Looks whether the texts of a schema can be made tokens of.

    Args:
        schema: of the data set.
        shards: of the source.
        tokenizer: the option.

    Raises:
        UserError: says what to do.
    """
    names = ", ".join(feature.name for feature in schema.texts)
    if tokenizer is not None and not names:
        raise UserError(
            "`--tokenizer` is for features of kind text, and the schema has none. "
            f"Received: {tokenizer!r}"
        )
    if names and tokenizer is None:
        raise UserError(
            "The schema has features of kind text, so give the tokenizer.json of the "
            "language model that is to read them: `--tokenizer FOLDER_OR_FILE`. "
            f"Received: {names}"
        )
    if names and not any(s.table == "items" and not s.is_empty for s in shards):
        raise UserError(
            "Texts are read from the table of items, of which the log has no row. "
            f"Received: features of kind text: {names}"
        )


class WriteTexts(beam.DoFn):
    """A file of items with their texts → the files of `ctr_tf.schema.texts`.

    Outputs: `TextFiles`; `counts`.

    Args:
        folder: of the data set in the making.
        schema: of the data set.
        tokenizer: text of a `tokenizer.json`.
    """

    OUTPUTS = ("counts",)

    def __init__(self, folder: str, schema: Schema, tokenizer: str):
        self._folder = folder
        self._schema = schema
        self._tokenizer = tokenizer

    def process(self, path: str) -> Iterator[Any]:
        """Writes them."""
        started = time.perf_counter()
        table = read_table(path)
        tokenizer = Tokenizer(self._tokenizer)
        tables, statistics, counts = {}, {}, {}
        for feature in self._schema.texts:
            name, texts = feature.name, column(table, feature.name)
            tables[name], found = token_table(tokenizer, texts, feature.length)
            statistics[name] = found
            counts[f"join items without {name}"] = found["missing"]
            counts[f"join items with {name} cut"] = found["cut"]
        items = column(table, ITEM_KEY).cast(pa.string()).to_pylist()
        texts = Texts(self._tokenizer, items, tables)
        digests = {}
        for place, content in texts.contents().items():
            name = f"vocabularies/{place}"
            files.write_bytes(as_path(self._folder) / name, content)
            digests[name] = hashlib.sha256(content).hexdigest()
        yield TextFiles(digests, statistics)
        yield beam.pvalue.TaggedOutput("counts", counts)
        seconds = time.perf_counter() - started
        _log.info("texts      %s items in %.1f s", f"{len(items):,}", seconds)


def token_table(
    tokenizer: Tokenizer, texts: pa.Array, length: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Tokens of every item, see `ctr_tf.schema.texts`.

    Args:
        tokenizer: of the language model.
        texts: strings, one an item; null where missing.
        length: T, tokens that are kept.

    Returns:
        `[len(texts) + 2, T]` int32, and what the texts are like: `items`; `missing`,
        those without a token; `cut`, those that are longer than T; `tokens`, mean and
        largest count before cutting, of those that have any.

    Raises:
        UserError: if a text ends in the token that stands for padding.
    """
    table = np.zeros((FIRST_ID + len(texts), length), np.int32)
    counts = np.zeros(len(texts), np.int64)
    for start in range(0, len(texts), _BLOCK):
        block = [text or "" for text in texts[start : start + _BLOCK].to_pylist()]
        for place, ids in enumerate(tokenizer.ids(block), start):
            counts[place] = len(ids)
            kept = ids[:length]
            if kept and kept[-1] == PADDING_ID:
                raise UserError(
                    f"A text must not end in the token '{tokenizer.token(PADDING_ID)}',"
                    f" for its id {PADDING_ID} is padding here. Received: "
                    f"{texts[place].as_py()!r}"
                )
            table[FIRST_ID + place, : len(kept)] = kept
    found = counts[counts > 0]
    return table, {
        "items": len(texts),
        "missing": int((counts == 0).sum()),
        "cut": int((counts > length).sum()),
        "tokens": {
            "mean": float(found.mean()) if len(found) else None,
            "max": int(counts.max(initial=0)),
        },
    }
