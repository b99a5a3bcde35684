"""SUAN and LightSUAN as the paper writes them: one sequence, token by token.

One candidate at a time is the last of ``[b_1 … b_N, c]``, and a mask says what each
token sees. Nothing is shared with the library but the weights.
"""

import numpy as np
from reference_encodings import hstu_bias
from reference_sparse_ctr import array, attend, dense, embed, relu, swiglu
from reference_target import attention as ask
from reference_target import dice
from reference_transformers import gap_rows, layer_norm


def rms_norm(layer, rows):
    root = np.sqrt((rows**2).mean(axis=-1, keepdims=True))
    return array(layer.scale) * rows / (root + 1e-6)


def normalize(layer, rows):
    is_rms = type(layer).__name__ == "RMSNorm"
    return rms_norm(layer, rows) if is_rms else layer_norm(layer, rows)


def full_mask(valid):
    """`mask[i][j]`: token i sees itself and the valid ones before it."""
    count = len(valid)
    return [[bool(valid[j]) and j <= i for j in range(count)] for i in range(count)]


def light_mask(valid, window, dilation):
    """As `full_mask`, of behaviors: the latest `window`, and every `dilation`-th."""
    count = len(valid)
    return [
        [
            bool(valid[j]) and j <= i and (i - j < window or (i - j) % dilation == 0)
            for j in range(count)
        ]
        for i in range(count)
    ]


def with_candidate(mask):
    """One more token: it sees what the newest behavior sees, and itself."""
    return [[*row, False] for row in mask] + [[*mask[-1], True]]


def self_attention(layer, rows, mask, time):
    query, key, value = (
        dense(projection, rows) for projection in (layer.query, layer.key, layer.value)
    )
    outputs = []
    for i in range(len(rows)):
        seen = []
        for j in range(len(rows)):
            if mask[i][j]:
                bias = np.zeros(1)
                if layer.encoding.weights:
                    bias = hstu_bias(layer.encoding, time[i], time[j], i - j)
                seen.append((key[j], value[j], bias))
        outputs.append(attend(query[i], seen, layer.num_heads))
    return dense(layer.output_projection, np.array(outputs))


def gate(layer, rows, found, valid):
    """The alignment's weights of a sample, pooled over its real behaviors."""
    real = [i for i in range(len(valid)) if valid[i]]
    pooled = np.zeros(rows.shape[-1])
    for i in real:
        pooled += (rows[i] + found[i]) / len(real)
    hidden = relu(dense(layer.hidden, pooled))
    of_history, of_profile = (
        np.exp(dense(part, hidden)) for part in (layer.of_history, layer.of_profile)
    )
    return of_history / (of_history + of_profile)


def block(layer, rows, mask, time, profile, valid):
    """All rows after a block; `valid` of the behaviors alone."""
    if not layer.post_norm:
        rows = normalize(layer.outer_norm, rows)
    attended = self_attention(layer.attention, rows, mask, time)
    rows = normalize(layer.attention_norm, attended + rows)
    if layer.fusion:
        found = np.zeros_like(rows)
        if len(profile):
            found = np.array([ask(layer.profile_attention, x, profile) for x in rows])
        if layer.dual_alignment:
            share = gate(layer.alignment, rows, found, valid)
            found = share * rows + (1 - share) * found
        rows = normalize(layer.fusion_norm, found + rows)
    if layer.swiglu:
        rows = swiglu(layer.ffn, rows) + rows
    return normalize(layer.outer_norm, rows) if layer.post_norm else rows


def profile_tokens(layer, user):
    tokens, rest = [], user
    for width, feature in zip(layer.widths, layer.maps, strict=True):
        tokens.append(dense(feature, rest[:width]))
        rest = rest[width:]
    assert not len(rest)
    return np.array(tokens)


def places(model, length):
    """Learned positions of the last `length` places; none for what is older."""
    table = array(model.position)[: model.schema.history_length]
    return np.array(
        [
            table[-back] if back <= len(table) else 0 * table[0]
            for back in range(length, 0, -1)
        ]
    )


def tower(layer, inputs):
    for hidden, activation in zip(layer.hidden, layer.dice, strict=True):
        inputs = dice(activation, dense(hidden, inputs))
    return dense(layer.logit, inputs)[0]


def read_out(model, rows, time, request_time, profile, candidate):
    """The row that the tower reads."""
    valid = time > 0
    mask = full_mask(valid)
    if model.config.name == "light_suan":
        mask = light_mask(valid, model.config.window, model.config.dilation)
    if model.config.target_aware:
        token = dense(model.candidate_projection, candidate)
        token = token + gap_rows(model.gap, [request_time], request_time)[0]
        rows = np.concatenate([rows, [token + array(model.position)[-1]]])
        time, mask = [*time, request_time], with_candidate(mask)
    for layer in model.blocks:
        rows = block(layer, rows, mask, time, profile, valid)
    if model.config.target_aware:
        return rows[-1]
    return rows[-1] if valid[-1] else 0 * rows[-1]


def logits(model, inputs):
    """Logits `[B, C]` of a `SUAN` or `LightSUAN`."""
    scores = []
    for row in range(len(inputs["request_time"])):
        context, behaviors, candidates = (
            embed(model, inputs, group, row)
            for group in ("context", "behavior", "candidate")
        )
        user, profile = np.zeros(1), []
        if model.schema.groups()["user"]:
            user = embed(model, inputs, "user", row)
        if model.profile is not None:
            profile = profile_tokens(model.profile, user)
        time, request_time = inputs["behavior_time"][row], inputs["request_time"][row]
        rows = dense(model.behavior_projection, behaviors)
        rows = rows + gap_rows(model.gap, time, request_time)
        rows = rows + places(model, len(rows))
        scores.append([])
        for candidate in candidates:
            interest = read_out(model, rows, time, request_time, profile, candidate)
            known = np.concatenate([interest, user, context, candidate])
            scores[-1].append(tower(model.head.towers[0], known))
    return np.array(scores)
