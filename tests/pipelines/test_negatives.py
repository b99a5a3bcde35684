"""Candidates drawn for a log of clicks alone, held against the log row by row."""

import collections
import dataclasses

import numpy as np
import pytest
from job_helpers import (
    START,
    read_manifest,
    read_records,
    read_samples,
    run_job,
    write_log,
)
from sklearn.metrics import roc_auc_score

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.data.negatives import Negatives
from ctr_tf.errors import UserError
from ctr_tf.schema import Categorical, Numeric, Schema
from pipelines import pool

EACH, WINDOW, NEXT = 3, 600, 90
VALIDATION, TEST = START + 30_000, START + 35_000
SPLIT = ("--validation_from", VALIDATION, "--test_from", TEST)
SCHEMA = Schema(
    name="bought",
    history_length=200,
    counters=(CounterChoice("item_id", windows=("all",)),),
    counter_resolution="0s",
    session_gap="60s",
    all_clicked=True,
    features=(
        Categorical("item_id", "item", dtype="int64"),
        Categorical("category", "item"),
        Numeric("price", "item"),
        Categorical("page", "context"),
    ),
)
LAWS = {
    "uniform": (),
    "popularity": ("--negatives_by", "popularity"),
    "within": ("--negatives_within", "category", "--negatives_window", "10m"),
}


