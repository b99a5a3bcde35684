"""BST, HSTU and LONGER beside their papers' sequences, token by token in NumPy."""

import helpers
import numpy as np
import pytest
import reference_transformers as reference

from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.hstu_block import HSTUBlock
from ctr_tf.layers.post_norm_block import PostNormBlock
from ctr_tf.layers.token_merge import TokenMerge
from ctr_tf.models import build_ranker
from ctr_tf.models.bst import BSTConfig
from ctr_tf.models.hstu import HSTUConfig
from ctr_tf.models.longer import LONGERConfig

SMALL = {"dim": 8, "num_heads": 2, "head_units": (6,), "candidate_tower": ()}
CONFIGS = {
    "bst": BSTConfig(**SMALL),
    "bst of two blocks": BSTConfig(**SMALL, num_blocks=2),
    "hstu": HSTUConfig(**SMALL),
    "longer": LONGERConfig(**SMALL, merge=3, recent=2, num_blocks=3),
    "longer, all queries": LONGERConfig(**SMALL, merge=2),
}


def make(config):
    """A small model whose weights are all far from their start."""
    schema = helpers.make_schema(history_length=13)
    model = build_ranker(config, schema, helpers.make_table_sizes(schema))
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(np.asarray(weight) + 0.3 * random.normal(size=weight.shape))
    return model


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_equals_the_sequence_of_each_candidate(config):
    model = make(config)
    inputs = helpers.make_inputs(
        model.schema, batch=4, candidates=3, lengths=[13, 0, 1, 8]
    )
    expected = reference.logits(model, inputs)
    np.testing.assert_allclose(
        helpers.scores(model, inputs), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("name", ["bst", "hstu", "longer", "longer, all queries"])
def test_a_state_of_few_behaviors_fits_into_that_of_many(name):
    """Servers pad histories to several sizes, and states on the left to one."""
    model = make(CONFIGS[name])
    inputs = helpers.make_inputs(model.schema, batch=3, lengths=[5, 0, 3])
    helpers.assert_short_state_fits(model, inputs)


@pytest.mark.parametrize("name", ["bst of two blocks", "hstu", "longer"])
def test_the_past_does_not_see_the_future(name):
    model = make(CONFIGS[name])
    inputs = helpers.make_inputs(model.schema, batch=2, lengths=[13, 10])
    before = helpers.encode(model, inputs)
    other = {**inputs, "behavior_item_id": inputs["behavior_item_id"].copy()}
    other["behavior_item_id"][:, 11:] += 1
    after = helpers.encode(model, other)
    for key, value in before.items():
        if "blocks/" in key:
            change = np.abs(after[key] - value).max(axis=(0, 2))
            # LONGER: of 13 behaviors in threes, all but the last token and the globals,
            # and those that later blocks keep.
            first = {"longer": len(change) - 3}.get(name, 11)
            assert np.all(change[:first] < 1e-5), key
            assert np.all(change[first : first + 1] > 1e-4), key


def test_padding_takes_no_part_in_a_token():
    merge = TokenMerge(3)
    merge.build((None, None, 4))
    random = np.random.default_rng(0)
    rows = random.normal(size=(2, 7, 4)).astype(np.float32)
    mask = np.arange(7) >= np.array([[0], [2]])
    tokens, token_mask = merge(rows, mask)
    np.testing.assert_array_equal(token_mask, [[1, 1, 1], [0, 1, 1]])
    for sample in range(2):
        expected = reference.merged_tokens(merge, rows[sample], mask[sample])[::-1]
        actual = np.asarray(tokens)[sample, -len(expected) :]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (lambda: TokenMerge(0), "Received: size=0"),
        (lambda: LONGERConfig(recent=0), "Received: recent=0"),
        (lambda: LONGERConfig(merge=2.5), "Received: merge=2.5"),
        (lambda: HSTUConfig(num_blocks=0), "Received: num_blocks=0"),
        (lambda: PostNormBlock(None, 0), "Received: ffn_factor=0"),
        (
            lambda: HSTUBlock(3, HSTUBias(4)).build((None, 5, 8)),
            "Received: num_heads=3",
        ),
    ],
)
def test_mistakes(make_one, message):
    with pytest.raises(ValueError) as error:
        make_one()
    assert message in str(error.value)
