"""Sizes and variants of SparseCTR."""

import dataclasses

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.evo_keys import BRANCHES, check_branches
from ctr_tf.layers.temporal_relations import RELATIONS, check_relations
from ctr_tf.models.config_checks import check_heads, check_positive, check_units
from ctr_tf.models.sizes import CANDIDATE_TOWER
from ctr_tf.models.sparse_patterns import PATTERNS

SPARSITY = {"S1": (8, 1, 2), "S2": (16, 2, 5), "S3": (16, 3, 10), "S4": (32, 4, 20)}
ATTENTIONS = tuple(PATTERNS)
CHUNKINGS = ("time", "fixed", "similarity")
ENCODINGS = ("rel_temporal", "hstu", "t5", "alibi", "rope")


@dataclasses.dataclass(frozen=True)
class SparseCTRConfig:
    """Sizes and variants of `SparseCTR`.

    Args:
        name: of the model, for the registry.
        embedding_dim: width of the rows of a feature that does not set its own.
        dim: d, width of the model.
        num_heads: H; divides `dim`.
        num_blocks: L.
        sparsity: sets P, m and w together: `"S1"` (8, 1, 2), `"S2"` (16, 2, 5),
            `"S3"` (16, 3, 10), `"S4"` (32, 4, 20), the sets of the paper's figure 3.
        num_chunks: P, the sparsity's where None. See `num_chunks_for`.
        transition: m, the sparsity's where None.
        window: w, the sparsity's where None.
        ffn_factor: hidden width of the SwiGLU, in units of `dim`.
        head_units: hidden widths of the prediction head's MLP.
        attention: `"evo"`, `"full"` for full causal self-attention (A1), or another
            sparse one of the paper's figure 2, of P, m and w, too (ours): `"dilated"`,
            the last w behaviors and m P at equal distances before; `"nsa"`, blocks of P
            behaviors compressed, m of them selected, and the last w; `"kernel"`, P
            mixtures of all behaviors, without relative encoding.
        branches: of EvoAttention; leaving one out gives variants A2 to A4.
        relative_encoding: `"rel_temporal"`, or an alternative of the paper's figure 2:
            `"hstu"` (positions and times), `"t5"`, `"alibi"` or `"rope"` (positions).
        relations: of RelTemporal; none gives variant B1, leaving one out B2 to B4.
        chunking: `"time"`, `"fixed"` for chunks of equal length, or `"similarity"` for
            cuts where neighbors differ most.
        candidate_tower: as of `TowerSizes`.
        tasks: further labels of the schema to predict, each by a head of its own.
    """

    name: str = "sparsectr"
    embedding_dim: int = 8
    dim: int = 32
    num_heads: int = 8
    num_blocks: int = 2
    sparsity: str = "S2"
    num_chunks: int | None = None
    transition: int | None = None
    window: int | None = None
    ffn_factor: float = 3.0
    head_units: tuple[int, ...] = (32,)
    attention: str = "evo"
    branches: tuple[str, ...] = BRANCHES
    relative_encoding: str = "rel_temporal"
    relations: tuple[str, ...] = RELATIONS
    chunking: str = "time"
    candidate_tower: tuple[int, ...] = CANDIDATE_TOWER
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, known in (
            ("sparsity", SPARSITY),
            ("attention", ATTENTIONS),
            ("chunking", CHUNKINGS),
            ("relative_encoding", ENCODINGS),
        ):
            if getattr(self, field) not in known:
                raise UserError(unknown_name(field, getattr(self, field), known))
        chosen = SPARSITY[self.sparsity]
        names = ("num_chunks", "transition", "window")
        for field, default in zip(names, chosen, strict=True):
            if getattr(self, field) is None:
                object.__setattr__(self, field, default)
        sizes = ("embedding_dim", "dim", "num_heads", "num_blocks")
        check_positive(self, *names, *sizes)
        check_heads(self)
        if not self.ffn_factor > 0:
            raise UserError(
                f"`ffn_factor` must be positive. Received: ffn_factor={self.ffn_factor}"
            )
        check_units(self, "head_units")
        check_units(self, "candidate_tower")
        object.__setattr__(self, "branches", check_branches(tuple(self.branches)))
        object.__setattr__(self, "relations", check_relations(tuple(self.relations)))
        object.__setattr__(self, "tasks", tuple(self.tasks))

    @property
    def unread(self) -> tuple[str, ...]:
        """Keys that the attention, or the encoding, has no use for."""
        pattern = PATTERNS[self.attention]
        sizes = ("num_chunks", "transition", "window")
        read = {field.name for field in dataclasses.fields(pattern)}
        unread = [key for key in (*sizes, "branches") if key not in read]
        if "branches" in unread:  # only these are of chunks
            unread.append("chunking")
        if not read.intersection(sizes):
            unread.append("sparsity")
        if not pattern.encodes:
            unread += ["relative_encoding", "relations"]
        elif self.relative_encoding != "rel_temporal":
            unread.append("relations")
        return tuple(unread)

    def num_chunks_for(self, history_length: int) -> int:
        """P for histories kept up to `history_length`: min(P, history_length / 4).

        The length is the schema's, not a batch's: every batch of a run, whatever its
        bucket, is cut into the same P chunks.
        """
        assert self.num_chunks is not None  # `__post_init__` has seen to it
        return max(1, min(self.num_chunks, history_length // 4))
