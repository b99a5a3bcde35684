"""A made-up world in which what a title is about counts, if it was read just now.

* **Items** have a title and nothing else: three to six words of one topic. Every topic
  has the same number of items, and no item is better than another.
* **Users** are shown one slate each, so no click comes back in a history. Of their
  behaviors before it the newest, none to six, are *fresh*: minutes to two hours old.
  The others are two weeks to four months old. Topics are drawn evenly, at any age.
* **Slates** hold topics of the user's behaviors, fresh and old alike, and any topics.
* **Clicks.** A candidate is clicked with `MATCH_RATE` if a fresh behavior has its
  topic, else with `OTHER_RATE`. What was read months ago says nothing.

So who does not see the times is left with how often a topic is there, and who sees the
order alone does not know where the fresh ones end: `fresh_titles.limits` knows how far
they can get. Claimed by CTR-Sink, whose sinks tell a language model how long ago each
behavior was.

Shape suffixes: `U` users, who are requests as well, `N` places for behaviors, newest
first, `C` candidates.
"""

import numpy as np
import pyarrow as pa

from ctr_tf.synthetic.fresh_titles.config import (
    FRESH_AGE,
    FRESH_SIZE,
    HISTORY_SHARE,
    HISTORY_SIZE,
    NUM_TOPICS,
    OLD_AGE,
    TITLE_SIZE,
    FreshTitlesConfig,
)
from ctr_tf.synthetic.fresh_titles.limits import (
    KNOWN,
    blind_chances,
    click_rate,
    ordered_chances,
)
from ctr_tf.synthetic.fresh_titles.words import TOPICS
from ctr_tf.synthetic.requests import repeated


def make_tables(config: FreshTitlesConfig) -> dict[str, pa.Table]:
    """Makes the raw tables.

    Args:
        config: of the world.

    Returns:
        Table name → table: exposures, behaviors and items.
    """
    rng = np.random.default_rng(config.seed)
    items = Items(config.items, rng)
    histories = Histories(config, rng)
    return {
        "exposures": _exposures(config, items, histories, rng),
        "behaviors": _behaviors(items, histories, rng),
        "items": pa.table(
            {"item_id": np.arange(1, config.items + 1), "title": items.titles(rng)}
        ),
    }


