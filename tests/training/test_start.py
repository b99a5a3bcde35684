"""A training that starts from a run: what it knows is kept, by value."""

import json
import logging

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_narrow_schema
from small_run import saved_arrays
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

SCHEMA = make_narrow_schema(history_length=8)
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


@pytest.mark.study
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
    schema = make_narrow_schema(history_length=7)
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


def go_on(data, run, start, **training):
    return run_training(data, run, start_from=str(start), start_slots=True, **training)


def test_slots_go_by_value_and_steps_are_counted_on(world, tmp_path):
    """Against the arrays of the two checkpoints, looked up value by value."""
    from ctr_tf.data.prepared import PreparedData
    from ctr_tf.training.start import go_on_from
    from ctr_tf.training.train import make_trainer

    folder, _, new = world
    config = configs.parse(Config, recipe(new, tmp_path / "run"))
    data = PreparedData.load(new)
    trainer = make_trainer(config, data, 10, None)
    last = max((folder / "run" / "checkpoints").glob("step-*"))
    steps = int(last.name.removeprefix("step-"))
    assert go_on_from(trainer, data, folder / "run") == steps > 0
    before = saved_arrays(folder / "run", steps)
    optimizer = trainer.optimizer
    assert int(optimizer.iterations.numpy()) == steps
    assert int(optimizer.tables.optimizer.iterations.numpy()) == steps
    for index, variable in enumerate(optimizer.variables):
        key = f"network/optimizer/{index}/.ATTRIBUTES/VARIABLE_VALUE"
        np.testing.assert_array_equal(variable.numpy(), before[key])
    store = optimizer.tables
    moved = 0
    for number, (name, table) in enumerate(store.tables.items()):
        slot = store.optimizer.slots[number]
        place = next(i for i, v in enumerate(store.optimizer.variables) if v is slot)
        old_slot = before[f"tables/slots/{place}/.ATTRIBUTES/VARIABLE_VALUE"]
        old_rows = before[f"tables/tables/{name}/.ATTRIBUTES/VARIABLE_VALUE"]
        if name not in OLD.names:  # rows that stand for no values
            np.testing.assert_array_equal(slot.numpy(), old_slot)
            continue
        np.testing.assert_array_equal(slot.numpy()[:2], old_slot[:2])
        was = {value: 2 + i for i, value in enumerate(OLD.values(name))}
        for row, value in enumerate(NEW.values(name), 2):
            if value in was:
                found = slot.numpy()[row], table.table.numpy()[row]
                np.testing.assert_array_equal(found[0], old_slot[was[value]])
                np.testing.assert_array_equal(found[1], old_rows[was[value]])
                moved += bool(found[0].any())
            else:  # nothing is known of it, and it begins as an unknown value
                assert not slot.numpy()[row].any()
                np.testing.assert_array_equal(table.table.numpy()[row], old_rows[1])
    assert moved > 10
    # Before any step no score differs, whatever the values: new ones were unknown.
    random = np.random.default_rng(7)
    samples = [random_sample(SCHEMA, NEW, random, 8, 4) for _ in range(30)]
    maps = id_maps(SCHEMA, NEW, OLD)
    mapped = [
        {k: maps[k][v] if k in maps else v for k, v in s.items()} for s in samples
    ]
    assert any((m["candidate_item_id"] == 1).any() for m in mapped)
    np.testing.assert_allclose(
        scores(trainer, samples),
        scores(load_run(folder / "run", "last"), mapped),
        atol=1e-6,
    )


