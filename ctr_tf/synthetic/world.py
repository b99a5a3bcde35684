"""A made-up world of users and items whose click probabilities are known.

What a user wants is a *category*, and the history tells which, to whom can read it:

* **Bursts.** A user comes in sessions, minutes long and hours or days apart, of very
  uneven sizes: some hold a handful of behaviors, some a hundred. A session has one
  interest: most of its behaviors are of that category, the rest is noise (popular items
  of any category).
* **Habits.** Weekday mornings, weekday evenings and weekends each have a thread of
  their own: a session takes up the interest of the one before at its kind of hour and
  day, or drifts on from there to another category, which the next one takes up.
* **Clicks.** When a user arrives (nothing done yet in this session), what is clicked
  depends on how this thread was left, days ago and perhaps in a session of three
  behaviors between two long ones of other threads; later in the session it depends on
  the session's interest. Beside that an item's quality, the user's age group, the
  device and the slate's position weigh a little.

So the way to the truth leads over the *match* of a candidate with the right part of the
history: the current burst, told by the gap before it, or the latest burst at the same
hour and on the same kind of day. Slates hold the categories of the user's other latest
sessions as well, so the history as one bag says little, and a model that is linear in
its features sees none of it.
"""

import numpy as np

from ctr_tf.synthetic.config import (
    BRANDS_PER_CATEGORY,
    MIN_SESSION_SIZE,
    NUM_CATEGORIES,
    START,
    WorldConfig,
)
from ctr_tf.time import DAY, HOUR

AGE_GROUPS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
NUM_CITIES = 20
ACTIONS = ("view", "click")
NUM_HABITS = 3  # weekday mornings, weekday evenings, weekends

# Sessions: at most one a morning and one an evening; a user's mean number a day is
# drawn between these two.
SESSIONS_PER_DAY = (0.35, 0.65)
SESSION_HOURS = ((8.0, 20.0), (11.0, 19.0))  # weekdays, weekend: morning, evening
SESSION_HOUR_DEVIATION = 1.0
SESSION_SIZE_SPREAD = 1.7  # sigma of the log-normal
MAX_SESSION_SECONDS = 4 * HOUR
DRIFT_RATE = 0.6
NOISE_SHARE = 0.3
LAST_NOISE_SHARE = 0.03  # of a session's last two behaviors
ACTIVITY_SPREAD = 0.3
AGE_WEIGHT = 0.25
USER_WEIGHT = 0.1


