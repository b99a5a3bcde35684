"""SparseCTR as the paper writes it: one mixed sequence, row by row, in NumPy loops.

Nothing is shared with the library but the weights: every row of ``[b_1 … b_N, c_1 …
c_C]`` looks at each key and asks whether it may see it. One sample at a time.
"""

import numpy as np
from reference_encodings import place

SEES_NOTHING = 0.0


def array(variable) -> np.ndarray:
    return np.asarray(variable, np.float64)


def dense(layer, inputs):
    output = inputs @ array(layer.kernel)
    return output + array(layer.bias) if layer.use_bias else output


def rms_norm(layer, inputs):
    mean_square = np.mean(inputs**2, axis=-1, keepdims=True)
    return inputs / np.sqrt(mean_square + layer.epsilon) * array(layer.scale)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    exponentials = np.exp(x - np.max(x))
    return exponentials / np.sum(exponentials)


def swiglu(layer, inputs):
    gate = dense(layer.gate, inputs)
    return dense(layer.down, gate * sigmoid(gate) * dense(layer.up, inputs))


def chunk_ids(time, valid, num_chunks):
    """TimeChunking of one history, by sorting its gaps."""
    positions = [i for i in range(len(time)) if valid[i]]
    gaps = [(time[j] - time[i], j) for i, j in zip(positions, positions[1:])]  # noqa: B905
    cuts = {j for _, j in sorted(gaps, reverse=True)[: num_chunks - 1]}
    ids, chunk = np.zeros(len(time), int), 1
    for i in positions:
        chunk += i in cuts
        ids[i] = chunk
    return ids


def attend(query, keys, num_heads):
    """One query over a list of (key, value, bias of each head or of all)."""
    width = len(query) // num_heads
    output = np.full(len(query), SEES_NOTHING)
    if not keys:
        return output
    for head in range(num_heads):
        part = slice(head * width, (head + 1) * width)
        logits = [
            key[part] @ query[part] / np.sqrt(width)
            + np.broadcast_to(b, num_heads)[head]
            for key, _, b in keys
        ]
        weights = softmax(np.array(logits))
        output[part] = sum(
            w * v[part] for w, (_, v, _) in zip(weights, keys, strict=True)
        )
    return output


class MixedSequence:
    """Times and masks of one sample's mixed sequence."""

    def __init__(self, time, valid, chunk, request_time, candidates, zone=0):
        self.length = len(time)
        self.time = [*time, *[request_time] * candidates]
        self.valid = valid
        self.chunk = chunk
        self.zone = zone

    def is_candidate(self, i):
        return i >= self.length

    def place(self, encoding, i, key, value, time, position):
        """Key, value and bias as row i sees them; candidates all stand at N."""
        distance = min(i, self.length) - position
        key, bias = place(encoding, key, self.time[i], time, distance, self.zone)
        return key, value, bias

    def sees_behavior(self, i, j):
        """Whether row i may see behavior j."""
        return bool(self.valid[j]) and (self.is_candidate(i) or j <= i)


def evo_branches(layer, rows, user, sequence, num_chunks, transition):
    """Branch → `[S, D]`: what each row gets from each branch."""
    behaviors = rows[: sequence.length]
    query, key, value = (
        dense(layer.query, rows),
        dense(layer.key, behaviors),
        dense(layer.value, behaviors),
    )

    def place(i, *key):
        return sequence.place(layer.encoding, i, *key)

    def behavior(i, j):
        return place(i, key[j], value[j], sequence.time[j], j)

    chunks = []
    for p in range(1, num_chunks + 1):
        members = [j for j in range(sequence.length) if sequence.chunk[j] == p]
        if members:
            chunks.append(members)
    outputs = {}
    if "global" in layer.branches:
        pooled = []
        for members in chunks:
            k, v = np.mean(key[members], axis=0), np.mean(value[members], axis=0)
            pooled.append(
                (
                    dense(layer.key_pooled, relu(dense(layer.key_hidden, k))),
                    dense(layer.value_pooled, relu(dense(layer.value_hidden, v))),
                    sum(int(sequence.time[j]) for j in members) // len(members),
                    sum(members) // len(members),
                    members[-1],
                )
            )
        outputs["global"] = [
            [
                place(i, k, v, time, position)
                for k, v, time, position, last in pooled
                if sequence.is_candidate(i) or last < i
            ]
            for i in range(len(rows))
        ]
    if "transition" in layer.branches:
        ends = [j for members in chunks for j in members[-transition:]]
        outputs["transition"] = [
            [behavior(i, j) for j in ends if sequence.sees_behavior(i, j)]
            for i in range(len(rows))
        ]
    if "local" in layer.branches:
        user_key, user_value = dense(layer.key, user), dense(layer.value, user)
        outputs["local"] = []
        for i in range(len(rows)):
            newest = sequence.length - 1 if sequence.is_candidate(i) else i
            window = range(max(newest - layer.window + 1, 0), newest + 1)
            keys = [behavior(i, j) for j in window if sequence.sees_behavior(i, j)]
            # The user stands where the query stands, which is no bias in RelTemporal.
            here = sequence.time[i], min(i, sequence.length)
            keys.append(place(i, user_key, user_value, *here))
            outputs["local"].append(keys)
    return {
        branch: np.array(
            [attend(query[i], keys, layer.num_heads) for i, keys in enumerate(all_keys)]
        )
        for branch, all_keys in outputs.items()
    }


