"""Sizes that many models have."""

import dataclasses

from ctr_tf.models.config_checks import check_heads, check_positive, check_units

TOWER = "candidate_tower"  # of most models' configs
CANDIDATE_TOWER = (64, 32)


@dataclasses.dataclass(frozen=True)
class TowerSizes:
    """Sizes of a model whose candidates look at behaviors, and that ends in towers.

    Args:
        name: of the model, for the registry.
        embedding_dim: width of the rows of a feature that does not set its own.
        dim: D, width of projected behaviors and candidates.
        num_heads: H; divides `dim`.
        head_units: hidden widths of the towers.
        candidate_tower: hidden widths of the candidate's own way to the logit, beside
            the history's; see `Ranker`. None where empty, as in the papers.
        tasks: further labels of the schema to predict, each by a tower of its own.
    """

    name: str
    embedding_dim: int = 8
    dim: int = 32
    num_heads: int = 4
    head_units: tuple[int, ...] = (64, 32)
    candidate_tower: tuple[int, ...] = CANDIDATE_TOWER
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_positive(self, "embedding_dim", "dim", "num_heads")
        check_heads(self)
        check_units(self, "head_units")
        check_units(self, "candidate_tower")
        object.__setattr__(self, "tasks", tuple(self.tasks))


@dataclasses.dataclass(frozen=True)
class RecentSizes(TowerSizes):
    """And of one that looks at the latest behaviors beside what it finds elsewhere.

    Args:
        recent: latest behaviors, which every candidate looks at, too.
    """

    recent: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "recent")


@dataclasses.dataclass(frozen=True)
class SearchSizes(RecentSizes):
    """And of one that searches the history for each candidate.

    Args:
        top_k: behaviors found for a candidate.
    """

    top_k: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "top_k")


@dataclasses.dataclass(frozen=True)
class TransformerSizes(TowerSizes):
    """And of one that runs behaviors and candidate through blocks.

    Args:
        num_blocks: L.
    """

    num_blocks: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "num_blocks")
