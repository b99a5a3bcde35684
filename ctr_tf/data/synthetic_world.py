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

import dataclasses

import numpy as np

from ctr_tf.time import DAY, HOUR

START = 1_704_067_200  # Monday, 2024-01-01 00:00 UTC
NUM_CATEGORIES = 20
BRANDS_PER_CATEGORY = 5
AGE_GROUPS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
NUM_CITIES = 20
DEVICES = ("phone", "tablet", "computer")
ACTIONS = ("view", "click")
NUM_HABITS = 3  # weekday mornings, weekday evenings, weekends

# Sessions: at most one a morning and one an evening; a user's mean number a day is
# drawn between these two.
SESSIONS_PER_DAY = (0.35, 0.65)
SESSION_HOURS = ((8.0, 20.0), (11.0, 19.0))  # weekdays, weekend: morning, evening
SESSION_HOUR_DEVIATION = 1.0
SESSION_SIZE_SPREAD = 1.7  # sigma of the log-normal
MIN_SESSION_SIZE = 3
MAX_SESSION_SECONDS = 4 * HOUR
DRIFT_RATE = 0.6
NOISE_SHARE = 0.3
LAST_NOISE_SHARE = 0.03  # of a session's last two behaviors
ACTIVITY_SPREAD = 0.3

# Slates.
ARRIVAL_SHARE = 0.4
MATCHING_SHARE = 0.22
DISTRACTING_SHARE = 0.38
RECENT_SESSIONS = 4  # whose interests distract

