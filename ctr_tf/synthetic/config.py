"""Size of the made-up world, and what can be planted in it."""

import dataclasses

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.time import DAY

START = 1_704_067_200  # Monday, 2024-01-01 00:00 UTC
NUM_CATEGORIES = 20
BRANDS_PER_CATEGORY = 5
MIN_SESSION_SIZE = 3

# What each plants is told in `ctr_tf.synthetic.plants`.
PLANTS = {
    "sink_noise": "one view of the history matters to a candidate, others are noise",
    "realtime_trigger": "the latest behaviors decide which of the older ones matter",
    "view_by_context": "the device decides which view of the history matters",
    "time_gaps": "the ends of sessions matter, the less the longer ago",
    "daily_rhythm": "what was done at the same hour matters",
    "weekly_rhythm": "what was done on the same kind of day matters",
}


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """Size of the world; `ctr-tf synthesize` has an option for each.

    Args:
        users: number of users.
        items: number of items.
        days: length of the log. Behaviors begin on the first day, exposures half-way,
            so that the first requests have a history too.
        seed: of everything random.
        requests_per_user: mean number of slates shown to a user.
        candidates: items of a slate.
        behaviors_per_user: mean number of rows of a user in the behaviors table
            (clicks on slates come on top of them).
        max_history: the most rows that a user may have there.
        item_days: for how long an item is shown and found, as of news; 0: for ever.
        one_click: a user takes exactly one item of each slate.
        plant: of `PLANTS`. None: the world of `ctr_tf.synthetic.world`; else that of
            `ctr_tf.synthetic.plants`, with these structures together.
    """

    users: int = 4_000
    items: int = 2_000
    days: int = 28
    seed: int = 0
    requests_per_user: float = 16.0
    candidates: int = 10
    behaviors_per_user: float = 240.0
    max_history: int = 1_000
    item_days: float = 0.0
    one_click: bool = False
    plant: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(
            self,
            ("users", 1, 10_000_000),
            ("items", NUM_CATEGORIES * BRANDS_PER_CATEGORY, 10_000_000),
            ("days", 2, 3_650),
            ("seed", 0, 2**63 - 1),
            ("requests_per_user", 0.01, 10_000),
            ("candidates", 2, 1_000),
            ("behaviors_per_user", 1, 100_000),
            ("max_history", MIN_SESSION_SIZE, 100_000),
            ("item_days", 0, 3_650),
        )
        self._check_lives()
        if self.candidates * 2 > self.items:
            raise UserError(
                "A slate holds at most half of the items. Received: "
                f"candidates={self.candidates}, items={self.items}"
            )
        if self.behaviors_per_user > self.max_history:
            raise UserError(
                "`behaviors_per_user`, a mean, cannot exceed `max_history`. Received: "
                f"behaviors_per_user={self.behaviors_per_user}, "
                f"max_history={self.max_history}"
            )
        for name in self.plant:
            if name not in PLANTS:
                raise UserError(unknown_name("plant", name, PLANTS))

    def _check_lives(self) -> None:
        """A slate of distinct items needs as many that live at its time."""
        if not self.item_days:
            return
        if self.plant:
            raise UserError(
                "Planted worlds have items that live for ever. Received: "
                f"item_days={self.item_days:g}, plant={','.join(self.plant)}"
            )
        share = self.item_days / (self.days + 1 + self.item_days)
        alive = self.items // NUM_CATEGORIES * share  # of a category
        if alive < 3 or self.items * share < 2 * self.candidates:
            raise UserError(
                "Too few items live at a time: three of each category, on average, and "
                f"two slates are needed. Received: items={self.items}, "
                f"item_days={self.item_days:g}, "
                f"days={self.days}, candidates={self.candidates}, of which "
                f"{self.items * share:.0f} live"
            )

    @property
    def exposure_start(self) -> int:
        """Time of the first possible request."""
        return START + self.days // 2 * DAY

    @property
    def end(self) -> int:
        """Sessions begin before this time."""
        return START + self.days * DAY


def check_sizes(config: object, *limits: tuple[str, float, float]) -> None:
    """Holds the sizes of a world against what they may be.

    Args:
        config: of the world.
        *limits: name of a size, the least and the most that it may be.

    Raises:
        UserError: names the size and its value.
    """
    for name, least, most in limits:
        value = getattr(config, name)
        if not least <= value <= most:
            raise UserError(
                f"`{name}` lies between {least:,} and {most:,}. "
                f"Received: {name}={value}"
            )
