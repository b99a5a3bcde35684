"""A training that starts from a run: what it knows is kept, by value."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_schema
from test_train import recipe, run_training

from ctr_tf import config as configs
from ctr_tf.data.batches import BatchReader
from ctr_tf.data.writing import serialize
from ctr_tf.schema.vocabulary import Vocabularies, id_maps
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training.config import Config
from ctr_tf.training.run import load_run

pytestmark = pytest.mark.long

SCHEMA = make_schema(history_length=8)
OLD = random_vocabularies(SCHEMA, 20)


def shuffled(vocabularies):
    """The same values in another order, three left out and five new ones."""
    random = np.random.default_rng(1)
    values = {}
    for name in vocabularies.names:
        known = vocabularies.values(name)[3:]
        number = known[0].isdecimal()
        new = [str(9_000 + i) if number else f"new {i}" for i in range(5)]
        values[name] = random.permutation([*known, *new]).tolist()
    return Vocabularies(values)


NEW = shuffled(OLD)


def write(folder, vocabularies, seed):
    random = np.random.default_rng(seed)
    samples = [random_sample(SCHEMA, vocabularies, random, 8, 4) for _ in range(50)]
    splits = {"train": samples[:40], "validation": samples[40:], "test": []}
    write_prepared(folder, SCHEMA, vocabularies, splits)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    old, new = write(folder / "old", OLD, 0), write(folder / "new", NEW, 1)
    run_training(old, folder / "run", epochs=1)
    return folder, old, new


def scores(run, samples):
    ranker = run.ranker
    reader = BatchReader(SCHEMA, ranker.num_chunks, 8, with_labels=False)
    (inputs,) = reader.read(tf.constant([serialize(sample) for sample in samples]))
    return tf.sigmoid(ranker(inputs, training=False)).numpy()


def without_learning(data, run, **training):
    values = recipe(data, run, **training)
    values["optimizer"]["learning_rate"] = 1e-12
    return values


def test_known_values_score_as_in_the_run(world, tmp_path, caplog):
    from ctr_tf.training.train import train

    folder, _, new = world
    values = without_learning(new, tmp_path / "run", epochs=1)
    values["training"]["start_from"] = str(folder / "run")
    with caplog.at_level(logging.INFO):
        train(configs.parse(Config, values))
    assert "item_id: 17 of 22 values have rows in" in caplog.text
    assert "5 are new" in caplog.text
    one, other = load_run(folder / "run"), load_run(tmp_path / "run")
    # Samples of values that both know, by the ids of either.
    random = np.random.default_rng(5)
    samples = [random_sample(SCHEMA, NEW, random, 8, 4) for _ in range(30)]
    maps = id_maps(SCHEMA, NEW, OLD)
    new_ids, old_ids = [], []
    for sample in samples:
        mapped = {k: maps[k][v] if k in maps else v for k, v in sample.items()}
        unknown = any(
            ((mapped[k] == 1) & (sample[k] != 1)).any() for k in maps if k in sample
        )
        if not unknown:
            new_ids.append(sample)
            old_ids.append(mapped)
    known = {k: np.flatnonzero(m > 1) for k, m in maps.items()}
    for sample in samples[:10]:  # made of known values alone
        fixed = dict(sample)
        for key, ids in known.items():
            if key in sample and len(sample[key]):
                place = np.arange(len(sample[key])) % len(ids)
                fixed[key] = ids[place]
        new_ids.append(fixed)
        old_ids.append({k: maps[k][v] if k in maps else v for k, v in fixed.items()})
    np.testing.assert_allclose(scores(other, new_ids), scores(one, old_ids), atol=1e-6)


def test_a_killed_start_goes_on_and_another_recipe_is_refused(world, tmp_path):
    folder, _, new = world
    options = {"epochs": 1, "start_from": str(folder / "run")}
    first = run_training(new, tmp_path / "run", **options)
    assert run_training(new, tmp_path / "run", **options)["steps"] == first["steps"]
    with pytest.raises(ValueError, match="training.start_from"):
        run_training(new, tmp_path / "run", epochs=1)


def test_a_run_of_another_model_or_schema_is_refused(world, tmp_path):
    from ctr_tf.training.train import train

    folder, old, _ = world
    values = recipe(old, tmp_path / "wider", start_from=str(folder / "run"))
    values["model"]["dim"] = 16
    with pytest.raises(ValueError, match=r"another model: model.dim \(8 and 16\)"):
        train(configs.parse(Config, values))
    schema = make_schema(history_length=7)
    vocabularies = random_vocabularies(schema, 20)
    random = np.random.default_rng(0)
    samples = [random_sample(schema, vocabularies, random, 7, 4) for _ in range(20)]
    splits = {"train": samples, "validation": samples, "test": []}
    write_prepared(tmp_path / "other", schema, vocabularies, splits)
    with pytest.raises(ValueError, match="of another schema: 'history_length: 8' ther"):
        run_training(
            tmp_path / "other", tmp_path / "run", start_from=str(folder / "run")
        )
    with pytest.raises(FileNotFoundError, match="is not the folder of a run"):
        run_training(old, tmp_path / "last", start_from=str(tmp_path / "none"))
    assert not any((tmp_path / name).exists() for name in ("wider", "run", "last"))
