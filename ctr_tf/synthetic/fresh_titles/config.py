"""Size of the world of fresh titles, and what happens in it."""

import dataclasses

from ctr_tf.errors import UserError
from ctr_tf.synthetic.config import START, check_sizes
from ctr_tf.synthetic.fresh_titles.words import TOPICS
from ctr_tf.time import DAY, HOUR

NUM_TOPICS = len(TOPICS)

# Histories. Every number between these is as likely as any other.
HISTORY_SIZE = (8, 16)
FRESH_SIZE = (0, 6)
FRESH_AGE = (HOUR // 30, 2 * HOUR)
OLD_AGE = (14 * DAY, 120 * DAY)

# Slates, and what is clicked.
HISTORY_SHARE = 0.4  # of candidates whose topic is that of some behavior
MATCH_RATE = 0.8
OTHER_RATE = 0.1

TITLE_SIZE = (3, 6)  # words


@dataclasses.dataclass(frozen=True)
class FreshTitlesConfig:
    """Size of the world; `ctr-tf synthesize --world fresh_titles` has an option each.

    Args:
        users: number of users, each of whom is shown one slate.
        items: number of items.
        candidates: items of a slate.
        days: over which the slates are shown. Behaviors begin months before.
        seed: of everything random.
    """

    users: int = 7_500
    items: int = 3_000
    candidates: int = 16
    days: int = 28
    seed: int = 0

    def __post_init__(self) -> None:
        check_sizes(
            self,
            ("users", 1, 1_000_000),
            ("items", NUM_TOPICS, 1_000_000),
            ("candidates", 2, 1_000),
            ("days", 1, 3_650),
            ("seed", 0, 2**63 - 1),
        )
        if self.candidates * 2 * NUM_TOPICS > self.items:
            raise UserError(
                "A slate holds at most half of the items of a topic, of which there "
                f"are {NUM_TOPICS}. Received: candidates={self.candidates}, "
                f"items={self.items}"
            )

    @property
    def exposure_start(self) -> int:
        """Time of the first possible request."""
        return START + OLD_AGE[1] + DAY

    @property
    def end(self) -> int:
        """Requests are before this time."""
        return self.exposure_start + self.days * DAY
