"""How candidates are drawn for logs that tell only what was taken."""

import dataclasses

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.time import parse_duration

UNIFORM, POPULARITY = "uniform", "popularity"
LAWS = (UNIFORM, POPULARITY)
ALWAYS = "all"


@dataclasses.dataclass(frozen=True)
class Negatives:
    """Candidates without a click that a job draws, as the manifest tells it.

    Args:
        each: how many are drawn for each clicked exposure.
        by: `"uniform"`: each item that the log has shown before the request is as
            likely as any other; `"popularity"`: as likely as it is among the thousand
            exposures that come next in its split.
        within: an item feature whose value a drawn item shares with the clicked one.
        window: such as `"30d"`: what its user took within it before or after the
            request is never drawn; `"all"`: what the user took at any time. Nothing
            that comes at the end of the request's split or later is known.
        seed: of the draws, which depend on nothing else but the log.

    Raises:
        UserError: names the option and the value received.
    """

    each: int
    by: str = UNIFORM
    within: str | None = None
    window: str = ALWAYS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.each < 1:
            raise UserError(f"`--negatives` must be positive. Received: {self.each}")
        if self.by not in LAWS:
            raise UserError(unknown_name("`--negatives_by`", self.by, LAWS))
        if self.window != ALWAYS:
            parse_duration(self.window)

    @property
    def described(self) -> str:
        """What is drawn, in a line."""
        within = f" within {self.within}" if self.within else ""
        return (
            f"{self.each} candidates a click, {self.by}{within}, none that its user "
            f"took (window {self.window}), seed {self.seed}"
        )

    def window_ticks(self, ticks: int) -> int | None:
        """The window in the log's unit; None: without end.

        Args:
            ticks: units of the log's time in a second.
        """
        return None if self.window == ALWAYS else parse_duration(self.window) * ticks
