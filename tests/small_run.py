"""A run that was really trained, for two steps on random samples."""

from pathlib import Path

import numpy as np

from ctr_tf.data.config import DataConfig
from ctr_tf.data.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.schema import Schema
from ctr_tf.training.config import Config, TrainingConfig
from ctr_tf.training.train import train


def train_two_steps(folder: Path, schema: Schema, model) -> Path:
    """The run's folder, of a model's config; `test` has 35 samples of 5 candidates."""
    random = np.random.default_rng(0)
    vocabularies = random_vocabularies(schema, 20)
    samples = [
        random_sample(schema, vocabularies, random, int(n), 5)
        for n in random.integers(0, 17, 40)
    ]
    splits = {"train": samples, "validation": samples[:10], "test": samples[5:]}
    write_prepared(folder / "data", schema, vocabularies, splits)
    train(
        Config(
            run=str(folder / "run"),
            data=DataConfig(str(folder / "data"), batch_size=16),
            model=model,
            training=TrainingConfig(max_steps=2),
        )
    )
    return folder / "run"
