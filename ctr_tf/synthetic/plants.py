"""A made-up world in which what the papers claim to exploit is planted one by one.

In the world of `ctr_tf.synthetic.world` everything comes at once. Here a model's part
can be tried on the one structure that it is for:

    ctr-tf synthesize --plant daily_rhythm,weekly_rhythm --output RAW

**The true click probability.** Every earlier behavior j of a user has a *relevance*
w_j to a request. What a candidate gains in its logit, beside what quality, position and
the like weigh, is

    MATCH_WEIGHT * min(1, share / SATURATION)

where share is that of the candidate's category in the total relevance. It is 0 where
no behavior is relevant. Without a plant every w_j would be 1; each plant is a factor of
it, and they go together. Slates hold categories drawn by relevance and from the
history as a whole, so only who knows w can tell them apart.

* **sink_noise**: w > 0 in the one of three views of the history that a behavior's
  category counts in, else 0: the last hour for every third category, the week before
  that for the next, all older behaviors for the third. To a candidate the two other
  views hold nothing but noise, its own category among it. A softmax over a view sums to
  one even so, and spreads over noise what it has no use for. w is `VIEW_WEIGHTS`; the
  last hour is short. Claimed by GAP-Net for the output gate of ASGA, and by CTR-Sink,
  whose sinks take up what is spread.
* **realtime_trigger**: w = 1 for behaviors of the brand that the user has just turned
  to, else 0. Every session is about one of the user's `BRANDS_OF_USER` brands, opens
  with `OPENING` behaviors of any category, and goes on with the category that this user
  likes of this brand. Slates are shown after the opening: the newest behaviors do not
  tell what is wanted, but change what must be looked for in the older ones. Claimed by
  GAP-Net for GCQC, which calibrates the query by the real-time view.
* **view_by_context**: w = 1 in one of three views of the history, else 0: behaviors of
  the last hour on the phone, of the week before that on the tablet, all older ones on
  the computer. Claimed by GAP-Net for CGDF, which weighs the views by the context.
* **time_gaps**: w = 1 / (time since) for the last two behaviors of each session before
  this one, else 0. Sessions are hours to many days apart, and each has an interest of
  its own, which only its end shows; the rest is of any category. Claimed by
  SparseCTR for the time relation of RelTemporal, for TimeChunking and the transition
  branch, which looks at the ends of chunks.
* **daily_rhythm**: w = 1 for behaviors less than `RHYTHM_REACH` seconds of the day
  away, else 0. A user comes at four hours of the day, which differ between users, and
  each has an interest of its own. Claimed by SparseCTR for the hour relation of
  RelTemporal.
* **weekly_rhythm**: w = 1 for behaviors on the same kind of day, weekday or weekend,
  else 0. Each kind has an interest of its own, and half of the sessions. Claimed by
  SparseCTR for the weekend relation of RelTemporal.

With several rhythms or triggers there is an interest for every combination. A user is
shown at most one slate a session, on any device: on arrival, or after the opening
where the newest behaviors play a part (the first three plants). Clicks on
slates, which become behaviors of the samples, have no relevance in the truth.

Shape suffixes: `J` pairs of a request and an earlier behavior of its user, `R`
requests, `K` categories, `C` candidates.
"""

import numpy as np

from ctr_tf.synthetic.config import BRANDS_PER_CATEGORY, MIN_SESSION_SIZE, WorldConfig
from ctr_tf.synthetic.requests import DEVICES, Requests, World, mix, shown_sessions
from ctr_tf.synthetic.world import ACTIONS, Catalog, Sessions, Users
from ctr_tf.time import DAY, HOUR, is_weekend

NUM_CATEGORIES = 10  # few, which small data suffice for
NUM_BRANDS = BRANDS_PER_CATEGORY  # each sells every category
BRANDS_OF_USER = 3
NUM_HOURS = 4  # of the day, at which a user comes
HOURS_APART = 3
HOUR_DEVIATION = 0.25
SIZE_SPREAD = 0.8  # sigma of the log-normal
OPENING = MIN_SESSION_SIZE
PLANTED_NOISE = 0.1
VIEW_LIMITS = (HOUR, 7 * DAY)  # those of `HistoryViews`
VIEW_WEIGHTS = (10.0, 1.0, 1.0)
RHYTHM_REACH = 1.5 * HOUR

MATCH_WEIGHT = 5.0
SATURATION = 0.25

# How often a session leaves its thread's interest for another one.
USUAL_DRIFT = 0.1
DRIFTS = {"sink_noise": 0.5, "view_by_context": 0.5, "time_gaps": 1.0}
# Those that need behaviors of the session itself.
_OF_THE_SESSION = {"sink_noise", "realtime_trigger", "view_by_context"}
_REQUESTS_AT_ONCE = 1 << 13


