"""GAP-Net as the paper writes it: one candidate, one head, one behavior at a time.

Nothing is shared with the library but the weights.
"""

import numpy as np
from reference_sparse_ctr import array, dense, embed, relu, sigmoid, softmax, swiglu


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


def nearest(layer, query, keys, k):
    """Positions of the k keys whose SimHash codes are nearest, of equal ones later."""
    planes = array(layer.planes)
    distances = [np.sum((key @ planes > 0) != (query @ planes > 0)) for key in keys]
    return sorted(range(len(keys)), key=lambda j: (distances[j], -j))[:k]


def collisions(layer, query, keys, values):
    """Mean over the groups of the normalized sum of the values that collide."""
    groups = np.split(array(layer.hash.planes), layer.num_groups, axis=1)
    output = np.zeros(len(query))
    for planes in groups:
        code = query @ planes > 0
        total = np.zeros(len(query))
        for key, value in zip(keys, values, strict=True):
            if np.array_equal(key @ planes > 0, code):
                total += value
        if total.any():
            output += total / np.linalg.norm(total) / layer.num_groups
    return output


def search_long_term(model, query, behaviors):
    if model.config.name == "sdim_gap":
        found = collisions(
            model.long_term,
            dense(model.short_term.query, query),
            [dense(model.short_term.key, row) for row in behaviors],
            behaviors,
        )
        if "qaog" in model.config.gates:
            found = found * sigmoid(dense(model.long_term_gate, query))
        return found
    if model.config.name == "eta_gap":
        chosen = nearest(
            model.hash,
            dense(model.long_term.query, query),
            [dense(model.long_term.key, row) for row in behaviors],
            model.config.top_k,
        )
        behaviors = [behaviors[j] for j in chosen]
    return asga(model.long_term, query, behaviors)


def gap(model, inputs):
    """Logits `[B, C]` of a `GAP`."""
    config, logits = model.config, []
    for row in range(len(inputs["request_time"])):
        user, context, behaviors, candidates = (
            embed(model, inputs, group, row)
            for group in ("user", "context", "behavior", "candidate")
        )
        behaviors = dense(model.behavior_projection, behaviors)
        if "pafs" in config.gates:
            behaviors = pafs(model.behavior_sifting, behaviors)
        cut = views(
            config.view_cut,
            config.view_limits,
            inputs["behavior_time"][row].tolist(),
            int(inputs["request_time"][row]),
        )
        real_time, short_term, long_term = (
            [behaviors[i] for i in positions] for positions in cut
        )
        logits.append([])
        for candidate in candidates:
            target = dense(model.candidate_projection, candidate)
            sifted = (
                pafs(model.target_sifting, target) if "pafs" in config.gates else target
            )
            near = asga(model.real_time, sifted, real_time)
            query = sifted
            if "gcqc" in config.gates:
                query = calibrate(model.calibration, sifted, near)
            found = [
                near,
                asga(model.short_term, query, short_term),
                search_long_term(model, query, long_term),
            ]
            if "cgdf" in config.gates:
                seen = {
                    "minimal": [sifted],
                    "full": [sifted, user, context],
                    "purified": [sifted, context],
                }[config.fusion_context]
                present = [len(positions) > 0 for positions in cut]
                interest = fuse(model.fusion, np.concatenate(seen), found, present)
            else:
                interest = np.concatenate(found)
            output = np.concatenate([interest, user, context, target])
            last = model.head.towers[0]
            for hidden in last.hidden:
                output = relu(dense(hidden, output))
            logits[-1].append(dense(last.logit, output)[0])
    return np.array(logits)
