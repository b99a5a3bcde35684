import dataclasses
import hashlib
import itertools
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ctr_tf.commands.main import main as ctr_tf_main
from ctr_tf.synthetic.config import NUM_CATEGORIES, START, WorldConfig
from ctr_tf.synthetic.news import NewsCatalog
from ctr_tf.synthetic.synthesize import TABLES, main, reachable_auc, synthesize
from ctr_tf.time import DAY, HOUR, is_weekend

SMALL = WorldConfig(users=400, items=400, days=14, behaviors_per_user=120)


@pytest.fixture(scope="module")
def tables():
    return synthesize(SMALL)


@pytest.fixture(scope="module")
def exposures(tables):
    return tables["exposures"].to_pandas()


@pytest.fixture(scope="module")
def behaviors(tables):
    """Behaviors by user and time, with the gap before each and the category."""
    frame = tables["behaviors"].to_pandas().sort_values(["user_id", "time"])
    frame["gap"] = frame.groupby("user_id").time.diff()
    items = tables["items"].to_pandas()
    return frame.merge(items[["item_id", "category"]], on="item_id", how="left")


def test_columns_and_types(tables):
    integer, word = pa.int64(), pa.string()
    assert {name: table.schema for name, table in tables.items()} == {
        "exposures": pa.schema(
            [
                ("request_id", word),
                ("user_id", integer),
                ("time", integer),
                ("item_id", integer),
                ("click", pa.int8()),
                ("position", integer),
                ("device", word),
                ("behavior_action", word),
                ("true_probability", pa.float32()),
            ]
        ),
        "behaviors": pa.schema(
            [
                ("user_id", integer),
                ("time", integer),
                ("item_id", integer),
                ("action", word),
            ]
        ),
        "users": pa.schema([("user_id", integer), ("age_group", word), ("city", word)]),
        "items": pa.schema(
            [
                ("item_id", integer),
                ("category", word),
                ("brand", word),
                ("price", pa.float32()),
            ]
        ),
    }
    for name, table in tables.items():
        assert not any(column.null_count for column in table.columns), name


def test_the_default_world_stays_as_it_is(tables):
    """Results are quoted for it; floats may differ in their last bit elsewhere."""
    digest = hashlib.sha256()
    for name in TABLES:
        for field, column in zip(
            tables[name].schema, tables[name].columns, strict=True
        ):
            if not pa.types.is_floating(field.type):
                digest.update(repr((name, field.name, column.to_pylist())).encode())
    assert (
        digest.hexdigest()
        == "2ca70b6a0841f2c6bcff940ff813475979ecb92b72f11a093699c1acdfef5b01"
    )
    probability = tables["exposures"]["true_probability"].to_numpy()
    assert np.isclose(probability.sum(dtype=np.float64), 14594.677830972243, rtol=1e-6)
    price = tables["items"]["price"].to_numpy()
    assert np.isclose(price.sum(dtype=np.float64), 8978.746999382973, rtol=1e-6)


def test_the_same_seed_gives_the_same_logs_and_another_seed_others(tables):
    again = synthesize(SMALL)
    for name in TABLES:
        assert tables[name].equals(again[name]), name
    other = synthesize(WorldConfig(**{**vars(SMALL), "seed": 1}))
    assert not tables["exposures"].equals(other["exposures"])


def test_slates(tables, exposures):
    slates = exposures.groupby("request_id", sort=False)
    assert (slates.size() == SMALL.candidates).all()
    assert (slates.item_id.nunique() == SMALL.candidates).all()
    assert (slates.user_id.nunique() == 1).all() and (slates.time.nunique() == 1).all()
    assert (slates.position.apply(list).str.len() == SMALL.candidates).all()
    assert exposures.position.max() == SMALL.candidates - 1
    assert not slates.first().duplicated(["user_id", "time"]).any()
    per_user = len(slates) / SMALL.users
    assert 0.95 * SMALL.requests_per_user < per_user <= SMALL.requests_per_user
    assert exposures.item_id.between(1, SMALL.items).all()
    assert set(exposures.user_id) <= set(tables["users"]["user_id"].to_pylist())


