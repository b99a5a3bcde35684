"""A small schema and random batches that fit it, for tests of models and training."""

import re

import numpy as np
from text_helpers import WORDS, small_tokenizer

from ctr_tf.layers.state_spec import flatten, unflatten
from ctr_tf.schema import FIRST_ID, Bucketized, Categorical, Numeric, Schema, Text
from ctr_tf.schema.texts import Texts
from ctr_tf.time import chunk_ids, hour_of_day, is_weekend

VOCABULARY_SIZE = 50
NUM_TOKENS = 60  # of texts, those of `small_language_model`
REQUEST_TIME = 1_700_000_000
TITLES = (Text("title", "item", length=4), Text("topic", "item", length=2))


def make_schema(
    history_length: int = 16, num_chunks: int = 4, texts: bool = False
) -> Schema:
    """A schema with every role and every kind of feature; texts where wanted."""
    return Schema(
        name="toy",
        features=(
            Categorical("item_id", "item", dtype="int64"),
            Categorical("category", "item"),
            Categorical("genres", "item", length=3),
            Numeric("price", "item", transform="log1p"),
            Bucketized("age", "user", boundaries=(18.0, 25.0, 35.0)),
            Categorical("tags", "user", length=3),
            Categorical("device", "context"),
            Categorical("action", "behavior"),
            Bucketized("position", "candidate", num_values=8, dtype="int64"),
            *(TITLES if texts else ()),
        ),
        history_length=history_length,
        num_chunks=num_chunks,
        counter_windows=("1d",),
        newness=True,
        places=("clicks_1d",),
        slate_size=True,
    )


def make_narrow_schema(history_length: int, texts: bool = False) -> Schema:
    """A schema of few features, for whole trainings: these are quickly traced."""
    return Schema(
        name="narrow",
        features=(
            Categorical("item_id", "item", dtype="int64"),
            Categorical("category", "item"),
            Numeric("price", "item", transform="log1p"),
            Bucketized("age", "user", boundaries=(18.0, 25.0, 35.0)),
            *(TITLES if texts else ()),
        ),
        history_length=history_length,
        num_chunks=4,
    )


def make_table_sizes(schema: Schema) -> dict[str, int]:
    """Rows of every embedding table of `schema`."""
    return {
        feature.table: feature.num_ids or VOCABULARY_SIZE
        for feature in schema.features
        if feature.is_embedded
    }


def make_texts(schema: Schema) -> Texts | None:
    """Texts of a schema that has any, of no item, with a tokenizer of 60 entries."""
    if not schema.texts:
        return None
    words = [f"word{i}" for i in range(NUM_TOKENS - len(WORDS))]
    tables = {f.name: np.zeros((2, f.length), np.int32) for f in schema.texts}
    return Texts(small_tokenizer(*words), [], tables)


def make_times(
    random: np.random.Generator, batch: int, history: int, lengths=None
) -> np.ndarray:
    """`[B, N]` int64: bursts and long gaps, oldest first, 0 on the left padding."""
    scale = 10.0 ** random.uniform(0, 6, (batch, history))
    gaps = (random.exponential(size=(batch, history)) * scale).astype(np.int64)
    time = REQUEST_TIME - 60 - np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1]
    time = np.maximum(time, 1)
    if lengths is None:
        lengths = random.integers(1, history + 1, batch)
        lengths[0] = history
    padding = history - np.asarray(lengths)[:, None]
    return np.where(np.arange(history) >= padding, time, 0)


