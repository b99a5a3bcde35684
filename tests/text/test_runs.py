"""Data with texts, from raw logs to a run: who reads no text is as without them."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from text_helpers import real_tokenizer, small_tokenizer

from ctr_tf import config as configs
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.schema import Schema
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training.config import Config
from ctr_tf.training.run import load_run, open_run
from ctr_tf.training.train import train
from pipelines import listwise

MOVIELENS = Path(__file__).parents[3] / "shared" / "data" / "movielens"
SCHEMA = """
name: shop
history_length: 8
num_chunks: 2
features:
  - {name: item_id, role: item, kind: categorical, dtype: int64}
  - {name: title, role: item, kind: text, length: 5}
  - {name: price, role: item, kind: numeric}
"""


def write_movielens(folder):
    """The movies, and the ratings of thirty users but for two who rated most."""
    if not MOVIELENS.is_dir():
        pytest.skip("MovieLens is not at ../shared/data/movielens")
    folder.mkdir()
    (folder / "movies.csv").write_bytes((MOVIELENS / "movies.csv").read_bytes())
    with (MOVIELENS / "ratings.csv").open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with (folder / "ratings.csv").open("w", encoding="utf-8", newline="") as file:
        users = {str(user) for user in range(1, 31)} - {"15", "30"}
        csv.writer(file).writerows([header, *(r for r in rows if r[0] in users)])
    return folder


def prepare(raw, output, *words):
    words = ("--source", "movielens", "--input", raw, "--output", output, *words)
    listwise.run(
        [str(word) for word in (*words, "--num_buckets", 2, "--num_shards", 2)]
    )
    return PreparedData.load(output)


def run_training(data, run, **training):
    recipe = {
        "run": str(run),
        "data": {"path": str(data.folder), "batch_size": 16, "history_lengths": [8]},
        "model": {"name": "sparsectr", "dim": 8, "num_heads": 2, "num_blocks": 1},
        "training": {"max_steps": 3, **training},
    }
    train(configs.parse(Config, recipe))
    return load_run(run)


@pytest.mark.long
def test_a_model_that_reads_no_text_is_the_same_without(tmp_path, caplog):
    raw = write_movielens(tmp_path / "raw")
    with caplog.at_level("INFO"):
        plain = prepare(raw, tmp_path / "plain")
    assert "texts of the source's schema, title, categories, are left" in caplog.text
    data = prepare(raw, tmp_path / "data", "--tokenizer", real_tokenizer())
    assert [f.name for f in data.schema.texts] == ["title", "categories"]
    assert data.schema.without_texts() == plain.schema
    texts = data.vocabularies.known_texts
    assert texts.num_rows == 2 + len((raw / "movies.csv").read_text().splitlines()) - 1
    assert texts.words("title", [2]) == ["toy story ( 1995 )"]
    genres = "adventure, animation, children, comedy, fantasy"
    assert texts.words("categories", [2]) == [genres]
    runs = [run_training(d, tmp_path / d.folder.name / "run") for d in (plain, data)]
    weights = [[w.numpy() for w in run.ranker.weights] for run in runs]
    assert len(weights[0]) == len(weights[1])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def random_data(folder, items, seed=0, tokenizer=None):
    schema, random = Schema.from_yaml(SCHEMA), np.random.default_rng(seed)
    vocabularies = random_vocabularies(schema, items)
    if tokenizer:
        vocabularies.known_texts.tokenizer = tokenizer
    samples = [random_sample(schema, vocabularies, random, 6, 4) for _ in range(40)]
    splits = {"train": samples, "validation": samples[:10], "test": samples}
    write_prepared(folder, schema, vocabularies, splits)
    return PreparedData.load(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Data with texts of 21 items, and the run that was trained on them."""
    folder = tmp_path_factory.mktemp("trained")
    data = random_data(folder / "data", 20)
    return data, run_training(data, folder / "run")


def test_a_run_owns_its_texts(trained, tmp_path):
    data, run = trained
    shutil.copytree(run.folder, tmp_path / "run")
    kept = tmp_path / "run" / "vocabularies" / "texts"
    for path in (data.folder / "vocabularies" / "texts").iterdir():
        assert (kept / path.name).read_bytes() == path.read_bytes()
    digests = run.vocabularies.known_texts.digests
    assert digests == data.vocabularies.known_texts.digests
    np.save(kept / "title.npy", np.zeros((23, 5), np.int32))
    with pytest.raises(ValueError, match="hash"):
        load_run(tmp_path / "run")


def test_later_data_bring_the_texts_of_their_items(trained, tmp_path):
    _, run = trained
    later = random_data(tmp_path / "later", 30, seed=1)
    read = later.read_as(run.schema, run.vocabularies)
    config = DataConfig(batch_size=40)

    def batch(data):
        batches = dataset(data, "test", config, num_chunks=2, training=False)
        return next(iter(batches))[0]

    found, own = batch(read), batch(later)
    table, theirs = (d.vocabularies.known_texts.tables["title"] for d in (read, later))
    assert len(table) == 2 + 31
    for key in ("behavior_title", "candidate_title"):
        rows = found[key].numpy()
        np.testing.assert_array_equal(table[rows], theirs[own[key].numpy()])
        assert rows.max() > len(run.vocabularies.known_texts.tables["title"])


def test_another_tokenizer_is_refused(trained, tmp_path):
    data, run = trained
    other = random_data(tmp_path / "other", 20, tokenizer=small_tokenizer())
    message = "tokenizer mean nothing to a model of another. Prepare '.*/other' with"
    with pytest.raises(ValueError, match=message):
        other.read_as(run.schema, run.vocabularies)
    with pytest.raises(ValueError, match=message):
        run_training(other, tmp_path / "next", start_from=str(run.folder))
    other.folder = data.folder
    with pytest.raises(ValueError, match="begun with other data"):
        open_run(run.config, other)
