"""Fresh titles: the planted rule from the raw tables alone, and what is knowable."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ctr_tf.commands.main import main
from ctr_tf.errors import UserError
from ctr_tf.layers.text.lm_config import read_lm_config
from ctr_tf.synthetic.auc import weighted_auc
from ctr_tf.synthetic.fresh_titles import limits
from ctr_tf.synthetic.fresh_titles.config import FreshTitlesConfig
from ctr_tf.synthetic.fresh_titles.words import TOPICS
from ctr_tf.synthetic.fresh_titles.world import make_tables
from ctr_tf.text.tokenizer import Tokenizer
from ctr_tf.time import DAY, HOUR

TOPIC = {word: topic for topic, words in TOPICS.items() for word in words}


@pytest.fixture(scope="module")
def tables():
    return make_tables(FreshTitlesConfig())


@pytest.fixture(scope="module")
def items(tables):
    frame = tables["items"].to_pandas().set_index("item_id")
    frame["words"] = frame.title.str.split(" ")
    frame["topic"] = [TOPIC[words[0]] for words in frame.words]
    return frame


@pytest.fixture(scope="module")
def exposures(tables, items):
    """With the topic, and how often it is in its slate."""
    frame = tables["exposures"].to_pandas().join(items.topic, on="item_id")
    same = frame.groupby(["request_id", "topic"]).item_id.transform("size")
    return frame.assign(in_slate=same)


@pytest.fixture(scope="module")
def behaviors(tables, items, exposures):
    """With the topic, the age at the user's slate, and the place, 0 the newest."""
    request = exposures.groupby("user_id").time.first().rename("request")
    frame = tables["behaviors"].to_pandas().join(items.topic, on="item_id")
    frame = frame.join(request, on="user_id")
    frame["age"] = frame.request - frame.time
    frame["place"] = frame.groupby("user_id").age.rank().astype(int) - 1
    frame["fresh"] = frame.age < 3 * HOUR
    return frame


@pytest.fixture(scope="module")
def known(exposures, behaviors):
    """Of each candidate: N, n, how many are newer, and whether a fresh one is there."""
    size = behaviors.groupby("user_id").size().rename("size")
    of_topic = behaviors.groupby(["user_id", "topic"])
    found = of_topic.agg(
        count=("age", "size"),
        newer=("place", "min"),
        oldest=("place", "max"),
        fresh=("fresh", "any"),
    )
    frame = exposures.join(size, on="user_id").join(found, on=["user_id", "topic"])
    return frame.fillna({"count": 0, "newer": -1, "oldest": -1}).assign(
        fresh=lambda rows: rows.fresh.fillna(False).astype(bool)
    )


def test_titles_tell_topics(items):
    for words, topic in zip(items.words, items.topic, strict=True):
        assert 3 <= len(words) <= 6 and len(set(words)) == len(words)
        assert {TOPIC[word] for word in words} == {topic}
    counts = items.topic.value_counts()
    assert len(counts) == 12 and counts.max() - counts.min() <= 1
    assert sum(len(words) for words in TOPICS.values()) == len(TOPIC) == 96


def test_histories(behaviors, exposures):
    of_user = behaviors.groupby("user_id")
    assert set(of_user.size()) == set(range(8, 17))
    assert set(of_user.fresh.sum()) == set(range(7))
    assert behaviors.age[behaviors.fresh].between(120, 2 * HOUR + 16).all()
    assert behaviors.age[~behaviors.fresh].between(14 * DAY, 120 * DAY + 16).all()
    assert not behaviors.duplicated(["user_id", "time"]).any()
    assert behaviors.time.is_monotonic_increasing
    config = FreshTitlesConfig()
    assert exposures.time.is_monotonic_increasing
    assert exposures.time.between(config.exposure_start, config.end - 1).all()


def test_slates(exposures):
    slates = exposures.groupby("request_id")
    assert (slates.size() == 16).all() and (slates.item_id.nunique() == 16).all()
    assert slates.user_id.first().is_unique and exposures.user_id.nunique() == 7_500


def test_what_was_read_just_now_decides(known):
    expected = np.where(known.fresh, 0.8, 0.1).astype(np.float32)
    np.testing.assert_array_equal(known.true_probability, expected)


def by_enumeration(size, count):
    """P(a fresh one among the first `count`), every choice of fresh ones by itself."""
    chances = []
    for fresh in range(7):
        choices = list(combinations(range(size), fresh))
        chances.append(np.mean([any(i < count for i in c) for c in choices]))
    return np.mean(chances)


def test_the_blind_guess_is_that_of_every_choice_of_fresh_behaviors(known):
    for (size, count), rows in known.groupby(["size", "count"]):
        if size > 12:
            continue
        chance = by_enumeration(size, int(count))
        np.testing.assert_allclose(
            rows.blind_probability, 0.1 + 0.7 * chance, rtol=1e-6
        )


def test_the_guess_by_order_counts_what_is_newer(known):
    for newer, rows in known.groupby("newer"):
        chance = np.mean([0 <= newer < fresh for fresh in range(7)])
        np.testing.assert_allclose(
            rows.ordered_probability, 0.1 + 0.7 * chance, rtol=1e-6
        )


