"""Vocabularies: raw values ⇄ ids, the same for the jobs and for the exported graph.

A vocabulary is a text file, one value a line in UTF-8, most frequent first; the value
on line k (from 0) has id `FIRST_ID + k`. 0 is padding, 1 is out-of-vocabulary. Beside
them lie the tokens of text features (`ctr_tf.schema.texts`).
"""

import dataclasses
import hashlib
import itertools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema.feature import (
    FIRST_ID,
    OUT_OF_VOCABULARY_ID,
    PADDING_ID,
    Feature,
)
from ctr_tf.schema.schema import Schema
from ctr_tf.schema.texts import Texts
from ctr_tf.storage import as_path, files

_MADE_UP = 2**16  # raw values of a hashed feature

_log = logging.getLogger(__name__)


class Vocabularies:
    """The vocabularies of one prepared data set.

    Args:
        values: vocabulary name → its values as strings, most frequent first.
        texts: of the items, where the data set has text features.

    Raises:
        UserError: if a vocabulary holds a value twice, or one with a line break.
    """

    def __init__(self, values: Mapping[str, Iterable[str]], texts: Texts | None = None):
        self.texts = texts
        self._values = {
            name: pa.array(list(v), pa.string()) for name, v in values.items()
        }
        self._integers: dict[str, pa.Array] = {}
        self._made_up: dict[Any, dict[int, int | str]] = {}
        for name, array in self._values.items():
            if len(pc.unique(array)) != len(array):
                counts = pc.value_counts(array).to_pylist()
                twice = next(c["values"] for c in counts if c["counts"] > 1)
                raise UserError(f"Vocabulary '{name}' holds '{twice}' more than once.")
            if pc.any(pc.match_substring_regex(array, r"[\r\n]")).as_py():
                raise UserError(f"Vocabulary '{name}' holds a value with a line break.")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the vocabularies."""
        return tuple(self._values)

    @property
    def known_texts(self) -> Texts:
        """The texts, of a data set that has text features."""
        assert self.texts is not None
        return self.texts

    def values(self, name: str) -> list[str]:
        """Values of one vocabulary, most frequent first."""
        return self._array(name).to_pylist()

    def table_size(self, feature: Feature) -> int:
        """Rows the feature's embedding table needs, padding and unknown included."""
        if feature.num_ids is not None:
            return feature.num_ids
        return FIRST_ID + len(self._array(feature.table))

    def table_sizes(self, schema: Schema) -> dict[str, int]:
        """Table name → rows, for every embedded feature of the schema."""
        embedded = (f for group in schema.groups().values() for f in group)
        return {f.table: self.table_size(f) for f in embedded if f.is_embedded}

    def encode(self, feature: Any, raw: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Turns raw values into ids.

        Args:
            feature: categorical, with a vocabulary or with hash buckets.
            raw: of the feature's dtype; null is out-of-vocabulary.

        Returns:
            int64 ids, as many as there are raw values.
        """
        if feature.hash_buckets is not None:
            return _hash(feature, raw)
        array = self._array(feature.vocabulary)
        if feature.dtype == "int64" and pa.types.is_integer(raw.type):
            if feature.vocabulary not in self._integers:
                self._integers[feature.vocabulary] = array.cast(pa.int64())
            array = self._integers[feature.vocabulary]
            raw = raw.cast(pa.int64())
        else:
            raw = raw.cast(pa.string())
        index = pc.index_in(raw, value_set=array)
        return _to_ids(index)

    def decode(self, feature: Any, ids: Iterable[int]) -> list[str]:
        """Turns ids back into words for people; `"?"` stands for unknown."""
        if feature.hash_buckets is not None:
            return [f"#{i}" for i in ids]
        array = self._array(feature.vocabulary)
        return [
            array[i - FIRST_ID].as_py()
            if FIRST_ID <= i < FIRST_ID + len(array)
            else "?"
            for i in ids
        ]

    def made_up(self, feature: Any) -> dict[int, int | str]:
        """Id → a raw value that gets it, made up, for hashes cannot be undone.

        Args:
            feature: categorical, with hash buckets. Of very many buckets only some
                have a value here.
        """
        if feature not in self._made_up:
            values: list = list(range(_MADE_UP))
            if feature.dtype == "string":
                values = [f"{feature.name} {number}" for number in values]
            ids = self.encode(feature, pa.array(values, feature.arrow_type))
            self._made_up[feature] = dict(zip(ids.tolist(), values, strict=True))
        return self._made_up[feature]

    def save(self, folder: str | Path) -> None:
        """Writes `<folder>/<name>.txt` for every vocabulary, and the texts."""
        as_path(folder).mkdir(parents=True, exist_ok=True)
        for name, array in self._values.items():
            path = as_path(folder) / f"{name}.txt"
            path.write_text(_text(array), "utf-8", newline="\n")
        if self.texts:
            self.texts.save(folder)

    def digest(self, name: str) -> str:
        """SHA-256 of the file that `save` writes for one vocabulary."""
        return hashlib.sha256(_text(self._array(name)).encode()).hexdigest()

    @classmethod
    def load(
        cls, folder: str | Path, schema: Schema, texts: str | Path | None = None
    ) -> "Vocabularies":
        """Reads the vocabularies, and texts, that a schema needs.

        Args:
            folder: of the vocabularies.
            schema: of the data set.
            texts: the folder that has those of the items; the same by default.

        Raises:
            FileNotFoundError: names the vocabulary, its features and the path.
        """
        values = {}
        for name, features in schema.vocabularies().items():
            path = as_path(folder) / f"{name}.txt"
            if not path.is_file():
                raise FileNotFoundError(
                    f"Vocabulary '{name}' of feature '{features[0].name}' is missing: "
                    f"there is no file '{path}'."
                )
            values[name] = files.read_text(path).split("\n")[:-1]
        return cls(values, Texts.load(texts or folder, schema))

    def read_by(self, later: "Vocabularies", where: object) -> "Vocabularies":
        """These vocabularies, with what later data know of items beside.

        Args:
            later: of the data.
            where: folder of the data, for the message.

        Raises:
            UserError: if the data's tokens are those of another tokenizer.
        """
        if self.texts is None or later.texts is None:
            return self
        self.texts.check_tokenizer(later.texts, where)
        texts, _ = self.texts.followed_by(later.texts)
        return Vocabularies({name: self.values(name) for name in self.names}, texts)

    def _array(self, name: str) -> pa.Array:
        if name not in self._values:
            raise KeyError(unknown_name("vocabulary", name, self._values))
        return self._values[name]


def _text(values: pa.Array) -> str:
    return "".join(f"{value}\n" for value in values.to_pylist())


def content_digests(schema: Schema, vocabularies: Vocabularies) -> dict[str, str]:
    """File of a data set → SHA-256: of the schema, each vocabulary, and the texts.

    Of the schema it is that of the text that it has once it was read: 2 is 2.0 then.
    """
    text = Schema.from_yaml(schema.to_yaml()).to_yaml()
    digests = {"schema.yaml": hashlib.sha256(text.encode()).hexdigest()}
    for name in sorted(schema.vocabularies()):
        digests[f"vocabularies/{name}.txt"] = vocabularies.digest(name)
    texts = vocabularies.texts.digests if vocabularies.texts else {}
    return digests | {f"vocabularies/{name}": texts[name] for name in texts}


def content_hash(schema: Schema, vocabularies: Vocabularies) -> str:
    """Tells data apart whose ids do not mean the same: of schema and vocabularies."""
    return hash_of(content_digests(schema, vocabularies))


def hash_of(digests: Mapping[str, str]) -> str:
    """The content hash that these `content_digests` make."""
    lines = (f"{name} {digest}\n" for name, digest in digests.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def without_limits(schema: Schema) -> Schema:
    """The schema with vocabularies that leave out nothing."""
    declared = (f.without_limits() for f in schema.features if not f.computed)
    return dataclasses.replace(schema, features=tuple(declared))


def different_line(one: Schema, other: Schema) -> tuple[str, str] | None:
    """The first line in which two schemas differ, but for limits of vocabularies."""
    lines = [without_limits(s).to_yaml().splitlines() for s in (one, other)]
    for mine, theirs in itertools.zip_longest(*lines, fillvalue=""):
        if mine != theirs:
            return mine.strip(), theirs.strip()
    return None


def check_extended(
    earlier: Vocabularies, later: Vocabularies, where: object, found: object
) -> None:
    """Looks whether every value of an earlier vocabulary has its id in a later one.

    Args:
        earlier: whose ids must stay.
        later: of the same schema.
        where: what `earlier` belongs to, for the message.
        found: what `later` belongs to.

    Raises:
        UserError: names the first value whose id differs.
    """
    for name in earlier.names:
        values, longer = earlier.values(name), later.values(name)
        for place, value in enumerate(values):
            there = longer[place] if place < len(longer) else None
            if there != value:
                raise UserError(
                    f"Ids of '{found}' must be those of '{where}': {FIRST_ID + place} "
                    f"of vocabulary '{name}' is {value!r} there. Received: {there!r}"
                )


def id_maps(
    schema: Schema, data: Vocabularies, model: Vocabularies
) -> dict[str, np.ndarray]:
    """Record key → the model's id of each of the data's, where the two differ.

    Args:
        schema: of both.
        data: vocabularies by which the records were written.
        model: vocabularies by which they shall be read.
    """
    maps: dict[str, np.ndarray] = _row_maps(schema, data, model)
    unknown: dict[str, str] = {}
    for group, features in schema.groups().items():
        for feature in features:
            name = feature.vocabulary_name
            if name is None or data.digest(name) == model.digest(name):
                continue
            words = data.values(name)
            ids = model.encode(feature, pa.array(words, pa.string()))
            fixed = np.array([PADDING_ID, OUT_OF_VOCABULARY_ID])
            maps[f"{group}_{feature.name}"] = np.concatenate([fixed, ids])
            count = int((ids == OUT_OF_VOCABULARY_ID).sum())
            unknown[name] = f"{name} {count:,} of {len(ids):,}"
    if unknown:
        _log.info(
            "The data's ids are mapped to the model's by their values. Values that the "
            "model does not know: %s.",
            ", ".join(unknown.values()),
        )
    return maps


def _row_maps(
    schema: Schema, data: Vocabularies, model: Vocabularies
) -> dict[str, np.ndarray]:
    """Record key → the row of each of the data's rows; see `Texts.followed_by`."""
    if data.texts is None or model.texts is None:
        return {}
    if data.texts.digests == model.texts.digests:
        return {}
    _, rows = model.texts.followed_by(data.texts)
    new = int((rows >= model.texts.num_rows).sum())
    _log.info(
        "Items with texts that the model's data did not have: %s of %s.",
        f"{new:,}",
        f"{len(data.texts.items):,}",
    )
    features = [feature.name for feature in schema.texts]
    return {f"{g}_{name}": rows for g in ("behavior", "candidate") for name in features}


def _to_ids(index: pa.Array | pa.ChunkedArray) -> np.ndarray:
    missing = OUT_OF_VOCABULARY_ID - FIRST_ID
    ids = pc.fill_null(index, missing).to_numpy(zero_copy_only=False)
    return ids.astype(np.int64) + FIRST_ID


def _hash(feature: Any, raw: pa.Array | pa.ChunkedArray) -> np.ndarray:
    # TensorFlow's own op, so that the jobs and the graph cannot differ.
    import tensorflow as tf

    text = raw.cast(pa.string())
    words = pc.fill_null(text, "").to_numpy(zero_copy_only=False).astype(object)
    bucket = tf.strings.to_hash_bucket_fast(words, feature.hash_buckets).numpy()
    missing = pc.is_null(text).to_numpy(zero_copy_only=False)
    return np.where(missing, OUT_OF_VOCABULARY_ID, bucket + FIRST_ID)
