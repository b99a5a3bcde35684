"""BST: a Transformer over behaviors and candidate.

Shape suffixes: `B` batch, `C` candidates, `D` model width.
"""

import dataclasses
from typing import Any

import keras

from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.post_norm_block import PostNormBlock
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.layers.transformer_reader import TransformerReader
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import TransformerSizes
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class BSTConfig(TransformerSizes):
    """Sizes of `BST`.

    Args:
        num_blocks: L; one is what the paper found best.
        ffn_factor: hidden width of the feed-forward network, in units of `dim`.
    """

    name: str = "bst"
    num_blocks: int = 1
    ffn_factor: float = 4.0


@keras.saving.register_keras_serializable(package="ctr_tf")
class BST(Ranker):
    """`PostNormBlock`s over rows that know their age; a tower scores.

    A row's position is the time between it and the request, as one of its features.
    The candidate's row is read out (ours: the paper concatenates all rows, for which
    their number is fixed; there, behaviors see the candidate and what comes later).

    Reference:
        Behavior Sequence Transformer for E-commerce Recommendation in Alibaba
        (DLP-KDD 2019), section 2.
    """

    config_class = BSTConfig

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: BSTConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.candidate_projection = self.dense(config.dim, "candidate")
        blocks = [self._block(f"block_{index}") for index in range(config.num_blocks)]
        self.transformer = TransformerReader(
            blocks, zone=schema.zone, time_gaps=True, dtype=policy, name="transformer"
        )
        self.head = TowerHead(config.head_units, self.tasks, dtype=policy, name="head")

    def _block(self, name: str) -> PostNormBlock:
        attention = FullAttention(
            self.config.num_heads,
            RelativeEncoding(),
            sees_itself=True,
            dtype=self.dtype_policy,
            name="attention",
        )
        factor = self.config.ffn_factor
        return PostNormBlock(attention, factor, dtype=self.dtype_policy, name=name)

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
