"""Into how many parts a job divides what it reads: a worker holds one at a time."""

import dataclasses
import math
from collections.abc import Iterable

from ctr_tf.storage import as_path
from pipelines.sources.raw_files import RawFile
from pipelines.sources.source import Shard

_USERS_BYTES = 64 << 20  # of raw rows; what is made of them takes ten times as much
_ITEMS_BYTES = 512 << 20  # an exposure is a sum and a question there, at most
_FEWEST = 8
_MOST = 100_000
_INFLATED = 4  # bytes of plain rows in a byte of a compressed or Parquet file


@dataclasses.dataclass(frozen=True)
class Parts:
    """Numbers of parts.

    Args:
        users: that users are hashed to; a file a split is written of each.
        items: that items, and other values that exposures are counted by, are.
    """

    users: int
    items: int

    @property
    def words(self) -> int:
        """That the values of a vocabulary are hashed to."""
        return math.ceil(self.items / _FEWEST)

    @classmethod
    def of(
        cls, shards: Iterable[Shard], users: int | None, items: int | None
    ) -> "Parts":
        """Those that fit the raw files, where no other number is given.

        Args:
            shards: of the raw files.
            users: given, or None.
            items: likewise.
        """
        size = raw_bytes(shards)
        return cls(
            users or _number(size, _USERS_BYTES), items or _number(size, _ITEMS_BYTES)
        )


def raw_bytes(shards: Iterable[Shard]) -> int:
    """About how many bytes the rows of raw files are, as plain text."""
    total = 0
    for path in {shard.path for shard in shards}:
        file = RawFile.named(path)
        packed = file.compression or file.format == "parquet"
        total += as_path(path).stat().st_size * (_INFLATED if packed else 1)
    return total


def _number(size: int, each: int) -> int:
    return min(max(math.ceil(size / each), _FEWEST), _MOST)
