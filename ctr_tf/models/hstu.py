"""HSTU: a transducer of gated pointwise attention over behaviors and candidate."""

import dataclasses

import keras

from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.hstu_block import HSTUBlock
from ctr_tf.models.transformer_ranker import TransformerRanker, TransformerRankerConfig


@dataclasses.dataclass(frozen=True)
class HSTUConfig(TransformerRankerConfig):
    """Sizes of `HSTU`."""

    name: str = "hstu"


@keras.saving.register_keras_serializable(package="ctr_tf")
class HSTU(TransformerRanker):
    """`HSTUBlock`s with the bias of positions and times; a tower scores.

    The candidate is the last of the sequence, at the request's time; a click is read
    off its row. Clicked behaviors are the whole history here, so there are no tokens of
    actions between the items (ours); what a behavior was is one of its features.

    Reference:
        Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
        Generative Recommendations (ICML 2024), section 3.
    """

    config_class = HSTUConfig
    relations = HSTUBias.relations

    def make_block(self, name):
        """A block with its own bias."""
        bias = HSTUBias(self.schema.history_length, name="encoding")
        return HSTUBlock(
            self.config.num_heads, bias, dtype=self.dtype_policy, name=name
        )
