"""The layers as a library: by their names, in a functional model, by Keras alone."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from backends import BACKEND
from test_contract import CANDIDATES, LENGTH, WIDTH, batch, stack

import ctr_tf.evaluation
import ctr_tf.layers
import ctr_tf.losses
from ctr_tf.layers import (
    FullAttention,
    FullKeys,
    HSTUBias,
    HSTUBlock,
    PositionBias,
    SparseBlock,
    UnifiedAttentionBlock,
)
from ctr_tf.losses.loss import Loss

PAGE = Path(__file__).parents[2] / "docs" / "layers.md"


def test_every_layer_is_found_by_its_name():
    assert len(ctr_tf.layers.__all__) > 40
    for name in ctr_tf.layers.__all__:
        assert issubclass(getattr(ctr_tf.layers, name), keras.layers.Layer)
    assert dir(ctr_tf.layers) == ctr_tf.layers.__all__
    with pytest.raises(AttributeError, match="has no attribute 'EvoAttentions'"):
        _ = ctr_tf.layers.EvoAttentions


def test_the_page_names_every_layer_loss_and_metric():
    names = {*ctr_tf.layers.__all__, *ctr_tf.losses.__all__, *ctr_tf.evaluation.__all__}
    found = set(re.findall(r"`(\w+)`", PAGE.read_text("utf-8")))
    assert names - {"LOSSES"} <= found


def test_losses_and_metrics_are_found_by_their_names():
    assert issubclass(ctr_tf.losses.LogLoss, Loss)
    for name in ctr_tf.evaluation.__all__:
        assert getattr(ctr_tf.evaluation, name).__name__ == name
    assert dir(ctr_tf.evaluation) == ctr_tf.evaluation.__all__
    with pytest.raises(AttributeError, match="has no attribute 'Metric'"):
        _ = ctr_tf.evaluation.Metric


@pytest.mark.parametrize("kind", ["evo", "transformers", "alternatives"])
def test_saved_and_loaded_by_keras(kind, tmp_path):
    model, inputs = stack(kind, "float32"), batch(3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(model(inputs), loaded(inputs), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_encoding_of_several_blocks_is_loaded_as_one(tmp_path):
    time = keras.Input((LENGTH,), dtype="int64", name="time")
    rows = keras.Input((LENGTH, WIDTH), name="behaviors")
    shown = keras.Input((CANDIDATES, WIDTH), name="candidates")
    inputs = {x.name: x for x in (time, rows, shown)}
    mask, encoding = keras.ops.greater(time, 0), HSTUBias(LENGTH)
    keys = FullKeys(HSTUBias.relations)
    plan, state = keys(time, mask)
    relations = keys.relations_to(state, time[:, -1])
    for block in (SparseBlock(FullAttention(4, encoding)), HSTUBlock(4, encoding)):
        rows, shown = block(rows, shown, None, plan, relations)
    block = UnifiedAttentionBlock(FullAttention(4, encoding))
    outputs = block(rows, shown, mask, None, plan, relations)
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=w.shape) for w in model.weights])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(model.weights)
    values = {name: batch(3)[name] for name in inputs}
    for one, other in zip(model(values), loaded(values), strict=True):
        np.testing.assert_array_equal(one, other)


def test_places_in_a_model(tmp_path):
    place = keras.Input((CANDIDATES,), dtype="int64", name="place")
    mask = keras.Input((CANDIDATES,), dtype="bool", name="mask")
    layer = PositionBias({"place": 6}, num_labels=2)
    bias = layer({"place": place}, mask)
    assert bias.shape == (None, CANDIDATES, 2) and bias.dtype == "float32"
    model = keras.Model({"place": place, "mask": mask}, bias)
    random = np.random.default_rng(0)
    numbers = random.normal(size=(6, 2)).astype(np.float32)
    model.set_weights([numbers])
    inputs = {
        "place": random.integers(0, 6, (3, CANDIDATES)),
        "mask": random.random((3, CANDIDATES)) < 0.7,
    }
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    real = inputs["mask"][..., None]
    shown = numbers[inputs["place"]]
    expected = (shown - (shown * real).sum((0, 1)) / real.sum()) * real
    for one in (model, loaded):
        np.testing.assert_allclose(one(inputs), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["evo", "transformers", "alternatives"])
def test_a_batch_may_be_empty(kind):
    none = {name: value[:0] for name, value in batch(1).items()}
    logits, pooled = stack(kind, "float32")(none)
    assert tuple(logits.shape) == (0, CANDIDATES)
    assert tuple(pooled.shape) == (0, WIDTH)


def page_inputs(size, history=32, slate=5, width=16):
    random = np.random.default_rng(0)
    lengths = random.integers(0, history + 1, size)
    times = 1_700_000_000 + np.cumsum(random.integers(1, 9_000, (size, history)), 1)
    places = np.arange(history) >= history - lengths[:, None]
    return {
        "time": np.where(places, times, 0),
        "request_time": times[:, -1] + 60,
        "behaviors": random.normal(size=(size, history, width)).astype(np.float32),
        "candidates": random.normal(size=(size, slate, width)).astype(np.float32),
        "user": random.normal(size=(size, width)).astype(np.float32),
    }


def test_the_pages_model_trains_saves_loads_and_exports(tmp_path):
    code, _ = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.S | re.M)
    keras.utils.set_random_seed(0)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    model, inputs = names["model"], page_inputs(16)
    clicks = (inputs["candidates"][..., 0] > 0).astype(np.float32)
    history = model.fit(inputs, clicks, epochs=8, batch_size=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    expected = model.predict(inputs, verbose=0)
    model.save(tmp_path / "ctr.keras")
    program = (  # that of somebody who was given the file
        "import sys, keras, numpy as np\n"
        "from ctr_tf.layers import *\n"
        "model = keras.models.load_model(sys.argv[1])\n"
        "inputs = dict(np.load(sys.argv[2]))\n"
        "np.save(sys.argv[3], model.predict(inputs, verbose=0))\n"
    )
    np.savez(tmp_path / "inputs.npz", **inputs)
    paths = [str(tmp_path / n) for n in ("ctr.keras", "inputs.npz", "found.npy")]
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found = np.load(paths[2])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if BACKEND != "tensorflow":
        return  # a SavedModel is TensorFlow's
    import tensorflow as tf

    model.export(str(tmp_path / "exported"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))
    answer = served.serve({k: tf.constant(v) for k, v in inputs.items()})
    np.testing.assert_allclose(answer, expected, atol=1e-6)
