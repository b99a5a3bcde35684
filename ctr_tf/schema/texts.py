"""Texts of items as tokens: tables that a data set, a run and an export carry.

Every text feature has a table `[items + 2, T]` of token ids, int32, 0 behind the end of
a text. Row 0 is padding, row 1 stands for an item that the tables do not know, and the
items follow from row 2, all of the item table, whether the training saw them or not.
The rows are no ids of anything learned: a new item has its text by its row alone.

    texts/tokenizer.json    that made the tokens, as the language model brings it
    texts/text_items.txt    raw item ids, one a line, of the rows from 2 on
    texts/<feature>.npy     the tokens
"""

import functools
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.errors import UserError
from ctr_tf.schema.feature import FIRST_ID, OUT_OF_VOCABULARY_ID, PADDING_ID
from ctr_tf.schema.schema import Schema
from ctr_tf.storage import as_path, files
from ctr_tf.text.tokenizer import TOKENIZER, Tokenizer

FOLDER = "texts"
ITEMS = "text_items.txt"  # no vocabulary is called so, where assets lie together


class Texts:
    """The texts of all items of a data set.

    Args:
        tokenizer: text of the `tokenizer.json` that made the tokens.
        items: raw item ids as strings, those of the rows from `FIRST_ID` on.
        tables: text feature → its table, `[len(items) + FIRST_ID, T]` int32.

    Raises:
        UserError: if a table does not fit the items.
    """

    def __init__(
        self, tokenizer: str, items: Sequence[str], tables: Mapping[str, np.ndarray]
    ):
        self.tokenizer = tokenizer
        self.items = pa.array(items, pa.string())
        self.tables = dict(tables)
        for name, table in self.tables.items():
            if table.ndim != 2 or len(table) != self.num_rows or table.dtype != "int32":
                raise UserError(
                    f"The tokens of '{name}' must be int32 with a row for each of "
                    f"{len(self.items):,} items and {FIRST_ID} before them. Received: "
                    f"{table.dtype} {list(table.shape)}"
                )

    @property
    def num_rows(self) -> int:
        """Rows of every table."""
        return FIRST_ID + len(self.items)

    def rows(self, items: pa.Array) -> np.ndarray:
        """The rows of items, int64.

        Args:
            items: raw ids as strings, null where unknown.
        """
        found = pc.index_in(items, value_set=self.items, skip_nulls=True)
        missing = OUT_OF_VOCABULARY_ID - FIRST_ID
        place = pc.fill_null(found, missing).to_numpy(zero_copy_only=False)
        return FIRST_ID + place.astype(np.int64)

    def words(self, name: str, rows: Sequence[int]) -> list[str]:
        """Rows of a table as people read them; `"?"` where there is no text."""
        return [
            self._tokenizer.text(_tokens(self.tables[name][r])) or "?" for r in rows
        ]

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self.tokenizer)

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """File → SHA-256 of what `save` writes, by names within a vocabulary folder."""
        return {
            name: hashlib.sha256(content).hexdigest()
            for name, content in self.contents().items()
        }

    def contents(self) -> dict[str, bytes]:
        """File → its content, by names within a vocabulary folder."""
        items = "".join(f"{item}\n" for item in self.items.to_pylist())
        return {
            f"{FOLDER}/{TOKENIZER}": self.tokenizer.encode(),
            f"{FOLDER}/{ITEMS}": items.encode(),
            **{
                f"{FOLDER}/{name}.npy": _npy(self.tables[name])
                for name in sorted(self.tables)
            },
        }

    def save(self, folder: str | Path) -> None:
        """Writes the files into `<folder>/texts`."""
        (as_path(folder) / FOLDER).mkdir(parents=True, exist_ok=True)
        for name, content in self.contents().items():
            (as_path(folder) / name).write_bytes(content)

    @classmethod
    def load(cls, folder: str | Path, schema: Schema) -> "Texts | None":
        """Reads the texts that a schema needs; None where it has none.

        Raises:
            FileNotFoundError: names the file that is missing.
            UserError: if a file is not what it should be.
        """
        path = as_path(folder) / FOLDER
        names = [feature.name for feature in schema.texts]
        if not names:
            return None
        for name in (TOKENIZER, ITEMS, *(f"{name}.npy" for name in names)):
            if not (path / name).is_file():
                raise FileNotFoundError(
                    f"The texts of '{', '.join(names)}' are not whole: there is no "
                    f"file '{path / name}'."
                )
        tokenizer = (path / TOKENIZER).read_bytes().decode()
        items = files.read_text(path / ITEMS).split("\n")[:-1]
        tables = {}
        for feature in schema.texts:
            table = _load(path / f"{feature.name}.npy")
            if table.shape[1:] != (feature.length,):
                raise UserError(
                    f"'{path / feature.name}.npy' must hold {feature.length} tokens an "
                    f"item, the schema's `length`. Received: {list(table.shape)}"
                )
            tables[feature.name] = table
        return cls(tokenizer, items, tables)

    def check_tokenizer(self, other: "Texts", where: object) -> None:
        """Raises UserError if another's tokens are those of another tokenizer.

        Args:
            other: texts, of the same schema.
            where: what they belong to, for the message.
        """
        if self.tokenizer != other.tokenizer:
            mine, theirs = (t.digests[f"{FOLDER}/{TOKENIZER}"] for t in (self, other))
            raise UserError(
                "Tokens of one tokenizer mean nothing to a model of another. Prepare "
                f"'{where}' with the model's own (`--tokenizer`), of SHA-256 {mine}. "
                f"Received: {theirs}"
            )

    def followed_by(self, other: "Texts") -> tuple["Texts", np.ndarray]:
        """These texts and those of a later data set, made by the same tokenizer.

        An item that both know keeps its row and gets its later text; items that only
        the later one knows follow in its order.

        Returns:
            The texts, and the row of each of the later one's rows, int64.
        """
        found = pc.index_in(other.items, value_set=self.items)
        place = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        new = place < 0
        place[new] = len(self.items) + np.arange(new.sum())
        added = other.items.filter(pa.array(new))
        tables = {}
        for name, table in self.tables.items():
            longer = np.pad(table, [(0, len(added)), (0, 0)])
            longer[FIRST_ID + place] = other.tables[name][FIRST_ID:]
            tables[name] = longer
        items = [*self.items.to_pylist(), *added.to_pylist()]
        fixed = [PADDING_ID, OUT_OF_VOCABULARY_ID]
        return Texts(self.tokenizer, items, tables), np.append(fixed, FIRST_ID + place)


def text_length(table: np.ndarray) -> np.ndarray:
    """How many tokens each row has, int64: up to the last that is no padding.

    Args:
        table: `[rows, T]`.
    """
    places = np.arange(1, table.shape[1] + 1)
    return np.where(table != PADDING_ID, places, 0).max(axis=1, initial=0)


def _tokens(row: np.ndarray) -> list[int]:
    return row[: text_length(row[None])[0]].tolist()


def _npy(table: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, table, allow_pickle=False)
    return stream.getvalue()


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"'{path}' is no NumPy file of tokens: {error}") from error