@pytest.mark.parametrize("name", limits.KNOWN)
def test_nothing_else_that_is_known_tells_more(name, known, behaviors):
    """What is left of the clicks goes with nothing that this guess may know."""
    topics = behaviors.groupby(["user_id", "topic"]).size().groupby("user_id")
    facts = pd.DataFrame(
        {
            "size": known["size"],
            "count": known["count"],
            "in_slate": known.in_slate,
            "topics": known.user_id.map(topics.size()),
            "most": known.user_id.map(topics.max()),
            "item_id": known.item_id,
            "time": known.time,
            **{topic: known.topic == topic for topic in TOPICS},
        }
    ).astype(float)
    if name != "blind":
        facts[["newer", "oldest"]] = known[["newer", "oldest"]]
    guess = known[limits.KNOWN[name]].astype(float)
    facts["guess"] = guess
    left = known.click - guess
    for fact, values in facts.items():
        product = left * (values - values.mean())
        by_user = product.groupby(known.user_id).sum()  # one slate is not independent
        z = by_user.sum() / np.sqrt((by_user**2).sum())
        assert abs(z) < 4, fact


def test_the_limits(exposures, tables):
    exact = limits.exact_limits()
    found = limits.found_limits(tables["exposures"])
    assert exact["reachable"] == pytest.approx(0.8414, abs=1e-4)
    assert exact["ordered"] == pytest.approx(0.7894, abs=1e-4)
    assert exact["blind"] == pytest.approx(0.6782, abs=1e-4)
    for name, column in limits.KNOWN.items():
        expected = roc_auc_score(exposures.click, exposures[column])
        assert found[name] == pytest.approx(expected, abs=1e-9)
        # The standard error is about .002.
        assert found[name] == pytest.approx(exact[name], abs=0.007)


def test_parts_of_an_example_count_for_the_auc_as_examples_do():
    random = np.random.default_rng(0)
    score, click = random.integers(4, size=200), random.integers(2, size=200)
    expected = roc_auc_score(click, score)
    assert weighted_auc(score, click, 1 - click) == pytest.approx(expected)
    ones = [click[score == value].sum() for value in range(4)]
    zeros = [(1 - click)[score == value].sum() for value in range(4)]
    parts = weighted_auc(np.arange(4), np.array(ones) / 7, np.array(zeros) / 3)
    assert parts == pytest.approx(expected)


def test_the_same_seed_gives_the_same_logs_and_another_seed_others():
    sizes = dict(users=50, items=400)
    one, same, other = (
        make_tables(FreshTitlesConfig(**sizes, seed=seed)) for seed in (1, 1, 2)
    )
    for name, table in one.items():
        assert table.equals(same[name]), name
        assert not table.equals(other[name]), name


def test_the_folder(tmp_path):
    output = tmp_path / "logs"
    sizes = ["--users=200", "--items=400", "--seed=5"]
    words = ["synthesize", "--world", "fresh_titles", "--output", str(output), *sizes]
    assert main(words) == 0
    names = ["behaviors.parquet", "exposures.parquet", "items.parquet"]
    names += ["language_model", "meta.json", "schema.yaml"]
    assert sorted(path.name for path in output.iterdir()) == names
    meta = json.loads((output / "meta.json").read_text())
    assert meta["settings"]["users"] == 200 and meta["world"] == "fresh_titles"
    assert meta["exact_limits"] == limits.exact_limits()
    assert meta["reachable_auc"] == pytest.approx(meta["limits"]["reachable"])


def test_the_language_model_knows_every_word_of_the_titles(tmp_path, items):
    output = tmp_path / "logs"
    words = ["--users=20", "--items=400", "--output", str(output)]
    assert main(["synthesize", "--world=fresh_titles", *words]) == 0
    folder = output / "language_model"
    tokenizer = Tokenizer((folder / "tokenizer.json").read_text("utf-8"))
    config = read_lm_config(folder)
    assert config.vocabulary_size == tokenizer.num_tokens
    assert (config.architecture, config.num_layers, config.width) == ("bert", 4, 48)
    assert (config.num_heads, config.ffn_width, config.max_length) == (4, 96, 512)
    assert config.activation == "gelu" and not config.dropout
    assert tokenizer.id_of("[PAD]") == 0
    unknown = tokenizer.id_of("[UNK]")
    for title, ids in zip(items.words, tokenizer.ids(list(items.title)), strict=True):
        assert unknown not in ids and len(ids) == len(title)
    marks = ["[unused1]", "[CLS]", "[SEP]", ",", ":"]
    assert unknown not in map(tokenizer.id_of, marks)
    assert tokenizer.ids(["rose , tulip : Snow"])[0] == [
        tokenizer.id_of(word) for word in ("rose", ",", "tulip", ":", "snow")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--users", "0"], "`users` lies between 1 and 1,000,000. Received: users=0"),
        (["--candidates", "16", "--items", "383"], "candidates=16, items=383"),
        (["--world", "fresh_title"], "Unknown world 'fresh_title'. Did you mean"),
    ],
)
def test_error_messages(tmp_path, capsys, options, message):
    output = tmp_path / "logs"
    words = ["synthesize", "--world=fresh_titles", "--output", str(output), *options]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_options_of_one_world_are_not_those_of_the_other(tmp_path, capsys):
    words = ["synthesize", "--world=fresh_titles", "--output", str(tmp_path / "logs")]
    assert main([*words, "--plant", "time_gaps"]) == 2
    assert "unrecognized arguments: --plant" in capsys.readouterr().err
    with pytest.raises(UserError, match="days=0"):
        FreshTitlesConfig(days=0)
