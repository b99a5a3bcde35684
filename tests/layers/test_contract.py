"""The contract of every layer: configs, shapes, one fit step, every precision."""

import itertools
import re

import helpers
import keras
import numpy as np
import pytest
from backends import BACKEND

import ctr_tf.layers
from ctr_tf.layers.activation_unit import ActivationUnit
from ctr_tf.layers.alibi import Alibi
from ctr_tf.layers.asga import ASGA
from ctr_tf.layers.behavior_clusters import BehaviorClusters
from ctr_tf.layers.cluster_attention import ClusterAttention
from ctr_tf.layers.co_action import CoAction
from ctr_tf.layers.context_gated_fusion import ContextGatedFusion
from ctr_tf.layers.dice import Dice
from ctr_tf.layers.dilated_attention import DilatedAttention
from ctr_tf.layers.dilated_keys import DilatedKeys
from ctr_tf.layers.dual_alignment import DualAlignment
from ctr_tf.layers.evo_attention import EvoAttention
from ctr_tf.layers.evo_keys import EvoKeys
from ctr_tf.layers.feature_embedding import FeatureEmbedding
from ctr_tf.layers.fixed_chunking import FixedChunking
from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.full_keys import FullKeys
from ctr_tf.layers.gated_query_calibration import GatedQueryCalibration
from ctr_tf.layers.hash_collisions import HashCollisions
from ctr_tf.layers.history_views import HistoryViews
from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.hstu_block import HSTUBlock
from ctr_tf.layers.kernel_attention import KernelAttention
from ctr_tf.layers.kernel_keys import KernelKeys
from ctr_tf.layers.native_sparse_attention import NativeSparseAttention
from ctr_tf.layers.native_sparse_keys import NativeSparseKeys
from ctr_tf.layers.pafs import PAFS
from ctr_tf.layers.position_bias import PositionBias
from ctr_tf.layers.post_norm_block import PostNormBlock
from ctr_tf.layers.prediction_head import PredictionHead
from ctr_tf.layers.profile_tokens import ProfileTokens
from ctr_tf.layers.recent_attention import RecentAttention
from ctr_tf.layers.rel_temporal import RelTemporal
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.rms_norm import RMSNorm
from ctr_tf.layers.rotary_encoding import RotaryEncoding
from ctr_tf.layers.search_attention import SearchAttention
from ctr_tf.layers.sim_hash import SimHash
from ctr_tf.layers.similarity_chunking import SimilarityChunking
from ctr_tf.layers.sparse_block import SparseBlock
from ctr_tf.layers.swiglu import SwiGLU
from ctr_tf.layers.t5_bias import T5Bias
from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.layers.text.inter_sink_attention import InterSinkAttention
from ctr_tf.layers.text.low_rank import LowRank
from ctr_tf.layers.text.sink_embedding import SinkEmbedding
from ctr_tf.layers.text.texts_head import TextsHead
from ctr_tf.layers.time_chunking import TimeChunking
from ctr_tf.layers.token_merge import TokenMerge
from ctr_tf.layers.tower import Tower
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.layers.transformer_reader import TransformerReader
from ctr_tf.layers.unified_attention_block import UnifiedAttentionBlock

