"""The rows of a comparison: models, and variants of a model by its configuration.

A model declares its own variants (`Ranker.ablations`, `Ranker.alternatives`): a name,
and the keys of the recipe's section `model` that it sets.
"""

import dataclasses
from collections.abc import Sequence

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.models import MODELS
from ctr_tf.models.config_checks import without_effect
from ctr_tf.models.sizes import TOWER

TFRS = "tfrs"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the table.

    Args:
        model: of `MODELS`, or `TFRS`, the peer of `ctr-tf bench tfrs`.
        suffix: of the row's name; empty for the model as its recipe has it.
        overrides: key of the model's section → value.
        settings: `key=value` of other sections.
    """

    model: str
    suffix: str = ""
    overrides: dict = dataclasses.field(default_factory=dict)
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the row, and of its runs' folders."""
        return f"{self.model}-{self.suffix}" if self.suffix else self.model


def variants(
    models: Sequence[str], ablations: bool = False, alternatives: bool = False
) -> list[Variant]:
    """The rows, the models first, then their variants.

    Args:
        models: names of models, or of a variant alone, `sparsectr-B1`, or of several at
            once, `sparsectr-B1+fixed_chunks`.
        ablations: whether to take parts away from each model that has such variants.
        alternatives: whether to put other parts into each model that has a choice.

    Raises:
        UserError: for an unknown name, two of one model, variants at once that set one
            key differently or leave one of another's without effect, or variants asked
            for of models that have none.
    """
    rows = [_named(name) for name in models]
    for place, row in enumerate(rows):
        same = [other.name for other in rows[:place] if _same(other, row)]
        if same:
            raise UserError(f"A model is named twice. Received: {same[0]}, {row.name}")
    for asked, kind in ((ablations, "ablations"), (alternatives, "alternatives")):
        if not asked:
            continue
        found = [row for name in models for row in _variants_of(name, kind)]
        if not found:
            has = [name for name in MODELS if getattr(MODELS[name], kind)]
            raise UserError(
                f"`--{kind}` needs a model that has some: {', '.join(has)}. "
                f"Received: {', '.join(models)}"
            )
        rows += found
    unique: list[Variant] = []
    for row in rows:  # what is an ablation may be an alternative, too
        if not any(_same(other, row) for other in unique):
            unique.append(row)
    return unique


def _same(one: Variant, other: Variant) -> bool:
    """Whether two rows, of whatever names, are of one model."""
    return (one.model, one.overrides) == (other.model, other.overrides)


def _named(name: str) -> Variant:
    """The row of a name: of a model, of a variant, or of variants at once."""
    model, _, suffix = name.partition("-")
    known = [Variant(model) for model in (*MODELS, TFRS)]
    for kind in ("ablations", "alternatives"):
        known += _variants_of(model, kind)
    found = {row.name: row for row in known}
    parts = [f"{model}-{part}" for part in suffix.split("+")] if suffix else [name]
    for part in parts:
        if part not in found:
            raise UserError(unknown_name("model", part, found))
    return _at_once(name, [found[part] for part in parts])


def _at_once(name: str, rows: Sequence[Variant]) -> Variant:
    """One row of variants of a model, which may not contradict each other."""
    overrides: dict = {}
    for row in rows:
        for key, value in row.overrides.items():
            if overrides.setdefault(key, value) != value:
                raise UserError(
                    f"`{row.suffix}` sets `{key}` to {value!r}, another variant beside "
                    f"it to {overrides[key]!r}: name them in rows of their own. "
                    f"Received: {name!r}"
                )
    model = rows[0].model
    idle = without_effect(MODELS[model].config_class(**overrides)) if overrides else ()
    for row in rows:
        for key in (key for key in row.overrides if key in idle):
            raise UserError(
                f"`{row.suffix}` sets `{key}`, which has no effect beside the other "
                f"variants: the row is that of a model without it. Received: {name!r}"
            )
    return Variant(model, "+".join(row.suffix for row in rows), overrides)


def _variants_of(model: str, kind: str) -> list[Variant]:
    """Those that the model declares, and what every model has; a peer has none."""
    if model not in MODELS:
        return []
    declared = getattr(MODELS[model], kind)
    fields = {field.name for field in dataclasses.fields(MODELS[model].config_class)}
    if kind == "alternatives" and TOWER in fields:
        declared = declared | {f"without_{TOWER}": {TOWER: []}}
    return [Variant(model, suffix, keys) for suffix, keys in declared.items()]
