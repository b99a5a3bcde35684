"""Alternatives of SparseCTR's attention and chunking, row by row in NumPy."""

import helpers
import keras
import numpy as np
import pytest
import reference_sparse_ctr as reference
from backends import tensor, weight_gradients
from reference_sparse_ctr import MixedSequence, array, attend, dense, relu, sigmoid

from ctr_tf.layers.alibi import Alibi
from ctr_tf.layers.dilated_attention import DilatedAttention
from ctr_tf.layers.dilated_keys import DilatedKeys
from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.kernel_attention import KernelAttention
from ctr_tf.layers.kernel_keys import KernelKeys
from ctr_tf.layers.native_sparse_attention import BRANCHES, NativeSparseAttention
from ctr_tf.layers.native_sparse_keys import NativeSparseKeys
from ctr_tf.layers.rotary_encoding import RotaryEncoding
from ctr_tf.layers.similarity_chunking import SimilarityChunking

H, D, C = 4, 16, 3
UTC_OFFSET = 28_800


class Sample:
    """Random histories of at most N behaviors, the same rows to layer and reference."""

    def __init__(self, length=22, lengths=(22, 0, 1, 3, 13)):
        self.random = np.random.default_rng(5)
        self.time = helpers.make_times(self.random, len(lengths), length, lengths)
        self.mask = self.time > 0
        self.request_time = np.full(len(lengths), helpers.REQUEST_TIME)
        self.behaviors = self.normal(len(lengths), length, D)
        self.candidates = self.normal(len(lengths), C, D)

    def normal(self, *shape):
        return self.random.normal(size=shape).astype(np.float32)

    def build(self, layer):
        """Builds a layer and gives every weight its own value."""
        layer.build((None, None, D))
        for weight in layer.weights:
            weight.assign(weight + 0.3 * self.normal(*weight.shape))
        return layer

    def run(self, layer, keys):
        """`[B, N + C, D]`: the layer's outputs as one mixed sequence."""
        plan, state = keys(tensor(self.time), tensor(self.mask))
        behaviors, kept = layer.encode(self.behaviors, None, plan)
        relations = keys.relations_to(state, tensor(self.request_time))
        scored = layer.score(self.candidates, kept, relations)
        return np.concatenate([behaviors, scored], axis=1)

    def rows(self):
        """Rows and sequence of each sample."""
        for b in range(len(self.time)):
            yield (
                np.concatenate([self.behaviors[b], self.candidates[b]]),
                MixedSequence(
                    self.time[b],
                    self.mask[b],
                    None,
                    self.request_time[b],
                    C,
                    UTC_OFFSET,
                ),
            )


def sees_dilated(i, j, window, dilation, length):
    """Whether row i, a candidate or a behavior, has behavior j as a key."""
    distance = min(i, length - 1) - j
    return 0 <= distance and (distance < window or distance % dilation == 0)


def dilated_attention(layer, rows, sequence):
    query, key, value = (
        dense(getattr(layer, name), rows) for name in ("query", "key", "value")
    )
    outputs = []
    for i in range(len(rows)):
        keys = [
            sequence.place(layer.encoding, i, key[j], value[j], sequence.time[j], j)
            for j in range(sequence.length)
            if sequence.valid[j]
            and sees_dilated(i, j, layer.window, layer.dilation, sequence.length)
        ]
        outputs.append(attend(query[i], keys, layer.num_heads))
    return dense(layer.output_projection, np.array(outputs))


@pytest.mark.parametrize(
    ("window", "dilation", "encoding"),
    [(4, 3, None), (1, 1, HSTUBias(22)), (30, 5, Alibi(H)), (2, 8, RotaryEncoding(H))],
)
def test_dilated_attention(window, dilation, encoding):
    sample = Sample()
    layer = sample.build(DilatedAttention(H, window, dilation, encoding))
    keys = DilatedKeys(window, dilation, layer.encoding.relations, UTC_OFFSET)
    actual = sample.run(layer, keys)
    for b, (rows, sequence) in enumerate(sample.rows()):
        expected = dilated_attention(layer, rows, sequence)
        np.testing.assert_allclose(actual[b], expected, rtol=1e-4, atol=2e-5)
    assert not np.any(actual[1])  # no behavior: no key, exactly nothing


def blocks_of(length, block_length):
    """Lists of behaviors, counted from the newest, oldest block first."""
    ends = range(length, 0, -block_length)
    return [list(range(max(end - block_length, 0), end)) for end in ends][::-1]