LENGTH, CANDIDATES, WIDTH, USER = 12, 3, 16, 6
HALF = "mixed_float16"
POLICIES = ("float32", HALF, "mixed_bfloat16")
SCHEMA = helpers.make_schema()
LAYERS = (
    TimeChunking(3),
    FixedChunking(3),
    SimilarityChunking(3),
    EvoKeys(3, 2, 4, branches=("global", "local"), relations=("hour",), zone=60),
    FullKeys(relations=("time",), zone=60),
    RelTemporal(4, relations=("time", "weekend")),
    SwiGLU(8, use_bias=True),
    PredictionHead((8, 4)),
    RelTemporal(2, relations=()),
    RelativeEncoding(),
    HSTUBias(7),
    T5Bias(4, num_buckets=8, max_distance=20),
    Alibi(4),
    RotaryEncoding(4, base=100.0),
    EvoAttention(4, 5, branches=("local",), encoding=RelTemporal(4, relations=())),
    FullAttention(4, encoding=HSTUBias(8)),
    DilatedKeys(3, 5, relations=("hour",), zone=60),
    DilatedAttention(4, 3, 5, encoding=HSTUBias(8), sees_itself=True),
    NativeSparseKeys(3, 5, relations=("hour",), zone=60),
    NativeSparseAttention(4, 3, 2, 5, encoding=HSTUBias(8), zone=60),
    KernelKeys(),
    KernelAttention(4, 5, 8),
    SparseBlock(EvoAttention(4, 5), ffn_factor=2),
    SparseBlock(FullAttention(4), ffn_factor=2),
    PostNormBlock(FullAttention(4, RelativeEncoding(), sees_itself=True), 1.5),
    HSTUBlock(4, HSTUBias(5)),
    UnifiedAttentionBlock(FullAttention(4, HSTUBias(5)), 2, norm="layer"),
    UnifiedAttentionBlock(
        FullAttention(4),
        swiglu=False,
        fusion=False,
        dual_alignment=False,
        post_norm=True,
    ),
    RMSNorm(epsilon=1e-4),
    PositionBias({"place": 6}, num_labels=2),
    ProfileTokens((2, 4), 5),
    DualAlignment(),
    TokenMerge(3, ffn_factor=1),
    PAFS(),
    ASGA(4, gated=False, activation="sigmoid"),
    GatedQueryCalibration(),
    ContextGatedFusion(purified=False),
    HistoryViews("count", (3, 9)),
    SimHash(4, 2, seed=3),
    HashCollisions(4, 2, seed=3),
    BehaviorClusters(8, 3, seed=3),
    ClusterAttention(4, top_k=7),
    Tower((7, 3), activation="dice"),
    TowerHead((7, 3), ("purchase",), activation="dice"),
    Dice(momentum=0.9),
    ActivationUnit((7, 3)),
    CoAction((7, 3), orders=2),
    TargetAttention(2),
    RecentAttention(2, count=3),
    SearchAttention(2, top_k=3),
    TransformerReader([SparseBlock(FullAttention(4))], ("time",), time_gaps=True),
    FeatureEmbedding(SCHEMA, helpers.make_table_sizes(SCHEMA), 4),
    SinkEmbedding(16, 4, start_norm=0.5),
    InterSinkAttention(2, gamma=1.0, dropout=0.1, epsilon=1e-6),
    LowRank(5, rank=2, alpha=3.0),
    TextsHead((8, 7, 6), match=(0, 2)),
)


def test_every_public_layer_is_here():
    assert set(ctr_tf.layers.__all__) <= {type(layer).__name__ for layer in LAYERS}


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_config_round_trip(layer):
    data = keras.saving.serialize_keras_object(layer)
    assert data["registered_name"] == f"ctr_tf>{type(layer).__name__}"
    assert keras.saving.deserialize_keras_object(data).get_config() == (
        layer.get_config()
    )


def stack(kind: str, policy: str) -> keras.Model:
    """All layers of one kind in one functional model of candidates' logits."""
    time = keras.Input((LENGTH,), dtype="int64", name="time")
    mask = keras.Input((LENGTH,), dtype="bool", name="mask")
    request_time = keras.Input((), dtype="int64", name="request_time")
    behaviors = keras.Input((LENGTH, WIDTH), name="behaviors")
    candidates = keras.Input((CANDIDATES, WIDTH), name="candidates")
    user = keras.Input((USER,), name="user")
    if kind == "transformers":
        inputs = [time, mask, request_time, behaviors, candidates, user]
        return transformers(inputs, policy)
    if kind == "alternatives":
        inputs = [time, mask, request_time, behaviors, candidates, user]
        return alternatives(inputs, policy)
    if kind == "full":
        chunk, profile = FixedChunking(3)(time, mask), user
        keys, attention = FullKeys(), FullAttention(4, dtype=policy)
    else:
        chunk = TimeChunking(3)(time, mask)
        profile = keras.layers.Dense(WIDTH, dtype=policy)(user)
        keys, attention = EvoKeys(3, 2, 4), EvoAttention(4, 4, dtype=policy)
    plan, state = keys(time, mask, chunk)
    relations = keys.relations_to(state, request_time)
    block = SparseBlock(attention, dtype=policy)
    rows, scored = block(behaviors, candidates, profile, plan, relations)
    logits = PredictionHead((8,), dtype=policy)(scored, user)
    pooled = keras.layers.GlobalAveragePooling1D(dtype="float32")(rows)
    inputs = [time, mask, request_time, behaviors, candidates, user]
    return keras.Model({x.name: x for x in inputs}, [logits, pooled])


