"""Similar vectors get similar codes: which side of random planes they lie on.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` width, `G` groups of bits,
`R` bits of all groups.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.checks import check_positive
from ctr_tf.tensors import Shape, Tensor, check_int64

MAX_BITS = 62  # of an int64


@keras.saving.register_keras_serializable(package="ctr_tf")
class SimHash(keras.layers.Layer):
    """``code_g = sum over b of 2^b [x R_gb > 0]``, R fixed, entries from N(0, 1).

    Two vectors differ in a bit with probability angle / pi, so the Hamming distance of
    their codes measures the angle between them. The planes are a weight that is not
    trained, saved with the model. They are float32, and so is the product, under every
    policy (on a GPU, TensorFlow rounds its factors to TF32 unless it is told not to, so
    that the bit of a plane close to a vector may be another than on a CPU); no gradient
    passes through a code.

    Args:
        num_bits: bits of a group, at most 62.
        num_groups: G. One code of many bits ranks behaviors (ETA); many codes of few
            bits are the numbers of buckets (SDIM).
        seed: of R.

    Call arguments:
        inputs: `[..., D]` float.

    Returns:
        Codes `[..., G]` int64, 0 … 2^num_bits - 1.

    Raises:
        UserError: if `num_bits` or `num_groups` is out of range.

    Reference:
        ETA (Chen et al. 2021), SDIM (Cao et al. 2022); the hash of Charikar (2002).

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import SimHash
        >>> x = np.array([[[1.0, 2.0], [-1.0, -2.0]]], "float32")
        >>> layer = SimHash(num_bits=8)
        >>> codes = layer(x)
        >>> np.asarray(layer.distance(codes, layer(3 * x))).tolist()  # bits that differ
        [[[0.0, 8.0], [8.0, 0.0]]]
    """

    def __init__(
        self, num_bits: int = 32, num_groups: int = 1, seed: int = 0, **kwargs: Any
    ):
        super().__init__(autocast=False, **kwargs)
        if not 1 <= num_bits <= MAX_BITS:
            raise UserError(
                f"`num_bits` lies between 1 and {MAX_BITS}. "
                f"Received: num_bits={num_bits}"
            )
        check_positive(num_groups=num_groups)
        self.num_bits = num_bits
        self.num_groups = num_groups
        self.seed = seed

    @property
    def total_bits(self) -> int:
        """R, bits of all groups."""
        return self.num_bits * self.num_groups

    def build(self, input_shape: Shape) -> None:
        """Makes the planes, `[D, R]`."""
        self.planes = self.add_weight(
            name="planes",
            shape=(input_shape[-1], self.total_bits),
            initializer=keras.initializers.RandomNormal(0.0, 1.0, seed=self.seed),
            trainable=False,
            dtype="float32",
            autocast=False,
        )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Hashes every vector by itself."""
        check_int64()
        inputs = ops.cast(ops.stop_gradient(inputs), "float32")
        positive = ops.matmul(inputs, self.planes) > 0
        shape = (*ops.shape(inputs)[:-1], self.num_groups, self.num_bits)
        bits = ops.reshape(ops.cast(positive, "int64"), shape)
        return ops.sum(bits * self._powers(), axis=-1)

    def distance(self, query_codes: Tensor, key_codes: Tensor) -> Tensor:
        """Hamming distances, exact.

        Codes as vectors of +1 and -1 differ in (R - product) / 2 places, and sums of so
        few ones are exact. Without an instruction that counts bits, this is faster than
        to add up those of ``q ^ k`` for every pair.

        Args:
            query_codes: `[B, C, G]`.
            key_codes: `[B, N, G]`.

        Returns:
            `[B, C, N]` float32, whole numbers 0 … R.
        """
        query_BCR, key_BNR = self._signs(query_codes), self._signs(key_codes)
        product = ops.matmul(query_BCR, ops.transpose(key_BNR, (0, 2, 1)))
        return (self.total_bits - product) / 2

    def _signs(self, codes):
        """`[B, ., G]` codes → `[B, ., R]` float32, +1 for a set bit, -1 for others."""
        is_set = ops.bitwise_and(codes[..., None], self._powers()) > 0
        shape = (-1, ops.shape(codes)[1], self.total_bits)
        return ops.reshape(2.0 * ops.cast(is_set, "float32") - 1.0, shape)

    def _powers(self):
        return ops.left_shift(1, ops.arange(self.num_bits, dtype="int64"))

    def compute_output_spec(self, inputs: Tensor) -> keras.KerasTensor:
        """One code a group."""
        return keras.KerasTensor((*inputs.shape[:-1], self.num_groups), dtype="int64")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "num_bits": self.num_bits,
            "num_groups": self.num_groups,
            "seed": self.seed,
        }
