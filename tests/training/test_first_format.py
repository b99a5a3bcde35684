"""Checkpoints as they were before tables had a file of their own are still read."""

import json

import helpers
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.models import build_ranker
from ctr_tf.models.din import DINConfig
from ctr_tf.training.checkpoints import Checkpoints, load_weights

SCHEMA = helpers.make_schema()
CONFIG = DINConfig(dim=8, num_heads=2, head_units=(6,), candidate_tower=())


def make():
    return build_ranker(CONFIG, SCHEMA, helpers.make_table_sizes(SCHEMA))


def write(folder, ranker):
    """All variables in one list; the towers belonged to the model itself."""
    variables = sorted(ranker.variables, key=lambda v: v.path, reverse=True)
    paths = [
        v.path.replace("/head/tower", "/tower").replace("_embedding/", "_embedding_7/")
        for v in variables
    ]
    assert any("/tower/" in path for path in paths)
    folder.mkdir(parents=True)
    checkpoint = tf.train.Checkpoint(model=[v.value for v in variables])
    checkpoint.write(str(folder / "variables"))
    shapes = [[p, list(v.shape)] for p, v in zip(paths, variables, strict=True)]
    state = {"step": 5, "data": "", "shapes": shapes, "content_hash": ""}
    (folder / "state.json").write_text(json.dumps(state))


def test_weights_are_read_by_their_names(tmp_path):
    old, new = make(), make()
    write(tmp_path / "best-00000005", old)
    load_weights(tmp_path, new)
    inputs = helpers.make_inputs(SCHEMA)
    np.testing.assert_array_equal(new(inputs), old(inputs))


def test_other_weights_are_told(tmp_path):
    write(tmp_path / "best-00000005", make())
    wider = DINConfig(dim=8, num_heads=2, head_units=(7,), candidate_tower=())
    other = build_ranker(wider, SCHEMA, helpers.make_table_sizes(SCHEMA))
    with pytest.raises(ValueError, match="no one variable for 'din.*/tower/logit/ker"):
        load_weights(tmp_path, other)


def test_a_training_does_not_go_on_from_it(tmp_path):
    write(tmp_path / "step-00000005", make())
    with pytest.raises(ValueError, match="written by an older version.*--from"):
        Checkpoints(tmp_path, helpers.make_trainer(make())).restore()
