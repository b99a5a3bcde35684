"""`manifest.json`: what a prepared data set holds, written by the job last of all."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ctr_tf import config
from ctr_tf.data.negatives import Negatives
from ctr_tf.data.record_files import COMPRESSIONS, INDEX, index_name
from ctr_tf.errors import UserError
from ctr_tf.storage import files

MANIFEST = "manifest.json"
FORMAT_VERSION = 4
SPLITS = ("train", "validation", "test")  # of the job, in the order of time


@dataclasses.dataclass(frozen=True)
class Counts:
    """What became of rows, or of clicked exposures.

    Args:
        read: that the files have.
        kept: that are used.
    """

    read: int
    kept: int

    @property
    def wanted(self) -> int:
        """How many of those read would be used, were they all fit."""
        return self.read

    @property
    def lost(self) -> Mapping[str, int]:
        """Reason → how many are not used for it; "" where none was noted."""
        return {"": self.read - self.kept}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """What a job publishes beside its files; its fields are the keys of the JSON.

    Args:
        format_version: of this class, and of the files it tells of.
        folder: in which those files lie, within the folder of the manifest. In a
            store, which has no rename, each job writes into a folder of its own.
    """

    format_version: int = FORMAT_VERSION
    folder: str = ""

    @property
    def counts(self) -> Mapping[str, Counts]:
        """What was read → what became of it."""
        raise NotImplementedError

    @property
    def sizes(self) -> Mapping[str, int]:
        """Path, within the folder, of what was counted → its bytes."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a file.

        Raises:
            UserError: names the file, the key and the value received.
        """
        values = files.read_json(path)
        found = values.get("format_version") if isinstance(values, Mapping) else None
        if found != FORMAT_VERSION:
            newer = isinstance(found, int) and found > FORMAT_VERSION
            way = "is of a newer version" if newer else "must be prepared again"
            raise UserError(
                f"'{path}' must have format_version {FORMAT_VERSION}; what it tells of "
                f"{way}. Received: {found!r}"
            )
        try:
            return cls.from_mapping(values)
        except UserError as error:
            raise UserError(f"'{path}': {error}") from error

    @classmethod
    def from_mapping(cls, values: Mapping) -> Self:
        """From what was read of JSON.

        Raises:
            UserError: names the key and the value received.
        """
        return config.parse(cls, values, what="manifest key")

    def to_mapping(self) -> dict:
        """Keys and values as they stand in the file."""
        return config.to_mapping(self)

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(self.to_mapping(), indent=2, ensure_ascii=False) + "\n"


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """One file of samples, and its index.

    Args:
        path: within the data set, of `ctr_tf.data.record_files.file_name`.
        samples: in it.
        bytes: its size.
        sha256: of its bytes.
        index_sha256: of the bytes of its index.
    """

    path: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str

    @property
    def contents(self) -> dict[str, tuple[int, str]]:
        """Path within the data set → size and SHA-256, of the file and its index."""
        index = self.samples * INDEX.itemsize, self.index_sha256
        return {self.path: (self.bytes, self.sha256), index_name(self.path): index}


@dataclasses.dataclass(frozen=True)
class Split:
    """The samples of one split.

    Args:
        samples: how many there are.
        candidates: of all slates.
        max_candidates: of the largest slate.
        clicks: candidates whose first label is 1.
        behaviors: of all histories.
        begins: unix seconds, the earliest request time that it may hold; None: any.
        time_range: unix seconds, its first and last request; None without samples.
    """

    samples: int
    candidates: int
    max_candidates: int
    clicks: int
    behaviors: int
    begins: int | None
    time_range: tuple[int, ...] | None

    def __post_init__(self) -> None:
        if self.time_range is not None and len(self.time_range) != 2:
            raise UserError(
                "`time_range` must be two times. "
                f"Received: time_range={list(self.time_range)}"
            )


@dataclasses.dataclass(frozen=True)
class TableCounts(Counts):
    """What became of the rows of a raw table.

    Args:
        merged: those that tell what another one told.
        rejected: reason → those that are unfit for use.
        older: those that happened before anything that a sample knows.
    """

    merged: int
    rejected: dict[str, int]
    older: int = 0

    @property
    def wanted(self) -> int:
        """Those that are not older."""
        return self.read - self.older

    @property
    def lost(self) -> Mapping[str, int]:
        """Reason → rows that are not used for it."""
        return self.rejected


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest(Document):
    """What a prepared data set holds.

    Args:
        name: of the schema.
        compression: of the record files, a key of `COMPRESSIONS`.
        content_hash: of schema, vocabularies and texts.
        content: file of the schema, of a vocabulary or of the texts → SHA-256.
        events: raw table → what became of its rows.
        clicks: what became of the clicked exposures.
        out_of_vocabulary: split → feature → share of its values that are unknown.
        joins: what was joined → rows.
        splits: name → its samples.
        files: of records, by path.
        negatives: how candidates were drawn, if they were.

    Raises:
        UserError: names a key that is not what the others say.
    """

    name: str
    compression: str
    content_hash: str
    content: dict[str, str]
    events: dict[str, TableCounts]
    clicks: Counts
    out_of_vocabulary: dict[str, dict[str, float]]
    joins: dict[str, int]
    splits: dict[str, Split]
    files: tuple[RecordFile, ...]
    negatives: Negatives | None = None

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise UserError(
                f"`compression` must be one of {', '.join(COMPRESSIONS)}. "
                f"Received: {self.compression!r}"
            )
        for name, split in self.splits.items():
            samples = sum(file.samples for file in self.files_of(name))
            if split.samples != samples:
                raise UserError(
                    f"`splits.{name}.samples` must be those of its files, {samples}. "
                    f"Received: {split.samples}"
                )

    def to_mapping(self) -> dict:
        """See `Document`; without draws, or a horizon, the text is as it always was."""
        mapping = super().to_mapping()
        if self.negatives is None:
            del mapping["negatives"]
        for table, count in self.events.items():
            if not count.older:
                del mapping["events"][table]["older"]
        return mapping

    @property
    def counts(self) -> Mapping[str, Counts]:
        """Raw table → what became of its rows; and of the clicked exposures."""
        return {**self.events, "clicks": self.clicks}

    @property
    def sizes(self) -> Mapping[str, int]:
        """Record file, or index of one → its bytes."""
        contents = (file.contents.items() for file in self.files)
        return {path: size for own in contents for path, (size, _) in own}

    def files_of(self, split: str) -> list[RecordFile]:
        """Record files of a split, by path."""
        files = (file for file in self.files if file.path.startswith(f"{split}/"))
        return sorted(files, key=lambda file: file.path)
