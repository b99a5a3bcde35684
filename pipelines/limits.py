"""How many rows a job may put aside before it fails and publishes nothing."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from ctr_tf.data.manifest import Counts
from ctr_tf.errors import UserError, unknown_name

CLICKS = "clicks"


@dataclasses.dataclass(frozen=True)
class RejectionLimits:
    """Fractions of the rows read, of each table for itself.

    Args:
        fraction: 0 to 1, of a table, and of the clicked exposures.
        allowed: table, or table and reason as `"users:missing field age"` → another
            fraction. Rows of a reason with its own do not count for their table.
    """

    fraction: float
    allowed: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("max_rejected_fraction", self.fraction),) + tuple(
            (f"allow_rejected {key}", value) for key, value in self.allowed.items()
        ):
            if not 0 <= value <= 1:
                raise UserError(
                    f"`--{name}` must lie between 0 and 1. Received: {value}"
                )

    @classmethod
    def parse(
        cls, fraction: float, words: Sequence[str] | None, tables: tuple[str, ...]
    ) -> "RejectionLimits":
        """Reads options of a command line.

        Args:
            fraction: the general one.
            words: such as `["users=0.5,exposures:unparsable=0.1"]`. A reason may have
                commas of its own: only one before a table's name divides.
            tables: that there are.

        Raises:
            UserError: for a word that is not of this form, or an unknown table.
        """
        allowed, known = {}, (*tables, CLICKS)
        divider = rf",(?=\s*(?:{'|'.join(known)})\s*[:=])"
        every = [part for word in words or () for part in re.split(divider, word)]
        for word in filter(None, every):
            key, equals, text = word.rpartition("=")
            try:
                allowed[key.strip()] = float(text)
            except ValueError:
                equals = ""
            if not equals:
                raise UserError(
                    "`--allow_rejected` takes TABLE=FRACTION or TABLE:REASON=FRACTION, "
                    f"several with commas between. Received: '{word}'"
                )
            table = key.split(":")[0].strip()
            if table not in known:
                raise UserError(
                    f"`--allow_rejected`: {unknown_name('table', table, known)}"
                )
        return cls(fraction, allowed)

    def faults(self, events: Mapping[str, Counts]) -> list[str]:
        """What is wrong, one line for each table that lost too many rows.

        Args:
            events: table or `CLICKS` → what became of its rows.
        """
        return [
            fault for table, count in events.items() for fault in self._of(table, count)
        ]

    def _of(self, table: str, count: Counts) -> list[str]:
        read = count.read
        what = "clicked exposures" if table == CLICKS else f"rows of {table}"
        faults, rest = [], 0
        for reason, number in count.lost.items():
            most = self.allowed.get(f"{table}:{reason}")
            if most is None:
                rest += number
            elif number > most * read:
                faults.append(
                    f"{number:,} of {read:,} {what} have the fault '{reason}', more "
                    f"than {most:g} of them"
                )
        most = self.allowed.get(table, self.fraction)
        if rest > most * read:
            faults.append(
                f"{rest:,} of {read:,} {what} are unfit for use, more than {most:g} of "
                "them"
            )
        if count.wanted and not count.kept and not faults:
            faults.append(f"all {count.wanted:,} {what} are unfit for use")
        return faults
