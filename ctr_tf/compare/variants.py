"""The rows of a comparison: models, and variants of a model by its configuration.

Every variant is a name and the keys of the model's section that it sets; a switch that
a model's config gains is compared without a change here.
"""

import dataclasses
from collections.abc import Sequence

from ctr_tf.errors import unknown_name
from ctr_tf.layers.evo_keys import BRANCHES
from ctr_tf.layers.temporal_relations import RELATIONS
from ctr_tf.models import MODELS
from ctr_tf.models.gap import CONTEXTS, GAPConfig
from ctr_tf.models.sparse_ctr_config import (
    ATTENTIONS,
    CHUNKINGS,
    ENCODINGS,
    SparseCTRConfig,
)

TFRS = "tfrs"
_SPARSE_CTR = SparseCTRConfig.name


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the table.

    Args:
        model: of `MODELS`, or `TFRS`, the peer of `ctr-tf bench tfrs`.
        suffix: of the row's name; empty for the model as its recipe has it.
        overrides: key of the model's section → value.
    """

    model: str
    suffix: str = ""
    overrides: dict = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the row, and of its runs' folders."""
        return f"{self.model}-{self.suffix}" if self.suffix else self.model


def variants(
    models: Sequence[str], ablations: bool = False, alternatives: bool = False
) -> list[Variant]:
    """The rows, the models first, then their variants.

    Args:
        models: names.
        ablations: whether to take parts away from each model that has such variants.
        alternatives: whether to put other attentions, chunkings and relative encodings
            into SparseCTR, as its paper's table 4 and figure 2 do.

    Raises:
        ValueError: for an unknown name, a repeated one, or variants asked for of models
            that have none.
    """
    known = [*MODELS, TFRS]
    for name in models:
        if name not in known:
            raise ValueError(unknown_name("model", name, known))
    if len(models) != len(set(models)):
        raise ValueError(f"A model is named twice. Received: {', '.join(models)}")
    rows = [Variant(name) for name in models]
    if ablations:
        rows += [v for name in models for v in ablations_of(name)]
    if alternatives and _SPARSE_CTR in models:
        rows += alternatives_of_sparse_ctr()
    for asked, option in ((ablations, "--ablations"), (alternatives, "--alternatives")):
        if asked and len(rows) == len(models):
            raise ValueError(
                f"`{option}` needs a model that has some, such as '{_SPARSE_CTR}'. "
                f"Received: {', '.join(models)}"
            )
    unique = []
    for row in rows:  # full attention is an ablation and an alternative
        if (row.model, row.overrides) not in [(r.model, r.overrides) for r in unique]:
            unique.append(row)
    return unique


def ablations_of(model: str) -> list[Variant]:
    """A model without this part and that; none for a model without switches.

    SparseCTR: its paper's table 3, A1 to A4 of the attention and B1 to B4 of
    RelTemporal. GAP-Net on any model: its paper's tables 3 and 4, and what CGDF sees.
    """
    if model == _SPARSE_CTR:
        parts = {"A1": {"attention": "full"}}
        for place, branch in enumerate(BRANCHES, 2):
            parts[f"A{place}"] = {"branches": _without(BRANCHES, branch)}
        parts["B1"] = {"relations": []}
        for place, relation in enumerate(RELATIONS, 2):
            parts[f"B{place}"] = {"relations": _without(RELATIONS, relation)}
    elif model != TFRS and issubclass(MODELS[model][0], GAPConfig):
        parts = {
            "baseline": {"gates": []},
            "asga": {"gates": ["pafs", "qaog"]},
            "gcqc": {"gates": ["gcqc"]},
            "cgdf": {"gates": ["cgdf"]},
            "asga_without_pafs": {"gates": ["qaog"]},
            "asga_without_gate": {"gates": ["pafs"]},
            "naive_sigmoid": {"gates": [], "attention": "sigmoid"},
        }
        for context in _without(tuple(CONTEXTS), GAPConfig.fusion_context):
            parts[f"{context}_context"] = {"fusion_context": context}
    else:
        parts = {}
    return [Variant(model, suffix, keys) for suffix, keys in parts.items()]


def alternatives_of_sparse_ctr() -> list[Variant]:
    """SparseCTR with each other attention, chunking and relative encoding it offers."""
    return [
        Variant(_SPARSE_CTR, f"{value}_{word}", {field: value})
        for field, word, values in (
            ("attention", "attention", ATTENTIONS),
            ("chunking", "chunks", CHUNKINGS),
            ("relative_encoding", "encoding", ENCODINGS),
        )
        for value in values
        if value != getattr(SparseCTRConfig, field)
    ]


def _without(values: tuple[str, ...], value: str) -> list[str]:
    return [other for other in values if other != value]