class Items:
    """The items' topics, and draws from them.

    Args:
        items: number of items.
        rng: random generator.
    """

    def __init__(self, items: int, rng: np.random.Generator):
        self.topic = rng.permutation(np.arange(items) % NUM_TOPICS)
        self._order = np.argsort(self.topic, kind="stable")
        self._count = np.bincount(self.topic, minlength=NUM_TOPICS)
        self._first = np.cumsum(self._count) - self._count

    def draw(self, topic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Items of the given topics, each as likely as any other of its topic."""
        place = (rng.random(topic.shape) * self._count[topic]).astype(np.int64)
        return self._order[self._first[topic] + place]

    def draw_slates(self, topic_UC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Items of the given topics, none twice in a slate."""
        item_UC = self.draw(topic_UC, rng)
        while (again_UC := repeated(item_UC)).any():
            item_UC[again_UC] = self.draw(topic_UC[again_UC], rng)
        return item_UC

    def titles(self, rng: np.random.Generator) -> list[str]:
        """A title for every item, no word twice in it."""
        words = list(TOPICS.values())
        sizes = rng.integers(TITLE_SIZE[0], TITLE_SIZE[1] + 1, len(self.topic))
        return [
            " ".join(rng.choice(words[topic], size, replace=False))
            for topic, size in zip(self.topic, sizes, strict=True)
        ]


class Histories:
    """What users did before their slates: arrays `[U]` and `[U, N]`, newest first.

    Attributes:
        time_U: int64 seconds of the request.
        size_U: number of behaviors.
        exists_UN: whether there is a behavior at this place.
        fresh_UN: whether it is fresh.
        age_UN: int64 seconds from the behavior to the request, ascending.
        topic_UN: what it is about.

    Args:
        config: of the world.
        rng: random generator.
    """

    def __init__(self, config: FreshTitlesConfig, rng: np.random.Generator):
        users, place_N = config.users, np.arange(HISTORY_SIZE[1])
        self.time_U = rng.integers(config.exposure_start, config.end, users)
        self.size_U = rng.integers(HISTORY_SIZE[0], HISTORY_SIZE[1] + 1, users)
        fresh_U = rng.integers(FRESH_SIZE[0], FRESH_SIZE[1] + 1, users)
        self.exists_UN = place_N < self.size_U[:, None]
        self.fresh_UN = place_N < fresh_U[:, None]
        draw_UN = rng.random(self.exists_UN.shape)
        fresh, old = (np.log(limits) for limits in (FRESH_AGE, OLD_AGE))
        log_age_UN = np.where(
            self.fresh_UN,
            fresh[0] + (fresh[1] - fresh[0]) * draw_UN,
            old[0] + (old[1] - old[0]) * draw_UN,
        )
        log_age_UN = np.where(self.exists_UN, log_age_UN, np.inf)
        log_age_UN = np.where(self.exists_UN, np.sort(log_age_UN, axis=1), 0.0)
        # No two in the same second, so that the order is known.
        self.age_UN = np.exp(log_age_UN).astype(np.int64) + place_N
        self.topic_UN = rng.integers(NUM_TOPICS, size=self.exists_UN.shape)

    def slate_topics(self, candidates: int, rng: np.random.Generator) -> np.ndarray:
        """`[U, C]`: topics of any behaviors of the user, and any topics."""
        shape = (len(self.size_U), candidates)
        place_UC = (rng.random(shape) * self.size_U[:, None]).astype(np.int64)
        of_history_UC = np.take_along_axis(self.topic_UN, place_UC, axis=1)
        any_UC = rng.integers(NUM_TOPICS, size=shape)
        return np.where(rng.random(shape) < HISTORY_SHARE, of_history_UC, any_UC)

    def chances(self, topic_UC: np.ndarray) -> dict[str, np.ndarray]:
        """Chance of a fresh behavior of a topic, `[U, C]`, by who knows what."""
        same_UCN = topic_UC[..., None] == self.topic_UN[:, None]
        same_UCN &= self.exists_UN[:, None]
        count_UC = same_UCN.sum(axis=2)
        newer_UC = np.where(count_UC > 0, same_UCN.argmax(axis=2), HISTORY_SIZE[1])
        return {
            "reachable": (same_UCN & self.fresh_UN[:, None]).any(axis=2) * 1.0,
            "ordered": ordered_chances()[newer_UC],
            "blind": blind_chances()[self.size_U[:, None], count_UC],
        }


def _exposures(
    config: FreshTitlesConfig,
    items: Items,
    histories: Histories,
    rng: np.random.Generator,
) -> pa.Table:
    topic_UC = histories.slate_topics(config.candidates, rng)
    item_UC = items.draw_slates(topic_UC, rng)
    rates = {
        KNOWN[name]: click_rate(chance_UC).astype(np.float32)
        for name, chance_UC in histories.chances(topic_UC).items()
    }
    click_UC = rng.random(item_UC.shape, np.float32) < rates["true_probability"]
    order_U = np.argsort(histories.time_U, kind="stable")
    row = np.repeat(order_U, config.candidates)
    request_id = pa.array([f"r{index:08d}" for index in range(config.users)])
    return pa.table(
        {
            "request_id": request_id.take(
                pa.array(np.repeat(np.arange(config.users), config.candidates))
            ),
            "user_id": row + 1,
            "time": histories.time_U[row],
            "item_id": item_UC[order_U].ravel() + 1,
            "click": click_UC[order_U].ravel().astype(np.int8),
            **{name: rate_UC[order_U].ravel() for name, rate_UC in rates.items()},
        }
    )


def _behaviors(
    items: Items, histories: Histories, rng: np.random.Generator
) -> pa.Table:
    user, place = np.nonzero(histories.exists_UN)
    time = histories.time_U[user] - histories.age_UN[user, place]
    item = items.draw(histories.topic_UN[user, place], rng)
    order = np.lexsort((user, time))
    return pa.table(
        {
            "user_id": user[order] + 1,
            "time": time[order],
            "item_id": item[order] + 1,
        }
    )
