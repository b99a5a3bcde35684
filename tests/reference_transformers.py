"""BST, HSTU and LONGER as their papers write them: a sequence and an explicit mask.

One candidate at a time is a token among the others, and a mask says what each token
sees. Nothing is shared with the library but the weights.
"""

import numpy as np
from reference_encodings import hstu_bias
from reference_sparse_ctr import (
    array,
    attend,
    dense,
    embed,
    relu,
    rms_norm,
    sigmoid,
    swiglu,
)


def layer_norm(layer, inputs):
    centered = inputs - inputs.mean(axis=-1, keepdims=True)
    output = centered / np.sqrt(
        (centered**2).mean(axis=-1, keepdims=True) + layer.epsilon
    )
    if layer.scale:
        output = output * array(layer.gamma)
    return output + array(layer.beta) if layer.center else output


def silu(x):
    return x * sigmoid(x)


def leaky_relu(x):
    return np.where(x > 0, x, 0.2 * x)


def tower(layer, inputs):
    for hidden in layer.hidden:
        inputs = relu(dense(hidden, inputs))
    return dense(layer.logit, inputs)


def self_attention(layer, queries, rows, mask):
    """Softmax attention of some rows over all rows, as `mask[query][key]` allows."""
    query, key, value = (
        dense(layer.query, queries),
        dense(layer.key, rows),
        dense(layer.value, rows),
    )
    outputs = [
        attend(
            query[i],
            [(key[j], value[j], np.zeros(1)) for j in range(len(rows)) if mask[i][j]],
            layer.num_heads,
        )
        for i in range(len(queries))
    ]
    return dense(layer.output_projection, np.array(outputs))


def causal(valid):
    """A token sees itself and the valid ones before it."""
    return [
        [bool(v) and j <= i for j, v in enumerate(valid)] for i in range(len(valid))
    ]


def bst_block(block, rows, mask):
    rows = layer_norm(
        block.attention_norm,
        rows + self_attention(block.attention, rows, rows, mask),
    )
    hidden = leaky_relu(dense(block.ffn_hidden, rows))
    return layer_norm(block.ffn_norm, rows + dense(block.ffn_output, hidden))


def hstu_block(block, rows, mask, time):
    normed = layer_norm(block.norm, rows)
    gate, value, query, key = (
        silu(dense(layer, normed))
        for layer in (block.gate, block.value, block.query, block.key)
    )
    outputs = np.zeros_like(rows)
    width = rows.shape[-1] // block.num_heads
    for i in range(len(rows)):
        seen = [j for j in range(len(rows)) if mask[i][j]]
        for j in seen:
            bias = hstu_bias(block.encoding, time[i], time[j], i - j)[0]
            for head in range(block.num_heads):
                part = slice(head * width, (head + 1) * width)
                weight = silu(query[i, part] @ key[j, part] + bias) / len(seen)
                outputs[i, part] += weight * value[j, part]
    gated = gate * layer_norm(block.attention_norm, outputs)
    return rows + dense(block.output_projection, gated)


def sparse_block(block, queries, rows, mask):
    norm = block.attention_norm
    attended = self_attention(
        block.attention, rms_norm(norm, queries), rms_norm(norm, rows), mask
    )
    queries = queries + attended
    return queries + swiglu(block.ffn, rms_norm(block.ffn_norm, queries))


def gap_rows(gap, time, request_time):
    """What rows learn from the time between them and the request."""
    kernel = array(gap.kernel)
    buckets = [max(int(request_time) - int(t), 1).bit_length() - 1 for t in time]
    return kernel[np.minimum(buckets, 31)]


def bst(model, behaviors, candidate, time, request_time, user):
    rows = np.concatenate([behaviors, candidate[None]])
    rows = rows + gap_rows(model.transformer.gap, [*time, request_time], request_time)
    mask = causal([*(time > 0), True])
    for block in model.transformer.blocks:
        rows = bst_block(block, rows, mask)
    return rows[-1]


def hstu(model, behaviors, candidate, time, request_time, user):
    rows = np.concatenate([behaviors, candidate[None]])
    mask = causal([*(time > 0), True])
    for block in model.transformer.blocks:
        rows = hstu_block(block, rows, mask, [*time, request_time])
    return rows[-1]


def merged_tokens(layer, rows, valid):
    """Tokens, the latest first, of the groups that have a valid behavior."""
    tokens = []
    for end in range(len(rows), 0, -layer.size):
        group = [j for j in range(max(end - layer.size, 0), end) if valid[j]]
        if not group:
            break
        seen = [[True] * len(group)] * len(group)
        inner = sparse_block(layer.inner, rows[group], rows[group], seen)
        padding = np.zeros((layer.size - len(group), rows.shape[-1]))
        tokens.append(
            dense(layer.projection, np.concatenate([padding, inner]).reshape(-1))
        )
    return tokens


def longer(model, behaviors, candidate, time, request_time, user):
    """In the paper's order: globals, then tokens, the latest first; i sees j >= i."""
    rows = behaviors + gap_rows(model.gap, time, request_time)
    rows = rows + array(model.position)[-len(rows) :]
    candidate = candidate + gap_rows(model.gap, [request_time], request_time)[0]
    user = dense(model.user_projection, user)
    tokens = merged_tokens(model.merge, rows, time > 0)
    rows = np.array([candidate, array(model.cls)[0], user, *tokens])
    for block in model.blocks:
        queries = rows[: 3 + model.config.recent]
        mask = [[j >= i for j in range(len(rows))] for i in range(len(queries))]
        rows = sparse_block(block, queries, rows, mask)
    return rows[0]


def logits(model, inputs):
    """Logits `[B, C]` of a BST, HSTU or LONGER."""
    read_out = {"bst": bst, "hstu": hstu, "longer": longer}[model.config.name]
    scores = []
    for row in range(len(inputs["request_time"])):
        user, context, behaviors, candidates = (
            embed(model, inputs, group, row)
            for group in ("user", "context", "behavior", "candidate")
        )
        behaviors = dense(model.behavior_projection, behaviors)
        time, request_time = inputs["behavior_time"][row], inputs["request_time"][row]
        scores.append([])
        for target in dense(model.candidate_projection, candidates):
            interest = read_out(model, behaviors, target, time, request_time, user)
            known = np.concatenate([interest, user, context, target])
            scores[-1].append(tower(model.head.towers[0], known)[0])
    return np.array(scores)
