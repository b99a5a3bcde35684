"""Which rows of a table are whose, where tables are cut over workers."""

import dataclasses
from typing import Any


def place(row: Any, count: int) -> tuple[Any, Any]:
    """The part that a row belongs to, and its row there.

    Args:
        row: integers, of Python, NumPy or TensorFlow.
        count: of the parts.
    """
    return row % count, row // count


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of the parts that tables are cut into, see `place`; by default all of them.

    Args:
        index: of the part.
        count: of all parts.
    """

    index: int = 0
    count: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether it is all that there is."""
        return self.count == 1

    def rows(self, total: int) -> range:
        """Rows of a table of `total` that are here, in their order here."""
        return range(self.index, total, self.count)