def test_times_are_sorted_and_within_the_days_asked_for(tables, exposures, behaviors):
    for name in ("exposures", "behaviors"):
        assert (np.diff(tables[name]["time"].to_numpy()) >= 0).all()
    latest = SMALL.end + 4 * HOUR  # a session of the last evening may run late
    assert behaviors.time.between(START, latest).all()
    assert exposures.time.between(START + 7 * DAY, latest).all()


def test_clicks_are_calibrated_to_the_true_probability(exposures):
    probability = exposures.true_probability.to_numpy().astype(np.float64)
    assert probability.min() > 0 and probability.max() < 1
    for rows in np.array_split(np.argsort(probability), 10):
        p = probability[rows]
        deviation = np.sqrt((p * (1 - p)).sum()) / len(p)
        error = abs(exposures.click.to_numpy()[rows].mean() - p.mean())
        assert error < 4 * deviation


def test_bursts_and_long_gaps(behaviors):
    gap = behaviors.gap.dropna()
    assert (gap < 15 * 60).mean() > 0.8
    assert (gap > 4 * HOUR).mean() > 0.03
    assert gap.between(15 * 60, 4 * HOUR).mean() < 0.005
    burst = (~(behaviors.gap < 2 * HOUR)).cumsum()
    size = behaviors.groupby(burst).size()
    assert size.quantile(0.95) > 5 * size.quantile(0.05)  # very uneven


def test_a_burst_has_one_interest_and_some_noise(behaviors):
    burst = (~(behaviors.gap < 2 * HOUR)).cumsum()
    counts = behaviors.groupby([burst, "category"]).size()
    first = counts.groupby(level=0).max()
    total = counts.groupby(level=0).sum()
    long = total >= 10
    assert 0.7 < (first / total)[long].mean() < 0.95


def thread(time):
    """Weekday mornings, weekday evenings, weekends."""
    evening = np.asarray(time) // HOUR % 24 >= 14
    return np.where(is_weekend(np.asarray(time)), 2, evening.astype(np.int64))


@pytest.fixture(scope="module")
def sessions(behaviors):
    burst = (~(behaviors.gap < 2 * HOUR)).cumsum()
    frame = behaviors.groupby(burst).agg(
        user_id=("user_id", "first"),
        time=("time", "first"),
        category=("category", lambda values: values.mode().iloc[0]),
    )
    frame["thread"] = thread(frame.time)
    return frame


def test_a_session_takes_up_its_thread(sessions):
    of_thread = sessions.groupby(["user_id", "thread"]).category.shift()
    known = of_thread.notna()
    assert (of_thread == sessions.category)[known].mean() > 0.35
    of_user = sessions.groupby("user_id").category.shift()
    elsewhere = sessions.groupby("user_id").thread.shift() != sessions.thread
    assert (of_user == sessions.category)[known & elsewhere].mean() < 0.25


def test_arrivals_click_what_their_thread_was_left_with(exposures, sessions, tables):
    items = tables["items"].to_pandas()[["item_id", "category"]]
    frame = exposures.merge(items, on="item_id").sort_values("time")
    frame["thread"] = thread(frame.time)
    left = sessions.sort_values("time").rename(columns={"time": "left"})

    def latest(by):
        joined = pd.merge_asof(
            frame,
            left[["user_id", "thread", "left", "category"]],
            left_on="time",
            right_on="left",
            by=by,
            suffixes=("", "_left"),
            allow_exact_matches=False,
        )
        arriving = joined.time - joined.left > 4 * HOUR
        return joined.click[arriving & (joined.category == joined.category_left)]

    assert latest(["user_id", "thread"]).mean() > 0.5
    assert latest("user_id").mean() < 0.4


@pytest.mark.parametrize("most", [50, 1_000, 10_000])
def test_history_lengths_up_to_the_most_asked_for(most):
    config = WorldConfig(
        users=60, items=200, days=40, behaviors_per_user=most * 0.8, max_history=most
    )
    table = synthesize(config)["behaviors"]
    rows = np.bincount(table["user_id"].to_numpy(), minlength=61)[1:]
    assert rows.max() == most
    assert np.isclose(rows.mean(), most * 0.8, rtol=0.2)


