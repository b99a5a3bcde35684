"""Assembled texts against the tokens of the joined string, and against a slow loop."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tokenizers
from text_helpers import real_tokenizer

from ctr_tf.text.assembly import TextAssembly
from ctr_tf.text.tokenizer import Tokenizer
from pipelines.texts import read_tokenizer, token_table

MOVIELENS = Path(__file__).parents[3] / "shared" / "data" / "movielens"
SINK = "[unused1]"
PROMPT = "movies that the user rated high:"
T = 16


def slow(rows, table, length, head, between, last):
    """One row of the batch, token by token; also where each behavior's sink stands."""
    texts = {n: [t for t in table[row] if t] for n, row in enumerate(rows)}
    texts = {n: text for n, text in texts.items() if text}
    while True:
        tokens, sinks, owners = list(head), {}, [-1] * len(head)
        for n, text in texts.items():
            tokens += text
            owners += [n] * len(text) + [-1] * len(between) * (n != max(texts))
            if n != max(texts):
                sinks[n] = len(tokens)
                tokens += between
        tokens += last
        if len(tokens) <= length:
            return tokens, sinks, owners
        del texts[min(texts)]


def random_table(rng, rows, width):
    lengths = rng.integers(0, width + 1, rows)
    lengths[:2] = 0
    table = rng.integers(1, 1_000, (rows, width))
    return np.where(np.arange(width) < lengths[:, None], table, 0).astype(np.int32)


@pytest.mark.parametrize("sink", [None, 999])
@pytest.mark.parametrize("first, last", [((), ()), ((101,), (102,))])
@pytest.mark.parametrize("length", [12, 30, 200])
@pytest.mark.parametrize("xla", [False, True])
def test_it_equals_a_loop(sink, first, last, length, xla):
    rng = np.random.default_rng(length)
    table = random_table(rng, 40, 5)
    rows = rng.integers(0, 40, (16, 7))
    rows[0] = 0
    rows[1, :-1] = 0
    rows[2, -1] = 1  # the newest without a text
    assembly = TextAssembly(length, (7, 8), (5, 6), sink, first, last)
    run = tf.function(
        lambda rows: vars(assembly(tf.gather(table, rows))),
        input_signature=[tf.TensorSpec([None, 7], tf.int64)],
        jit_compile=xla,
    )
    found = {key: value.numpy() for key, value in run(rows).items()}
    between = ([] if sink is None else [sink]) + [5, 6]
    for i, row in enumerate(rows):
        tokens, sinks, owners = slow(
            row, table, length, [*first, 7, 8], between, list(last)
        )
        padding = found["tokens"].shape[1] - len(tokens)
        assert found["tokens"][i].tolist() == tokens + [0] * padding
        assert found["mask"][i].tolist() == [True] * len(tokens) + [False] * padding
        owners += [-1] * (found["tokens"].shape[1] - len(owners))
        assert found["behavior"][i].tolist() == owners
        place = found["sink_place"][i]
        sinks = {} if sink is None else sinks
        assert {n: place[n] for n in np.flatnonzero(place >= 0)} == sinks
        assert (place >= -1).all()
    most = len(first) + 2 + 7 * (5 + len(between)) + len(last)
    assert found["tokens"].shape[1] == min(length, most)
    assert found["tokens"].dtype == found["sink_place"].dtype == np.int32


def test_a_token_of_id_0_within_a_text_stays():
    assembly = TextAssembly(6, separator=(9,))
    table = np.array([[0, 0, 0], [0, 0, 0], [4, 0, 5], [0, 3, 0]], np.int32)
    found = assembly(tf.gather(table, [[2, 3]]))
    assert found.tokens.numpy().tolist() == [[4, 0, 5, 9, 0, 3]]
    assert found.mask.numpy().all()


def test_a_single_behavior_is_the_text_of_a_candidate():
    assembly = TextAssembly(8, (7,), (5,), 999, (101,), (102,))
    table = np.array([[0, 0], [0, 0], [3, 4]], np.int32)
    found = assembly(tf.gather(table, [[2], [1]]))
    assert found.tokens.numpy()[:, :5].tolist() == [
        [101, 7, 3, 4, 102],
        [101, 7, 102, 0, 0],
    ]
    assert (found.sink_place.numpy() == -1).all()


def test_what_cannot_fit_is_told():
    with pytest.raises(ValueError, match="beside 4 tokens that always.*length=4"):
        TextAssembly(4, (1, 2), first=(3,), last=(4,))
    assembly = TextAssembly(5, (1, 2))
    with pytest.raises(ValueError, match="a text of 4 tokens beside 2.*length=5"):
        assembly(tf.zeros((1, 1, 4), tf.int32))


@pytest.fixture(scope="module")
def movielens():
    """Titles as far as they are kept, their table, and users' movies as its rows."""
    if not MOVIELENS.is_dir():
        pytest.skip("MovieLens is not at ../shared/data/movielens")
    text = read_tokenizer(str(real_tokenizer()))
    tokenizer = tokenizers.Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.add_special_tokens([SINK])  # an entry of the vocabulary already
    with (MOVIELENS / "movies.csv").open(encoding="utf-8") as file:
        titles = {row["movieId"]: row["title"] for row in csv.DictReader(file)}
    histories = {}
    with (MOVIELENS / "ratings.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if float(row["rating"]) >= 4:
                key = int(row["timestamp"]), row["movieId"]
                histories.setdefault(row["userId"], []).append(key)
    table, _ = token_table(Tokenizer(text), pa.array(list(titles.values())), T)
    row_of = {movie: number for number, movie in enumerate(titles, 2)}
    rows = [[row_of[movie] for _, movie in sorted(h)] for h in histories.values()]
    kept = ["", ""]
    for title in titles.values():
        offsets = tokenizer.encode(title, add_special_tokens=False).offsets
        kept.append(title if len(offsets) <= T else title[: offsets[T - 1][1]])
    return tokenizer, kept, table, rows


@pytest.mark.parametrize("sink", [SINK, None])
@pytest.mark.parametrize("length", [512, 128])
def test_it_equals_the_tokens_of_the_joined_string(movielens, sink, length):
    tokenizer, titles, table, rows = movielens
    own = Tokenizer(tokenizer.to_str())
    prompt, separator = own.ids([PROMPT, ","])
    sink_id = sink and own.id_of(sink)
    ends = [(own.id_of(token),) for token in ("[CLS]", "[SEP]")]
    assembly = TextAssembly(length, prompt, separator, sink_id, *ends)
    latest = 50
    batch = np.zeros((len(rows), latest), np.int64)
    for line, known in zip(batch, rows, strict=True):
        known = known[-latest:]
        line[latest - len(known) :] = known
    found = assembly(tf.gather(table, batch))
    tokens, mask = found.tokens.numpy(), found.mask.numpy()
    between = ", " if sink is None else f" {sink}, "
    over = 0
    for i, history in enumerate(rows):
        texts = [titles[row] for row in history[-latest:]]
        while True:  # with [CLS] and [SEP]
            expected = tokenizer.encode(f"{PROMPT} {between.join(texts)}").ids
            if len(expected) <= length:
                break
            texts, over = texts[1:], over + 1
        assert tokens[i][mask[i]].tolist() == expected
        places = [p for p, token in enumerate(expected) if token == sink_id]
        place = found.sink_place.numpy()[i]
        assert place[place >= 0].tolist() == places
        assert len(places) == (0 if sink is None else len(texts) - 1)
    assert len(rows) > 600
    assert over > 20
