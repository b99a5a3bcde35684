"""The planted click probability, recomputed from the raw tables alone."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ctr_tf.commands.main import main as ctr_tf_main
from ctr_tf.synthetic.config import PLANTS, WorldConfig
from ctr_tf.synthetic.synthesize import TABLES, synthesize
from ctr_tf.time import DAY, HOUR

SIZES = dict(users=24, items=100, days=20, behaviors_per_user=80, candidates=10)
COMBINATIONS = [
    *((name,) for name in PLANTS),
    ("daily_rhythm", "weekly_rhythm"),
    ("realtime_trigger", "view_by_context", "sink_noise"),
    ("time_gaps", "daily_rhythm", "realtime_trigger"),
]


def relevance(plant, request, history, sessions):
    """w of every earlier behavior, one by one, as the module's docstring has it."""
    weights = []
    latest = history[-1]
    newest = {"sink_noise", "realtime_trigger", "view_by_context"} & set(plant)
    for row in history:
        age = request.time - row.time
        day, then_day = request.time // DAY, row.time // DAY
        is_weekend = (day + 5) % 7 < 2  # 1970-01-01 was a Thursday
        was_weekend = (then_day + 5) % 7 < 2
        hours_apart = age / HOUR % 24
        this_session = newest and row.session == latest.session
        view = 0 if age <= HOUR else 1 if age <= 7 * DAY else 2
        is_end = row.time in sessions[row.session][-2:]
        factors = {
            "sink_noise": (int(row.category[9:]) % 3 == view) * (10, 1, 1)[view],
            "realtime_trigger": row.brand == latest.brand,
            "view_by_context": ("phone", "tablet", "computer")[view] == request.device,
            "time_gaps": is_end * (not this_session) * HOUR / age,
            "daily_rhythm": min(hours_apart, 24 - hours_apart) < 1.5,
            "weekly_rhythm": is_weekend == was_weekend,
        }
        weights.append(np.prod([float(factors[name]) for name in plant]))
    return np.array(weights)


def frames(config):
    tables = {name: table.to_pandas() for name, table in synthesize(config).items()}
    items = tables["items"].set_index("item_id")
    exposures = tables["exposures"].join(items[["category"]], on="item_id")
    behaviors = tables["behaviors"].join(items[["category", "brand"]], on="item_id")
    behaviors = behaviors.sort_values(["user_id", "time"], kind="stable")
    gap = behaviors.groupby("user_id").time.diff()
    behaviors["session"] = (~(gap < HOUR)).cumsum()
    return exposures, behaviors


def matches(config, exposures, behaviors):
    """Of each candidate: what its match adds, and its share of the whole history."""
    sessions = behaviors.groupby("session").time.apply(list).to_dict()
    of_user = {
        user: list(rows.itertuples()) for user, rows in behaviors.groupby("user_id")
    }
    match, plain = np.zeros(len(exposures)), np.zeros(len(exposures))
    for _, slate in exposures.groupby("request_id"):
        request = next(slate.itertuples())
        history = [r for r in of_user[request.user_id] if r.time < request.time]
        if not history:
            continue
        weight = relevance(config.plant, request, history, sessions)
        category = np.array([row.category for row in history])
        for place, candidate in zip(slate.index, slate.category, strict=True):
            plain[place] = (category == candidate).mean()
            if weight.sum():
                share = weight[category == candidate].sum() / weight.sum()
                match[place] = 5.0 * min(1, share / 0.25)
    return match, plain


@pytest.fixture(scope="module", params=COMBINATIONS, ids="+".join)
def world(request):
    config = WorldConfig(**SIZES, requests_per_user=3, plant=request.param)
    exposures, behaviors = frames(config)
    return config, exposures, behaviors, *matches(config, exposures, behaviors)


def test_the_probability_is_that_of_the_relevant_behaviors(world):
    """What the match leaves of the logit is the item's, the user's and the like."""
    _, exposures, _, match, _ = world
    assert (match > 1).mean() > 0.02
    probability = exposures.true_probability.to_numpy().astype(np.float64)
    rest = np.log(probability / (1 - probability)) - match
    words = exposures[["item_id", "user_id", "device", "position"]].astype(str)
    known = pd.get_dummies(words, dtype=float).to_numpy()
    left = rest - known @ np.linalg.lstsq(known, rest, rcond=None)[0]
    assert np.abs(left).max() < 1e-3


def test_the_history_as_one_bag_says_much_less(world):
    config, exposures, _, match, plain = world
    told, bag = (roc_auc_score(exposures.click, score) for score in (match, plain))
    assert told > 0.5 + (0.02 if len(config.plant) > 1 else 0.1)
    assert bag - 0.5 < 0.85 * (told - 0.5)


def test_one_slate_a_session_within_the_history_of_its_user(world):
    config, exposures, behaviors, _, _ = world
    requests = exposures.drop_duplicates("request_id")
    newest = {"sink_noise", "realtime_trigger", "view_by_context"} & set(config.plant)
    of_user = {
        user: rows.time.to_numpy() for user, rows in behaviors.groupby("user_id")
    }
    for request in requests.itertuples():
        times = of_user[request.user_id]
        recent = (times < request.time) & (times > request.time - HOUR)
        assert recent.any() == bool(newest)
    ends = requests.sort_values(["user_id", "time"]).groupby("user_id").time
    assert ends.diff().min() > HOUR


def test_what_is_opened_with_tells_the_brand_and_not_the_category():
    config = WorldConfig(**SIZES, plant=("realtime_trigger",))
    _, behaviors = frames(config)
    session = behaviors.groupby("session")
    assert (session.brand.nunique() == 1).all() and behaviors.brand.nunique() == 5
    wanted = session.category.transform(lambda values: values.mode().iloc[0])
    rank, size = session.cumcount(), session.category.transform("size")
    long = size > 9
    matching = behaviors.category == wanted
    assert matching[long & (rank < 3)].mean() < 0.2
    assert matching[long & (rank >= 3)].mean() > 0.7


def test_the_same_options_give_the_same_logs_whatever_the_order_of_the_plants():
    names = ("weekly_rhythm", "time_gaps")
    one, other = (
        synthesize(WorldConfig(**SIZES, plant=plant)) for plant in (names, names[::-1])
    )
    assert all(one[name].equals(other[name]) for name in TABLES)
    default = synthesize(WorldConfig(**SIZES))
    for name in TABLES:
        assert one[name].schema == default[name].schema


def test_command(tmp_path, capsys):
    sizes = ["--users=30", "--items=200", "--days=8"]
    output = tmp_path / "logs"
    words = ["synthesize", "--output", str(output), *sizes, "--plant"]
    assert ctr_tf_main([*words, "daily_rythm"]) == 2
    error = capsys.readouterr().err
    assert "Unknown plant 'daily_rythm'. Did you mean 'daily_rhythm'?" in error
    assert not output.exists()
    assert ctr_tf_main([*words, "daily_rhythm,sink_noise"]) == 0
    meta = json.loads((output / "meta.json").read_text())
    assert meta["settings"]["plant"] == ["daily_rhythm", "sink_noise"]
    assert 0.6 < meta["reachable_auc"] < 1
