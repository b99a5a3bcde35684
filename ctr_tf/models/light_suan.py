"""LightSUAN: SUAN whose tokens see a window and every r-th behavior before it."""

import dataclasses
import functools
import math

import keras

from ctr_tf.layers.dilated_attention import DilatedAttention
from ctr_tf.layers.dilated_keys import DilatedKeys, count_keys
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.sequence_attention import SequenceAttention
from ctr_tf.layers.sequence_keys import SequenceKeys
from ctr_tf.layers.state_spec import Axis
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.suan import SUAN, SUANConfig


@dataclasses.dataclass(frozen=True)
class LightSUANConfig(SUANConfig):
    """Sizes and variants of `LightSUAN`: those of `SUAN`, and how sparse it is.

    Args:
        window: k, how many of the latest behaviors a token sees; where None, as many as
            ``sqrt(N)`` of the schema's N, rounded, and at least 4.
        dilation: r, of the behaviors before the window a token sees every r-th; where
            None, as `window`.
    """

    name: str = "light_suan"
    window: int | None = None
    dilation: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [f for f in ("window", "dilation") if getattr(self, f) is not None]
        check_positive(self, *given)

    def sparsity_for(self, history_length: int) -> tuple[int, int]:
        """The window and dilation for histories kept up to `history_length`.

        The length is the schema's, not a batch's: see `SparseCTRConfig.num_chunks_for`.
        """
        default = max(4, round(math.sqrt(history_length)))
        return self.window or default, self.dilation or default


@keras.saving.register_keras_serializable(package="ctr_tf")
class LightSUAN(SUAN):
    """SUAN with the keys of `DilatedKeys`, local and dilated, in one softmax (ours).

    Token i sees behavior j, ``j <= i``, where ``i - j < k`` or r divides i - j. A
    candidate sees what the newest behavior sees, and itself (ours). The cost grows as
    ``N (k + N / r)``, and the state as ``k + N / r``: with k and r as the root of N
    (ours: the paper says neither), by ``N sqrt(N)`` and ``sqrt(N)``. Two blocks with
    k >= r let every behavior reach a candidate by self-attention alone.

    The paper's parallel inference, candidates of one user in a batch, is what a
    `Ranker` does anyway.

    Reference:
        As `SUAN`: "with sparse self-attention and parallel inference strategies to form
        LightSUAN".
    """

    config_class = LightSUANConfig

    @property
    def sparsity(self) -> tuple[int, int]:
        """The window and dilation, k and r."""
        return self.config.sparsity_for(self.schema.history_length)

    def make_keys(self, relations: tuple[str, ...]) -> SequenceKeys:
        """See `DilatedKeys`."""
        return DilatedKeys(*self.sparsity, relations, self.schema.zone, name="keys")

    def make_attention(self, bias: RelativeEncoding) -> SequenceAttention:
        """See `DilatedAttention`."""
        return DilatedAttention(
            self.config.num_heads,
            *self.sparsity,
            bias,
            sees_itself=True,
            dtype=self.dtype_policy,
            name="attention",
        )

    def keys_axis(self) -> Axis:
        """See `count_keys`."""
        window, dilation = self.sparsity
        return functools.partial(count_keys, window=window, dilation=dilation)
