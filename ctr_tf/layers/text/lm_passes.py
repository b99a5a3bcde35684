"""One layer of a language model, by the sub-layers of keras-hub's.

keras-hub's own layers take masks of 0 and 1; ours take a bias of attention's logits, so
that sinks can be told of each other, and maps with factors of low rank beside them.

Shape suffixes: `B` batch, `L` tokens, `J` tokens as keys, `H` heads of queries, `G`
heads of keys, `K` head width, `W` width.
"""

import operator
from collections.abc import Callable

import keras
from keras import ops

from ctr_tf.layers.relative_encoding import HIDDEN
from ctr_tf.tensors import Tensor

# Of a layer: what a map is called → where keras-hub has it.
ENCODER_MAPS = {
    "query": "_self_attention_layer.query_dense",
    "key": "_self_attention_layer.key_dense",
    "value": "_self_attention_layer.value_dense",
    "output": "_self_attention_layer.output_dense",
    "up": "_feedforward_intermediate_dense",
    "down": "_feedforward_output_dense",
}
DECODER_MAPS = {
    "query": "_self_attention_layer._query_dense",
    "key": "_self_attention_layer._key_dense",
    "value": "_self_attention_layer._value_dense",
    "output": "_self_attention_layer._output_dense",
    "gate": "_feedforward_gate_dense",
    "up": "_feedforward_intermediate_dense",
    "down": "_feedforward_output_dense",
}
ApplyMap = Callable[[str, Tensor], Tensor]
BiasOf = Callable[[Tensor], Tensor | None]


def map_of(layer: keras.layers.Layer, name: str, is_causal: bool) -> keras.layers.Layer:
    """The Dense or EinsumDense layer of a name."""
    places = DECODER_MAPS if is_causal else ENCODER_MAPS
    return operator.attrgetter(places[name])(layer)


def encoder_layer(
    layer: keras.layers.Layer,
    maps: ApplyMap,
    hidden_BLW: Tensor,
    visible_B1LJ: Tensor,
    bias_of: BiasOf,
    drop: Callable[[Tensor], Tensor],
    drop_weights: Callable[[Tensor], Tensor],
) -> Tensor:
    """BERT's: norms after the sums, every token sees all."""
    query, key, value = (maps(n, hidden_BLW) for n in ("query", "key", "value"))
    rows = attend(query, key, value, visible_B1LJ, bias_of(hidden_BLW), drop_weights)
    hidden_BLW = hidden_BLW + drop(maps("output", rows))
    hidden_BLW = layer._self_attention_layer_norm(hidden_BLW)
    outputs = drop(maps("down", maps("up", hidden_BLW)))
    return layer._feedforward_layer_norm(hidden_BLW + outputs)


def decoder_layer(
    layer: keras.layers.Layer,
    maps: ApplyMap,
    hidden_BLW: Tensor,
    visible_B1LJ: Tensor,
    position_BL: Tensor,
    bias_of: BiasOf,
    drop: Callable[[Tensor], Tensor],
    drop_weights: Callable[[Tensor], Tensor],
) -> Tensor:
    """Llama's and Qwen's: norms before the maps, RoPE, a gate."""
    attention = layer._self_attention_layer
    normed_BLW = layer._self_attention_layernorm(hidden_BLW)
    query, key, value = (maps(n, normed_BLW) for n in ("query", "key", "value"))
    if hasattr(attention, "_query_dense_layer_norm"):  # Qwen3
        query = attention._query_dense_layer_norm(query)
        key = attention._key_dense_layer_norm(key)
    query = attention.rotary_embedding_layer(query, positions=position_BL)
    key = attention.rotary_embedding_layer(key, positions=position_BL)
    rows = attend(query, key, value, visible_B1LJ, bias_of(normed_BLW), drop_weights)
    hidden_BLW = hidden_BLW + drop(maps("output", rows))
    normed_BLW = layer._feedforward_layernorm(hidden_BLW)
    gate = ops.silu(ops.cast(maps("gate", normed_BLW), "float32"))
    gated = maps("up", normed_BLW) * ops.cast(gate, hidden_BLW.dtype)
    return hidden_BLW + drop(maps("down", gated))


def attend(
    query_BLHK: Tensor,
    key_BJGK: Tensor,
    value_BJGK: Tensor,
    visible_B1LJ: Tensor,
    bias_B1LJ: Tensor | None,
    drop_weights: Callable[[Tensor], Tensor],
) -> Tensor:
    """``softmax(q k / sqrt(K) + bias) v``; each of G heads for H/G queries.

    Logits and softmax are float32. A query that sees no key looks at all of them, which
    is finite, and read by nothing.

    Args:
        query_BLHK: queries.
        key_BJGK: keys.
        value_BJGK: values.
        visible_B1LJ: bool; its L may be 1, for all queries.
        bias_B1LJ: float32, the same for all heads; None: 0.
        drop_weights: dropout of the softmax.

    Returns:
        `[B, L, H, K]`.
    """
    shared = query_BLHK.shape[2] // key_BJGK.shape[2]
    if shared > 1:
        key_BJGK = ops.repeat(key_BJGK, shared, axis=2)
        value_BJGK = ops.repeat(value_BJGK, shared, axis=2)
    query_BLHK = query_BLHK * query_BLHK.shape[3] ** -0.5
    logits_BHLJ = ops.einsum("blhk,bjhk->bhlj", query_BLHK, key_BJGK)
    logits_BHLJ = ops.cast(logits_BHLJ, "float32")
    if bias_B1LJ is not None:
        logits_BHLJ = logits_BHLJ + bias_B1LJ
    # Not HIDDEN everywhere: XLA may make it float16's minus infinity.
    blind_B1L1 = ~ops.any(visible_B1LJ, axis=-1, keepdims=True)
    logits_BHLJ = ops.where(visible_B1LJ | blind_B1L1, logits_BHLJ, HIDDEN)
    weights_BHLJ = drop_weights(ops.softmax(logits_BHLJ, axis=-1))
    weights_BHLJ = ops.cast(weights_BHLJ, value_BJGK.dtype)
    return ops.einsum("bhlj,bjhk->blhk", weights_BHLJ, value_BJGK)