def compress(layer, kind, rows, valid, members):
    """One key or value of a block: its rows side by side, through the MLP."""
    side_by_side = np.zeros((layer.block_length, D))
    for place, j in enumerate(reversed(members)):
        if valid[j]:
            row = dense(getattr(layer, f"compressed_{kind}"), rows[j])
            side_by_side[layer.block_length - 1 - place] = row
    hidden = relu(dense(getattr(layer, f"{kind}_hidden"), side_by_side.reshape(-1)))
    return dense(getattr(layer, f"{kind}_compressed"), hidden)


def select_blocks(layer, query, compressed, own):
    """Blocks by the compressed branch's weights, the query's own before all."""
    weight = {p: 0.0 for p, _ in compressed}
    width = len(query) // layer.num_heads
    for head in range(layer.num_heads):
        part = slice(head * width, (head + 1) * width)
        logits = [
            k[part] @ query[part] / np.sqrt(width)
            + np.broadcast_to(b, layer.num_heads)[head]
            for _, (k, _, b) in compressed
        ]
        if logits:
            for p, share in zip(weight, reference.softmax(np.array(logits))):  # noqa: B905
                weight[p] += share
    weight[own] = np.inf
    return sorted(weight, key=lambda p: (-weight[p], -p))[: layer.top_blocks]


def native_sparse_attention(layer, rows, sequence):
    """Output of every row, and the blocks that it selects."""
    length, valid = sequence.length, sequence.valid
    query = dense(layer.query, rows)
    key, value = (
        {b: dense(getattr(layer, f"{b}_{kind}"), rows) for b in BRANCHES}
        for kind in ("key", "value")
    )
    blocks = blocks_of(length, layer.block_length)
    outputs, selections = [], []
    for i in range(len(rows)):
        newest = min(i, length - 1)

        def behaviors(branch, members, i=i, newest=newest):
            return [
                sequence.place(
                    layer.encoding,
                    i,
                    key[branch][j],
                    value[branch][j],
                    sequence.time[j],
                    j,
                )
                for j in members
                if j <= newest and valid[j]
            ]

        compressed = []
        for p, members in enumerate(blocks):
            real = [j for j in members if valid[j]]
            if real and members[-1] <= newest:
                k, v = (
                    compress(layer, kind, rows, valid, members)
                    for kind in ("key", "value")
                )
                time = sum(int(sequence.time[j]) for j in real) // len(real)
                position = sum(real) // len(real)
                compressed.append(
                    (p, sequence.place(layer.encoding, i, k, v, time, position))
                )
        own = next(p for p, members in enumerate(blocks) if newest in members)
        selected = select_blocks(layer, query[i], compressed, own)
        keys = {
            "compressed": [k for _, k in compressed],
            "selected": [k for p in selected for k in behaviors("selected", blocks[p])],
            "local": behaviors(
                "local", range(max(newest - layer.window + 1, 0), newest + 1)
            ),
        }
        gates = sigmoid(dense(layer.gate, rows[i]))
        branches = [attend(query[i], keys[b], layer.num_heads) for b in BRANCHES]
        outputs.append(sum(g * o for g, o in zip(gates, branches, strict=True)))
        selections.append(selected)
    return dense(layer.output_projection, np.array(outputs)), selections


@pytest.mark.parametrize(
    ("block_length", "top_blocks", "window", "encoding"),
    [
        (4, 2, 3, None),
        (1, 3, 1, None),
        (5, 2, 25, Alibi(H)),
        (25, 2, 2, RotaryEncoding(H)),
    ],
)
def test_native_sparse_attention(block_length, top_blocks, window, encoding):
    sample = Sample()
    layer = sample.build(
        NativeSparseAttention(H, block_length, top_blocks, window, encoding, UTC_OFFSET)
    )
    keys = NativeSparseKeys(block_length, window, layer.encoding.relations, UTC_OFFSET)
    actual = sample.run(layer, keys)
    selections = set()
    for b, (rows, sequence) in enumerate(sample.rows()):
        expected, selected = native_sparse_attention(layer, rows, sequence)
        np.testing.assert_allclose(actual[b], expected, rtol=2e-4, atol=3e-5)
        selections.update(map(tuple, selected[-C:] if b == 0 else []))
    assert not np.any(actual[1])
    if block_length == 1:  # candidates select for themselves
        assert len(selections) > 1


