"""What being shown at a place does to clicks, apart from what is shown there.

Shape suffixes: `B` batch, `C` candidates, `T` labels, `R` ids of a feature.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class PositionBias(keras.layers.Layer):
    """``bias = Σ_f w_f[id_f] - mean``, one number a place and label (ours).

    Added to a model's logits while it trains, and left out wherever it scores, it takes
    from the clicks what the place explains, so that the model need not. The mean over
    the batch's candidates (of each replica its own) is taken off: the model's own
    logits stay those of a candidate at an average place.

    Args:
        sizes: feature → how many ids it has, 0 for padding among them.
        num_labels: T.

    Call arguments:
        ids: feature → integers `[B, C]`.
        mask: `[B, C]` bool, which are no padding.

    Returns:
        `[B, C, T]` float32, 0 on padding.

    Reference: the shallow tower of Zhao et al., "Recommending What Video to Watch Next"
    (RecSys 2019), without its other inputs.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import PositionBias
        >>> bias = PositionBias({"place": 4})
        >>> tuple(bias({"place": np.array([[2, 3]])}, np.array([[True, True]])).shape)
        (1, 2, 1)
    """

    def __init__(self, sizes: dict[str, int], num_labels: int = 1, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.sizes = dict(sizes)
        self.num_labels = num_labels

    def build(self, ids_shape: Any = None, mask_shape: Shape | None = None) -> None:
        """Makes the numbers, all 0."""
        self.weights_of = {
            name: self.add_weight(
                name=name,
                shape=(size, self.num_labels),
                initializer="zeros",
                dtype="float32",
            )
            for name, size in self.sizes.items()
        }
        self.built = True

    def call(self, ids: dict[str, Tensor], mask: Tensor) -> Tensor:
        """The biases of places; see the class."""
        real_BC1 = ops.cast(mask, "float32")[..., None]
        bias_BCT = sum(
            ops.take(weight_RT, ids[name], axis=0)
            for name, weight_RT in self.weights_of.items()
        )
        bias_BCT *= real_BC1
        total_T = ops.sum(bias_BCT, axis=(0, 1))
        count = ops.maximum(ops.sum(real_BC1), 1.0)
        return (bias_BCT - total_T / count) * real_BC1

    def compute_output_spec(
        self, ids: dict[str, Tensor], mask: Tensor
    ) -> keras.KerasTensor:
        """One number a candidate and label."""
        return keras.KerasTensor((*mask.shape, self.num_labels), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "sizes": self.sizes,
            "num_labels": self.num_labels,
        }
