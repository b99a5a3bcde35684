"""SparseCTR beside the mixed sequence of the paper, row by row in NumPy."""

import dataclasses

import helpers
import keras
import numpy as np
import pytest
import reference_sparse_ctr as reference
from keras import ops

from ctr_tf.layers.state_spec import unflatten
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr_config import ATTENTIONS, SparseCTRConfig

VARIANTS = {
    "default": {},
    "A1": {"attention": "full"},
    "A2": {"branches": ("transition", "local")},
    "A3": {"branches": ("global", "local")},
    "A4": {"branches": ("global", "transition")},
    "B1": {"relations": ()},
    "B2": {"relations": ("hour", "weekend")},
    "B3": {"relations": ("time", "weekend")},
    "B4": {"relations": ("time", "hour")},
    "S1": {"sparsity": "S1"},
    "S3": {"sparsity": "S3"},
    "S4": {"sparsity": "S4"},
    "one block": {"num_blocks": 1},
    "one branch": {"branches": ("transition",)},
}


def make(history=16, **options):
    schema = helpers.make_schema(history_length=history)
    config = SparseCTRConfig(
        **{"dim": 16, "num_heads": 4, "candidate_tower": (), **options}
    )
    model = build_ranker(config, schema, helpers.make_table_sizes(schema))
    return schema, model


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_equals_the_mixed_sequence(options):
    schema, model = make(history=24, **options)
    inputs = helpers.make_inputs(
        schema, batch=5, num_chunks=model.num_chunks, lengths=[24, 1, 2, 9, 23]
    )
    expected = reference.sparse_ctr(model, inputs)
    np.testing.assert_allclose(
        helpers.scores(model, inputs), expected, rtol=1e-4, atol=2e-5
    )


def test_local_time_decides_the_weekend():
    schema, _ = make()
    schema = dataclasses.replace(schema, utc_offset_hours=-9.5)
    model = build_ranker(
        SparseCTRConfig(dim=16, candidate_tower=()),
        schema,
        helpers.make_table_sizes(schema),
    )
    inputs = helpers.make_inputs(schema, num_chunks=model.num_chunks)
    expected = reference.sparse_ctr(model, inputs)
    np.testing.assert_allclose(
        helpers.scores(model, inputs), expected, rtol=1e-4, atol=2e-5
    )


def test_the_state_does_not_grow_with_the_history():
    sizes = set()
    for history in (256, 1024):
        schema, model = make(history=history, dim=32, num_heads=8)
        state = helpers.encode(
            model, helpers.make_inputs(schema, batch=1, num_chunks=16)
        )
        sizes.add(sum(np.asarray(value).nbytes for value in state.values()))
        blocks = [np.asarray(v).nbytes for k, v in state.items() if "block" in k]
        assert sum(blocks) == (16 + 32 + 5 + 1) * 2 * 32 * 4 * 2
    assert len(sizes) == 1


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_state_of_few_behaviors_fits_into_that_of_many(attention):
    """Servers pad histories to several sizes, and states on the left to one."""
    schema, model = make(attention=attention, window=7)
    assert hasattr(model, "user_projection") == (attention == "evo")
    inputs = helpers.make_inputs(schema, batch=3, num_chunks=4, lengths=[5, 0, 3])
    short = {
        k: v[:, -5:] if k.startswith("behavior_") else v for k, v in inputs.items()
    }
    whole, state = helpers.encode(model, inputs), helpers.encode(model, short)
    for key, value in state.items():
        missing = np.subtract(whole[key].shape, value.shape)
        state[key] = ops.convert_to_tensor(np.pad(value, [(n, 0) for n in missing]))
    candidates = model.embedding.assemble(inputs, model.lookup(inputs))["candidates"]
    spec = model.state_spec()
    expected = model.score(unflatten(whole, spec), candidates)
    found = model.score(unflatten(state, spec), candidates)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_state_scores_any_number_of_candidates():
    schema, model = make()
    inputs = helpers.make_inputs(schema, candidates=7, num_chunks=model.num_chunks)
    features = model.embedding.assemble(inputs, model.lookup(inputs))
    state = unflatten(helpers.encode(model, inputs), model.state_spec())
    whole = model.score(state, features["candidates"])
    part = keras.tree.map_structure(lambda v: v[:, 2:5], features["candidates"])
    np.testing.assert_allclose(model.score(state, part), whole[:, 2:5], atol=1e-6)


def test_the_past_does_not_see_the_future():
    schema, model = make()
    inputs = helpers.make_inputs(schema, batch=2, num_chunks=4, lengths=[16, 12])
    features = model.embedding.assemble(inputs, model.lookup(inputs))
    behaviors = features["behaviors"]
    plan, _ = model.keys(
        behaviors["time"], behaviors["mask"], ops.cast(behaviors["chunk"], "int32")
    )
    profile = model.user_projection(model.user_hidden(features["user"]["embedding"]))

    def rows(embedding):
        hidden = model.behavior_projection(embedding)
        for block in model.blocks:
            hidden, _ = block.encode(hidden, profile, plan)
        return np.asarray(hidden)

    embedding = np.array(behaviors["embedding"])
    before = rows(embedding)
    for position in (5, 11, 15):
        changed = embedding.copy()
        changed[:, position:] += 1.0
        after = rows(changed)
        np.testing.assert_allclose(after[:, :position], before[:, :position], atol=1e-6)
        assert np.all(np.abs(after[:, position] - before[:, position]).max(-1) > 1e-3)


def test_chunks_are_few_for_short_histories():
    config = SparseCTRConfig(sparsity="S2")
    lengths = (1, 4, 7, 50, 64, 1024)
    assert [config.num_chunks_for(n) for n in lengths] == [1, 1, 1, 12, 16, 16]


@pytest.mark.parametrize(
    ("sparsity", "expected"),
    [("S1", (8, 1, 2)), ("S2", (16, 2, 5)), ("S3", (16, 3, 10)), ("S4", (32, 4, 20))],
)
def test_sparsity_sets(sparsity, expected):
    config = SparseCTRConfig(sparsity=sparsity)
    assert (config.num_chunks, config.transition, config.window) == expected
    assert SparseCTRConfig(sparsity=sparsity, window=7).window == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": "S9"}, "Unknown sparsity 'S9'"),
        ({"attention": "ful"}, "Unknown attention 'ful'. Did you mean 'full'?"),
        ({"chunking": "tim"}, "Did you mean 'time'?"),
        ({"dim": 30}, "must divide `dim`=30. Received: num_heads=8"),
        ({"window": 0}, "Received: window=0"),
        ({"num_blocks": -1}, "Received: num_blocks=-1"),
        ({"ffn_factor": 0}, "Received: ffn_factor=0"),
        ({"head_units": (0,)}, "Received: head_units=(0,)"),
        ({"branches": ("globl",)}, "Did you mean 'global'?"),
        ({"branches": ()}, "Received: ()"),
        ({"relations": ("hours",)}, "Did you mean 'hour'?"),
    ],
)
def test_mistakes_in_the_config(options, message):
    with pytest.raises(ValueError) as error:
        SparseCTRConfig(**options)
    assert message in str(error.value)


def test_unknown_model():
    config = dataclasses.replace(SparseCTRConfig(), name="sparse_ctr")
    schema = helpers.make_schema()
    with pytest.raises(ValueError, match="Unknown model 'sparse_ctr'"):
        build_ranker(config, schema, helpers.make_table_sizes(schema))