class Catalog:
    """The items: columns as arrays, and draws from them by popularity.

    Args:
        items: number of items.
        rng: random generator.
    """

    num_categories = NUM_CATEGORIES

    def __init__(self, items: int, rng: np.random.Generator):
        self.category = rng.permutation(np.arange(items) % self.num_categories)
        brand = rng.integers(BRANDS_PER_CATEGORY, size=items)
        self.brand = self.category * BRANDS_PER_CATEGORY + brand
        level = rng.normal(3.0, 0.7, self.num_categories)[self.category]
        self.price = np.exp(level + rng.normal(0.0, 0.4, items)).astype(np.float32)
        self.quality = rng.normal(size=items)
        weight = np.exp(0.6 * self.quality + rng.normal(0.0, 0.8, items))
        total = np.bincount(self.category, weight, self.num_categories)
        # Every category is equally popular as a whole: else a model could do without
        # the history.
        weight /= total[self.category]
        self._order = np.argsort(self.category, kind="stable")
        self._cumulative = np.cumsum(weight[self._order])

    def draw(
        self, category: np.ndarray, time: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Items of the given categories, by popularity; -1 means any category.

        Args:
            category: any shape.
            time: when each is wanted, which matters to items that do not live for ever.
            rng: random generator.
        """
        any_category = rng.integers(self.num_categories, size=category.shape)
        category = np.where(category < 0, any_category, category)
        point = category + rng.random(category.shape)
        index = np.searchsorted(self._cumulative, point, side="right")
        return self._order[np.minimum(index, len(self._order) - 1)]

    def draw_any(self, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An item for each time, popular or not."""
        return rng.integers(len(self.category), size=time.shape)


class Users:
    """The users' lasting traits, as arrays.

    Args:
        config: of the world.
        rng: random generator.
    """

    def __init__(self, config: WorldConfig, rng: np.random.Generator):
        users = config.users
        self.age = rng.integers(len(AGE_GROUPS), size=users)
        self.city = rng.integers(NUM_CITIES, size=users)
        age_logit = AGE_WEIGHT * np.linspace(-1.5, 1.5, len(AGE_GROUPS))
        self.logit = age_logit[self.age] + rng.normal(0.0, USER_WEIGHT, users)
        self.sessions_per_day = rng.uniform(*SESSIONS_PER_DAY, users)
        # The mean of exp(N(-s^2/2, s)) is 1.
        activity = rng.normal(-(ACTIVITY_SPREAD**2) / 2, ACTIVITY_SPREAD, users)
        activity += np.log(self.sessions_per_day / np.mean(SESSIONS_PER_DAY))
        behaviors = np.rint(config.behaviors_per_user * np.exp(activity))
        self.behaviors = np.clip(behaviors, MIN_SESSION_SIZE, config.max_history)
        # What each thread begins with: three different categories.
        scores = rng.random((users, NUM_CATEGORIES))
        self.habits = np.argpartition(scores, NUM_HABITS, axis=1)[:, :NUM_HABITS]


class Sessions:
    """The bursts in which users come, ordered by user and time, as arrays.

    Args:
        config: of the world.
        users: who comes.
        rng: random generator.
    """

    num_categories = NUM_CATEGORIES
    parts_per_day = 2
    drift_rate = DRIFT_RATE
    actions = ACTIONS
    size_spread = SESSION_SIZE_SPREAD
    max_seconds = MAX_SESSION_SECONDS

    def __init__(self, config: WorldConfig, users: Users, rng: np.random.Generator):
        # No more sessions than a user's behaviors can fill with four each.
        rate = np.minimum(users.sessions_per_day, users.behaviors / 4 / config.days)
        slots = rng.random((config.users, config.days, self.parts_per_day))
        taken = slots < self._rates(rate, config.days) / self.parts_per_day
        user, day, part = np.nonzero(taken)
        rank = np.arange(len(user)) - np.searchsorted(user, user)
        kept = rank < users.behaviors[user] // MIN_SESSION_SIZE
        self.user, day, part = user[kept], day[kept], part[kept]
        weekend = (day % 7 >= 5).astype(np.int64)  # START is a Monday
        hour = self._hours(weekend, part, rng)
        self.start = START + day * DAY + (hour * HOUR).astype(np.int64)
        self.thread, self.first_interest = self._threads(users, weekend, part, rng)
        self.interest, self.before = self._interests(rng)
        self.size = self._sizes(users, rng)

    def __len__(self) -> int:
        return len(self.user)

    def _rates(self, rate: np.ndarray, days: int) -> np.ndarray:
        """Sessions to expect of a user, on a day, in a part of it."""
        return rate[:, None, None]

    def _hours(
        self, weekend: np.ndarray, part: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """When on its day each session begins."""
        hour = np.array(SESSION_HOURS)[weekend, part]
        noise = rng.normal(0.0, SESSION_HOUR_DEVIATION, len(part))
        return hour + np.clip(noise, -2.5, 2.5)

    def _threads(
        self,
        users: Users,
        weekend: np.ndarray,
        part: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each session's thread, and the interest that this thread begins with."""
        thread = np.where(weekend, 2, part)
        return thread, users.habits[self.user, thread]

    def _interests(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Each session's interest, and that of the session before in its thread."""
        order = np.lexsort((np.arange(len(self)), self.thread, self.user))
        user, thread = self.user[order], self.thread[order]
        first = (np.diff(user, prepend=-1) != 0) | (np.diff(thread, prepend=-1) != 0)
        change = first | (rng.random(len(self)) < self.drift_rate)
        latest = np.maximum.accumulate(np.where(change, np.arange(len(self)), 0))
        begun = self.first_interest[order]
        drifting = rng.integers(self.num_categories, size=len(self))
        interest = np.where(first, begun, drifting)[latest]
        before = np.where(first, begun, np.roll(interest, 1))
        place = np.empty(len(self), np.int64)
        place[order] = np.arange(len(self))
        return interest[place], before[place]

    def _sizes(self, users: Users, rng: np.random.Generator) -> np.ndarray:
        """Uneven shares of each user's behaviors, `MIN_SESSION_SIZE` at least."""
        share = np.exp(rng.normal(0.0, self.size_spread, len(self)))
        num_users = len(users.behaviors)
        share /= np.bincount(self.user, share, num_users)[self.user]
        sessions = np.bincount(self.user, minlength=num_users)
        spare = np.maximum(users.behaviors - MIN_SESSION_SIZE * sessions, 0)
        # Rounded along the cumulative sum, so that the total is exact.
        cumulative = np.cumsum(share * spare[self.user])
        return MIN_SESSION_SIZE + np.diff(
            np.floor(cumulative + 1e-6).astype(np.int64), prepend=0
        )

    def behaviors(self, catalog: Catalog, rng: np.random.Generator) -> dict:
        """What users did on their own: session, time, item, action; session order."""
        session = np.repeat(np.arange(len(self)), self.size)
        first = np.cumsum(self.size) - self.size
        gap = 5 + rng.exponential(60.0, len(session))
        elapsed = np.cumsum(gap)
        elapsed -= (elapsed - gap)[first][session]
        longest = elapsed[first + self.size - 1]
        scale = np.minimum(1.0, self.max_seconds / longest)
        time = self.start[session] + np.ceil(elapsed * scale[session]).astype(np.int64)
        left = (first + self.size)[session] - np.arange(len(session))
        item, action = self._content(session, left, time, catalog, rng)
        return {"session": session, "time": time, "item": item, "action": action}

    def _content(
        self,
        session: np.ndarray,
        left: np.ndarray,
        time: np.ndarray,
        catalog: Catalog,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Item and action of behaviors after which `left` - 1 follow in the session."""
        noise_share = np.where(left <= 2, LAST_NOISE_SHARE, NOISE_SHARE)
        noise = rng.random(len(session)) < noise_share
        item = catalog.draw(np.where(noise, -1, self.interest[session]), time, rng)
        clicked = rng.random(len(session)) < np.where(noise, 0.3, 0.6)
        return item, clicked * 1