def test_selection_has_no_gradient_but_what_is_selected_has():
    sample = Sample()
    layer = sample.build(NativeSparseAttention(H, 4, 2, 3))
    keys = NativeSparseKeys(4, 3)
    layer.gate.kernel.assign(np.zeros((D, 3)))
    layer.gate.bias.assign([-100, 0, -100])  # the selected branch alone

    def loss():
        plan, state = keys(tensor(sample.time), tensor(sample.mask))
        output, kept = layer.encode(sample.behaviors, None, plan)
        relations = keys.relations_to(state, tensor(sample.request_time))
        scored = layer.score(sample.candidates, kept, relations)
        return keras.ops.sum(output**2) + keras.ops.sum(scored**2)

    gradient = weight_gradients(loss, layer.trainable_weights)
    size = {path: np.abs(g).max() for path, g in gradient.items()}
    assert all(size[path] > 1e-3 for path in size if "/selected" in path)
    assert all(size[path] < 1e-12 for path in size if "/compressed" in path)


def kernel_attention(layer, rows, sequence):
    query, key, value = (
        dense(getattr(layer, name), rows) for name in ("query", "key", "value")
    )
    outputs = []
    for i in range(len(rows)):
        keys = np.zeros((layer.rank, D))
        values = np.zeros((layer.rank, D))
        for j in range(sequence.length):
            column = layer.length - sequence.length + j
            if sequence.sees_behavior(i, j) and column >= 0:
                keys += np.outer(array(layer.key_mixture)[:, column], key[j])
                values += np.outer(array(layer.value_mixture)[:, column], value[j])
        triples = [(k, v, np.zeros(1)) for k, v in zip(keys, values, strict=True)]
        outputs.append(attend(query[i], triples, layer.num_heads))
    return dense(layer.output_projection, np.array(outputs))


@pytest.mark.parametrize(("length", "columns"), [(22, 22), (70, 75), (33, 30)])
def test_kernel_attention(length, columns):
    sample = Sample(length, (length, 0, 1, length - 3))
    layer = sample.build(KernelAttention(H, 5, columns))
    actual = sample.run(layer, KernelKeys())
    for b, (rows, sequence) in enumerate(sample.rows()):
        expected = kernel_attention(layer, rows, sequence)
        np.testing.assert_allclose(actual[b], expected, rtol=2e-4, atol=5e-5)
    assert not np.any(actual[1])


LAYERS = {
    "dilated": (DilatedAttention(H, 4, 3), DilatedKeys(4, 3)),
    "nsa": (NativeSparseAttention(H, 4, 2, 3), NativeSparseKeys(4, 3)),
    "kernel": (KernelAttention(H, 5, 22), KernelKeys()),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_past_does_not_see_the_future_and_padding_moves_nothing(name):
    layer, keys = LAYERS[name]
    sample = Sample()
    sample.build(layer)
    before = sample.run(layer, keys)
    changed = sample.behaviors.copy()
    sample.behaviors = np.where(np.arange(22)[:, None] >= 14, changed + 1, changed)
    after = sample.run(layer, keys)
    np.testing.assert_allclose(after[:, :14], before[:, :14], atol=1e-6)
    assert np.abs(after[0, 14:] - before[0, 14:]).max(axis=-1).min() > 1e-3

    sample.behaviors = np.pad(changed, ((0, 0), (7, 0), (0, 0)), constant_values=3.0)
    sample.time = np.pad(sample.time, ((0, 0), (7, 0)))
    sample.mask = sample.time > 0
    padded = sample.run(layer, keys)
    np.testing.assert_allclose(padded[:, 7:], before, atol=1e-5)
    assert not np.any(padded[:, :7])


def test_similarity_chunking():
    random = np.random.default_rng(2)
    embedding = random.normal(size=(4, 12, 3)).astype(np.float32)
    embedding[2, 5:9] = embedding[2, 5]  # equal neighbors: of them the later cuts
    mask = np.arange(12) >= np.array([0, 4, 2, 12])[:, None]
    for num_chunks in (1, 4, 9, 30):
        actual = SimilarityChunking(num_chunks)(
            tensor(np.zeros((4, 12), np.int64)), tensor(mask), None, embedding
        )
        assert keras.backend.standardize_dtype(actual.dtype) == "int32"
        for row in range(4):
            expected = similarity_chunks(embedding[row], mask[row], num_chunks)
            np.testing.assert_array_equal(actual[row], expected)


def similarity_chunks(embedding, valid, num_chunks):
    """As `reference.chunk_ids`: sorts the neighbors by how much they differ."""
    positions = [j for j in range(len(valid)) if valid[j]]
    gaps = []
    for i, j in zip(positions, positions[1:]):  # noqa: B905
        a, b = array(embedding[i]), array(embedding[j])
        cosine = a @ b / np.sqrt((a @ a) * (b @ b))
        gaps.append((round(1 - cosine, 5), j))
    cuts = {j for _, j in sorted(gaps, reverse=True)[: num_chunks - 1]}
    ids, chunk = np.zeros(len(valid), int), 1
    for i in positions:
        chunk += i in cuts
        ids[i] = chunk
    return ids
