"""CTR-Sink, and texts beside a ranker: what is read, by a slow loop; what it costs."""

import dataclasses

import helpers
import keras
import numpy as np
import pytest
import small_language_model
import tensorflow as tf

from ctr_tf.errors import UserError
from ctr_tf.evaluation.flops import graph_flops, request_graph
from ctr_tf.layers.feature_embedding import PROGRESS
from ctr_tf.layers.state_spec import flatten
from ctr_tf.models import build_ranker
from ctr_tf.models.ctr_sink import CTRSinkConfig
from ctr_tf.models.din import DINConfig
from ctr_tf.models.sim_soft import SIMSoftConfig
from ctr_tf.models.texts_config import TextsConfig
from ctr_tf.models.texts_part import ON_SINKS, read_prompts
from ctr_tf.models.with_texts import WithTextsConfig
from ctr_tf.schema import Bucketized, Positive
from ctr_tf.text.tokenizer import Tokenizer

FOLDER = small_language_model.folder("bert")
KEYS = {
    "language_model": FOLDER,
    "pretrained": False,
    "dropout": 0.0,
    "history_prompt": "liked:",
    "candidate_prompts": ("hat:", "shoe"),
    "history_tokens": 40,
    "candidate_tokens": 14,
    "signal_width": 8,
    "units": (16, 16, 8),
}
SCHEMA = helpers.make_schema(texts=True)
RATED = dataclasses.replace(
    SCHEMA,
    features=(
        *SCHEMA.declared,
        Bucketized("rating", "behavior", boundaries=(2.0, 4.0, 5.0)),
    ),
    positive=Positive("rating", 4.0),
)
TEXTS = helpers.make_texts(SCHEMA)
TOKENIZER = Tokenizer(TEXTS.tokenizer)
(COMMA,), (HAT_COLON, SHOE), LIKED, RAIN = (
    TOKENIZER.ids([","])[0],
    TOKENIZER.ids(["hat:", "shoe"]),
    *TOKENIZER.ids(["liked:", "the rain:"]),
)
SINK = TOKENIZER.id_of("[unused1]")


def make(schema=SCHEMA, **keys):
    keras.utils.set_random_seed(0)
    return build_ranker(
        CTRSinkConfig(**{**KEYS, **keys}),
        schema,
        helpers.make_table_sizes(schema),
        texts=TEXTS,
    )


def batch(schema=SCHEMA, **options):
    inputs = helpers.make_inputs(schema, **options)
    return {key: tf.constant(value) for key, value in inputs.items()}


def words(tokens):
    return [int(token) for token in tokens if token]


def slow_history(titles, times, prompt, request_time, signal, length):
    """Tokens, and the place and signal of each sink; behaviors oldest first."""
    told = [(words(t), time) for t, time in zip(titles, times, strict=True)]
    told = [(t, time) for t, time in told if t]
    while True:
        tokens, places, signals = list(prompt), [], []
        for number, (title, time) in enumerate(told):
            tokens += title
            if number < len(told) - 1:
                places.append(len(tokens))
                later = len(told) - 1 - number
                age = max(request_time - time, 1)
                bucket = min(99, int(np.floor(np.log(age) / 0.301)))
                signals.append({"temporal": bucket, "ordinal": later}[signal])
                tokens += [SINK, COMMA]
        if len(tokens) <= length:
            return tokens, places, signals
        told = told[1:]


@pytest.mark.parametrize("signal", ["temporal", "ordinal"])
@pytest.mark.parametrize("rated", [False, True])
def test_the_state_is_that_of_texts_told_one_by_one(signal, rated):
    schema = RATED if rated else SCHEMA
    prompt = {"negative_prompt": "the rain:"} if rated else {}
    model = make(schema, signal=signal, inter_sink=2, max_behaviors=12, **prompt)
    inputs = batch(schema, batch=6, lengths=[16, 12, 5, 1, 0, 16])
    found = np.asarray(helpers.encode(model, inputs)["texts"])
    assert found.shape == (6, 1 + rated, 16)
    for row in range(6):
        title, time = (
            inputs[f"behavior_{key}"].numpy()[row, -12:] for key in ("title", "time")
        )
        title, time = title[time > 0], time[time > 0]
        chosen = [(LIKED, np.ones(len(time), bool))]
        if rated:
            rating = inputs["behavior_rating"].numpy()[row, -12:][-len(time) :]
            good = rating[: len(time)] >= 2 + 2  # of 2 | 4 | 5, the last two buckets
            chosen = [(LIKED, good), (RAIN, ~good)]
        for text, (prompt, mask) in enumerate(chosen):
            tokens, places, signals = slow_history(
                title[mask], time[mask], prompt, helpers.REQUEST_TIME, signal, 38
            )
            tokens = [TOKENIZER.id_of("[CLS]"), *tokens, TOKENIZER.id_of("[SEP]")]
            reader = model.texts.reader
            expected = reader(
                np.array([tokens]),
                np.ones((1, len(tokens)), bool),
                np.array([places], np.int32).reshape(1, -1) + 1 if places else None,
                np.array([signals], np.int32).reshape(1, -1),
            )
            np.testing.assert_allclose(found[row, text], expected[0], atol=2e-5)