def alternatives(inputs: list, policy: str) -> keras.Model:
    """The other attentions of SparseCTR, one block after another."""
    time, mask, request_time, rows, scored, user = inputs
    for keys, attention in (
        (DilatedKeys(2, 5), DilatedAttention(4, 2, 5, dtype=policy)),
        (NativeSparseKeys(5, 2), NativeSparseAttention(4, 5, 2, 2, dtype=policy)),
        (KernelKeys(), KernelAttention(4, 3, LENGTH, dtype=policy)),
    ):
        plan, state = keys(time, mask)
        relations = keys.relations_to(state, request_time)
        block = SparseBlock(attention, dtype=policy)
        rows, scored = block(rows, scored, None, plan, relations)
    pooled = keras.layers.GlobalAveragePooling1D(dtype="float32")(rows)
    logits = PredictionHead((8,), dtype=policy)(scored, user)
    return keras.Model({x.name: x for x in inputs}, [logits, pooled])


def transformers(inputs: list, policy: str) -> keras.Model:
    """Blocks of BST, HSTU and SUAN, merged tokens."""
    time, mask, request_time, behaviors, candidates, user = inputs
    keys = FullKeys(HSTUBias.relations)
    plan, state = keys(time, mask)
    relations = keys.relations_to(state, request_time)
    attention = FullAttention(4, HSTUBias(LENGTH), sees_itself=True, dtype=policy)
    rows, scored = PostNormBlock(attention, dtype=policy)(
        behaviors, candidates, None, plan, relations
    )
    hstu = HSTUBlock(4, HSTUBias(LENGTH), dtype=policy)
    rows, scored = hstu(rows, scored, None, plan, relations)
    profile = ProfileTokens((2, 4), 5, dtype=policy)(user)
    attention = FullAttention(4, HSTUBias(LENGTH), sees_itself=True, dtype=policy)
    rows, scored = UnifiedAttentionBlock(attention, dtype=policy)(
        rows, scored, mask, profile, plan, relations
    )
    tokens, _ = TokenMerge(5, dtype=policy)(rows, mask)
    pooled = keras.layers.GlobalAveragePooling1D(dtype="float32")(tokens)
    logits = PredictionHead((8,), dtype=policy)(scored, user)
    return keras.Model({x.name: x for x in inputs}, [logits, pooled])


def batch(size: int) -> dict:
    random = np.random.default_rng(0)
    time = helpers.make_times(random, size, LENGTH)

    def normal(*shape):
        return random.normal(size=(size, *shape)).astype(np.float32)

    return {
        "time": time,
        "mask": time > 0,
        "request_time": np.full(size, helpers.REQUEST_TIME, np.int64),
        "behaviors": normal(LENGTH, WIDTH),
        "candidates": normal(CANDIDATES, WIDTH),
        "user": normal(USER),
    }


def jax_arrays_of_float64(model, inputs):
    """Operations whose result is one: slow on accelerators, and asked for by nobody."""
    import jax

    count = len(model.trainable_variables)
    values = [variable.value for variable in model.variables]

    def forward(values, inputs):
        return model.stateless_call(values[:count], values[count:], inputs)[0]

    return re.findall(r"f64\[\d.*", str(jax.make_jaxpr(forward)(values, inputs)))


STEPS = [
    *itertools.product(("evo", "full", "transformers"), POLICIES),
    ("alternatives", HALF),  # for the others see test_invariants
]
if BACKEND == "jax":  # each is compiled, which takes several times as long
    STEPS = [
        *itertools.product(
            ("evo", "full", "transformers", "alternatives"), POLICIES[:1]
        ),
        *itertools.product(("evo", "transformers"), POLICIES[2:]),
    ]


