"""What a group of features is worth to a model: what is lost where it is permuted.

A group's values are dealt out anew, and the same model scores again; what AUC, GAUC and
log loss lose is the group's importance to this model (Breiman, "Random forests", 2001;
Fisher, Rudin and Dominici, "All models are wrong, but many are useful", 2019). A group
that the model does not read loses exactly nothing. What is known twice loses little
either time: importance is that of a group beside all others, not of it alone.

* The history as a whole, and the features of users, go to samples of another user; a
  history's times keep their distance to the request.
* Features of requests go to any other sample.
* Features of candidates go to any other candidate. Of a feature of items, whose table
  behaviors and candidates share, the candidates' values alone are dealt out.
* With `single`, every feature by itself, those of behaviors among all behaviors.

Counters, and what else is computed of candidates, follow from one another, so they are
one group. The interval is that of `ctr_tf.evaluation.bootstrap`: each replicate draws
users, and permutations.

Shapes: `M` samples, `C` candidates, `N` behaviors.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from ctr_tf.errors import UserError
from ctr_tf.evaluation import bootstrap
from ctr_tf.evaluation.metrics import hash_ids
from ctr_tf.evaluation.scores import Scores
from ctr_tf.evaluation.slices import with_interval
from ctr_tf.evaluation.withheld import METRICS
from ctr_tf.schema import ITEM_KEY, Schema

PERMUTATIONS = 3
REQUESTS = 2_000
_REPLICATES = 200
_SECONDS_BETWEEN_LINES = 10
_BEHAVIOR, _CANDIDATE, _USER = "behavior_", "candidate_", "user_"
_TIME, _MASK = "behavior_time", "candidate_mask"
_VECTORS = "item_vectors"  # what a model has read of candidates' texts

_log = logging.getLogger(__name__)

Inputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Group:
    """Features whose values are dealt out together.

    Args:
        name: for people.
        features: their names.
        keys: of the model's inputs.
        among: `"users"`, `"samples"`, `"candidates"` or `"behaviors"`.
    """

    name: str
    features: tuple[str, ...]
    keys: tuple[str, ...]
    among: str


def feature_groups(
    schema: Schema, keys: Iterable[str], single: bool = False
) -> list[Group]:
    """The groups of a schema's features, those that there are.

    Args:
        schema: of the data.
        keys: of the model's inputs.
        single: whether every feature is a group by itself.
    """
    keys = set(keys)
    texts = {feature.name for feature in schema.texts}
    of_history = tuple(sorted(key for key in keys if key.startswith(_BEHAVIOR)))
    history = [feature.name for feature in schema.behavior]
    groups = [Group("history", tuple(history), of_history, "users")]
    members = [
        ("user features", _USER, schema.user, "users"),
        ("context features", "context_", schema.context, "samples"),
    ]
    if single:
        members.append(("history", _BEHAVIOR, schema.behavior, "behaviors"))
    parts: dict[str, list] = {
        "candidate's item id": [],
        "item features of candidates": [],
        "candidate features": [],
        "counters": [],
    }
    for feature in schema.candidate:
        if feature.name == ITEM_KEY:
            part = "candidate's item id"
        elif feature.role == "item":
            part = "item features of candidates"
        else:
            part = "counters" if feature.computed else "candidate features"
        parts[part].append(feature)
    members += [
        (name, _CANDIDATE, tuple(part), "candidates") for name, part in parts.items()
    ]
    for name, prefix, features, among in members:
        found = [f.name for f in features if f.name not in texts]
        if single and name != "candidate's item id":
            for one in found:
                place = prefix.rstrip("_")
                groups.append(Group(f"{place}: {one}", (one,), (prefix + one,), among))
        elif found:
            of_found = tuple(prefix + one for one in found)
            groups.append(Group(name, tuple(found), of_found, among))
    # Their tokens, or what a model has read of them.
    of_texts = {f"{_CANDIDATE}{name}" for name in texts} & keys
    of_texts |= {key for key in keys if key.startswith(_VECTORS)}
    if texts:
        names, sorted_keys = tuple(sorted(texts)), tuple(sorted(of_texts))
        groups.append(Group("texts of candidates", names, sorted_keys, "candidates"))
    return groups


def permutation_importance(
    batches: Iterable,
    score: Callable[[dict], np.ndarray],
    schema: Schema,
    *,
    batch_size: int,
    single: bool = False,
    requests: int = REQUESTS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> dict:
    """Measures what each group of features is worth.

    Args:
        batches: of `ctr_tf.data.dataset.dataset(…, metadata=True)`.
        score: inputs → probabilities `[B, C]`.
        schema: of the data.
        batch_size: samples that are scored at once.
        single: whether every feature is a group by itself.
        requests: samples that are looked at, the first of the batches at most: these
            are scored `1 + groups x permutations` times.
        permutations: of each group, at least 3.
        seed: of the permutations.

    Returns:
        `requests` that were looked at; `permutations`; and `groups`, by falling loss of
        AUC: of each its `group`, `features`, and of each of `METRICS` that is defined
        what is `lost` (of the log loss: added), with `low` and `high`, the ends of its
        95 % interval.

    Raises:
        UserError: if there are too few permutations or requests, or only one user.
    """
    for name, value, least in (
        ("permutations", permutations, 3),
        ("--importance_requests", requests, 1),
    ):
        if value < least:
            raise UserError(f"`{name}` must be at least {least}. Received: {value}")
    inputs, labels, users = _first(batches, requests)
    donors = len(np.unique(users))
    if donors < 2:
        raise UserError(
            "Importance deals values out among users: there must be two at least. "
            f"Received: {donors} in {len(users):,} requests"
        )
    groups = feature_groups(schema, inputs, single)
    draws = bootstrap.draw_users(donors, _REPLICATES)
    random = np.random.default_rng(seed)

    def metrics(changed: Inputs) -> dict[str, np.ndarray]:
        scores = np.concatenate(list(_scored(changed, score, batch_size)))
        return _replicates(scores, labels, inputs[_MASK], users, draws)

    whole = metrics(inputs)
    rows = []
    last = time.monotonic()
    for place, group in enumerate(groups, 1):
        permuted = [
            metrics({**inputs, **_permuted(group, inputs, users, random)})
            for _ in range(permutations)
        ]
        rows.append(_row(group, whole, permuted))
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            _log.info("importance: %d of %d groups", place, len(groups))
    rows.sort(key=lambda row: -row.get("auc", {"lost": 0.0})["lost"])
    return {"requests": len(users), "permutations": permutations, "groups": rows}


def _first(batches: Iterable, most: int) -> tuple[Inputs, np.ndarray, np.ndarray]:
    """The first samples: inputs, labels `[M, C]` and users `[M]`, of one size."""
    found: list[tuple[Inputs, np.ndarray, np.ndarray]] = []
    count = 0
    for inputs, labels, _, metadata in batches:
        left = most - count
        arrays = {key: np.asarray(value)[:left] for key, value in inputs.items()}
        user = hash_ids(np.asarray(metadata["user_id"])[:left])
        found.append((arrays, np.asarray(labels)[:left, :, 0], user))
        count += len(user)
        if count == most:
            break
    if not found:
        raise UserError("There are no samples to measure importance on. Received: 0")
    parts, labels, users = zip(*found, strict=True)
    together = {key: _joined(key, [part[key] for part in parts]) for key in parts[0]}
    return together, _joined(_CANDIDATE, labels), np.concatenate(users)


def _joined(key: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    """All samples: histories padded on the left, slates on the right."""
    if not key.startswith((_BEHAVIOR, _CANDIDATE, _VECTORS)):
        return np.concatenate(parts)
    size = max(part.shape[1] for part in parts)
    padded = []
    for part in parts:
        missing = size - part.shape[1]
        sides = (missing, 0) if key.startswith(_BEHAVIOR) else (0, missing)
        padded.append(np.pad(part, [(0, 0), sides, *[(0, 0)] * (part.ndim - 2)]))
    return np.concatenate(padded)


def _scored(
    inputs: Inputs, score: Callable[[dict], np.ndarray], batch_size: int
) -> Iterator[np.ndarray]:
    import tensorflow as tf

    for start in range(0, len(inputs[_MASK]), batch_size):
        batch = slice(start, start + batch_size)
        yield score({key: tf.constant(value[batch]) for key, value in inputs.items()})


def _permuted(
    group: Group, inputs: Inputs, users: np.ndarray, random: np.random.Generator
) -> Inputs:
    """The inputs of a group, dealt out anew."""
    if group.among in ("candidates", "behaviors"):
        places = inputs[_MASK] if group.among == "candidates" else inputs[_TIME] > 0
        order = random.permutation(np.count_nonzero(places))
        changed = {key: inputs[key].copy() for key in group.keys}
        for key, values in changed.items():
            values[places] = inputs[key][places][order]
        return changed
    rows = random.permutation(len(users))
    if group.among == "users":
        rows = _samples_of_others(users, random)
    changed = {key: inputs[key][rows] for key in group.keys}
    if _TIME in changed:
        later = inputs["request_time"] - inputs["request_time"][rows]
        time = changed[_TIME]
        changed[_TIME] = np.where(time > 0, time + later[:, None], 0)
    return changed


def _samples_of_others(users: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """For each sample one of another user, the same other one for all of a user's."""
    user = np.unique(users, return_inverse=True)[1]
    count = int(user.max()) + 1
    ring = random.permutation(count)
    other = np.empty(count, np.int64)
    other[ring] = np.roll(ring, 1)
    order = np.argsort(user, kind="stable")
    size = np.bincount(user)
    start = np.cumsum(size) - size
    wanted = other[user]
    return order[start[wanted] + random.integers(0, size[wanted])]


