"""The points of a study: grades of a model and shares of the training samples."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

from ctr_tf.compare.variants import Variant
from ctr_tf.errors import UserError

MIN_FITTED = 3  # as many points as numbers
_HEAD_WIDTH = 4  # of SparseCTR's default: 32 wide, 8 heads
_SHARE = "data.train_share"
KEYS = (
    *("model.dim", "model.num_blocks", "model.num_heads"),
    *("data.history_lengths", _SHARE),
)


@dataclasses.dataclass(frozen=True)
class Grade:
    """A size of a model together with a length of history.

    Args:
        dim: d, width of the model.
        blocks: L.
        history: N, the latest behaviors that the model sees.
        heads: H.
    """

    dim: int
    blocks: int
    history: int
    heads: int

    @classmethod
    def parse(cls, word: str) -> "Grade":
        """`d:blocks:N` or `d:blocks:N:heads`; by default heads are 4 wide.

        Raises:
            UserError: names the word that is of another form.
        """
        parts = word.split(":")
        if len(parts) not in (3, 4) or not all(p.isdecimal() and int(p) for p in parts):
            raise UserError(
                "A grade is width:blocks:history or width:blocks:history:heads, such "
                f"as 32:2:128. Received: '{word}'"
            )
        dim, blocks, history, *heads = map(int, parts)
        return cls(dim, blocks, history, *heads or [max(dim // _HEAD_WIDTH, 1)])

    def __str__(self) -> str:
        return f"{self.dim}:{self.blocks}:{self.history}:{self.heads}"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A point of the grid: what is trained, with each seed.

    Args:
        grade: of the model.
        share: of the training samples.
    """

    grade: Grade
    share: float

    def __str__(self) -> str:
        part = "" if self.share == 1 else f" on {self.share:.4g} of the samples"
        return f"{self.grade}{part}"

    def variant(self, model: str) -> Variant:
        """Whose runs those of this point are."""
        grade = self.grade
        suffix = "-".join(str(grade).split(":"))
        if self.share != 1:
            suffix += f"-share-{self.share:.6g}"
        sizes = {"dim": grade.dim, "num_blocks": grade.blocks, "num_heads": grade.heads}
        settings = (
            f"data.history_lengths=[{grade.history}]",
            f"{_SHARE}={self.share!r}",
        )
        return Variant(model, suffix, sizes, settings)


def parse_grades(text: str) -> list[Grade]:
    """Grades with commas between.

    Raises:
        UserError: for a word that is no grade, or one that is named twice.
    """
    return _unique([Grade.parse(word) for word in text.split(",")], "grade", text)


def parse_shares(text: str) -> list[float]:
    """Shares with commas between, such as `1,1/4,1/16`.

    Raises:
        UserError: for a word that is no share, or one that is named twice.
    """
    return _unique([_share(word) for word in text.split(",")], "share", text)


def _share(word: str) -> float:
    try:
        share = Fraction(word)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= 1:
        raise UserError(
            "A share of the training samples is above 0 and at most 1, such as 1/4. "
            f"Received: '{word}'"
        )
    return float(share)


def _unique(found: list, what: str, text: str) -> list:
    if len(set(found)) != len(found):
        raise UserError(f"A {what} is named twice. Received: {text}")
    return found


def check_grid(
    grades: Sequence[Grade], shares: Sequence[float], hold_out: int, history: int
) -> None:
    """Sees to it that a law can be fitted, before anything is trained.

    Args:
        grades: of the grid.
        shares: of the grid.
        hold_out: the largest points that are withheld from each fit.
        history: behaviors that the data keep.

    Raises:
        UserError: says what the grid lacks.
    """
    longest = max(grade.history for grade in grades)
    if longest > history:
        raise UserError(
            f"The data keep {history} behaviors of a user: no grade can see more. "
            f"Received: {longest}"
        )
    least = MIN_FITTED + hold_out
    for what, points in (("grades", grades), ("shares", shares)):
        if 1 < len(points) < least:
            raise UserError(
                f"A law over {what} needs at least {MIN_FITTED} that it is fitted to "
                f"beside the {hold_out} withheld: name {least} or more in `--{what}`, "
                f"or withhold fewer by `--hold_out`. Received: {len(points)}"
            )
    if len(grades) == len(shares) == 1:
        raise UserError(
            f"A law needs an axis: name {least} or more grades, or as many shares. "
            "Received: 1 grade, 1 share"
        )