@pytest.mark.study
def test_going_on_from_the_same_data_is_one_training(world, tmp_path):
    """Weights and moments of an epoch and another are those of the two in one run."""
    _, old, _ = world
    constant = {"schedule": "constant", "warmup_steps": 0}

    def run(name, **training):
        from ctr_tf.training.train import train

        values = recipe(old, tmp_path / name, **training)
        values["optimizer"] |= constant
        values["data"]["shuffle_buffer"] = 1
        return train(configs.parse(Config, values))

    steps = run("one", epochs=1, validate=False)["steps"]
    again = {"start_from": str(tmp_path / "one"), "start_slots": True}
    # The second run reads the first epoch's order once more, as the third run does.
    run("two", epochs=1, validate=False, **again)
    two = saved_arrays(tmp_path / "two", steps)
    key = "network/optimizer/0/.ATTRIBUTES/VARIABLE_VALUE"
    assert two[key] == 2 * steps
    cold = run("cold", epochs=1, validate=False, start_from=str(tmp_path / "one"))
    other = saved_arrays(tmp_path / "cold", steps)
    assert cold["steps"] == steps == other[key]
    # Moments that begin anew move the weights elsewhere.
    assert any(
        np.abs(two[k] - other[k]).max() > 1e-4
        for k in two
        if k.startswith("network/main")
    )


def test_a_schedule_begins_anew_and_a_killed_start_knows_where(world, tmp_path):
    from ctr_tf.training.train import train

    folder, _, new = world
    options = {"epochs": 2, "log_every": 1}
    whole = go_on(new, tmp_path / "whole", folder / "run", **options)
    start = {"start_from": str(folder / "run"), "start_slots": True}
    values = recipe(new, tmp_path / "killed", **options, **start)
    calls = []

    class Stop(Exception):
        pass

    def stop(self, progress):
        save(self, progress)
        calls.append(progress.step)
        if len(calls) == 2:
            raise Stop

    from ctr_tf.training.checkpoints import Checkpoints

    save = Checkpoints.save
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Checkpoints, "save", stop)
        train(configs.parse(Config, values))
    assert 0 < calls[-1] < whole["steps"]
    assert train(configs.parse(Config, values))["steps"] == whole["steps"]
    arrays = [
        saved_arrays(tmp_path / name, whole["steps"]) for name in ("whole", "killed")
    ]
    for key, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][key])
    # A cosine of this training's own length, without the recipe's warm-up.
    steps, rates = zip(*rates_of(tmp_path / "whole"), strict=True)
    cosine = 0.005 * (1 + np.cos(np.pi * np.array(steps) / whole["steps"]))
    np.testing.assert_allclose(rates, cosine, atol=1e-6)
    assert steps[-1] == whole["steps"] == len(steps) + 1


def rates_of(run):
    """Steps done, and the learning rate of the next."""
    last = max((run / "checkpoints").glob("step-*"))
    rows = json.loads((last / "state.json").read_text("utf-8"))["history"]
    key = "learning_rate"
    return [(row["step"], row[key]) for row in rows if key in row]


def test_slots_of_another_optimizer_are_refused(world, tmp_path):
    from ctr_tf.training.train import train

    folder, old, _ = world
    start = {"start_from": str(folder / "run"), "start_slots": True}
    values = recipe(old, tmp_path / "other", **start)
    values["optimizer"]["tables"] = "adagrad"
    with pytest.raises(ValueError, match=r"`optimizer.tables=adam`. Received: adagrad"):
        train(configs.parse(Config, values))
    with pytest.raises(ValueError, match="goes with `training.start_from`"):
        configs.parse(Config, recipe(old, tmp_path / "other", start_slots=True))


@pytest.mark.study
def test_without_validation_the_last_weights_are_the_best(world, tmp_path):
    folder, old, _ = world
    random = np.random.default_rng(4)
    samples = [random_sample(SCHEMA, OLD, random, 8, 4) for _ in range(40)]
    splits = {"train": samples, "validation": [], "test": []}
    write_prepared(tmp_path / "day", SCHEMA, OLD, splits)
    metrics = run_training(tmp_path / "day", tmp_path / "run", epochs=1, validate=False)
    assert metrics["best_step"] == metrics["steps"] and not metrics["validation"]
    best, last = (load_run(tmp_path / "run", weights) for weights in ("best", "last"))
    for one, other in zip(best.ranker.network, last.ranker.network, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    with pytest.raises(ValueError, match="has no samples"):
        run_training(tmp_path / "day", tmp_path / "other", epochs=1)
