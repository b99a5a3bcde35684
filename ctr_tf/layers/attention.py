"""Attention with a relative bias, over shared keys and over sliding windows.

Logits and softmax are float32 under every precision policy.

Shape suffixes: `B` batch, `H` heads, `K` head width, `Q` queries, `J` keys, `N`
behaviors, `D` model width.
"""

import math

from keras import ops

from ctr_tf.layers.relative_encoding import HIDDEN
from ctr_tf.tensors import Tensor


def split_heads(inputs_BQD: Tensor, num_heads: int) -> Tensor:
    """`[B, Q, D]` → `[B, H, Q, K]`."""
    queries, width = ops.shape(inputs_BQD)[1], inputs_BQD.shape[2]
    split = ops.reshape(inputs_BQD, (-1, queries, num_heads, width // num_heads))
    return ops.transpose(split, (0, 2, 1, 3))


def merge_heads(inputs_BHQK: Tensor) -> Tensor:
    """`[B, H, Q, K]` → `[B, Q, D]`."""
    _, heads, _, width = inputs_BHQK.shape
    queries = ops.shape(inputs_BHQK)[2]
    merged = ops.transpose(inputs_BHQK, (0, 2, 1, 3))
    return ops.reshape(merged, (-1, queries, heads * width))


def attend(
    query_BHQK: Tensor,
    key_BJD: Tensor,
    value_BJD: Tensor,
    bias_BHQJ: Tensor,
    own: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """``softmax(q k / sqrt(K) + bias) v``, all queries over the same keys.

    Args:
        query_BHQK: queries.
        key_BJD: keys, heads side by side.
        value_BJD: values, heads side by side.
        bias_BHQJ: from a `RelativeEncoding`; its Q may be 1, for all queries, its H
            for all heads.
        own: one more key and value of each query, that only it sees, `[B, Q, D]` each;
            the last of J.

    Returns:
        `[B, Q, D]`; exactly 0 for a query that sees no key.
    """
    heads, width = query_BHQK.shape[1], query_BHQK.shape[3]
    key_BHJK = split_heads(key_BJD, heads)
    query_BHQK = query_BHQK * (1 / math.sqrt(width))
    logits = products(query_BHQK, key_BHJK, own)
    weight, total = _exponentials(ops.cast(logits, "float32") + bias_BHQJ)
    weight = ops.cast(weight, value_BJD.dtype)
    output = weighted_sum(weight, split_heads(value_BJD, heads), own)
    return merge_heads(_divide(output, total))


def products(
    query_BHQK: Tensor, key_BHJK: Tensor, own: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """`[B, H, Q, J]`: queries by keys, the last key each query's own; see `attend`."""
    logits = ops.matmul(query_BHQK, ops.transpose(key_BHJK, (0, 1, 3, 2)))
    if own is None:
        return logits
    key_BHQK = split_heads(own[0], query_BHQK.shape[1])
    last = ops.sum(query_BHQK * key_BHQK, axis=-1, keepdims=True)
    return ops.concatenate([logits, last], axis=-1)


def weighted_sum(
    weight_BHQJ: Tensor, value_BHJK: Tensor, own: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """`[B, H, Q, K]`: values by weights, the last value each query's own."""
    if own is None:
        return ops.matmul(weight_BHQJ, value_BHJK)
    shared = ops.matmul(weight_BHQJ[..., :-1], value_BHJK)
    return shared + weight_BHQJ[..., -1:] * split_heads(own[1], weight_BHQJ.shape[1])


def attend_window(
    query_BHNK: Tensor,
    key_BND: Tensor,
    value_BND: Tensor,
    user_key_B1D: Tensor,
    user_value_B1D: Tensor,
    window: int,
    bias_BHNJ: Tensor,
) -> Tensor:
    """As `attend`, query i over behaviors i - w + 1 … i and the user.

    The window is w shifted slices: no key is gathered or copied.

    Args:
        query_BHNK: queries.
        key_BND: keys of the behaviors.
        value_BND: values of the behaviors.
        user_key_B1D: key of the user; `[B, N, D]` where it turns with the query.
        user_value_B1D: value of the user.
        window: w.
        bias_BHNJ: J = w + 1, the window oldest first, then the user.

    Returns:
        `[B, N, D]`; the user is never hidden.
    """
    heads = query_BHNK.shape[1]
    keys = window_views(split_heads(key_BND, heads), window)
    values = window_views(split_heads(value_BND, heads), window)
    keys.append(split_heads(user_key_B1D, heads))
    values.append(split_heads(user_value_B1D, heads))
    return attend_slots(query_BHNK, keys, values, bias_BHNJ)


def attend_slots(
    query_BHNK: Tensor, keys: list, values: list, bias_BHNJ: Tensor
) -> Tensor:
    """As `attend`, query i over row i of each of J tensors.

    Args:
        query_BHNK: queries.
        keys: `[B, H, N, K]` each; N may be 1, for all queries.
        values: as `keys`.
        bias_BHNJ: as for `attend`.

    Returns:
        `[B, N, D]`.
    """
    query_BHNK = query_BHNK * (1 / math.sqrt(query_BHNK.shape[3]))
    logits = ops.stack([ops.sum(query_BHNK * key, axis=-1) for key in keys], axis=-1)
    weight, total = _exponentials(ops.cast(logits, "float32") + bias_BHNJ)
    weight = ops.cast(weight, values[0].dtype)
    weights = ops.split(weight, len(keys), axis=-1)
    output = weights[0] * values[0]
    for slot in range(1, len(keys)):
        output = output + weights[slot] * values[slot]
    return merge_heads(_divide(output, total))


def window_views(rows_BHNK: Tensor, window: int) -> list:
    """The rows that are w - 1 … 0 places before each, `[B, H, N, K]` each.

    Nothing is gathered. `ops.slice`, whose gradient TensorFlow pads; that of ``[:, :,
    s:]`` costs twice as much.
    """
    batch, heads, length, width = ops.shape(rows_BHNK)
    padded = ops.pad(rows_BHNK, ((0, 0), (0, 0), (window - 1, 0), (0, 0)))
    return [
        ops.slice(padded, (0, 0, start, 0), (batch, heads, length, width))
        for start in range(window)
    ]


def softmax_or_zero(logits: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """``softmax(logits + bias)``, float32; all 0 where every key is hidden."""
    weight, total = _exponentials(ops.cast(logits, "float32") + bias)
    return weight / ops.maximum(total, 0.5)


def _exponentials(logits):
    """Numerators of the softmax of float32 logits, and their sum.

    Written out because XLA on CPU replaces a softmax whose result is cast to half
    precision by one on half-precision logits, where a hidden key's bias is infinite.
    The shift never goes below half of `HIDDEN`, so that the numerators of a query that
    sees no key are exactly 0.
    """
    shift = ops.max(logits, axis=-1, keepdims=True, initial=HIDDEN / 2)
    weight = ops.exp(logits - ops.stop_gradient(shift))
    return weight, ops.sum(weight, axis=-1, keepdims=True)


def _divide(output, total):
    # A query that sees a key has a total of at least 1, any other has 0.
    divided = ops.cast(output, "float32") / ops.maximum(total, 0.5)
    return ops.cast(divided, output.dtype)
