"""ETA, SDIM and TWIN-V2 for one user and one candidate: loops, lists and float64."""

import numpy as np


def code(vector, planes) -> list[bool]:
    """On which side of each plane, a column, the vector lies."""
    return [float(vector @ plane) > 0 for plane in planes.T]


def nearest(query, keys, mask, planes, k: int) -> list[int]:
    """The valid keys of the smallest Hamming distances, of equal ones the later."""

    def rank(index):
        bits = zip(code(query, planes), code(keys[index], planes), strict=True)
        return sum(one != other for one, other in bits), -index

    return sorted(np.flatnonzero(mask), key=rank)[:k]


def collisions(query, keys, values, mask, planes, bits: int) -> np.ndarray:
    """The mean over groups of the normalized sum of what shares the query's bucket."""
    groups = planes.shape[1] // bits
    total = np.zeros(values.shape[1])
    for g in range(groups):
        plane = planes[:, g * bits : (g + 1) * bits]
        same = [
            value.astype(np.float64)
            for key, value, valid in zip(keys, values, mask, strict=True)
            if valid and code(key, plane) == code(query, plane)
        ]
        if same:
            total += np.sum(same, axis=0) / np.linalg.norm(np.sum(same, axis=0))
    return total / groups


def softmax_sum(logits, values) -> np.ndarray:
    """Values weighed by the softmax; 0 if there are none."""
    if not len(values):
        return np.zeros(values.shape[1])
    weight = np.exp(logits - np.max(logits))
    return weight @ values / weight.sum()


def heads(matrix, num_heads: int) -> list[np.ndarray]:
    """A kernel's columns by head."""
    return np.split(np.asarray(matrix, np.float64), num_heads, axis=1)


def target_attention(layer, target, keys) -> np.ndarray:
    """`TargetAttention` of one candidate over the keys that it sees."""
    kernels = [heads(x.kernel, layer.num_heads) for x in (layer.query, layer.key)]
    outputs = []
    values = heads(layer.value.kernel, layer.num_heads)
    for query, key, value in zip(*kernels, values, strict=True):
        logits = (keys @ key) @ (target @ query) / np.sqrt(query.shape[1])
        outputs.append(softmax_sum(logits, keys @ value))
    return np.concatenate(outputs) @ np.asarray(layer.output_projection.kernel)


def cluster_attention(layer, target, cluster, gap, size) -> np.ndarray:
    """`ClusterAttention` of one candidate; `gap` in seconds."""
    real = size > 0
    cluster, gap, size = cluster[real], gap[real], size[real]
    bucket = np.minimum([int(g).bit_length() - 1 for g in np.maximum(gap, 1)], 31)
    features = np.concatenate([cluster, np.eye(32)[bucket.astype(int)]], axis=1)
    cross = features @ np.asarray(layer.cross.kernel, np.float64)
    names = (layer.query, layer.key, layer.value)
    kernels = [heads(x.kernel, layer.num_heads) for x in names]
    outputs = []
    for head, (query, key, value) in enumerate(zip(*kernels, strict=True)):
        logits = (cluster @ key) @ (target @ query) / np.sqrt(query.shape[1])
        logits += cross[:, head] + np.log(size)
        best = np.argsort(-logits)[: layer.top_k]
        outputs.append(softmax_sum(logits[best], (cluster @ value)[best]))
    return np.concatenate(outputs) @ np.asarray(layer.output_projection.kernel)


def clusters(keys, mask, start, num_clusters: int, cluster_size: int) -> list:
    """The members of each of M clusters, by recursion."""
    keys = np.asarray(keys, np.float64)

    def split(members: list[int], count: int) -> list[list[int]]:
        if count == 1:
            return [members]
        left, right = members, []
        if len(members) > cluster_size:
            offset = keys[members] - keys[members].mean(axis=0)
            along = offset @ np.asarray(start, np.float64)
            for _ in range(2):
                axis = along @ offset
                along = offset @ (axis / max(np.linalg.norm(axis), 1e-12))
            left = [m for m, x in zip(members, along, strict=True) if x <= 1e-9]
            right = [m for m in members if m not in left]
        return split(left, count // 2) + split(right, count // 2)

    return split(list(np.flatnonzero(mask)), num_clusters)


def dense(layer, inputs) -> np.ndarray:
    """A `Dense` layer without its activation."""
    return inputs @ np.asarray(layer.kernel, np.float64) + np.asarray(layer.bias)


def tower(layer, inputs) -> float:
    """`Tower` of one candidate."""
    for hidden in layer.hidden:
        inputs = np.maximum(dense(hidden, inputs), 0)
    return dense(layer.logit, inputs)[0]


def logits(model, inputs, found) -> np.ndarray:
    """Logits `[B, C]` of a model with a branch for the latest behaviors.

    Args:
        model: one with `recent`, a `RecentAttention`.
        inputs: a batch.
        found: function of target `[D]`, item `[E]` and a user's history, a dict of
            `items` `[N, E]`, `behaviors` `[N, D]`, `time`, `mask` `[N]`,
            `request_time`; returns what the model finds in it, `[D]`.
    """
    groups = model.embedding.assemble(inputs, model.lookup(inputs))
    rows = {name: np.asarray(group["embedding"]) for name, group in groups.items()}
    shared = model.embedding.shared_dim  # first, where items have no numbers
    batch, count = inputs["candidate_mask"].shape
    result = np.zeros((batch, count))
    for b in range(batch):
        history = {
            "items": rows["behaviors"][b, :, :shared],
            "behaviors": dense(model.behavior_projection, rows["behaviors"][b]),
            "time": inputs["behavior_time"][b],
            "mask": inputs["behavior_time"][b] > 0,
            "request_time": inputs["request_time"][b],
        }
        latest = slice(-model.config.recent, None)
        recent = history["behaviors"][latest][history["mask"][latest]]
        for c in range(count):
            candidate = rows["candidates"][b, c]
            target = dense(model.candidate_projection, candidate)
            parts = [
                found(target, candidate[:shared], history),
                target_attention(model.recent, target, recent),
                rows["user"][b],
                rows["context"][b],
                target,
            ]
            result[b, c] = tower(model.head.towers[0], np.concatenate(parts))
    return result
