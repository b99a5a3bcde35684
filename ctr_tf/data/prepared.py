"""A prepared data set: the folder that `ctr-tf prepare` publishes.

`manifest.json` is written last, so a folder without one is not a data set.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ctr_tf.data.manifest import MANIFEST, Manifest, RecordFile, Split
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import Schema
from ctr_tf.schema.vocabulary import (
    Vocabularies,
    content_digests,
    content_hash,
    different_line,
    id_maps,
)
from ctr_tf.storage import check_store, files
from ctr_tf.storage.tensorflow_stores import for_tensorflow

STATISTICS = "statistics.json"


class PreparedData:
    """Schema, vocabularies, manifest and record files of a prepared data set.

    Args:
        folder: of the data set.
        schema: of the data.
        vocabularies: of its categorical features.
        manifest: what the records are.
        id_maps: record key → the id by `vocabularies` of each stored one, where the
            records were written by others; see `read_as`.
    """

    def __init__(
        self,
        folder: Path,
        schema: Schema,
        vocabularies: Vocabularies,
        manifest: Manifest,
        id_maps: Mapping[str, np.ndarray] | None = None,
    ):
        self.folder = folder
        self.schema = schema
        self.vocabularies = vocabularies
        self.manifest = manifest
        self.id_maps = id_maps or {}

    @classmethod
    def load(cls, folder: str | Path) -> "PreparedData":
        """Opens a prepared data set.

        Raises:
            FileNotFoundError: if the folder, its manifest, schema or a vocabulary is
                missing, or a record file.
            UserError: if the manifest cannot be read, or a file is not what it says:
                schema and vocabularies in content, record files in size.
        """
        folder = check_store(folder)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"There is no prepared data set: no folder '{folder}'."
            )
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f"'{folder}' is not a prepared data set: it has no {MANIFEST}, which "
                "`ctr-tf prepare` writes last."
            )
        manifest = Manifest.load(path)
        root = folder / manifest.folder
        schema = Schema.load(root / "schema.yaml")
        vocabularies = Vocabularies.load(root / "vocabularies", schema)
        data = cls(folder, schema, vocabularies, manifest)
        data._check_content()
        for split in data.splits:
            data._check_sizes(split)
        return data

    def read_as(self, schema: Schema, vocabularies: Vocabularies) -> "PreparedData":
        """The data as a model sees them that was trained on others of their kind.

        Args:
            schema: of the model.
            vocabularies: of the model, by which samples are read. Items that only
                the data know have the texts that the data say.

        Raises:
            UserError: if the schemas differ in more than `min_count` and `max_size`, or
                the tokenizers of their texts.
        """
        if different := different_line(schema, self.schema):
            there, here = different
            raise UserError(
                "The data's schema must be that of the model (but for `min_count` and "
                f"`max_size`): '{there}' there, '{here}' here. Received: {self.folder}"
            )
        if self.content_hash == content_hash(schema, vocabularies):
            return self
        together = vocabularies.read_by(self.vocabularies, self.folder)
        maps = id_maps(schema, self.vocabularies, vocabularies)
        return PreparedData(self.folder, schema, together, self.manifest, maps)

    def map_ids(self, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A sample as it is stored → with the ids of `vocabularies`."""
        mapped = {key: ids[sample[key]] for key, ids in self.id_maps.items()}
        return {**sample, **mapped}

    @property
    def root(self) -> Path:
        """The folder of all files but the manifest."""
        return self.folder / self.manifest.folder

    @property
    def content_hash(self) -> str:
        """Of schema and vocabularies by which the records were written."""
        return self.manifest.content_hash

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, those without samples included."""
        return tuple(self.manifest.splits)

    @property
    def compression(self) -> str:
        """Of the record files."""
        return self.manifest.compression

    def num_samples(self, split: str) -> int:
        """Samples of a split."""
        return self._split(split).samples

    def max_candidates(self, *splits: str) -> int:
        """Candidates of the largest slate, over all splits by default."""
        return max(self._split(split).max_candidates for split in splits or self.splits)

    def quantiles(self, counted: str) -> dict[str, int]:
        """Quantile → number, of the training's samples; {} where nobody counted.

        Args:
            counted: `"slate_size"` or `"history_length"`.
        """
        path = self.root / STATISTICS
        if not path.is_file():
            return {}
        statistics = files.read_json(path).get("train", {})
        return statistics.get(counted, {}).get("quantiles", {})

    def files(self, split: str) -> list[str]:
        """Record files of a split, in order, for TensorFlow; see `record_files`."""
        return [for_tensorflow(path) for path in self.record_files(split)]

    def record_files(self, split: str) -> dict[Path, RecordFile]:
        """Record file → its entry in the manifest, of those that have samples.

        Raises:
            UserError: if there is no such split, or it has no samples.
            FileNotFoundError: names a file that the manifest lists and the folder
                lacks.
        """
        if not self.num_samples(split):
            raise UserError(
                f"Split '{split}' of '{self.folder}' has no samples. Received: 0"
            )
        entries = {
            self.root / file.path: file
            for file in self.manifest.files_of(split)
            if file.samples
        }
        for path in entries:
            if not path.is_file():
                raise FileNotFoundError(_missing(path))
        return entries

    def verify(self, *splits: str) -> None:
        """Compares every record file and index with the manifest's size and checksum.

        Schema and vocabularies are compared when the data are loaded.

        Args:
            *splits: those to check, all by default.

        Raises:
            FileNotFoundError: names a missing file.
            UserError: names a file that differs.
        """
        for split in splits or self.splits:
            self._check_sizes(split)
            for path, (_, expected) in self._contents(split).items():
                with path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                if digest != expected:
                    raise UserError(
                        f"'{path}' must have the SHA-256 {expected}. Received: {digest}"
                    )

    def _check_sizes(self, split: str) -> None:
        for path, (expected, _) in self._contents(split).items():
            if not path.is_file():
                raise FileNotFoundError(_missing(path))
            if path.stat().st_size != expected:
                raise UserError(
                    f"'{path}' must have {expected} bytes. "
                    f"Received: {path.stat().st_size}"
                )

    def _check_content(self) -> None:
        expected = self.manifest.content
        for name, digest in content_digests(self.schema, self.vocabularies).items():
            if digest != expected.get(name):
                raise UserError(
                    f"'{self.root / name}' is not what {MANIFEST} says: it must have "
                    f"the SHA-256 {expected.get(name)}. Received: {digest}"
                )
        found = content_hash(self.schema, self.vocabularies)
        if found != self.content_hash:
            raise UserError(
                f"'{self.folder / MANIFEST}' must have the content_hash {found}. "
                f"Received: {self.content_hash}"
            )

    def _split(self, split: str) -> Split:
        if split not in self.manifest.splits:
            raise UserError(
                f"'{self.folder}': {unknown_name('split', split, self.splits)}"
            )
        return self.manifest.splits[split]

    def _contents(self, split: str) -> dict[Path, tuple[int, str]]:
        """Record file, or index of one → size and SHA-256 by the manifest."""
        contents = (file.contents.items() for file in self.manifest.files_of(split))
        return {self.root / path: known for own in contents for path, known in own}


def _missing(path: Path) -> str:
    return (
        f"The data set is incomplete: its {MANIFEST} lists '{path}', which is missing."
    )