def test_the_truth_lies_in_the_match_and_not_in_any_linear_model(exposures, tables):
    """Logistic regression gets less than half of what can be reached."""
    items = tables["items"].to_pandas()
    users = tables["users"].to_pandas()
    frame = exposures.merge(items, on="item_id").merge(users, on="user_id")
    frame = frame.sort_values("time", kind="stable")
    words = ["item_id", "category", "brand", "device", "age_group", "user_id"]
    x = pd.get_dummies(frame[words].astype(str), sparse=True).sparse.to_coo().tocsr()
    y = frame.click.to_numpy()
    cut = int(len(y) * 0.8)
    model = LogisticRegression(C=0.1, max_iter=300).fit(x[:cut], y[:cut])
    reached = roc_auc_score(y[cut:], model.decision_function(x[cut:])) - 0.5
    reachable = roc_auc_score(y[cut:], frame.true_probability[cut:]) - 0.5
    assert 0.28 < reachable < 0.42
    assert reached < 0.4 * reachable


def test_the_current_burst_tells_what_is_clicked(exposures, behaviors, tables):
    items = tables["items"].to_pandas()[["item_id", "category"]]
    frame = exposures.merge(items, on="item_id").sort_values("time")
    last = behaviors.sort_values("time").rename(columns={"time": "last_time"})
    frame = pd.merge_asof(
        frame,
        last[["user_id", "last_time", "category"]],
        left_on="time",
        right_on="last_time",
        by="user_id",
        suffixes=("", "_last"),
        allow_exact_matches=False,
    )
    match = frame.category == frame.category_last
    burst = frame.time - frame.last_time < 2 * HOUR
    assert frame.click[match & burst].mean() > 0.5
    assert frame.click[match & ~burst].mean() < 0.4
    assert 0.2 < (~burst).mean() < 0.5


NEWS = dataclasses.replace(SMALL, items=800, item_days=1.5, one_click=True)


def test_news_live_for_days_and_one_of_a_slate_is_clicked():
    tables = synthesize(NEWS)
    shown = tables["exposures"].to_pandas()
    seen = pd.concat(
        [
            frame[["item_id", "time"]]
            for frame in (shown, tables["behaviors"].to_pandas())
        ]
    )
    times = seen.groupby("item_id").time.agg(["min", "max"])
    lives = times["max"] - times["min"]
    assert lives.max() < 1.5 * DAY and lives.median() > DAY
    # They come and go over all of the days, of which the first shows those born before.
    assert times["min"].min() < START + DAY
    assert times["max"].max() > START + 13 * DAY
    slates = shown.groupby("request_id")
    assert (slates.click.sum() == 1).all() and (slates.item_id.nunique() == 10).all()
    np.testing.assert_allclose(slates.true_probability.sum(), 1, rtol=1e-5)
    # A tenth each of the candidates, by what they were said to have: as often clicked.
    parts = shown.groupby(pd.qcut(shown.true_probability, 10, duplicates="drop"))
    found = parts[["click", "true_probability"]].mean()
    error = np.sqrt(found.true_probability / parts.size())
    assert ((found.click - found.true_probability).abs() < 4 * error).all()


def test_news_are_drawn_by_category_and_popularity_among_the_living():
    rng = np.random.default_rng(0)
    catalog = NewsCatalog(NEWS, rng)
    born = catalog.birth[np.argmin(abs(catalog.birth - START - 5 * DAY))]
    moments = (START, born, born + catalog.life - 1, born + catalog.life, NEWS.end)
    for category, time in itertools.product((0, 7, NUM_CATEGORIES - 1), moments):
        alive = (catalog.birth <= time) & (time < catalog.birth + catalog.life)
        wanted = np.full(20_000, category)
        items = catalog.draw(wanted, np.full(wanted.shape, time), rng)
        possible = np.flatnonzero(alive & (catalog.category == category))
        assert len(possible) >= 2 and set(items) == set(possible)
        weight = np.diff(catalog._cumulative, prepend=0)[np.argsort(catalog._order)]
        expected = weight[possible] / weight[possible].sum()
        share = np.bincount(items, minlength=NEWS.items)[possible] / len(items)
        np.testing.assert_allclose(share, expected, atol=0.02)