@pytest.mark.parametrize(("kind", "policy"), STEPS)
def test_shapes_and_one_fit_step(kind, policy):
    keras.utils.set_random_seed(0)
    model = stack(kind, policy)
    assert [x.shape for x in model.outputs] == [(None, CANDIDATES), (None, WIDTH)]
    assert model.outputs[0].dtype == "float32"
    inputs = batch(4)
    # On JAX in one program: it compiles single operations one by one.
    forward = model.predict_on_batch if BACKEND == "jax" else model
    if BACKEND == "jax":
        assert not jax_arrays_of_float64(model, inputs)
    logits, pooled = forward(inputs)
    assert tuple(logits.shape) == (4, CANDIDATES)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert tuple(pooled.shape) == (4, WIDTH)
    before = [np.array(w) for w in model.trainable_weights]
    assert all(w.dtype == np.float32 for w in before)
    # One as a graph, in the precision of GPUs: to trace one takes half a minute. Those
    # of models, and XLA's, are in test_invariants.
    as_graph = (kind, policy) == ("full", HALF) or BACKEND == "jax"
    # SGD is one operation a weight, Adam forty, and twice those with scaled losses.
    model.compile("sgd", "mse", run_eagerly=not as_graph, jit_compile=BACKEND == "jax")
    targets = [np.ones((4, CANDIDATES)), np.ones((4, WIDTH))]
    history = model.fit(inputs, targets, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.all(np.isfinite(weight)), weight.path
        assert np.any(np.asarray(weight) != old), weight.path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimeChunking(0), "Received: num_chunks=0"),
        (lambda: FixedChunking(-1), "Received: num_chunks=-1"),
        (lambda: SimilarityChunking(0), "Received: num_chunks=0"),
        (lambda: EvoKeys(3, 0, 4), "Received: transition=0"),
        (lambda: DilatedKeys(3, 0), "Received: dilation=0"),
        (lambda: NativeSparseKeys(0, 3), "Received: block_length=0"),
        (lambda: NativeSparseAttention(4, 3, 0, 3), "Received: top_blocks=0"),
        (lambda: KernelAttention(4, 0, 3), "Received: rank=0"),
        (lambda: EvoKeys(3, 1, 4, branches=("past",)), "Unknown attention branch"),
        (lambda: RelTemporal(4, ("hours",)), "Did you mean 'hour'?"),
        (lambda: SwiGLU(0), "Received: hidden_dim=0"),
        (lambda: PredictionHead((3, 0)), "Received: units=(3, 0)"),
        (lambda: SparseBlock(FullAttention(4), 0), "Received: ffn_factor=0"),
        (lambda: EvoAttention(3, 2).build((None, 5, 16)), "Received: num_heads=3"),
        (lambda: Tower((0,)), "Received: units=(0,)"),
        (lambda: ProfileTokens((), 3), "Received: widths=()"),
        (lambda: UnifiedAttentionBlock(None, norm="x"), "Unknown norm 'x'"),
        (lambda: Dice(momentum=2), "Received: momentum=2"),
        (lambda: ActivationUnit(()), "Received: units=()"),
        (lambda: CoAction((4, -2)), "Received: units=(4, -2)"),
        (lambda: CoAction(orders=0), "Received: orders=0"),
        (lambda: TargetAttention(3).build((1, 2, 8), (1, 2, 8)), "num_heads=3"),
        (lambda: FullAttention(5).build((None, 5, 16)), "Received: num_heads=5"),
        (lambda: HSTUBias(-1), "Received: max_distance=-1"),
        (lambda: T5Bias(4, 32, 32), "Received: num_buckets=32"),
        (lambda: RotaryEncoding(4).build((None, 5, 12)), "Received: 3"),
        (lambda: ASGA(4, activation="relu"), "Unknown activation 'relu'"),
        (lambda: HistoryViews("ages"), "Did you mean 'age'?"),
        (lambda: HistoryViews(limits=(5, 5)), "Received: limits=(5, 5)"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
