"""The last part of most models: towers over all that is known of a candidate.

Shape suffixes: `B` batch, `C` candidates, `T` labels, `I` width of the interest, `E`
width of what is shown, `D` width.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.feature_embedding import FeatureEmbedding
from ctr_tf.layers.tower import Tower
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class TowerHead(keras.layers.Layer):
    """``logit_t = Tower_t([interest, user, context, shown])``, a tower a label.

    Without an interest it is a model of its own: what is known of a candidate, and
    nothing of the history.

    Args:
        units: hidden widths of the towers.
        tasks: labels beside the first, each with a tower of its own.
        activation: of the towers.

    Call arguments:
        shown: `[B, C, E]`, of the candidates.
        user: `[B, D]`.
        context: `[B, D]`, of the request.
        interest: `[B, C, I]`, what the history says about each candidate; None where
            it says nothing.
        candidate_mask: `[B, C]` bool, which are no padding; all where None.
        training: for the towers' Dice.

    Returns:
        Logits `[B, C, T]`, float32 under every policy.

    Example:
        >>> from keras.random import normal
        >>> from ctr_tf.layers import TowerHead
        >>> head = TowerHead(units=(4,), tasks=("like",))
        >>> tuple(head(normal((2, 5, 8)), normal((2, 3)), normal((2, 4))).shape)
        (2, 5, 2)
    """

    def __init__(
        self,
        units: tuple[int, ...] = (64, 32),
        tasks: tuple[str, ...] = (),
        activation: str = "relu",
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.units = tuple(units)
        self.tasks = tuple(tasks)
        self.activation = activation
        self.towers = [
            Tower(units, activation, dtype=self.dtype_policy, name=name)
            for name in ("tower", *(f"tower_{task}" for task in tasks))
        ]

    def build(
        self,
        shown_shape: Shape,
        user_shape: Shape,
        context_shape: Shape,
        interest_shape: Shape | None = None,
        candidate_mask_shape: Shape | None = None,
    ) -> None:
        """Builds the towers."""
        shapes = (interest_shape, user_shape, context_shape, shown_shape)
        width = sum(shape[-1] for shape in shapes if shape is not None)
        for tower in self.towers:
            tower.build((None, None, width))
        self.built = True

    def build_for(
        self, embedding: FeatureEmbedding, shown: int, interest: int | None = None
    ) -> None:
        """Builds for a model's embedding, and the widths of shown and the interest."""
        user, context = ((None, embedding.width(g)) for g in ("user", "context"))
        of_interest = None if interest is None else (None, None, interest)
        self.build((None, None, shown), user, context, of_interest)

    def call(
        self,
        shown: Tensor,
        user: Tensor,
        context: Tensor,
        interest: Tensor | None = None,
        candidate_mask: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Scores every candidate by itself."""
        batch, count = ops.shape(shown)[:2]
        known = [
            ops.broadcast_to(
                ops.cast(value, shown.dtype)[:, None], (batch, count, value.shape[-1])
            )
            for value in (user, context)
        ]
        said = [] if interest is None else [ops.cast(interest, shown.dtype)]
        rows_BCI = ops.concatenate([*said, *known, shown], axis=-1)
        logits = [
            tower(rows_BCI, candidate_mask, training=training) for tower in self.towers
        ]
        return ops.stack(logits, axis=-1)

    def compute_output_spec(
        self,
        shown: Tensor,
        user: Tensor,
        context: Tensor,
        interest: Tensor | None = None,
        candidate_mask: Tensor | None = None,
        training: bool = False,
    ) -> keras.KerasTensor:
        """One float32 logit a candidate and label."""
        shape = (*shown.shape[:2], len(self.towers))
        return keras.KerasTensor(shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "units": list(self.units),
            "tasks": list(self.tasks),
            "activation": self.activation,
        }
