"""GAP-Net as the paper writes it: one candidate, one head, one behavior at a time.

Nothing is shared with the library but the weights.
"""

import numpy as np
from reference_sparse_ctr import array, dense, relu, sigmoid, softmax, swiglu


def pafs(layer, inputs):
    return swiglu(layer.ffn, inputs)


def asga(layer, target, keys):
    """One target `[D]` over a list of keys, each `[D]`."""
    width = len(target) // layer.num_heads
    output = np.zeros(len(target))
    for head in range(layer.num_heads):
        part = slice(head * width, (head + 1) * width)

        def project(map_, vector, part=part):
            return vector @ array(map_.kernel)[:, part]

        query = project(layer.query, target)
        logits = [query @ project(layer.key, key) / np.sqrt(width) for key in keys]
        if layer.activation == "sigmoid":
            weights = sigmoid(np.array(logits))
        else:
            weights = softmax(np.array(logits)) if logits else []
        for weight, key in zip(weights, keys, strict=True):
            output[part] += weight * project(layer.value, key)
        if layer.gated:
            output[part] *= sigmoid(project(layer.gate, target))
    return dense(layer.output_projection, output)


def calibrate(layer, query, found):
    gate = sigmoid(dense(layer.gate, np.concatenate([query, found])))
    return (1 - gate) * query + gate * found


def fuse(layer, context, views, present):
    """One candidate's views, a list of `[D]`, of which some are present."""
    anchor = np.concatenate([context, *views])
    if layer.purified:
        anchor = pafs(layer.purification, anchor)
    logits = dense(layer.logit, relu(dense(layer.hidden, anchor)))
    weights = np.zeros(len(views))
    if any(present):
        weights[present] = softmax(logits[present])
    return np.concatenate([w * view for w, view in zip(weights, views, strict=True)])


def views(cut, limits, time, request_time):
    """Positions of each view of one history, whose padding has time 0."""
    positions = [i for i in range(len(time)) if time[i] > 0]
    chosen = [[], [], []]
    for number, i in enumerate(reversed(positions), start=1):
        recency = number if cut == "count" else request_time - time[i]
        chosen[sum(recency > limit for limit in limits)].insert(0, i)
    return chosen