def test_logits_are_those_of_texts_read_together():
    model = make(tasks=())
    inputs = batch(batch=2)
    state = np.asarray(helpers.encode(model, inputs)["texts"])
    scores = helpers.scores(model, inputs)
    reader, ends = model.texts.reader, [TOKENIZER.id_of(e) for e in ("[CLS]", "[SEP]")]
    for row in range(2):
        for place in range(5):
            vectors = [state[row, 0]]
            for name, prompt in (("title", HAT_COLON), ("topic", SHOE)):
                own = words(inputs[f"candidate_{name}"].numpy()[row, place])
                tokens = np.array([[ends[0], *prompt, *own, ends[1]]])
                vectors.append(reader(tokens, np.ones(tokens.shape, bool))[0])
            texts = reader.join(np.stack(vectors)[None])
            expected = model.texts.heads[0](texts)
            np.testing.assert_allclose(scores[row, place], expected[0], atol=1e-5)


def test_shuffled_texts_do_not_tell_the_order():
    inputs = batch(batch=3, lengths=[16, 12, 7])
    other = dict(inputs)
    for key in ("behavior_title", "behavior_topic"):
        titles = inputs[key].numpy()
        for row, length in enumerate((16, 12, 7)):
            titles[row, -length:] = titles[row, -length:][::-1]
        other[key] = tf.constant(titles)
    for order, equal in (("shuffled", True), ("time", False)):
        model = make(order=order, signal="none", history_tokens=64, max_behaviors=8)
        one, two = (helpers.encode(model, each)["texts"] for each in (inputs, other))
        if equal:  # of a history that is read whole
            np.testing.assert_allclose(one[2], two[2], atol=1e-5)
        else:
            assert np.abs(one[2] - two[2]).max() > 1e-3
    temporal = make(order="shuffled", history_tokens=64, max_behaviors=8)
    one, two = (helpers.encode(temporal, each)["texts"] for each in (inputs, other))
    assert np.abs(one[2] - two[2]).max() > 1e-4  # the sinks know when


def test_a_random_signal_repeats():
    model, inputs = make(signal="random"), batch()
    np.testing.assert_array_equal(
        helpers.scores(model, inputs), helpers.scores(model, inputs)
    )
    other = {**inputs, "request_time": inputs["request_time"] + 1}
    assert np.abs(helpers.scores(model, other) - helpers.scores(model, inputs)).max()


def test_at_first_a_users_text_is_its_sinks():
    model, inputs = make(sink_stage=0.5), batch(lengths=[16, 8, 1, 0])
    assert model.reads_progress
    rows = model.lookup(inputs)

    def logits(progress=None):
        more = {} if progress is None else {PROGRESS: tf.constant(progress)}
        return np.asarray(model.logits({**inputs, **more}, rows, training=True))

    np.testing.assert_array_equal(logits(0.5), logits())
    assert np.abs(logits(0.49) - logits()).max() > 1e-4
    plain = make()
    assert not plain.reads_progress


def test_attention_on_sinks_is_a_share():
    model, inputs = make(), batch(lengths=[16, 8, 1, 0])
    outputs = model.outputs(inputs, model.lookup(inputs))
    total, count = (float(value) for value in outputs.measures[ON_SINKS])
    # Texts of one behavior and of none have no sink.
    lengths = [len(words(text)) for text in _assembled(model, inputs)]
    assert count == 2 * sum(lengths[:2])
    assert 0 < total < count
    assert make(sinks=False).measured == ()
    assert not make(sinks=False).outputs(inputs, model.lookup(inputs)).measures


def _assembled(model, inputs):
    tokens = inputs["behavior_title"]
    return model.texts.histories[0](tokens).tokens.numpy()


def test_without_sinks_the_separator_alone_is_left():
    model, inputs = make(sinks=False), batch(lengths=[16] * 4)
    tokens = _assembled(model, inputs)
    assert not (tokens == SINK).any() and (tokens == COMMA).any()
    assert (_assembled(make(), inputs) == SINK).any()


def test_the_users_text_is_read_once_whatever_the_candidates():
    model = make()

    def flops(candidates):
        inputs = helpers.make_inputs(SCHEMA, batch=1, candidates=candidates)
        inputs = {key: tf.constant(value) for key, value in inputs.items()}
        return graph_flops(request_graph(model, inputs).graph)

    one, two, nine = (flops(count) for count in (1, 2, 9))
    assert nine - two == 7 * (two - one)
    assert one > 2.5 * (two - one)  # 40 tokens of a history, 28 of a candidate, short


def test_the_state_does_not_grow():
    for schema, texts in ((SCHEMA, 1), (RATED, 2)):
        spec = flatten(make(schema).state_spec())
        assert spec["texts"].at(5) == spec["texts"].at(1_000) == (texts, 16)
        assert {path for path, own in spec.items() if own.grows} == set()