# Logits.
BASE_LOGIT = -3.2
SESSION_WEIGHT = 3.8
ARRIVAL_WEIGHT = 3.8
QUALITY_WEIGHT = 0.35
AGE_WEIGHT = 0.25
USER_WEIGHT = 0.1
POSITION_WEIGHT = 0.3
DEVICE_LOGITS = (0.1, 0.0, -0.2)


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
    """

    users: int = 4_000
    items: int = 2_000
    days: int = 28
    seed: int = 0
    requests_per_user: float = 16.0
    candidates: int = 10
    behaviors_per_user: float = 240.0
    max_history: int = 1_000

    def __post_init__(self):
        for name, least, most in (
            ("users", 1, 10_000_000),
            ("items", NUM_CATEGORIES * BRANDS_PER_CATEGORY, 10_000_000),
            ("days", 2, 3_650),
            ("seed", 0, 2**63 - 1),
            ("requests_per_user", 0.01, 10_000),
            ("candidates", 2, 1_000),
            ("behaviors_per_user", 1, 100_000),
            ("max_history", MIN_SESSION_SIZE, 100_000),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(
                    f"`{name}` lies between {least:,} and {most:,}. "
                    f"Received: {name}={value}"
                )
        if self.candidates * 2 > self.items:
            raise ValueError(
                "A slate holds at most half of the items. Received: "
                f"candidates={self.candidates}, items={self.items}"
            )
        if self.behaviors_per_user > self.max_history:
            raise ValueError(
                "`behaviors_per_user`, a mean, cannot exceed `max_history`. Received: "
                f"behaviors_per_user={self.behaviors_per_user}, "
                f"max_history={self.max_history}"
            )

    @property
    def exposure_start(self) -> int:
        """Time of the first possible request."""
        return START + self.days // 2 * DAY

    @property
    def end(self) -> int:
        """Sessions begin before this time."""
        return START + self.days * DAY


class Catalog:
    """The items: columns as arrays, and draws from them by popularity.

    Args:
        items: number of items.
        rng: random generator.
    """

    def __init__(self, items: int, rng: np.random.Generator):
        self.category = rng.permutation(np.arange(items) % NUM_CATEGORIES)
        brand = rng.integers(BRANDS_PER_CATEGORY, size=items)
        self.brand = self.category * BRANDS_PER_CATEGORY + brand
        level = rng.normal(3.0, 0.7, NUM_CATEGORIES)[self.category]
        self.price = np.exp(level + rng.normal(0.0, 0.4, items)).astype(np.float32)
        self.quality = rng.normal(size=items)
        weight = np.exp(0.6 * self.quality + rng.normal(0.0, 0.8, items))
        total = np.bincount(self.category, weight, NUM_CATEGORIES)
        # Every category is equally popular as a whole: else a model could do without
        # the history.
        weight /= total[self.category]
        self._order = np.argsort(self.category, kind="stable")
        self._cumulative = np.cumsum(weight[self._order])

    def draw(self, category: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Items of the given categories, by popularity; -1 means any category."""
        any_category = rng.integers(NUM_CATEGORIES, size=category.shape)
        category = np.where(category < 0, any_category, category)
        point = category + rng.random(category.shape)
        index = np.searchsorted(self._cumulative, point, side="right")
        return self._order[np.minimum(index, len(self._order) - 1)]


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

    def __init__(self, config: WorldConfig, users: Users, rng: np.random.Generator):
        # No more sessions than a user's behaviors can fill with four each.
        rate = np.minimum(users.sessions_per_day, users.behaviors / 4 / config.days)
        slots = rng.random((config.users, config.days, 2)) < rate[:, None, None] / 2
        user, day, part = np.nonzero(slots)
        rank = np.arange(len(user)) - np.searchsorted(user, user)
        kept = rank < users.behaviors[user] // MIN_SESSION_SIZE
        self.user, day, part = user[kept], day[kept], part[kept]
        weekend = (day % 7 >= 5).astype(np.int64)  # START is a Monday
        self.habit_index = np.where(weekend, 2, part)
        hour = np.array(SESSION_HOURS)[weekend, part]
        noise = rng.normal(0.0, SESSION_HOUR_DEVIATION, len(day))
        hour = hour + np.clip(noise, -2.5, 2.5)
        self.start = START + day * DAY + (hour * HOUR).astype(np.int64)
        self.habit = users.habits[self.user, self.habit_index]
        self.interest, self.before = self._interests(rng)
        self.size = self._sizes(users, rng)

    def __len__(self):
        return len(self.user)

    def _interests(self, rng) -> tuple[np.ndarray, np.ndarray]:
        """Each session's interest, and that of the session before in its thread."""
        order = np.lexsort((np.arange(len(self)), self.habit_index, self.user))
        thread = self.user[order] * NUM_HABITS + self.habit_index[order]
        first = np.diff(thread, prepend=-1) != 0
        change = first | (rng.random(len(self)) < DRIFT_RATE)
        latest = np.maximum.accumulate(np.where(change, np.arange(len(self)), 0))
        drifting = rng.integers(NUM_CATEGORIES, size=len(self))
        interest = np.where(first, self.habit[order], drifting)[latest]
        before = np.where(first, self.habit[order], np.roll(interest, 1))
        place = np.empty(len(self), np.int64)
        place[order] = np.arange(len(self))
        return interest[place], before[place]

    def _sizes(self, users: Users, rng) -> np.ndarray:
        """Uneven shares of each user's behaviors, `MIN_SESSION_SIZE` at least."""
        share = np.exp(rng.normal(0.0, SESSION_SIZE_SPREAD, len(self)))
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
        scale = np.minimum(1.0, MAX_SESSION_SECONDS / longest)
        time = self.start[session] + np.ceil(elapsed * scale[session]).astype(np.int64)
        left = (first + self.size)[session] - np.arange(len(session))
        noise_share = np.where(left <= 2, LAST_NOISE_SHARE, NOISE_SHARE)
        noise = rng.random(len(session)) < noise_share
        item = catalog.draw(np.where(noise, -1, self.interest[session]), rng)
        clicked = rng.random(len(session)) < np.where(noise, 0.3, 0.6)
        return {"session": session, "time": time, "item": item, "action": clicked * 1}