def make_log(seed=0, exposures=900, users=9, items=60, seconds=40_000):
    """Purchases: items come one after another, the first ones are bought the most.

    Prices stand in the exposures alone, categories of some items too.
    """
    random = np.random.default_rng(seed)
    rows = []
    for time in sorted(random.integers(0, seconds, exposures // 2).tolist()):
        born = 12 + (items - 12) * time // seconds
        page, user = f"p{random.integers(3)}", f"u{random.integers(users)}"
        for item in random.choice(born, 2, replace=False).tolist():
            item = item // 2 if random.random() < 0.5 else item
            row = {"user_id": user, "time": START + time, "item_id": item}
            row |= {"price": item + 0.5, "page": page}
            row["category"] = f"c{item % 4}" if item % 3 == 0 else None
            rows.append(row)
    views = [
        {
            "user_id": f"u{random.integers(users)}",
            "time": START + int(random.integers(seconds)),
            "item_id": int(random.integers(items)),
        }
        for _ in range(200)
    ]
    known = [{"item_id": i, "category": f"c{i % 4}"} for i in range(items) if i % 3]
    return {"exposures": rows, "behaviors": views, "items": known}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The log, and a data set by each law."""
    folder, log = tmp_path_factory.mktemp("negatives"), make_log()
    write_log(folder / "raw", log, SCHEMA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_NEXT", NEXT)
        for name, options in LAWS.items():
            options = (*SPLIT, "--negatives", EACH, *options)
            run_job(folder / "raw", folder / name, *options)
    return log, folder


def item_ids(folder, name, keys):
    """Items of ids; 1 stands for those of after the training."""
    path = folder / name / "vocabularies" / "item_id.txt"
    words = path.read_text("utf-8").split("\n")
    return [int(words[key - 2]) if key > 1 else None for key in keys]


def exposures_of(log):
    """User, time and item of each; rows that tell the same are one."""
    return {(row["user_id"], row["time"], row["item_id"]) for row in log["exposures"]}


def known_until(time):
    """When the split of a request ends: what comes later, no draw for it knows."""
    return next(end for end in (VALIDATION, TEST, float("inf")) if time < end)


def prices(sample):
    """The items of a sample's candidates, whether their id is known or not."""
    return [int(price) for price in sample["candidate_price"]]


@pytest.mark.parametrize("law", LAWS)
def test_what_is_drawn_was_shown_before_and_not_taken(drawn, law):
    log, folder = drawn
    window = WINDOW if law == "within" else 10**9
    took, first = collections.defaultdict(list), {}
    for row in log["exposures"]:
        first.setdefault(row["item_id"], row["time"])
    for row in log["exposures"] + log["behaviors"]:
        took[row["user_id"], row["item_id"]].append(row["time"])
    lacking = 0
    for (user, _), (_, sample) in read_samples(folder / law).items():
        time, items = sample["request_time"][0], prices(sample)
        assert len(set(items)) == len(items)
        clicked = [i for i, y in zip(items, sample["label"], strict=True) if y == 1]
        others = [i for i, y in zip(items, sample["label"], strict=True) if y == 0]
        for item in others:
            assert law == "popularity" or first[item] < time
            known = [t for t in took[user, item] if t < known_until(time)]
            assert all(abs(t - time) > window for t in known)
        if law == "within":
            kinds = collections.Counter(item % 4 for item in clicked)
            for kind, count in collections.Counter(i % 4 for i in others).items():
                assert count <= EACH * kinds[kind]
        lacking += EACH * len(clicked) - len(others)
    joins = read_manifest(folder / law).joins
    assert joins["negatives lacking"] == lacking
    assert joins["negatives drawn"] == EACH * joins["clicks"] - lacking
    assert joins["clicks"] == len(exposures_of(log))


@pytest.mark.parametrize("law", ["uniform", "popularity"])
def test_items_are_drawn_by_their_law(drawn, law):
    log, folder = drawn
    events = sorted((row["time"], row["item_id"]) for row in log["exposures"])
    first = {item: time for time, item in reversed(events)}
    took = collections.defaultdict(lambda: float("inf"))
    for row in log["exposures"] + log["behaviors"]:
        pair = row["user_id"], row["item_id"]
        took[pair] = min(took[pair], row["time"])
    expected, found = np.zeros(60), np.zeros(60)
    for (user, _), (_, sample) in read_samples(folder / law).items():
        time = sample["request_time"][0]
        if law == "uniform":
            among = [item for item in first if first[item] < time]
        else:
            known = sum(t < known_until(time) for t, _ in events)
            stop = min(sum(t < time for t, _ in events) + NEXT, known)
            among = [item for _, item in events[stop - NEXT : stop]]
        free = [item for item in among if took[user, item] >= known_until(time)]
        others = [
            item
            for item, label in zip(prices(sample), sample["label"], strict=True)
            if label == 0
        ]
        assert set(others) <= set(free)
        for item in free:
            expected[item] += len(others) / len(free)
        np.add.at(found, others, 1)
    assert found.sum() > 500
    # Draws without replacement differ a little from the law of single draws.
    assert np.abs(found - expected).sum() / found.sum() < 0.2
    assert np.corrcoef(found, expected)[0, 1] > 0.9


def test_drawn_candidates_are_counted_by_nobody_and_see_all_counts(drawn):
    log, folder = drawn
    events = collections.defaultdict(list)
    for _, time, item in exposures_of(log):
        events[item].append(time)
    for _, sample in read_samples(folder / "uniform").values():
        time = sample["request_time"][0]
        counts = [sum(t < time for t in events[item]) for item in prices(sample)]
        assert sample["candidate_impressions"] == counts
        assert sample["candidate_clicks"] == counts
    words = (folder / "uniform" / "vocabularies" / "item_id.txt").read_text("utf-8")
    viewed = [(r["user_id"], r["time"], r["item_id"]) for r in log["behaviors"]]
    events = [*exposures_of(log), *set(viewed)]
    trained = collections.Counter(i for _, t, i in events if t < START + 30_000)
    assert words.split() == [
        str(i) for i, _ in sorted(trained.items(), key=lambda e: (-e[1], str(e[0])))
    ]


def test_what_is_never_drawn_tells_nothing_of_the_test(tmp_path):
    """Where users take items by chance, nobody can know which they will take."""
    random = np.random.default_rng(3)
    rows = [
        {"user_id": f"u{user}", "time": START + int(time), "item_id": int(item)}
        for user in range(150)
        for item in random.choice(120, 30, replace=False)
        for time in [random.integers(40_000)]
    ]
    schema = dataclasses.replace(SCHEMA, features=(SCHEMA.features[0],))
    write_log(tmp_path / "raw", {"exposures": rows}, schema)
    run_job(tmp_path / "raw", tmp_path / "data", *SPLIT, "--negatives", 4)
    drawn, tested = collections.Counter(), []
    for (user, _), (split, sample) in read_samples(tmp_path / "data").items():
        items = item_ids(tmp_path, "data", sample["candidate_item_id"])
        for item, label in zip(items, sample["label"], strict=True):
            if split != "train":
                tested.append((user, item, label))
            elif not label:
                drawn[user, item] += 1
    labels = np.array([label for *_, label in tested])
    scores = np.array([-drawn[user, item] for user, item, _ in tested])
    assert labels.sum() > 1_000 and drawn.total() > 10_000
    assert abs(roc_auc_score(labels, scores) - 0.5) < 0.03


@pytest.mark.parametrize("law", LAWS)
def test_of_a_day_nothing_later_is_drawn_or_known(drawn, law, tmp_path):
    log, _ = drawn
    until = START + 20_000
    earlier = {
        name: [row for row in rows if row.get("time", 0) < until]
        for name, rows in log.items()
    }
    for name, tables in (("whole", log), ("earlier", earlier)):
        write_log(tmp_path / name, tables, SCHEMA)
        day = ("--samples_from", START + 10_000, "--samples_until", until)
        empty = ("--validation_from", until, "--test_from", until)
        options = (*day, *empty, "--negatives", EACH, *LAWS[law])
        run_job(tmp_path / name, tmp_path / f"{name}_data", *options)
    records = read_records(tmp_path / "earlier_data")
    assert len(records["train"]) > 50
    assert read_records(tmp_path / "whole_data") == records


def test_drawn_candidates_have_their_items_features_and_a_place_by_chance(drawn):
    log, folder = drawn
    places = collections.Counter()
    for _, sample in read_samples(folder / "uniform").values():
        known = item_ids(folder, "uniform", sample["candidate_item_id"])
        for item, price in zip(known, sample["candidate_price"], strict=True):
            assert item is None or price == item + 0.5
        assert sample["context_page"][0] > 1
        if len(sample["label"]) == 2 * (EACH + 1):
            places.update(np.flatnonzero(sample["label"]).tolist())
    assert places.total() > 100 and len(places) == 2 * (EACH + 1)
    assert max(places.values()) < 2 * min(places.values())
    kinds = (folder / "uniform" / "vocabularies" / "category.txt").read_text("utf-8")
    assert set(kinds.split()) == {"c0", "c1", "c2", "c3"}


def test_draws_depend_on_the_log_and_the_seed_alone(drawn, tmp_path):
    log, folder = drawn
    turned = {name: rows[::-1] for name, rows in log.items()}
    with_label = [row | {"click": 1} for row in turned["exposures"]]
    plain = dataclasses.replace(SCHEMA, all_clicked=False)
    write_log(tmp_path / "raw", turned | {"exposures": with_label}, plain)
    for seed in (0, 1):
        options = (*SPLIT, "--negatives", EACH, "--negatives_seed", seed)
        options = (*options, "--num_shards", 5)
        run_job(tmp_path / "raw", tmp_path / f"seed{seed}", *options)
    same = read_records(folder / "uniform")
    assert read_records(tmp_path / "seed0") == same
    assert read_records(tmp_path / "seed1") != same
    manifest = read_manifest(tmp_path / "seed1")
    assert manifest.negatives == Negatives(EACH, seed=1)


def test_a_request_has_the_context_it_began_with_whatever_was_clicked_later(tmp_path):
    rows = [
        {
            "user_id": f"u{i % 20}",
            "time": START + 900 * i + 20 * j,
            "item_id": 7 * i + j,
        }
        | {"page": f"p{j}", "true_probability": 0.9}
        for i in range(60)
        for j in range(3)
    ]
    write_log(tmp_path / "raw", {"exposures": rows}, SCHEMA)
    split = ("--validation_days", 0, "--test_days", 0)
    run_job(tmp_path / "raw", tmp_path / "data", *split, "--negatives", 2)
    words = (tmp_path / "data" / "vocabularies" / "page.txt").read_text("utf-8")
    assert words.split() == ["p0"]
    samples = [sample for _, sample in read_samples(tmp_path / "data").values()]
    assert len(samples) == 60
    for sample in samples:
        assert sample["context_page"] == [2]
        drawn = np.array(sample["label"]) == 0
        assert np.isnan(sample["true_probability"])[drawn].all()
        assert np.allclose(np.array(sample["true_probability"])[~drawn], 0.9)


def test_parts_and_the_order_of_rows_change_nothing_where_prices_change(
    tmp_path, caplog
):
    caplog.set_level("INFO")
    random = np.random.default_rng(0)
    rows = [
        {"user_id": f"u{i % 9}", "time": START + 40 * (i // 3), "item_id": i * i % 31}
        | {"click": int(i % 9 > 3 and i % 2), "price": float(random.integers(9))}
        for i in range(300)
    ]
    plain = dataclasses.replace(SCHEMA, all_clicked=False)
    records = []
    for place, shards in enumerate((1, 8)):
        folder = tmp_path / str(place)
        write_log(folder / "raw", {"exposures": rows[:: 1 - 2 * place]}, plain)
        run_job(
            *(folder / "raw", folder / "data", "--negatives", 2),
            *("--num_shards", shards),
        )
        records.append(read_records(folder / "data"))
    assert records[0] == records[1]
    assert "items have several values of 'price' in the exposures" in caplog.text


def test_what_does_not_fit_is_told(drawn, tmp_path):
    log, folder = drawn
    raw = folder / "raw"
    for options, words in (
        ((), "`all_clicked`"),
        (("--negatives", 0), "Received: 0"),
        (("--negatives_by", "popularity"), "needs `--negatives` N"),
        (("--negatives", 2, "--negatives_by", "popular"), "'popularity'"),
        (("--negatives", 2, "--negatives_within", "categorie"), "'category'"),
        (("--negatives", 2, "--negatives_window", "5 days"), "5 days"),
    ):
        with pytest.raises(UserError, match=words):
            run_job(raw, tmp_path / "data", *options)
    rows = [row | {"click": 1, "position": 2} for row in log["exposures"][:40]]
    write_log(tmp_path / "labelled", {"exposures": rows}, SCHEMA)
    with pytest.raises(UserError, match="no row has the label 'click'"):
        run_job(tmp_path / "labelled", tmp_path / "data", "--negatives", 2)
    place = Numeric("position", "candidate")
    features = tuple(f for f in SCHEMA.features if not f.computed)
    placed = dataclasses.replace(SCHEMA, all_clicked=False, features=(*features, place))
    write_log(tmp_path / "placed", {"exposures": rows}, placed)
    with pytest.raises(UserError, match="Received: position"):
        run_job(tmp_path / "placed", tmp_path / "data", "--negatives", 2)


def test_new_items_are_drawn_by_popularity_alone(drawn):
    log, folder = drawn
    first = {row["item_id"]: row["time"] for row in reversed(log["exposures"])}
    for law in ("uniform", "popularity"):
        found = {"clicks": 0, "negatives": 0}
        for _, sample in read_samples(folder / law).values():
            for item, label in zip(prices(sample), sample["label"], strict=True):
                unseen = first[item] >= sample["request_time"][0]
                found["clicks" if label else "negatives"] += unseen
        joins = read_manifest(folder / law).joins
        told = {what: joins[f"{what} of items not shown before"] for what in found}
        assert told == found and found["clicks"] > 30
        assert (found["negatives"] > 30) == (law == "popularity")


def test_a_habit_that_tells_clicks_from_draws_is_told(tmp_path, caplog):
    caplog.set_level("INFO")
    rows = [
        {"user_id": f"u{i % 5}", "time": START + 4_000 * i, "item_id": i % 5}
        for i in range(100)
    ]
    write_log(tmp_path / "raw", {"exposures": rows}, SCHEMA)
    run_job(tmp_path / "raw", tmp_path / "data", "--negatives", 1)
    joins = read_manifest(tmp_path / "data").joins
    assert joins["clicks of items taken before"] == 95
    assert joins["negatives of items taken before"] == 0
    assert "95% of the clicks are of items taken before" in caplog.text
