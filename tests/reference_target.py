"""Slow NumPy versions of what candidates do with the history, from the formulas.

One candidate at a time, float64; `layer` gives the weights and nothing else.
"""

import numpy as np


def randomize(layer, seed=9, scale=0.3):
    """Weights far from their initial values; returns them by name."""
    random = np.random.default_rng(seed)
    for variable in layer.variables:
        shift = random.normal(scale=scale, size=variable.shape)
        variable.assign(
            np.abs(variable + shift)
            if "variance" in variable.name
            else variable + shift
        )
    return layer


def array(variable):
    return np.asarray(variable, np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dice(layer, values):
    """With the moving averages."""
    mean, variance, alpha = map(array, (layer.mean, layer.variance, layer.alpha))
    share = sigmoid((values - mean) / np.sqrt(variance + layer.epsilon))
    return share * values + (1 - share) * alpha * values


def dense(layer, values):
    bias = array(layer.bias) if layer.use_bias else 0
    return values @ array(layer.kernel) + bias


def attention(layer, target_D, keys_JD):
    """One candidate over the keys that it sees."""
    if not len(keys_JD):
        return np.zeros(layer.output_projection.units)
    width = len(target_D) // layer.num_heads
    query, key, value = (
        dense(projection, rows).reshape(-1, layer.num_heads, width)
        for projection, rows in (
            (layer.query, target_D),
            (layer.key, keys_JD),
            (layer.value, keys_JD),
        )
    )
    heads = []
    for head in range(layer.num_heads):
        logits = key[:, head] @ query[0, head] / np.sqrt(width)
        weight = np.exp(logits) / np.exp(logits).sum()
        heads.append(weight @ value[:, head])
    return dense(layer.output_projection, np.concatenate(heads))


def activation(layer, target_D, behavior_D):
    """One candidate and one behavior."""
    t, e = target_D.astype(np.float64), behavior_D.astype(np.float64)
    values = np.concatenate([t, e, t - e, t * e]) @ array(layer.kernel)
    values = dice(layer.activations[0], values + array(layer.bias))
    for hidden, activated in zip(layer.maps, layer.activations[1:], strict=True):
        values = dice(activated, dense(hidden, values))
    return dense(layer.weight, values)[0]


def tower(layer, inputs):
    """Logits of rows `[..., I]`."""
    for hidden in layer.hidden:
        inputs = np.maximum(dense(hidden, inputs), 0)
    return dense(layer.logit, inputs)[..., 0]


def co_action(units, orders, weights, inputs_NE):
    """One candidate's network over the behaviors that it sees."""
    total = np.zeros(orders * sum(units))
    for inputs in inputs_NE:
        found = []
        for order in range(1, orders + 1):
            values, rest = inputs.astype(np.float64) ** order, weights
            for index, width in enumerate(units):
                size = len(values) * width
                values = values @ rest[:size].reshape(-1, width)
                rest = rest[size:]
                if index < len(units) - 1:
                    values = np.tanh(values)
                found.append(values)
        total += np.concatenate(found)
    return total
