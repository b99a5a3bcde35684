"""Evolutionary sparse self-attention: three branches and their gated fusion.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `Q` queries, `P` chunks, `T`
transition keys, `W` window, `J` keys, `H` heads, `K` head width, `D` model width.
"""

import keras
from keras import ops

from ctr_tf.layers.attention import attend, attend_window, split_heads
from ctr_tf.layers.evo_keys import BRANCHES, check_branches, split_keys
from ctr_tf.layers.rel_temporal import RelTemporal
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.rows import by_rows


@keras.saving.register_keras_serializable(package="ctr_tf")
class EvoAttention(keras.layers.Layer):
    """Attention of the mixed sequence over pooled chunks, transitions and a window.

    ``Q = X W_Q``; ``K = X_B W_K`` and ``V = X_B W_V`` of the behaviors (and of the
    user, as one more local key) only, so that candidates are isolated by structure.
    Each branch is ``softmax(Q K / sqrt(D/H) + bias) V`` over its own keys (`EvoKeys`),
    bias by `RelTemporal` or another encoding; chunks are the masked mean of their
    behaviors' keys (values) followed by an MLP D → D → D. With the branches' outputs
    o_1 … o_3, heads merged, ``a = softmax([o_1 o_2 o_3] W_gate)`` and the output is
    ``(sum_r a_r o_r) W_O``.
    A query that sees no key of a branch gets exactly 0 from it.

    The work is split as the Ranker's is: `encode` runs the behaviors and gives the
    state, `score` runs candidates on the state. Softmaxes are float32.

    Args:
        num_heads: H; divides D.
        window: w, that of `EvoKeys`.
        branches: those to use; the gate has a weight for each (variants A2 to A4).
        encoding: of relative times and positions, this block's own and the same for
            all branches; `RelTemporal` by default (with less: variants B1 to B4).

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: `[B, D]`, the compressed user profile u_c.
        plan: from `EvoKeys`.
        relations: branch → `[B, R, 1, J]` from `EvoKeys.relations_to`.

    Returns:
        Outputs of the behaviors `[B, N, D]` and of the candidates `[B, C, D]`.

    Raises:
        ValueError: if `num_heads` does not divide D; unknown branch.

    Reference:
        SparseCTR, section 3.4, equations 3 to 11 and 16.
    """

    def __init__(
        self,
        num_heads: int,
        window: int,
        branches: tuple[str, ...] = BRANCHES,
        encoding: RelativeEncoding | None = None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_heads = num_heads
        self.window = window
        self.branches = check_branches(branches)
        self.encoding = encoding or RelTemporal(num_heads, name="rel_temporal")

    def build(self, behaviors_shape, *other_shapes, **more_shapes):
        """Makes the projections, pooling MLPs and gate, builds the encoding."""
        width = behaviors_shape[-1]
        check_heads(self.num_heads, width)
        names = ["query", "key", "value", "output_projection"]
        if "global" in self.branches:
            names += ["key_hidden", "key_pooled", "value_hidden", "value_pooled"]
        for name in names:
            pooling = name.endswith(("hidden", "pooled"))
            layer = keras.layers.Dense(
                width,
                activation="relu" if name.endswith("hidden") else None,
                use_bias=pooling,
                dtype=self.dtype_policy,
                name=name,
            )
            layer.build((None, None, width))
            setattr(self, name, layer)
        if len(self.branches) > 1:
            self.gate = keras.layers.Dense(
                len(self.branches), use_bias=False, dtype=self.dtype_policy, name="gate"
            )
            self.gate.build((None, None, width * len(self.branches)))
        self.encoding.build((None, None, width))
        self.built = True

    def call(self, behaviors, candidates, user, plan, relations):
        """Runs the mixed sequence."""
        output, state = self.encode(behaviors, user, plan)
        return output, self.score(candidates, state, relations)

    def encode(self, behaviors, user, plan: dict, with_queries: bool = True):
        """Runs the behaviors.

        Args:
            behaviors: `[B, N, D]`.
            user: `[B, D]`.
            plan: from `EvoKeys`.
            with_queries: False where nobody reads the behaviors' outputs.

        Returns:
            Output `[B, N, D]`, or None; and the state: `"<branch>_key"` and
            `"<branch>_value"` `[B, J, D]` of each branch, the user last among local.
        """
        key_BND, value_BND = self.key(behaviors), self.value(behaviors)
        position, rotate = plan["position"], self.encoding.rotate
        state = {}
        if "global" in self.branches:
            pool_BPN = ops.cast(plan["pool"], key_BND.dtype)
            key_BPD = ops.matmul(pool_BPN, key_BND)
            value_BPD = ops.matmul(pool_BPN, value_BND)
            key_BPD = self.key_pooled(self.key_hidden(key_BPD))
            state["global_key"] = rotate(key_BPD, position["global"])
            state["global_value"] = self.value_pooled(self.value_hidden(value_BPD))
        key_BND = rotate(key_BND, position["behaviors"])
        if "transition" in self.branches:
            state["transition_key"] = take_rows(key_BND, plan["index"])
            state["transition_value"] = take_rows(value_BND, plan["index"])
        if "local" in self.branches:
            user_key_B1D = self.key(user[:, None])
            user_value_B1D = self.value(user[:, None])
            state["local_key"] = self._last(key_BND, user_key_B1D)
            state["local_value"] = self._last(value_BND, user_value_B1D)
        if not with_queries:
            return None, state
        query_BND = rotate(self.query(behaviors), position["behaviors"])
        query_BHNK = split_heads(query_BND, self.num_heads)
        outputs = []
        for branch in self.branches:
            bias = self.encoding(plan["relations"][branch])
            if branch == "local":
                output = attend_window(
                    query_BHNK,
                    key_BND,
                    value_BND,
                    rotate(user_key_B1D, position["behaviors"]),
                    user_value_B1D,
                    self.window,
                    bias,
                )
            else:
                key, value = state[f"{branch}_key"], state[f"{branch}_value"]
                output = attend(query_BHNK, key, value, bias)
            outputs.append(output)
        return self._fuse(ops.concatenate(outputs, axis=-1)), state

    def score(self, candidates, state: dict, relations: dict):
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        query_BHCK = split_heads(by_rows(self.query, candidates), self.num_heads)
        parts = [relations[branch] for branch in self.branches]
        bias = self.encoding(ops.concatenate(parts, axis=-1))  # of all keys at once
        biases = split_keys(bias, [part.shape[-1] for part in parts])
        outputs = [
            attend(query_BHCK, state[f"{branch}_key"], state[f"{branch}_value"], bias)
            for branch, bias in zip(self.branches, biases, strict=True)
        ]
        return by_rows(self._fuse, ops.concatenate(outputs, axis=-1))

    def _last(self, inputs_BND, user_B1D):
        """The last w rows, zeros where there are fewer, and the user."""
        missing = max(self.window - inputs_BND.shape[1], 0)
        last_BWD = inputs_BND[:, -self.window :]
        if missing:
            last_BWD = ops.pad(last_BWD, ((0, 0), (missing, 0), (0, 0)))
        return ops.concatenate([last_BWD, user_B1D], axis=1)

    def _fuse(self, outputs):
        """`[…, branches D]` → `[…, D]`."""
        count = len(self.branches)
        if count == 1:
            return self.output_projection(outputs)
        gate = ops.cast(self.gate(outputs), "float32")
        weight = ops.cast(ops.softmax(gate, axis=-1), outputs.dtype)
        weights = ops.split(weight, count, axis=-1)
        outputs = ops.split(outputs, count, axis=-1)
        fused = weights[0] * outputs[0]
        for branch in range(1, count):
            fused = fused + weights[branch] * outputs[branch]
        return self.output_projection(fused)

    def get_config(self):
        """Config."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "window": self.window,
            "branches": list(self.branches),
            "encoding": keras.saving.serialize_keras_object(self.encoding),
        }

    @classmethod
    def from_config(cls, config):
        """Inverse of `get_config`."""
        encoding = keras.saving.deserialize_keras_object(config["encoding"])
        return cls(**{**config, "encoding": encoding})


def check_heads(num_heads: int, width: int) -> None:
    """Raises ValueError if the heads do not divide the width."""
    if num_heads < 1 or width % num_heads:
        raise ValueError(
            f"`num_heads` must divide the width {width}. "
            f"Received: num_heads={num_heads}"
        )


def take_rows(inputs_BND, index_BT):
    """Rows of each sample: `[B, N, D]`, `[B, T]` → `[B, T, D]`."""
    _, length, width = inputs_BND.shape
    batch = ops.shape(index_BT)[0]
    offset_B1 = ops.arange(batch, dtype=index_BT.dtype)[:, None] * length
    return ops.take(ops.reshape(inputs_BND, (-1, width)), index_BT + offset_B1, axis=0)
