"""Ids that training reads as unknown: which, how many, when, and what that teaches."""

import helpers
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.models import build_ranker
from ctr_tf.models.can import CANConfig
from ctr_tf.schema import FIRST_ID, OUT_OF_VOCABULARY_ID, PADDING_ID
from ctr_tf.training.unknown_values import UnknownValues, UnknownValuesConfig

SCHEMA = helpers.make_schema()
RATES = UnknownValuesConfig(behavior=0.25, candidate=0.5)


def make():
    ranker = build_ranker(
        CANConfig(dim=8, num_heads=2), SCHEMA, helpers.make_table_sizes(SCHEMA)
    )
    inputs = helpers.make_inputs(SCHEMA, batch=60, num_chunks=ranker.num_chunks)
    lookups = ranker.embedding.lookups(inputs)
    return ranker, {n: (t, tf.constant(ids)) for n, (t, ids) in lookups.items()}


def replaced(ranker, lookups, rates=RATES, seed=0, step=3):
    sources, known = ranker.embedding.sources(), ranker.embedding.embedded_keys()
    features = {row: (key, known[key]) for row, (key, _) in sources.items()}
    step = tf.constant(step, tf.int64)
    return UnknownValues(rates, seed)(lookups, step, features)


def test_known_ids_of_vocabularies_become_the_unknown_one():
    ranker, lookups = make()
    after, changed = replaced(ranker, lookups), []
    for name, (key, _) in ranker.embedding.sources().items():
        table, before = lookups[name][0], lookups[name][1].numpy()
        now = after[name][1].numpy()
        assert after[name][0] == table and now.dtype == before.dtype
        group, feature = key.split("_")[0], ranker.embedding.embedded_keys()[key]
        rate = {"behavior": 0.25, "candidate": 0.5}.get(group, 0)
        if not rate or feature.vocabulary_name is None:
            np.testing.assert_array_equal(now, before)
            continue
        known, differs = before >= FIRST_ID, now != before
        assert not differs[~known].any() and (before[~known] == PADDING_ID).any()
        assert (now[differs] == OUT_OF_VOCABULARY_ID).all()
        share, error = differs[known].mean(), 3 * np.sqrt(rate / known.sum())
        assert abs(share - rate) < error
        changed.append(name)
    assert {"behavior_item_id", "candidate_item_id"} < set(changed)
    assert any(not name.startswith("candidate_") for name in changed[1:])


def test_seed_and_step_decide():
    ranker, lookups = make()

    def ids(**options):
        return replaced(ranker, lookups, **options)["candidate_item_id"][1].numpy()

    assert np.array_equal(ids(), ids())
    assert not np.array_equal(ids(), ids(step=4))
    assert not np.array_equal(ids(), ids(seed=1))


def test_the_row_of_unknown_values_is_learned():
    """In a log all of whose ids are known, by nothing else."""
    for rates, moves in ((UnknownValuesConfig(), False), (RATES, True)):
        ranker = build_ranker(
            CANConfig(dim=8, num_heads=2), SCHEMA, helpers.make_table_sizes(SCHEMA)
        )
        trainer = helpers.make_trainer(ranker, unknown_values=UnknownValues(rates))
        inputs = helpers.make_inputs(SCHEMA, num_chunks=ranker.num_chunks)
        for key in ("behavior_item_id", "candidate_item_id"):
            unknown = inputs[key] == OUT_OF_VOCABULARY_ID
            inputs[key] = np.where(unknown, FIRST_ID, inputs[key])
        table = ranker.embedding.tables["item_id"].table
        before = table.numpy()
        trainer.train_on_batch(inputs, *helpers.make_labels(inputs))
        moved = np.any(table.numpy() != before, axis=-1)
        assert moved[OUT_OF_VOCABULARY_ID] == moves and moved.sum() > 3


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates(rate):
    with pytest.raises(
        ValueError, match=r"`training\.unknown_values\.user` .*Received"
    ):
        UnknownValuesConfig(user=rate)