def test_reachable_auc_is_scikit_learns(exposures, tables):
    expected = roc_auc_score(exposures.click, exposures.true_probability)
    assert np.isclose(reachable_auc(tables["exposures"]), expected, atol=1e-9)
    ties = pa.table(
        {
            "click": pa.array([0, 1, 0, 1, 1], pa.int8()),
            "true_probability": pa.array([0.1, 0.5, 0.5, 0.5, 0.9], pa.float32()),
        }
    )
    assert np.isclose(reachable_auc(ties), 5 / 6)


@pytest.mark.parametrize("file_format", ["parquet", "jsonl", "csv"])
def test_command_writes_every_format_with_the_same_rows(tmp_path, file_format):
    output = tmp_path / "logs"
    options = ["--users", "30", "--items", "200", "--days", "6", "--seed", "3"]
    assert main(["--output", str(output), "--format", file_format, *options]) == 0
    expected = synthesize(WorldConfig(users=30, items=200, days=6, seed=3))
    read = {
        "parquet": pd.read_parquet,
        "csv": pd.read_csv,
        "jsonl": lambda path: pd.read_json(
            path, lines=True, convert_dates=False, precise_float=True
        ),
    }[file_format]
    for name, table in expected.items():
        rows = read(output / f"{name}.{file_format}")
        pd.testing.assert_frame_equal(
            rows, table.to_pandas(), check_dtype=False, rtol=1e-6
        )
    meta = json.loads((output / "meta.json").read_text())
    assert meta["settings"]["users"] == 30 and meta["settings"]["seed"] == 3
    assert meta["rows"]["exposures"] == expected["exposures"].num_rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]


def test_an_existing_folder_is_replaced_only_when_told_to(tmp_path):
    (tmp_path / "kept").write_text("mine")
    options = ["--output", str(tmp_path), "--users", "20", "--days", "4"]
    with pytest.raises(FileExistsError, match="exists; `--overwrite` replaces it"):
        main(options)
    assert (tmp_path / "kept").read_text() == "mine"
    assert main([*options, "--overwrite"]) == 0
    assert not (tmp_path / "kept").exists()
    assert (tmp_path / "meta.json").exists()


def test_nothing_is_published_by_a_run_that_fails(tmp_path):
    output = tmp_path / "logs"
    with pytest.raises(ValueError, match="Nobody came"):
        options = ["--users", "1", "--days", "2", "--behaviors_per_user", "1"]
        main(["--output", str(output), *options])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--users", "0"], "`users` lies between 1 and 10,000,000. Received: users=0"),
        (["--days", "1"], "`days` lies between 2 and 3,650. Received: days=1"),
        (
            ["--items", "5"],
            "`items` lies between 100 and 10,000,000. Received: items=5",
        ),
        (["--seed", "-1"], "Received: seed=-1"),
        (["--requests_per_user", "nan"], "Received: requests_per_user=nan"),
        (["--candidates", "60", "--items", "100"], "candidates=60, items=100"),
        (["--behaviors_per_user", "5000"], "max_history=1000"),
        (
            ["--item_days", "0.1"],
            "items=2000, item_days=0.1, days=28, candidates=10, of which 7 live",
        ),
        (["--item_days", "3", "--plant", "time_gaps"], "item_days=3, plant=time_gaps"),
        (["--format", "parket"], "Unknown format 'parket'. Did you mean 'parquet'?"),
    ],
)
def test_error_messages(tmp_path, capsys, options, message):
    output = tmp_path / "logs"
    assert ctr_tf_main(["synthesize", "--output", str(output), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ctr-tf: error: ") and message in error
    assert not output.exists()