def evo_attention(layer, rows, user, sequence, num_chunks, transition):
    branches = list(
        evo_branches(layer, rows, user, sequence, num_chunks, transition).values()
    )
    if len(branches) > 1:
        gates = dense(layer.gate, np.concatenate(branches, axis=-1))
        weights = np.array([softmax(gate) for gate in gates])
        fused = sum(weights[:, r, None] * branch for r, branch in enumerate(branches))
    else:
        fused = branches[0]
    return dense(layer.output_projection, fused)


def full_attention(layer, rows, sequence):
    behaviors = rows[: sequence.length]
    query, key, value = (
        dense(layer.query, rows),
        dense(layer.key, behaviors),
        dense(layer.value, behaviors),
    )
    outputs = []
    for i in range(len(rows)):
        keys = [
            sequence.place(layer.encoding, i, key[j], value[j], sequence.time[j], j)
            for j in range(sequence.length)
            if sequence.sees_behavior(i, j)
        ]
        outputs.append(attend(query[i], keys, layer.num_heads))
    return dense(layer.output_projection, np.array(outputs))


def sparse_block(block, rows, user, sequence, num_chunks, transition):
    normed = rms_norm(block.attention_norm, rows)
    if hasattr(block.attention, "branches"):
        attended = evo_attention(
            block.attention, normed, user, sequence, num_chunks, transition
        )
    else:
        attended = full_attention(block.attention, normed, sequence)
    rows = rows + attended
    return rows + swiglu(block.ffn, rms_norm(block.ffn_norm, rows))


def prediction_head(layer, candidates, user):
    output = relu(dense(layer.candidate_gate, candidates))
    output = output * sigmoid(dense(layer.user_gate, user))
    for hidden in layer.hidden:
        output = relu(dense(hidden, output))
    return dense(layer.logit, output)[:, 0]


def mean_of_list(ids, vectors):
    real = ids != 0
    return vectors[real].mean(axis=0) if real.any() else 0 * vectors[0]


def embed(model, inputs, group, row):
    """One sample's vectors of a group, from the tables."""
    vectors = []
    for feature in model.schema.groups()[group]:
        value = inputs[f"{group}_{feature.name}"][row]
        if feature.is_embedded:
            vector = array(model.embedding.tables[feature.table].table)[value]
            if group in ("user", "context"):
                vector = mean_of_list(value, vector)
            elif feature.length > 1:
                lists = zip(value, vector, strict=True)
                vector = np.array([mean_of_list(*one) for one in lists])
        else:
            vector = np.asarray(value, np.float64)
            if group not in ("user", "context"):
                vector = vector.reshape(len(value), -1)
        vectors.append(vector)
    return np.concatenate(vectors, axis=-1)


def sparse_ctr(model, inputs):
    """Logits `[B, C]` of a `SparseCTR`."""
    logits = []
    for row in range(len(inputs["request_time"])):
        user = embed(model, inputs, "user", row)
        context = embed(model, inputs, "context", row)
        candidates = embed(model, inputs, "candidate", row)
        count = len(candidates)
        candidates = np.concatenate([candidates, np.tile(context, (count, 1))], axis=-1)
        rows = np.concatenate(
            [
                dense(model.behavior_projection, embed(model, inputs, "behavior", row)),
                dense(model.candidate_projection, candidates),
            ]
        )
        profile = None
        if model.pattern.sees_user:
            profile = dense(model.user_projection, relu(dense(model.user_hidden, user)))
        time = inputs["behavior_time"][row]
        sequence = MixedSequence(
            time,
            time > 0,
            chunk_ids(time, time > 0, model.num_chunks),
            inputs["request_time"][row],
            count,
            model.schema.zone,
        )
        for block in model.blocks:
            rows = sparse_block(
                block,
                rows,
                profile,
                sequence,
                model.num_chunks,
                model.config.transition,
            )
        logits.append(prediction_head(model.heads[0], rows[-count:], user))
    return np.array(logits)
