"""The slates shown to the users of the made-up world, and what they click.

Shape suffixes: `R` requests, `C` candidates of a slate.
"""

import typing

import numpy as np

from ctr_tf.errors import UserError
from ctr_tf.synthetic.config import WorldConfig
from ctr_tf.synthetic.world import Catalog, Sessions, Users

DEVICES = ("phone", "tablet", "computer")

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
POSITION_WEIGHT = 0.3
DEVICE_LOGITS = (0.1, 0.0, -0.2)


class World(typing.NamedTuple):
    """Everything that there is before anything is shown.

    Args:
        config: of the world.
        catalog: what can be shown.
        users: to whom.
        sessions: when.
        behaviors: of `Sessions.behaviors`.
    """

    config: WorldConfig
    catalog: Catalog
    users: Users
    sessions: Sessions
    behaviors: dict


class Requests:
    """The slates shown, and what becomes of them; arrays `[R]` and `[R, C]`.

    Args:
        world: before anything is shown.
        rng: random generator.
    """

    def __init__(self, world: World, rng: np.random.Generator):
        config, catalog, users, sessions, behaviors = world
        session_R, done_R = self._moments(config, sessions, rng)
        first = np.cumsum(sessions.size) - sessions.size
        after_R = first[session_R] + np.maximum(done_R, 1) - 1
        wait_R = rng.integers(1, 20, len(session_R))
        time_R = np.where(
            done_R == 0, sessions.start[session_R], behaviors["time"][after_R] + wait_R
        )
        # In the order of time, and no user sees two slates in the same second.
        moment = np.stack([time_R, sessions.user[session_R]], axis=1)
        _, order = np.unique(moment, axis=0, return_index=True)
        self.session, self.time = session_R[order], time_R[order]
        self.arriving = done_R[order] == 0
        self.user = sessions.user[self.session]
        self.device = self._devices(sessions, rng)
        category_RC = self._categories(world, rng)
        self.item = _distinct_items(catalog, category_RC, self.time, rng)
        position_C = np.linspace(0.5, -0.5, config.candidates)
        logit_RC = (
            BASE_LOGIT
            + self._match_logits(catalog.category[self.item])
            + QUALITY_WEIGHT * catalog.quality[self.item]
            + users.logit[self.user, None]
            + np.array(DEVICE_LOGITS)[self.device, None]
            + POSITION_WEIGHT * position_C
        )
        if config.one_click:
            weight_RC = np.exp(logit_RC)
            probability_RC = weight_RC / weight_RC.sum(axis=1, keepdims=True)
            # The largest of logit + Gumbel is a draw from the softmax.
            taken_R = (logit_RC + rng.gumbel(size=logit_RC.shape)).argmax(axis=1)
            self.click = np.arange(logit_RC.shape[1]) == taken_R[:, None]
            self.probability = probability_RC.astype(np.float32)
            return
        self.probability = (1 / (1 + np.exp(-logit_RC))).astype(np.float32)
        self.click = rng.random(logit_RC.shape, np.float32) < self.probability

    def _moments(
        self, config: WorldConfig, sessions: Sessions, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Session, and how many of its behaviors are done by then; no pair twice."""
        eligible = shown_sessions(config, sessions)
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

    def _devices(self, sessions: Sessions, rng: np.random.Generator) -> np.ndarray:
        computer = np.array([0.5, 0.2, 0.2])[sessions.thread[self.session]]
        draw = rng.random(len(computer))
        return np.where(draw < computer, 2, np.where(draw < computer + 0.15, 1, 0))

    def _categories(self, world: World, rng: np.random.Generator) -> np.ndarray:
        """What is wanted, what was wanted at other times, and anything (-1)."""
        sessions = world.sessions
        before, interest = sessions.before[self.session], sessions.interest
        self.wanted = np.where(self.arriving, before, interest[self.session])
        others = [before]
        for back in range(1, RECENT_SESSIONS + 1):
            previous = np.maximum(self.session - back, 0)
            same_user = sessions.user[previous] == self.user
            others.append(np.where(same_user, interest[previous], -1))
        others = np.stack(others, axis=1)
        shape = (len(self.session), world.config.candidates)
        choice = rng.integers(others.shape[1], size=shape)
        distracting = np.take_along_axis(others, choice, axis=1)
        return mix(self.wanted[:, None], distracting, rng)

    def _match_logits(self, category_RC: np.ndarray) -> np.ndarray:
        """What the history adds to the logits."""
        weight_R = np.where(self.arriving, ARRIVAL_WEIGHT, SESSION_WEIGHT)
        return weight_R[:, None] * (category_RC == self.wanted[:, None])


def shown_sessions(config: WorldConfig, sessions: Sessions) -> np.ndarray:
    """The sessions during which slates may be shown.

    Raises:
        UserError: if there is none.
    """
    eligible = np.flatnonzero(sessions.start >= config.exposure_start)
    if not len(eligible):
        raise UserError(
            "Nobody came in the second half of the days, so nothing was shown; ask "
            "for more users, days or behaviors. Received: "
            f"users={config.users}, days={config.days}, "
            f"behaviors_per_user={config.behaviors_per_user}"
        )
    return eligible


def mix(
    matching_RC: np.ndarray, distracting_RC: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Categories of slates: some of these, some of those, any (-1) for the rest."""
    draw_RC = rng.random(distracting_RC.shape)
    return np.where(
        draw_RC < MATCHING_SHARE,
        matching_RC,
        np.where(draw_RC < MATCHING_SHARE + DISTRACTING_SHARE, distracting_RC, -1),
    )


def _distinct_items(
    catalog: Catalog,
    category_RC: np.ndarray,
    time_R: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Items of the categories, none twice in a slate."""
    time_RC = np.repeat(time_R[:, None], category_RC.shape[1], axis=1)
    item_RC = catalog.draw(category_RC, time_RC, rng)
    while (again_RC := repeated(item_RC)).any():
        item_RC[again_RC] = catalog.draw_any(time_RC[again_RC], rng)
    return item_RC


def repeated(item_RC: np.ndarray) -> np.ndarray:
    """Which items of a slate are in it at an earlier place, `[R, C]`."""
    order_RC = np.argsort(item_RC, axis=1, kind="stable")
    ordered_RC = np.take_along_axis(item_RC, order_RC, axis=1)
    again_RC = np.zeros(item_RC.shape, bool)
    same_RC = ordered_RC[:, 1:] == ordered_RC[:, :-1]
    np.put_along_axis(again_RC, order_RC[:, 1:], same_RC, axis=1)
    return again_RC