class Requests:
    """The slates shown, and what becomes of them; arrays `[R]` and `[R, C]`.

    Args:
        config: of the world.
        catalog: what can be shown.
        users: to whom.
        sessions: when.
        behavior_time: of `Sessions.behaviors`.
        rng: random generator.
    """

    def __init__(
        self,
        config: WorldConfig,
        catalog: Catalog,
        users: Users,
        sessions: Sessions,
        behavior_time: np.ndarray,
        rng: np.random.Generator,
    ):
        session, done = self._moments(config, sessions, rng)
        first = np.cumsum(sessions.size) - sessions.size
        arriving = done == 0
        after = first[session] + np.maximum(done, 1) - 1
        wait = rng.integers(1, 20, len(session))
        self.time = np.where(
            arriving, sessions.start[session], behavior_time[after] + wait
        )
        # In the order of time, and no user sees two slates in the same second.
        moment = np.stack([self.time, sessions.user[session]], axis=1)
        _, order = np.unique(moment, axis=0, return_index=True)
        session, arriving, self.time = session[order], arriving[order], self.time[order]
        self.user = sessions.user[session]
        self.wanted = np.where(
            arriving, sessions.before[session], sessions.interest[session]
        )
        self.device = self._devices(sessions.habit_index[session], rng)
        self.item = self._slates(config, catalog, users, sessions, session, rng)
        weight = np.where(arriving, ARRIVAL_WEIGHT, SESSION_WEIGHT)
        matches = catalog.category[self.item] == self.wanted[:, None]
        position = np.linspace(0.5, -0.5, config.candidates)
        logit = (
            BASE_LOGIT
            + weight[:, None] * matches
            + QUALITY_WEIGHT * catalog.quality[self.item]
            + users.logit[self.user, None]
            + np.array(DEVICE_LOGITS)[self.device, None]
            + POSITION_WEIGHT * position
        )
        self.probability = (1 / (1 + np.exp(-logit))).astype(np.float32)
        self.click = rng.random(logit.shape, np.float32) < self.probability

    def _moments(self, config, sessions, rng) -> tuple[np.ndarray, np.ndarray]:
        """Session, and how many of its behaviors are done by then; no pair twice."""
        eligible = np.flatnonzero(sessions.start >= config.exposure_start)
        if not len(eligible):
            raise ValueError(
                "Nobody came in the second half of the days, so nothing was shown; ask "
                "for more users, days or behaviors. Received: "
                f"users={config.users}, days={config.days}, "
                f"behaviors_per_user={config.behaviors_per_user}"
            )
        size = sessions.size[eligible]
        session = np.repeat(eligible, size)
        index = np.arange(len(session)) - np.repeat(np.cumsum(size) - size, size)
        done = np.where(index == 0, 0, index + 1)
        share = np.where(
            index == 0, ARRIVAL_SHARE, (1 - ARRIVAL_SHARE) / (np.repeat(size, size) - 1)
        )
        # The smallest of Exp(1) / share are a weighted sample without replacement.
        count = round(config.users * config.requests_per_user)
        count = min(max(count, 1), len(session))
        draw = rng.exponential(size=len(session)) / share
        drawn = np.argpartition(draw, count - 1)[:count]
        return session[drawn], done[drawn]

    def _devices(self, habit_index, rng) -> np.ndarray:
        computer = np.array([0.5, 0.2, 0.2])[habit_index]
        draw = rng.random(len(habit_index))
        return np.where(draw < computer, 2, np.where(draw < computer + 0.15, 1, 0))

    def _slates(self, config, catalog, users, sessions, session, rng) -> np.ndarray:
        """What is wanted, what was wanted at other times, and anything popular."""
        shape = (len(session), config.candidates)
        wanted = [sessions.before[session]]
        for back in range(1, RECENT_SESSIONS + 1):
            previous = np.maximum(session - back, 0)
            same_user = sessions.user[previous] == self.user
            wanted.append(np.where(same_user, sessions.interest[previous], -1))
        others = np.stack(wanted, axis=1)
        choice = rng.integers(others.shape[1], size=shape)
        distracting = np.take_along_axis(others, choice, axis=1)
        draw = rng.random(shape)
        category = np.where(
            draw < MATCHING_SHARE,
            self.wanted[:, None],
            np.where(draw < MATCHING_SHARE + DISTRACTING_SHARE, distracting, -1),
        )
        item = catalog.draw(category, rng)
        while True:
            order = np.argsort(item, axis=1, kind="stable")
            ordered = np.take_along_axis(item, order, axis=1)
            again = np.zeros(shape, bool)
            repeated = ordered[:, 1:] == ordered[:, :-1]
            np.put_along_axis(again, order[:, 1:], repeated, axis=1)
            if not again.any():
                return item
            item[again] = rng.integers(len(catalog.category), size=again.sum())
