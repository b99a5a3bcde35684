"""Full causal self-attention with RelTemporal, the measure of EvoAttention."""

import keras

from ctr_tf.layers.attention import attend, split_heads
from ctr_tf.layers.evo_attention import check_heads
from ctr_tf.layers.rel_temporal import RelTemporal
from ctr_tf.layers.temporal_relations import RELATIONS, check_relations


@keras.saving.register_keras_serializable(package="ctr_tf")
class FullAttention(keras.layers.Layer):
    """``softmax(Q K / sqrt(D/H) + bias) V`` of the mixed sequence over all behaviors.

    Interchangeable with `EvoAttention`: the same arguments, methods and isolation of
    the candidates. Keys and values are those of the behaviors (ours: a candidate does
    not attend to itself, nor to the user), so the state grows with the history.

    Args:
        num_heads: H; divides D.
        relations: see `RelTemporal`.

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: not used.
        plan: from `FullKeys`.
        relations: `[B, R, 1, N]` from `FullKeys.relations_to`.

    Returns:
        Outputs of the behaviors `[B, N, D]` and of the candidates `[B, C, D]`.

    Raises:
        ValueError: if `num_heads` does not divide D; unknown relation.

    Reference:
        SparseCTR, section 4.4.1, variant A1.
    """

    def __init__(
        self, num_heads: int, relations: tuple[str, ...] = RELATIONS, **kwargs
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_heads = num_heads
        self.relations = check_relations(relations)

    def build(self, behaviors_shape, *other_shapes, **more_shapes):
        """Makes the projections and scales."""
        width = behaviors_shape[-1]
        check_heads(self.num_heads, width)
        for name in ("query", "key", "value", "output_projection"):
            layer = keras.layers.Dense(
                width, use_bias=False, dtype=self.dtype_policy, name=name
            )
            layer.build((None, None, width))
            setattr(self, name, layer)
        self.rel_temporal = RelTemporal(
            self.num_heads, self.relations, dtype=self.dtype_policy, name="rel_temporal"
        )
        self.rel_temporal.build()
        self.built = True

    def call(self, behaviors, candidates, user, plan, relations):
        """Runs the mixed sequence."""
        output, state = self.encode(behaviors, user, plan)
        return output, self.score(candidates, state, relations)

    def encode(self, behaviors, user, plan: dict, with_queries: bool = True):
        """Runs the behaviors; see `EvoAttention.encode`."""
        state = {"key": self.key(behaviors), "value": self.value(behaviors)}
        if not with_queries:
            return None, state
        return self.score(behaviors, state, plan["relations"]), state

    def score(self, candidates, state: dict, relations):
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        query_BHCK = split_heads(self.query(candidates), self.num_heads)
        bias = self.rel_temporal(relations)
        output = attend(query_BHCK, state["key"], state["value"], bias)
        return self.output_projection(output)

    def get_config(self):
        """Config."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "relations": list(self.relations),
        }