class PlantedCatalog(Catalog):
    """A catalog whose brands sell every category, evenly.

    Args:
        items: number of items.
        rng: random generator.
    """

    num_categories = NUM_CATEGORIES

    def __init__(self, items: int, rng: np.random.Generator):
        super().__init__(items, rng)
        rank = np.empty(items, np.int64)
        rank[self._order] = np.arange(items)
        first = np.searchsorted(self.category[self._order], np.arange(NUM_CATEGORIES))
        self.brand = (rank - first[self.category]) % NUM_BRANDS
        self._of_brand = [
            np.flatnonzero(self.brand[self._order] == brand)
            for brand in range(NUM_BRANDS)
        ]

    def draw_of_brand(
        self, category: np.ndarray, brand: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Items of the given categories (-1: any) and brands, evenly."""
        any_category = rng.integers(NUM_CATEGORIES, size=category.shape)
        category = np.where(category < 0, any_category, category)
        draw = rng.random(category.shape)
        item = np.empty(category.shape, np.int64)
        for number, places in enumerate(self._of_brand):
            ordered = self.category[self._order[places]]
            first = np.searchsorted(ordered, np.arange(NUM_CATEGORIES + 1))
            mine = brand == number
            of_mine = category[mine]
            count = np.diff(first)[of_mine]
            place = first[of_mine] + (draw[mine] * count).astype(np.int64)
            item[mine] = self._order[places[place]]
        return item


class PlantedSessions(Sessions):
    """Sessions, one a day at most, with threads as the plants need them.

    Args:
        config: of the world.
        users: who comes.
        rng: random generator.
    """

    num_categories = NUM_CATEGORIES
    parts_per_day = 1
    size_spread = SIZE_SPREAD
    max_seconds = HOUR

    def __init__(self, config: WorldConfig, users: Users, rng: np.random.Generator):
        self.plant, self.num_users = config.plant, config.users
        drifts = [DRIFTS.get(name, USUAL_DRIFT) for name in config.plant]
        self.drift_rate = max(drifts)
        super().__init__(config, users, rng)

    def _rates(self, rate, days):
        factor = np.ones(days)
        if "weekly_rhythm" in self.plant:  # as many sessions of either kind
            factor = np.where(np.arange(days) % 7 >= 5, 7 / 4, 7 / 10)
        return rate[:, None, None] * factor[:, None]

    def _hours(self, weekend, part, rng):
        # From 3:00 to 23:30, so that a day's session ends before the next day's begins.
        scores = rng.random((self.num_users, DAY // HOUR // HOURS_APART - 1))
        grid = 1 + np.argsort(scores, axis=1)[:, :NUM_HOURS]
        hours = HOURS_APART * grid + rng.uniform(0.0, 2.5, (self.num_users, 1))
        self.part = rng.integers(NUM_HOURS, size=len(part))
        noise = np.clip(rng.normal(0.0, HOUR_DEVIATION, len(part)), -0.5, 0.5)
        return hours[self.user, self.part] + noise

    def _threads(self, users, weekend, part, rng):
        scores = rng.random((self.num_users, NUM_BRANDS))
        brands = np.argsort(scores, axis=1)[:, :BRANDS_OF_USER]
        self.brand = brands[self.user, rng.integers(BRANDS_OF_USER, size=len(part))]
        thread, threads = np.zeros(len(part), np.int64), 1
        for name, value, count in (
            ("daily_rhythm", self.part, NUM_HOURS),
            ("weekly_rhythm", weekend, 2),
            ("realtime_trigger", self.brand, NUM_BRANDS),
        ):
            if name in self.plant:
                thread, threads = thread * count + value, threads * count
        first = rng.integers(NUM_CATEGORIES, size=(len(users.behaviors), threads))
        return thread, first[self.user, thread]

    def _content(self, session, left, time, catalog, rng):
        noise = rng.random(len(session)) < PLANTED_NOISE
        action = rng.integers(len(ACTIONS), size=len(session))
        if "time_gaps" in self.plant:
            noise = left > 2
        if "realtime_trigger" in self.plant:
            noise |= left > self.size[session] - OPENING
        category = np.where(noise, -1, self.interest[session])
        if "realtime_trigger" in self.plant:
            return catalog.draw_of_brand(category, self.brand[session], rng), action
        return catalog.draw(category, time, rng), action


class PlantedRequests(Requests):
    """Slates, and clicks that depend on the relevant behaviors.

    Args:
        world: before anything is shown.
        rng: random generator.
    """

    def _moments(self, config, sessions, rng):
        eligible = shown_sessions(config, sessions)
        count = max(round(config.users * config.requests_per_user), 1)
        session_R = rng.permutation(eligible)[:count]
        opened = OPENING if _OF_THE_SESSION & set(config.plant) else 0
        return session_R, np.full(len(session_R), opened)

    def _devices(self, sessions, rng):
        return rng.integers(len(DEVICES), size=len(self.session))

    def _categories(self, world, rng):
        relevant_RK, present_RK = self._counts(world)
        total_R1 = relevant_RK.sum(axis=1, keepdims=True)
        share_RK = relevant_RK / np.where(total_R1 > 0, total_R1, 1.0)
        self._match_RK = np.minimum(share_RK / SATURATION, 1.0)
        candidates = world.config.candidates
        matching_RC = _draw(relevant_RK, candidates, rng)
        return mix(matching_RC, _draw(present_RK, candidates, rng), rng)

    def _match_logits(self, category_RC):
        return MATCH_WEIGHT * np.take_along_axis(self._match_RK, category_RC, axis=1)

    def _counts(self, world: World) -> tuple[np.ndarray, np.ndarray]:
        """Relevance of each category, and behaviors of it, before each request."""
        behaviors = world.behaviors
        user = world.sessions.user[behaviors["session"]]
        users = np.arange(world.config.users)
        first_R = np.searchsorted(user, users)[self.user]
        # Behaviors are ordered by user and time; so are these keys.
        start, span = behaviors["time"].min(), 1 << 40
        key = user * span + behaviors["time"] - start
        last_R = np.searchsorted(
            key, self.user * span + np.maximum(self.time - start, 0)
        )
        category = world.catalog.category[behaviors["item"]]
        relevant_RK = np.zeros((len(self.time), NUM_CATEGORIES))
        present_RK = np.zeros_like(relevant_RK)
        for begin in range(0, len(self.time), _REQUESTS_AT_ONCE):
            block = slice(begin, begin + _REQUESTS_AT_ONCE)
            count = last_R[block] - first_R[block]
            row_J = np.repeat(np.arange(len(count)), count)
            rank_J = np.arange(len(row_J)) - np.repeat(np.cumsum(count) - count, count)
            behavior_J = first_R[block][row_J] + rank_J
            weight_J = self._relevance(world, begin + row_J, behavior_J)
            cell_J = row_J * NUM_CATEGORIES + category[behavior_J]
            for table, weights in ((relevant_RK, weight_J), (present_RK, None)):
                cells = np.bincount(cell_J, weights, len(count) * NUM_CATEGORIES)
                table[block] = cells.reshape(-1, NUM_CATEGORIES)
        return relevant_RK, present_RK

    def _relevance(
        self, world: World, request_J: np.ndarray, behavior_J: np.ndarray
    ) -> np.ndarray:
        """w, the product of the plants' factors."""
        behaviors, sessions, plant = world.behaviors, world.sessions, world.config.plant
        session_J = behaviors["session"][behavior_J]
        now_J, then_J = self.time[request_J], behaviors["time"][behavior_J]
        age_J = now_J - then_J
        weight_J = np.ones(len(age_J))
        item_J = behaviors["item"][behavior_J]
        near, far = VIEW_LIMITS
        view_J = (age_J > near) * 1 + (age_J > far)
        if "sink_noise" in plant:
            counts_J = world.catalog.category[item_J] % 3 == view_J
            weight_J *= counts_J * np.take(VIEW_WEIGHTS, view_J)
        if "realtime_trigger" in plant:
            brand_J = world.catalog.brand[item_J]
            assert isinstance(sessions, PlantedSessions)
            weight_J *= brand_J == sessions.brand[self.session][request_J]
        if "view_by_context" in plant:
            weight_J *= view_J == self.device[request_J]
        if "time_gaps" in plant:
            end = np.cumsum(sessions.size)
            is_end_J = behavior_J >= end[session_J] - 2
            earlier_J = session_J != self.session[request_J]
            weight_J *= is_end_J * earlier_J * (HOUR / age_J)
        if "daily_rhythm" in plant:
            apart_J = age_J % DAY
            weight_J *= np.minimum(apart_J, DAY - apart_J) < RHYTHM_REACH
        if "weekly_rhythm" in plant:
            weight_J *= is_weekend(now_J) == is_weekend(then_J)
        return weight_J


def _draw(weight_RK: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` categories a row, by weight; -1, for any, where all weights are 0."""
    cumulative_RK = np.cumsum(weight_RK, axis=1)
    total_R1 = cumulative_RK[:, -1:]
    point_RC = rng.random((len(weight_RK), count)) * total_R1
    category_RC = (point_RC[..., None] >= cumulative_RK[:, None]).sum(axis=2)
    return np.where(total_R1 > 0, np.minimum(category_RC, NUM_CATEGORIES - 1), -1)