def make_inputs(
    schema: Schema,
    batch: int = 4,
    history: int | None = None,
    candidates: int = 5,
    seed: int = 0,
    num_chunks: int | None = None,
    lengths=None,
) -> dict[str, np.ndarray]:
    """A batch as `ctr_tf.data` makes it (embedded features are ids already).

    Args:
        schema: of the data.
        batch: B.
        history: N; the schema's `history_length` by default.
        candidates: C; every other row has one candidate of padding.
        seed: of everything random.
        num_chunks: P of `behavior_chunk`; the schema's by default.
        lengths: valid behaviors a row; by default random, the first row full.

    Returns:
        The dict that `Ranker.call` takes.
    """
    random = np.random.default_rng(seed)
    history = history or schema.history_length
    time = make_times(random, batch, history, lengths)
    valid = time > 0
    candidate_mask = np.ones((batch, candidates), bool)
    if candidates > 1:
        candidate_mask[1::2, -1] = False
    inputs = {
        "request_time": np.full(batch, REQUEST_TIME, np.int64),
        "behavior_time": time,
        "behavior_chunk": chunk_ids(
            time, valid, num_chunks or schema.num_chunks
        ).astype(np.int32),
        "candidate_mask": candidate_mask,
    }
    sizes = make_table_sizes(schema)
    for group, features in schema.groups().items():
        for feature in features:
            shape, mask = {
                "behavior": ((batch, history), valid),
                "candidate": ((batch, candidates), candidate_mask),
            }.get(group, ((batch, feature.length), True))
            if feature.is_text:
                shape, mask = (*shape, feature.length), mask[..., None]
            if feature.max_values > 1 and group in ("behavior", "candidate"):
                shape, mask = (*shape, feature.length), mask[..., None]
            if feature.is_text:
                value = random.integers(len(WORDS), NUM_TOKENS, shape)
                least = feature.length // 4  # a topic may lack, no title does
                length = random.integers(least, feature.length + 1, (*shape[:-1], 1))
                mask = mask & (np.arange(feature.length) < length)
            elif feature.is_embedded:
                value = random.integers(1, sizes[feature.table], shape)
            else:
                value = random.normal(size=shape).astype(np.float32)
            inputs[f"{group}_{feature.name}"] = np.where(mask, value, 0).astype(
                value.dtype
            )
    clock = {"hour": hour_of_day, "weekend": is_weekend}
    for name, function in clock.items():
        inputs[f"behavior_{name}"] = np.where(valid, FIRST_ID + function(time), 0)
        inputs[f"context_{name}"] = FIRST_ID + function(inputs["request_time"])[:, None]
    return inputs


def weights_by_path(model) -> dict:
    """A model's weights by their paths, without what Keras counts in a process."""
    prefix = re.compile(r"^\w+/(feature_embedding\w*/)?")
    return {prefix.sub("", weight.path): weight for weight in model.weights}


def scores(model, inputs) -> np.ndarray:
    """Logits `[B, C]` of the label that a model is trained for."""
    return np.asarray(model(inputs))[..., 0]


def encode(model, inputs) -> dict:
    """A batch's states, flat: path → tensor."""
    groups = model.embedding.assemble(inputs, model.lookup(inputs))
    state = model.encode(groups["user"], groups["behaviors"], groups["context"])
    return flatten(state)


def assert_short_state_fits(model, inputs) -> None:
    """A state of 5 behaviors, padded on the left to one of many, scores like that.

    Args:
        model: a ranker.
        inputs: a batch, with histories of at most 5 behaviors.
    """
    short = {
        k: v[:, -5:] if k.startswith("behavior_") else v for k, v in inputs.items()
    }
    whole, state = encode(model, inputs), encode(model, short)
    for key, value in state.items():
        missing = np.subtract(whole[key].shape, value.shape)
        state[key] = np.pad(value, [(count, 0) for count in missing])
    candidates = model.embedding.assemble(inputs, model.lookup(inputs))["candidates"]
    np.testing.assert_allclose(
        model.score(unflatten(state, model.state_spec()), candidates),
        model.score(unflatten(whole, model.state_spec()), candidates),
        rtol=1e-5,
        atol=1e-5,
    )


def make_labels(inputs: dict, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random clicks `[B, C, 1]` and the weights `[B, C]`, 1 on real candidates."""
    random = np.random.default_rng(seed)
    mask = inputs["candidate_mask"]
    labels = (random.random(mask.shape) < 0.3) & mask
    return labels.astype(np.float32)[..., None], mask.astype(np.float32)


def make_trainer(ranker, options=None, objective=None, loss_scaling=False, **compiled):
    """A compiled trainer of one ranker; by default Adam, on the default objective."""
    # TensorFlow's; the layers' tests run without it.
    from ctr_tf.training.objective import ObjectiveConfig, make_objective
    from ctr_tf.training.optimizers import OptimizerConfig, make_optimizer
    from ctr_tf.training.trainer import Trainer

    trainer = Trainer(make_objective(objective or ObjectiveConfig(), ranker), ranker)
    optimizer = make_optimizer(
        options or OptimizerConfig(), trainer.tables, loss_scaling=loss_scaling
    )
    trainer.compile(optimizer, **compiled)
    return trainer
