"""HSTU: a transducer of gated pointwise attention over behaviors and candidate.

Shape suffixes: `B` batch, `C` candidates, `D` model width.
"""

import dataclasses
from typing import Any

import keras

from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.hstu_block import HSTUBlock
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.layers.transformer_reader import TransformerReader
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import TransformerSizes
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class HSTUConfig(TransformerSizes):
    """Sizes of `HSTU`."""

    name: str = "hstu"


@keras.saving.register_keras_serializable(package="ctr_tf")
class HSTU(Ranker):
    """`HSTUBlock`s with the bias of positions and times; a tower scores.

    The candidate is the last of the sequence, at the request's time; a click is read
    off its row. Clicked behaviors are the whole history here, so there are no tokens of
    actions between the items (ours); what a behavior was is one of its features.

    Reference:
        Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
        Generative Recommendations (ICML 2024), section 3.
    """

    config_class = HSTUConfig

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: HSTUConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.candidate_projection = self.dense(config.dim, "candidate")
        self.transformer = TransformerReader(
            [self._block(f"block_{index}") for index in range(config.num_blocks)],
            HSTUBias.relations,
            schema.zone,
            dtype=policy,
            name="transformer",
        )
        self.head = TowerHead(config.head_units, self.tasks, dtype=policy, name="head")

    def _block(self, name: str) -> HSTUBlock:
        bias = HSTUBias(self.schema.history_length, name="encoding")
        heads = self.config.num_heads
        return HSTUBlock(heads, bias, dtype=self.dtype_policy, name=name)

    def build_parts(self) -> None:
        """Builds the projections, the blocks and the head."""
        width, dim = self.embedding.width, self.config.dim
        self.behavior_projection.build((None, None, width("behavior")))
        self.candidate_projection.build((None, None, width("candidate")))
        self.transformer.build((None, None, dim))
        self.head.build_for(self.embedding, dim, dim)

    def state_spec(self) -> dict:
        """User and request; the behaviors' keys and values."""
        return {**self.request_spec(), "history": self.transformer.state_spec()}

    def encode(
        self,
        user: dict,
        behaviors: dict,
        context: dict,
        training: bool = False,
    ) -> dict:
        """Runs the behaviors."""
        rows_BND = self.behavior_projection(behaviors["embedding"])
        time, mask = behaviors["time"], behaviors["mask"]
        return {
            **self.request_state(user, context),
            "history": self.transformer.encode(rows_BND, time, mask, context["time"]),
        }

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        target_BCD = self.candidate_projection(candidates["embedding"])
        interest_BCD = self.transformer(
            target_BCD, state["history"], state["request_time"]
        )
        return self.head(target_BCD, state["user"], state["context"], interest_BCD)