def test_texts_beside_a_ranker_add_their_logit():
    config = WithTextsConfig(
        ranker=SIMSoftConfig(dim=16, num_heads=4, top_k=6, recent=5),
        texts=TextsConfig(**KEYS),
    )
    sizes = helpers.make_table_sizes(SCHEMA)
    both = build_ranker(config, SCHEMA, sizes, texts=TEXTS)
    inputs = batch()
    rows = both.lookup(inputs)
    groups = both.embedding.assemble(inputs, rows)
    user, behaviors, context = (groups[g] for g in ("user", "behaviors", "context"))
    state = both.ranker.encode(user, behaviors, context)
    texts, _ = both.texts.encode(behaviors, context["time"])
    expected = both.ranker.score(state, groups["candidates"])
    expected += both.texts.score(texts, groups["candidates"])
    outputs = both.outputs(inputs, rows)
    np.testing.assert_allclose(outputs.logits, expected, atol=1e-6)
    assert set(outputs.auxiliary) == {"search"}
    assert both.num_chunks == both.ranker.num_chunks
    assert {id(t) for t in both.embedding.tables.values()} == {
        id(t) for t in both.ranker.embedding.tables.values()
    }


def test_places_are_learned_once_beside_a_ranker_and_its_texts():
    place = Bucketized("place", "position", dtype="int64", num_values=4)
    schema = dataclasses.replace(SCHEMA, features=(*SCHEMA.declared, place))
    config = WithTextsConfig(ranker=DINConfig(), texts=TextsConfig(**KEYS))
    sizes = helpers.make_table_sizes(schema)
    both = build_ranker(config, schema, sizes, texts=TEXTS)
    (numbers,) = [w for w in both.trainable_weights if "position_bias" in w.path]
    numbers.assign(np.random.default_rng(0).normal(size=numbers.shape))
    ids = np.array([[2, 3, 4, 5, 2]] * 4)
    inputs = {**batch(schema), "position_place": tf.constant(ids)}
    outputs = both.outputs(inputs, both.lookup(inputs), training=True)
    real = inputs["candidate_mask"].numpy()
    place = numbers.numpy()[ids, 0]
    expected = np.where(real, place - place[real].mean(), 0)
    np.testing.assert_allclose(outputs.places[..., 0], expected, atol=1e-6)


def test_what_learns():
    def names(**keys):
        model = make(**keys)
        return {v.path for v in model.network if v.trainable}, model

    upper, model = names(tune="upper", inter_sink=2)
    layers = model.texts.reader.model.backbone.transformer_layers
    lower, later = ([v.path for v in layer.weights] for layer in layers[1:3])
    assert not upper & set(lower) and set(later) <= upper
    nothing, model = names(tune="nothing", inter_sink=1)
    own = {v.path for v in model.texts.reader.model.weights}
    assert not nothing & own
    for part in ("sinks/table", "inter_sink_0/gamma", "head_0/logit/kernel"):
        assert any(path.endswith(part) for path in nothing), part


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"language_model": ""}, "`language_model` is the folder"),
        ({"tune": "most"}, "tune"),
        ({"signal": "time"}, "signal"),
        ({"order": "random"}, "order"),
        ({"sink_stage": 1.5}, "`sink_stage` lies between 0 and 1"),
        ({"sinks": False, "inter_sink": 1}, "are of sinks"),
        ({"history": "name"}, "text feature.*'name'"),
        ({"candidate": ("title", "name")}, "text feature.*'name'"),
        ({"candidate_prompts": ("one",)}, "as many as texts of a candidate, title"),
        ({"sink_token": "[sink]"}, "`sink_token` is an entry.*\\[sink\\]"),
        ({"inter_sink": 3}, "num_inter_sink"),
        ({"candidate_tokens": 6}, "must leave room for a text of 4 tokens"),
        ({"history_tokens": 65}, "cannot be more than the 64 tokens.*tokens=65"),
        ({"history_tokens": 0}, "`history_tokens` must be a positive"),
        ({"negative_prompt": "no:"}, "schema 'toy' does not tell.*'no:'"),
        ({"tune": "lora"}, "`lora` is given where"),
    ],
)
def test_mistakes(keys, message):
    with pytest.raises(UserError, match=message):
        model = make(**keys)
        helpers.scores(model, batch())


def test_data_must_be_of_the_models_tokenizer(tmp_path):
    with pytest.raises(UserError, match="the data have none.*schema 'toy'"):
        read_prompts(CTRSinkConfig(**KEYS), helpers.make_schema(), None)
    sizes = {"max_position_embeddings": 40}
    folder = small_language_model.make_folder(tmp_path / "lm", **sizes)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="tokens of the language model's own tokenizer"):
        make(language_model=str(folder))
    (folder / "tokenizer.json").write_text(TEXTS.tokenizer)
    make(language_model=str(folder))
    small_language_model.make_folder(tmp_path / "lm", vocab_size=59, **sizes)
    with pytest.raises(UserError, match="more entries than the 59 rows.*60 entries"):
        make(language_model=str(folder))


def test_a_reader_of_texts_within_another_is_refused():
    with pytest.raises(UserError, match="reads no texts itself.*'ctr_sink'"):
        WithTextsConfig(ranker=CTRSinkConfig(**KEYS))
    assert WithTextsConfig(ranker=DINConfig(tasks=())).tasks == ()
