"""`manifest.json` of a folder of scores."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Self

from ctr_tf.data.manifest import Counts, Document

_Content = bytes  # `ScoreFile` has a field of that name


@dataclasses.dataclass(frozen=True)
class SampleCounts(Counts):
    """What became of the samples.

    Args:
        rejected: reason → those that cannot be scored.
    """

    rejected: dict[str, int]

    @property
    def lost(self) -> Mapping[str, int]:
        """Reason → samples that cannot be scored for it."""
        return self.rejected


@dataclasses.dataclass(frozen=True)
class ScoreFile:
    """One file of scores.

    Args:
        path: within the folder.
        samples: in it.
        candidates: rows of it.
        bytes: its size.
        sha256: of its bytes.
    """

    path: str
    samples: int
    candidates: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: str, samples: int, candidates: int, content: _Content) -> Self:
        """The entry of a file with this content."""
        digest = hashlib.sha256(content).hexdigest()
        return cls(path, samples, candidates, len(content), digest)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreManifest(Document):
    """What a folder of scores holds.

    Args:
        model: folder of the version that made them.
        format: of the files.
        samples: that were scored.
        candidates: of them.
        events: `"samples"` → what became of them.
        files: by path.
    """

    model: str
    format: str
    samples: int
    candidates: int
    events: dict[str, SampleCounts]
    files: tuple[ScoreFile, ...]

    @property
    def counts(self) -> Mapping[str, Counts]:
        """`"samples"` → what became of them."""
        return self.events

    @property
    def sizes(self) -> Mapping[str, int]:
        """File of scores → its bytes."""
        return {file.path: file.bytes for file in self.files}
