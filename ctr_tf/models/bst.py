"""BST: a Transformer over behaviors and candidate."""

import dataclasses

import keras

from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.post_norm_block import PostNormBlock
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.models.transformer_ranker import TransformerRanker, TransformerRankerConfig


@dataclasses.dataclass(frozen=True)
class BSTConfig(TransformerRankerConfig):
    """Sizes of `BST`.

    Args:
        num_blocks: L; one is what the paper found best.
        ffn_factor: hidden width of the feed-forward network, in units of `dim`.
    """

    name: str = "bst"
    num_blocks: int = 1
    ffn_factor: float = 4.0


@keras.saving.register_keras_serializable(package="ctr_tf")
class BST(TransformerRanker):
    """`PostNormBlock`s over rows that know their age; a tower scores.

    A row's position is the time between it and the request, as one of its features.
    The candidate's row is read out (ours: the paper concatenates all rows, for which
    their number is fixed; there, behaviors see the candidate and what comes later).

    Reference:
        Behavior Sequence Transformer for E-commerce Recommendation in Alibaba
        (DLP-KDD 2019), section 2.
    """

    config_class = BSTConfig
    time_gaps = True

    def make_block(self, name):
        """A block of attention without relative encoding."""
        policy = self.dtype_policy
        attention = FullAttention(
            self.config.num_heads,
            RelativeEncoding(),
            sees_itself=True,
            dtype=policy,
            name="attention",
        )
        return PostNormBlock(attention, self.config.ffn_factor, dtype=policy, name=name)
