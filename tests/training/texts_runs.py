"""Small data with texts, and trainings on them of models that read texts."""

import numpy as np
import tensorflow as tf
from helpers import make_schema
from small_language_model import make_folder

from ctr_tf import config as configs
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training.config import Config
from ctr_tf.training.train import train

SCHEMA = make_schema(history_length=8, texts=True)


def write_data(folder, items=20):
    """48 samples of up to 8 behaviors and 4 candidates; returns the folder."""
    vocabularies = random_vocabularies(SCHEMA, items)
    random = np.random.default_rng(0)
    samples = [
        random_sample(SCHEMA, vocabularies, random, int(n), 4)
        for n in random.integers(0, 9, 48)
    ]
    splits = {"train": samples, "validation": samples[:16], "test": samples[16:]}
    write_prepared(folder, SCHEMA, vocabularies, splits)
    return folder


def write_language_model(folder):
    """With weights, for the tokens of the data; returns the folder."""
    return make_folder(folder, weights=True, vocab_size=120, max_position_embeddings=40)


def texts(folder, **keys):
    """How texts are read, by the language model of a folder."""
    return {
        "language_model": str(folder),
        "history_tokens": 40,
        "candidate_tokens": 8,
        "signal_width": 4,
        "units": [8, 8, 4],
        "inter_sink": 1,
        "sink_stage": 0.5,
        **keys,
    }


def run_training(data, run, model, optimizer=None, sections=None, **training):
    """Trains two epochs, of 6 steps each; returns the metrics."""
    recipe = {
        "run": str(run),
        "data": {"path": str(data), "batch_size": 8, "shuffle_buffer": 32},
        "model": model,
        "optimizer": optimizer
        or {"learning_rate": 0.01, "schedule": "cosine", "global_clipnorm": 1.0},
        "training": {
            "epochs": 2,
            "checkpoint_every": 2,
            "keep_checkpoints": 9,
            "log_every": 3,
            **training,
        },
        **(sections or {}),
    }
    return train(configs.parse(Config, recipe))


def network(run, step):
    """What a checkpoint has of the network and the optimizer: name → value."""
    path = run / "checkpoints" / f"step-{step:08d}" / "network"
    reader = tf.train.load_checkpoint(str(path))
    names = [n for n in reader.get_variable_to_shape_map() if "VALUE" in n]
    return {name: reader.get_tensor(name) for name in names}
