"""Counters of real exposures, held against pandas, which knows nothing of the job."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from source_reading import real_data

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import read_examples
from ctr_tf.data.records import check_example
from ctr_tf.schema import MISSING
from pipelines import listwise
from pipelines.sources.ebnerd import Ebnerd
from pipelines.sources.source import get_source
from serving.online.replay import replay
from serving.online.store import OnlineStore

SECOND, MINUTE = 1_000_000, 60_000_000
WINDOWS = {"30m": 30 * MINUTE, "1d": 1_440 * MINUTE}


@pytest.fixture(scope="module")
def folder():
    return Path(real_data("ebnerd"))


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    schema = dataclasses.replace(
        Ebnerd().schema(),
        counter_windows=tuple(WINDOWS),
        counters=(
            CounterChoice("item_id"),
            CounterChoice("user_id x item_id", windows=("all", "1d")),
            CounterChoice("device_type", windows=("1d",)),
            CounterChoice("user_id", windows=("1d",)),
        ),
        newness=True,
        places=("clicks_1d",),
    )
    output = tmp_path_factory.mktemp("ebnerd")
    schema.save(output / "schema.yaml")
    words = ["--source", "ebnerd", "--input", str(folder)]
    words += ["--schema", str(output / "schema.yaml"), "--output", str(output / "data")]
    listwise.run(words)
    return PreparedData.load(output / "data")


@pytest.fixture(scope="module")
def shown(folder):
    """Exposures, straight from the publisher's file."""
    log = pd.read_parquet(folder / "behaviors.parquet")
    log["time"] = log["impression_time"].astype("datetime64[us]").astype("int64")
    rows = log.explode("article_ids_inview").rename(
        columns={"article_ids_inview": "item"}
    )
    rows["item"] = rows["item"].astype("int64")
    clicked = log.explode("article_ids_clicked")[
        ["impression_id", "article_ids_clicked"]
    ]
    clicked.columns = ["impression_id", "item"]
    clicked["item"] = clicked["item"].astype("int64")
    rows = rows.merge(clicked.assign(click=1).drop_duplicates(), how="left")
    rows["click"] = rows["click"].fillna(0).astype(int)
    columns = ["impression_id", "user_id", "device_type", "time", "item", "click"]
    return rows[columns].drop_duplicates(["impression_id", "item"])


def counted(shown, keys, first, last):
    """Events before each exposure with the same keys: all, and those of clicks."""
    events = shown[[*keys, "time", "click"]]
    now = shown[["impression_id", "item", "time", *keys]].rename(
        columns={"time": "now"}
    )
    now = now.loc[:, ~now.columns.duplicated()]
    pairs = now.merge(events, on=keys)
    start = pairs["now"] // MINUTE * MINUTE
    pairs = pairs[(pairs["time"] < start) & (pairs["time"] >= start - last)]
    by = pairs.groupby(["impression_id", "item"])
    clicks = pairs[pairs["click"] == 1].groupby(["impression_id", "item"])
    return by["time"].agg(["size", first]), clicks["time"].agg(["size", first])


def records(prepared):
    rows = []
    for split in prepared.splits:
        for _, _, example in read_examples(prepared.files(split), prepared.compression):
            sample = check_example(example, prepared.schema)
            keys = [k for k in sample if k.startswith("candidate_")]
            table = pd.DataFrame({k[len("candidate_") :]: sample[k] for k in keys})
            table["impression_id"] = int(sample["request_id"][0])
            table["place"] = range(len(table))
            rows.append(table)
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def found(prepared, shown):
    """Records and raw exposures side by side: candidates stand by their raw ids."""
    table = records(prepared)
    order = shown.sort_values(["impression_id", "item"])
    order = order.assign(place=order.groupby("impression_id").cumcount())
    both = table.merge(order, on=["impression_id", "place"], how="outer")
    assert len(both) == len(table) == len(shown) > 10_000
    return both.set_index(["impression_id", "item"])


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_by_item(shown, found, window):
    for what, rows in zip(
        ("impressions", "clicks"),
        counted(shown, ["item"], "min", WINDOWS[window]),
        strict=True,
    ):
        expected = rows["size"].reindex(found.index, fill_value=0)
        assert expected.sum() > 100
        np.testing.assert_array_equal(found[f"{what}_{window}"], expected)


@pytest.mark.parametrize(
    ("keys", "prefix"),
    [
        (["user_id", "item"], "user_{}_1d"),
        (["device_type"], "device_type_{}_1d"),
        (["user_id"], "user_id_{}_1d"),
    ],
)
def test_windows_by_other_keys(shown, found, keys, prefix):
    for what, rows in zip(
        ("impressions", "clicks"),
        counted(shown, keys, "min", WINDOWS["1d"]),
        strict=True,
    ):
        expected = rows["size"].reindex(found.index, fill_value=0)
        np.testing.assert_array_equal(found[prefix.format(what)], expected)


def test_ages(shown, found):
    first, _ = counted(shown, ["item"], "min", 10**18)
    last, last_click = counted(shown, ["user_id", "item"], "max", 10**18)
    for name, rows, which in (
        ("item_age", first, "min"),
        ("since_shown", last, "max"),
        ("since_clicked", last_click, "max"),
    ):
        then = rows[which].reindex(found.index)
        expected = (found["time"] - then) // SECOND
        expected = expected.fillna(MISSING["int64"]).astype("int64")
        np.testing.assert_array_equal(found[name], expected)
    hours = found["item_age"].where(found["item_age"] >= 0, 0) / 3_600
    np.testing.assert_allclose(found["newness"], -np.log1p(hours), rtol=1e-6)


def test_event_by_event_the_store_says_the_same(folder, prepared, tmp_path):
    store = OnlineStore.open(tmp_path / "store", prepared.schema, sync=False)
    source = get_source("ebnerd")
    result = replay(source, str(folder), prepared, store)
    assert result.requests == 1_046
    store.close()
