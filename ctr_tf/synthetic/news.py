"""Items that live for days, as news do: each is shown and found for that long alone.

So most of what a later week shows is in no history, and ids tell nothing of it; what
carries over is what an item is like. Beside `one_click`, where a user takes one item of
each slate, the logs are like a news site's.
"""

import numpy as np

from ctr_tf.synthetic.config import START, WorldConfig
from ctr_tf.synthetic.world import Catalog
from ctr_tf.time import DAY


class NewsCatalog(Catalog):
    """Items that come one after another and go.

    Those of a category come at even distances, with a random part. Where k live at a
    time on average, so many as k - 1 always do.

    Args:
        config: of the world.
        rng: random generator.
    """

    def __init__(self, config: WorldConfig, rng: np.random.Generator):
        super().__init__(config.items, rng)
        self.life = round(config.item_days * DAY)
        first, count = START - self.life, np.bincount(self.category)
        # Sessions begin before the end, and the last one goes on for hours.
        span = config.end + DAY - first
        # By category, the order that popularity is added up in.
        rank = np.arange(config.items) - np.repeat(np.cumsum(count) - count, count)
        part = (rank + rng.random(config.items)) / np.repeat(count, count)
        birth = (part * span).astype(np.int64)
        self._span, self._first = span, first
        self._births = np.repeat(np.arange(len(count)), count) * span + birth
        self.birth = np.empty(config.items, np.int64)
        self.birth[self._order] = first + birth

    def draw(
        self, category: np.ndarray, time: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """As `Catalog.draw`: of the items that live at the time."""
        any_category = rng.integers(self.num_categories, size=category.shape)
        category = np.where(category < 0, any_category, category)
        now = category * self._span + time - self._first
        low, high = (
            np.searchsorted(self._births, at, "right") for at in (now - self.life, now)
        )
        begin, end = (np.append(0, self._cumulative)[at] for at in (low, high))
        point = begin + rng.random(category.shape) * (end - begin)
        index = np.searchsorted(self._cumulative, point, side="right")
        return self._order[np.clip(index, low, high - 1)]

    def draw_any(self, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Living items of any category, by popularity."""
        return self.draw(np.full(time.shape, -1), time, rng)
