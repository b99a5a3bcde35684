"""How much sinks heed each other: a bias of attention at pairs of sinks.

Shape suffixes: `B` batch, `S` sinks, `T` sinks as keys, `L` tokens, `H` heads, `W`
width.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.attention import split_heads
from ctr_tf.layers.checks import check_dropout, check_heads
from ctr_tf.layers.relative_encoding import HIDDEN
from ctr_tf.layers.text.sink_places import rows_at
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class InterSinkAttention(keras.layers.Layer):
    """``gamma O^T A O``, to be added to the logits of one layer of a language model.

    ``A = mean_h(dropout(softmax(X W_q (X W_k)^T / sqrt(W/H))))``, ``X = LayerNorm(O
    hidden)``: of the sinks alone, each over all of its text. Rows and columns of
    missing sinks are 0. The softmax and the result are float32 under every policy.

    Args:
        num_heads: H, divides W.
        gamma: what the learned factor is at first; the authors take 10 for encoders, 1
            for decoders.
        dropout: of the softmax, in training.
        epsilon: of the norm.

    Call arguments:
        hidden: `[B, L, W]`, what a layer maps to queries.
        places: `[B, S, L]`, O; see `one_hot_places`.
        training: whether dropout drops.

    Returns:
        `[B, 1, L, L]` float32.

    Raises:
        UserError: if H does not divide W, or `dropout` is no share.

    Reference:
        CTR-Sink, its code; section 4.5 of our notes. The code does not mask missing
        sinks in the softmax.
    """

    def __init__(
        self,
        num_heads: int,
        gamma: float = 10.0,
        dropout: float = 0.0,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_dropout(dropout)
        self.num_heads = num_heads
        self.gamma = gamma
        self.dropout = dropout
        self.epsilon = epsilon

    def build(self, hidden_shape: Shape, places_shape: Shape | None = None) -> None:
        """Makes the norm, the two maps and the factor."""
        width = hidden_shape[-1]
        check_heads(self.num_heads, width)
        self.norm = keras.layers.LayerNormalization(
            epsilon=self.epsilon, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build((None, None, width))
        for name in ("query", "key"):
            layer = keras.layers.Dense(width, dtype=self.dtype_policy, name=name)
            layer.build((None, None, width))
            setattr(self, name, layer)
        self.seed = keras.random.SeedGenerator(name="seed") if self.dropout else None
        self.factor = self.add_weight(
            name="gamma",
            shape=(),
            initializer=keras.initializers.Constant(self.gamma),
            dtype="float32",
            autocast=False,
        )
        self.built = True

    def call(self, hidden: Tensor, places: Tensor, training: bool = False) -> Tensor:
        """Attends among the sinks, and spreads the weights to their places."""
        places_BSL = ops.cast(places, "float32")
        rows_BSW = self.norm(rows_at(places_BSL, hidden))
        query_BHSK = split_heads(self.query(rows_BSW), self.num_heads)
        key_BHTK = split_heads(self.key(rows_BSW), self.num_heads)
        query_BHSK = query_BHSK * query_BHSK.shape[3] ** -0.5
        logits_BHST = ops.matmul(query_BHSK, ops.transpose(key_BHTK, (0, 1, 3, 2)))
        is_there_BS = ops.any(places_BSL > 0, axis=-1)
        # Not HIDDEN everywhere: XLA may make it float16's minus infinity.
        counts_BS = is_there_BS | ~ops.any(is_there_BS, axis=-1, keepdims=True)
        logits_BHST = ops.cast(logits_BHST, "float32")
        logits_BHST = ops.where(counts_BS[:, None, None, :], logits_BHST, HIDDEN)
        weights_BHST = ops.softmax(logits_BHST, axis=-1)
        if training and self.dropout:
            weights_BHST = keras.random.dropout(
                weights_BHST, self.dropout, seed=self.seed
            )
        # O's rows of missing sinks are 0, and with them theirs, and their columns.
        spread_BSL = ops.matmul(ops.mean(weights_BHST, axis=1), places_BSL)
        bias_BLL = ops.matmul(ops.transpose(places_BSL, (0, 2, 1)), spread_BSL)
        return (self.factor.value * bias_BLL)[:, None]

    def compute_output_spec(
        self, hidden: Tensor, places: Tensor, training: bool = False
    ) -> keras.KerasTensor:
        """One bias a pair of tokens, for all heads."""
        length = hidden.shape[1]
        return keras.KerasTensor((hidden.shape[0], 1, length, length), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "gamma": self.gamma,
            "dropout": self.dropout,
            "epsilon": self.epsilon,
        }
