"""A run that was really trained, for two steps on random samples."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from helpers import make_schema

from ctr_tf.data.config import DataConfig
from ctr_tf.data.records import BEHAVIORS, take
from ctr_tf.schema import FIRST_ID, Schema
from ctr_tf.schema.vocabulary import Vocabularies
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training.config import Config, TrainingConfig
from ctr_tf.training.train import train

# Of trainings by the command line: no logistic regression at their end.
NO_BASELINE = "training.baseline=false"


def saved_arrays(run: Path, step: int) -> dict[str, np.ndarray]:
    """Arrays of a checkpoint, by what they are called there."""
    arrays = {}
    for file in ("network", "tables"):
        folder = run / "checkpoints" / f"step-{step:08d}" / file
        reader = tf.train.load_checkpoint(str(folder))
        for key in reader.get_variable_to_shape_map():
            if "VARIABLE_VALUE" in key:
                arrays[f"{file}/{key}"] = reader.get_tensor(key)
    return arrays


def make_splits(schema: Schema) -> dict:
    """Split → the samples that the run is trained on, by vocabularies of 20 values."""
    random = np.random.default_rng(0)
    vocabularies = random_vocabularies(schema, 20)
    samples = [
        random_sample(schema, vocabularies, random, int(n), 5)
        for n in random.integers(0, 17, 40)
    ]
    return {"train": samples, "validation": samples[:10], "test": samples[5:]}


def without_behaviors(sample: dict, schema: Schema) -> dict:
    """The sample of a user who has done nothing yet."""
    return take(sample, schema, BEHAVIORS, np.zeros(0, np.int64))


def reordered(
    samples: list[dict], schema: Schema, vocabularies: Vocabularies
) -> tuple[list[dict], Vocabularies]:
    """The same raw samples under vocabularies of another order, with one more value."""
    random = np.random.default_rng(1)
    words, maps = {}, {}
    for name in vocabularies.names:
        old = vocabularies.values(name)
        new = ["77" if old[0].isdigit() else "new", *random.permutation(old).tolist()]
        words[name] = new
        maps[name] = np.array([0, 1, *(FIRST_ID + new.index(word) for word in old)])
    changed = [dict(sample) for sample in samples]
    for group, features in schema.groups().items():
        for feature in features:
            if name := feature.vocabulary_name:
                key = f"{group}_{feature.name}"
                for sample in changed:
                    sample[key] = maps[name][sample[key]]
    return changed, Vocabularies(words)


def write_small_data(folder: Path) -> Path:
    """Writes 48 samples of up to 8 behaviors and 4 candidates; returns the folder."""
    schema = make_schema(history_length=8)
    vocabularies = random_vocabularies(schema, 20)
    random = np.random.default_rng(0)
    samples = [
        random_sample(schema, vocabularies, random, int(n), 4)
        for n in random.integers(0, 9, 48)
    ]
    splits = {"train": samples, "validation": samples[:16], "test": samples[16:]}
    write_prepared(folder, schema, vocabularies, splits)
    return folder


def train_two_steps(folder: Path, schema: Schema, model) -> Path:
    """The run's folder, of a model's config; `test` has 35 samples of 5 candidates."""
    splits = make_splits(schema)
    write_prepared(folder / "data", schema, random_vocabularies(schema, 20), splits)
    train(
        Config(
            run=str(folder / "run"),
            data=DataConfig(str(folder / "data"), batch_size=16),
            model=model,
            training=TrainingConfig(max_steps=2),
        )
    )
    return folder / "run"
