"""The candidate's own way to the logit: a tower beside what the history says."""

import dataclasses

import helpers
import numpy as np
import pytest
from reference_sparse_ctr import dense, relu

from ctr_tf.errors import UserError
from ctr_tf.models import build_ranker
from ctr_tf.models.din import DINConfig
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.models.tower import TowerConfig

LABELS = ("click", "purchase")
SCHEMA = dataclasses.replace(helpers.make_schema(), labels=LABELS)
SIZES = helpers.make_table_sizes(SCHEMA)
UNITS = (7, 5)
CONFIGS = {
    "sparsectr": SparseCTRConfig(dim=16, candidate_tower=UNITS, tasks=("purchase",)),
    "din": DINConfig(dim=16, candidate_tower=UNITS, tasks=("purchase",)),
    "tower": TowerConfig(head_units=UNITS, tasks=("purchase",)),
}


def reference(towers, groups, interest=None):
    """Logits `[B, C, T]` of each candidate, one after the other."""
    user, context = groups["user"]["embedding"], groups["context"]["embedding"]
    shown = np.asarray(groups["candidates"]["embedding"])
    logits = np.zeros((*shown.shape[:2], len(towers)))
    for b, c in np.ndindex(*shown.shape[:2]):
        said = [] if interest is None else [interest[b, c]]
        known = np.concatenate([*said, user[b], context[b], shown[b, c]])
        for place, tower in enumerate(towers):
            row = known
            for layer in tower.hidden:
                row = relu(dense(layer, row))
            logits[b, c, place] = dense(tower.logit, row)[0]
    return logits


@pytest.fixture(params=CONFIGS)
def model(request):
    return build_ranker(CONFIGS[request.param], SCHEMA, SIZES)


def groups_of(model):
    inputs = helpers.make_inputs(SCHEMA, num_chunks=model.num_chunks)
    return model.embedding.assemble(inputs, model.lookup(inputs))


def test_scores_are_the_sum_of_two_ways(model):
    groups = groups_of(model)
    user, behaviors, context, candidates = (
        groups[name] for name in ("user", "behaviors", "context", "candidates")
    )
    state = model.encode(user, behaviors, context)
    interest = None
    if model.candidate_tower is None:
        towers, expected = model.head.towers, 0.0
    else:
        towers = model.candidate_tower.towers
        expected, interest = model.history_and_interest(state, candidates)
        np.testing.assert_array_equal(expected, model.history_logits(state, candidates))
    found = model.score(state, candidates)
    own = reference(towers, groups, interest)
    assert own.std() > 1e-3 and found.shape[-1] == 2
    np.testing.assert_allclose(found, np.asarray(expected) + own, atol=1e-6)


def test_the_tower_of_sparse_ctr_sees_what_its_head_sees():
    """The candidates' last rows, which say something of the history."""
    model = build_ranker(CONFIGS["sparsectr"], SCHEMA, SIZES)
    groups = groups_of(model)
    state = model.encode(*(groups[n] for n in ("user", "behaviors", "context")))
    logits, rows = model.history_and_interest(state, groups["candidates"])
    for place, head in enumerate(model.heads):
        np.testing.assert_allclose(
            head(rows, groups["user"]["embedding"]), logits[..., place], atol=1e-6
        )
    other = helpers.make_inputs(SCHEMA, num_chunks=model.num_chunks)
    other["behavior_item_id"] = np.roll(other["behavior_item_id"], 1, axis=0)
    changed = model.embedding.assemble(other, model.lookup(other))
    state = model.encode(*(changed[n] for n in ("user", "behaviors", "context")))
    _, others = model.history_and_interest(state, groups["candidates"])
    assert np.abs(np.asarray(rows) - np.asarray(others)).max() > 1e-3


@pytest.mark.parametrize("config", [SparseCTRConfig, DINConfig])
def test_without_it_a_model_is_as_in_its_paper(config):
    model = build_ranker(config(dim=16, candidate_tower=()), SCHEMA, SIZES)
    assert model.candidate_tower is None
    assert not [w for w in model.weights if "candidate_tower" in w.path]


def test_a_history_that_says_nothing_leaves_the_tower():
    """Of the same weights, the ranker is then the tower without history."""
    model = build_ranker(DINConfig(candidate_tower=UNITS), SCHEMA, SIZES)
    for logit in (tower.logit for tower in model.head.towers):
        logit.kernel.assign(logit.kernel * 0)
    groups = groups_of(model)
    state = model.encode(*(groups[n] for n in ("user", "behaviors", "context")))
    own = reference(model.candidate_tower.towers, groups)
    np.testing.assert_allclose(model.score(state, groups["candidates"]), own, atol=1e-6)


def test_widths_must_be_positive():
    with pytest.raises(UserError, match=r"`candidate_tower` must be positive integers"):
        DINConfig(candidate_tower=(8, 0))