def _replicates(
    scores: np.ndarray,
    labels: np.ndarray,
    mask: np.ndarray,
    users: np.ndarray,
    draws: np.ndarray,
) -> dict[str, np.ndarray]:
    user = np.repeat(users, mask.sum(1))
    rows = Scores.of_users(user, labels[mask].astype(np.uint8), scores[mask])
    return bootstrap.replicate_all(rows, draws)


def _row(
    group: Group,
    whole: Mapping[str, np.ndarray],
    permuted: Sequence[Mapping[str, np.ndarray]],
) -> dict:
    row: dict = {"group": group.name, "features": list(group.features)}
    for key in METRICS:
        if np.isnan(whole[key][0]):
            continue
        sign = -1 if key == "log_loss" else 1
        # Differences first, so that what changes nothing is 0 to the last bit.
        lost = [sign * (whole[key] - one[key]) + 0.0 for one in permuted]
        values = {"nothing": [np.zeros_like(whole[key])], "lost": lost}
        found = bootstrap.compare_with("nothing", values)["lost"]
        is_known = not np.isnan(found.low)
        low, high = (found.low, found.high) if is_known else (None, None)
        row[key] = {"lost": found.mean, "low": low, "high": high}
    return row


def table(importance: dict) -> list[list[str]]:
    """Importance in words: a head and a row a group.

    Args:
        importance: of `permutation_importance`.
    """
    head = ["permuted"]
    for key, label in METRICS.items():
        head.append(f"{label} {'added' if key == 'log_loss' else 'lost'} (95 %)")
    rows = [head]
    for group in importance["groups"]:
        found = [group.get(key) for key in METRICS]
        words = [
            "–" if m is None else with_interval(m["lost"], m["low"], m["high"], "+")
            for m in found
        ]
        rows.append([group["group"], *words])
    return rows


def summary(importance: dict, total: int) -> str:
    """What was looked at, in a sentence.

    Args:
        importance: of `permutation_importance`.
        total: samples of the split.
    """
    return (
        f"{importance['requests']:,} of {total:,} requests, each group dealt out anew "
        f"{importance['permutations']} times; 95 % intervals by a bootstrap over users "
        "and permutations."
    )
