"""Where candidates were shown: learned beside a model, and asked for by no request."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_tf.commands.main import main
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.layers.position_bias import PositionBias
from ctr_tf.losses import AuxiliaryLoss
from ctr_tf.models import build_ranker
from ctr_tf.models.sim_soft import SIMSoftConfig
from ctr_tf.schema import Bucketized, Categorical, Numeric, Schema
from ctr_tf.training.run import load_run
from pipelines import listwise

START, PLACES, STEEP = 1_700_000_000, 5, 2.0


def make_schema(*features):
    return Schema(
        name="placed",
        history_length=4,
        counters=(),
        features=(
            Categorical("item_id", "item", dtype="int64"),
            Bucketized("place", "position", dtype="int64", num_values=PLACES),
            *features,
        ),
    )


def test_biases_are_those_of_a_loop_and_have_no_mean():
    random, sizes = np.random.default_rng(0), {"place": 6, "page": 4}
    layer = PositionBias(sizes, num_labels=2)
    layer.build()
    for weights in layer.weights:
        weights.assign(random.normal(size=weights.shape))
    ids = {name: random.integers(0, size, (3, 4)) for name, size in sizes.items()}
    mask = random.random((3, 4)) < 0.7
    expected = np.zeros((3, 4, 2))
    for b, c in np.argwhere(mask):
        for name, table in layer.weights_of.items():
            expected[b, c] += table.numpy()[ids[name][b, c]]
    expected = (expected - expected.sum((0, 1)) / mask.sum()) * mask[..., None]
    found = np.asarray(layer(ids, mask))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum((0, 1)), 0, atol=1e-5)
    nothing = np.asarray(layer(ids, np.zeros((3, 4), bool)))
    assert not nothing.any()


def test_a_position_is_one_bucket():
    for feature in (
        Numeric("row", "position"),
        Categorical("row", "position"),
        Bucketized("row", "position", num_values=3, length=2),
    ):
        with pytest.raises(UserError, match="'row': a position is one value"):
            make_schema(feature)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a log in which places alone decide, each item at every one of them."""
    folder, random = tmp_path_factory.mktemp("placed"), np.random.default_rng(0)
    slates = 2_000
    place = np.tile(np.arange(PLACES), slates)
    logit = STEEP * np.linspace(0.5, -0.5, PLACES)[place] - 0.5
    rows = {
        "request_id": np.repeat(np.arange(slates), PLACES).astype(str),
        "user_id": np.repeat(random.integers(0, 50, slates), PLACES).astype(str),
        "time": START + 60 * np.repeat(np.arange(slates), PLACES),
        "item_id": np.concatenate(
            [random.choice(40, PLACES, replace=False) for _ in range(slates)]
        ),
        "click": (random.random(len(place)) < 1 / (1 + np.exp(-logit))).astype(int),
        "place": place,
    }
    (folder / "raw").mkdir()
    make_schema().save(folder / "raw" / "schema.yaml")
    pq.write_table(pa.table(rows), folder / "raw" / "exposures.parquet")
    words = ["--source", "jsonl", "--input", str(folder / "raw")]
    listwise.run([*words, "--output", str(folder / "data")])
    words = ["train", "--config", "default", "--model", "tower"]
    words += ["--data", str(folder / "data"), "--run", str(folder / "run")]
    keys = ["training.epochs=14", "data.batch_size=32", "training.validate_every=500"]
    assert main([*words, *keys]) == 0
    return folder


def test_what_the_place_does_is_learned_beside_the_model(trained):
    ranker = load_run(trained / "run", weights="last").ranker
    (weights,) = ranker.position_bias.weights
    learned = weights.numpy()[2:, 0]
    learned -= learned.mean()
    truth = STEEP * np.linspace(0.5, -0.5, PLACES)
    np.testing.assert_allclose(learned, truth, atol=0.25)


def test_no_score_has_it_and_no_request_needs_it(trained, capsys):
    data = PreparedData.load(trained / "data")
    config = DataConfig(batch_size=8)
    asked, _, _ = next(
        iter(dataset(data, "test", config, num_chunks=4, training=False))
    )
    assert not any(key.startswith("position_") for key in asked)
    read = dataset(data, "train", config, num_chunks=16, training=True)
    inputs, _, _ = next(iter(read))
    ranker = load_run(trained / "run").ranker
    scores = ranker(inputs)
    asked = {k: v for k, v in inputs.items() if not k.startswith("position_")}
    np.testing.assert_array_equal(ranker(asked), scores)
    rows = ranker.lookup(inputs)
    outputs = ranker.outputs(inputs, rows, training=True)
    np.testing.assert_allclose(outputs.logits, scores, atol=1e-6)
    shown = outputs.as_shown
    bias = ranker.position_bias(
        {"place": inputs["position_place"]}, inputs["candidate_mask"]
    )
    assert np.abs(bias).max() > 0.5
    np.testing.assert_allclose(shown - scores, bias, atol=1e-5)
    run = str(trained / "run")
    words = ["export", "--run", run, "--verify", "--history_lengths", "4"]
    assert main([*words, "--slate_sizes", "8", "--batch_sizes", "1"]) == 0
    (model,) = (trained / "run" / "export").iterdir()
    request = model / "assets.extra" / "example_request.json"
    assert "place" not in request.read_text("utf-8")
    words = ["score", "--export", str(model), "--request", str(request), "--json"]
    assert main(words) == 0


def test_what_a_model_predicts_on_the_side_has_the_places_too(trained):
    data = PreparedData.load(trained / "data")
    read = dataset(
        data, "train", DataConfig(batch_size=4), num_chunks=16, training=True
    )
    inputs, labels, weights = next(iter(read))
    sizes = data.vocabularies.table_sizes(data.schema)
    ranker = build_ranker(SIMSoftConfig(dim=8, num_heads=2), data.schema, sizes)
    (numbers,) = ranker.position_bias.weights
    numbers.assign(np.random.default_rng(0).normal(size=numbers.shape))
    outputs = ranker.outputs(inputs, ranker.lookup(inputs), training=True)
    found = AuxiliaryLoss().total({"main": outputs}, labels, weights)
    real, label = np.asarray(weights) > 0, np.asarray(labels)[..., 0]
    place = numbers.numpy()[np.asarray(inputs["position_place"]), 0]
    logit = np.asarray(outputs.auxiliary["search"])[..., 0]
    shown = logit + place - place[real].mean()
    probability = 1 / (1 + np.exp(-shown))
    losses = -np.log(np.where(label > 0, probability, 1 - probability))
    expected = (np.asarray(weights) * losses)[real].sum()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_inspect_shows_the_places(trained, capsys):
    assert main(["inspect", "--data", str(trained / "data"), "--split", "test"]) == 0
    shown = capsys.readouterr().out
    assert "place" in shown
    header = next(line for line in shown.splitlines() if " # " in line)
    assert header.index("place") < header.index("item_id")
