"""What the attentions of SparseCTR's blocks have in common."""

from typing import Any, Self

import keras
from keras import ops

from ctr_tf.layers.checks import check_heads
from ctr_tf.layers.mixed_sequence import MixedSequenceLayer
from ctr_tf.layers.nested import build_once, shared_config
from ctr_tf.layers.rel_temporal import RelTemporal
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.tensors import Shape, Tensor


class SequenceAttention(MixedSequenceLayer):
    """Attention of the mixed sequence, behaviors and candidates, over its behaviors.

    ``Q = X W_Q``, ``K = X_B W_K``, ``V = X_B W_V``, and a last map ``W_O``. Keys and
    values are those of the behaviors, so that candidates are isolated by structure. No
    map has a bias, so that a query which sees no key gets exactly 0.

    The work is split as the Ranker's is: `encode` runs the behaviors and gives the
    state, `score` runs candidates on the state. Which keys there are, and who sees
    them, is the work of a second layer without weights, once a forward pass: it makes
    the plan for `encode`, and by its method `relations_to` the relations for `score`.

    Args:
        num_heads: H; divides D.
        encoding: of relative times and positions, this block's own unless several get
            one, which saving and loading keep (`keras.models.clone_model` does not);
            `RelTemporal` by default.

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: `[B, D]`, the compressed user profile.
        plan: from the attention's keys layer.
        relations: from `relations_to` of the attention's keys layer.

    Returns:
        Outputs of the behaviors `[B, N, D]` and of the candidates `[B, C, D]`.

    Raises:
        UserError: if `num_heads` does not divide D.
    """

    projections: tuple[str, ...] = ("query", "key", "value", "output_projection")

    def __init__(
        self, num_heads: int, encoding: RelativeEncoding | None = None, **kwargs: Any
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_heads = num_heads
        self.encoding = encoding or RelTemporal(num_heads, name="rel_temporal")

    def build(
        self, behaviors_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes the projections, builds the encoding unless another block has."""
        width = behaviors_shape[-1]
        check_heads(self.num_heads, width)
        for name in self.projections:
            self.add_dense(name, width, width, use_bias=False)
        build_once(self.encoding, (None, None, width))
        self.built = True

    def add_dense(
        self, name: str, input_width: int, units: int, **options: Any
    ) -> None:
        """Makes and builds a `Dense`, an attribute of its name."""
        layer = keras.layers.Dense(units, dtype=self.dtype_policy, name=name, **options)
        layer.build((None, None, input_width))
        setattr(self, name, layer)

    def call(
        self,
        behaviors: Tensor,
        candidates: Tensor,
        user: Tensor,
        plan: dict,
        relations: Tensor | dict,
    ) -> tuple[Tensor, Tensor]:
        """Runs the mixed sequence."""
        behaviors = ops.cast(behaviors, self.compute_dtype)
        candidates = ops.cast(candidates, self.compute_dtype)
        output, state = self.encode(behaviors, user, plan)
        return output, self.score(candidates, state, relations)

    def encode(
        self,
        behaviors: Tensor,
        user: Tensor | None,
        plan: dict,
        with_queries: bool = True,
    ) -> tuple[Tensor | None, dict]:
        """Runs the behaviors.

        Args:
            behaviors: `[B, N, D]`.
            user: `[B, D]`; None where the attention has no use for it.
            plan: from the keys layer.
            with_queries: False where nobody reads the behaviors' outputs.

        Returns:
            Output `[B, N, D]`, or None; and the state, a dict of tensors that are
            batch first. What of it grows with the history has the newest last.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks `encode`.")

    def score(
        self, candidates: Tensor, state: dict, relations: Tensor | dict
    ) -> Tensor:
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        raise NotImplementedError(f"{type(self).__name__} lacks `score`.")

    def get_config(self) -> dict[str, Any]:
        """Config with the encoding's own."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "encoding": shared_config(self.encoding),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Inverse of `get_config`."""
        encoding = keras.saving.deserialize_keras_object(config["encoding"])
        return cls(**{**config, "encoding": encoding})
