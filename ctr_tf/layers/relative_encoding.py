"""What all relative encodings of self-attention have in common.

Shape suffixes: `B` batch, `H` heads, `Q` queries, `J` keys, `R` relations, `D` model
width.
"""

from typing import Any

import keras

from ctr_tf.tensors import Tensor

HIDDEN = -1e9  # added, in float32, to the logit of a key that a query does not see


@keras.saving.register_keras_serializable(package="ctr_tf")
class RelativeEncoding(keras.layers.Layer):
    """How far a key is from a query: a bias of its logit, a rotation of both, or both.

    The work is in two parts. What depends on times and positions alone is computed
    once a forward pass, by the layer that chooses the keys (`EvoKeys`, `FullKeys`, …):
    the matrices named `relations`, by `temporal_relations`. What has weights is each
    block's own: ``softmax(rotate(Q) rotate(K) / sqrt(D/H) + encoding(relations)) V``.

    A behavior's position is its index minus N, so that candidates, which come next and
    all in the same place, are at 0, and padding on the left moves nothing. What is no
    behavior, such as the user, stands at the time and position of every query.

    All of it is float32 under every policy. By itself this class encodes nothing: it
    only hides what is hidden.

    Call arguments:
        relations: `[B, R, Q, J]` float32, R = len(relations) + 1, from
            `temporal_relations`.

    Returns:
        The bias, `[B, H or 1, Q, J]` float32, at most `HIDDEN / 2` for hidden keys.
    """

    relations: tuple[str, ...] = ()
    bias_heads = 1

    def __init__(self, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)

    def rotate(self, inputs: Tensor, position: Tensor) -> Tensor:
        """Queries or keys `[B, Q, D]`, turned by their positions, `[Q]` or `[B, Q]`.

        Nothing changes unless the encoding says so.
        """
        return inputs

    def call(self, relations: Tensor) -> Tensor:
        """The bias of hidden keys."""
        return HIDDEN * relations[:, -1:]

    def compute_output_spec(self, relations: Tensor) -> keras.KerasTensor:
        """One matrix a head, or one for all heads."""
        batch, _, queries, keys = relations.shape
        return keras.KerasTensor(
            (batch, self.bias_heads, queries, keys), dtype="float32"
        )
