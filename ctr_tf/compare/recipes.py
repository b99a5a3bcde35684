"""Recipes of many models under one budget.

All share the budget's sections but `model`; a model's own section is that of its recipe
beside the budget's.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctr_tf import config as configs
from ctr_tf.compare.variants import TFRS, Variant
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.recipes.read import load_recipe, read_recipe
from ctr_tf.training.config import Config
from ctr_tf.training.objective import ObjectiveConfig
from ctr_tf.tuning.ranges import DEFAULT_RANGES, Range, read_ranges

_TUNE = "tune"  # the section that no run looks at
_OF_PEER = ("data.", "training.epochs", "training.max_steps", "optimizer.learning_rate")


class Recipes:
    """Recipes of variants.

    Args:
        budget: recipe whose other sections than `model` all share.
        data: folder of the prepared data set.
        overrides: `key=value` for all, `name:key=value` for a model or one variant.
        variants: all that there are, whose names may address an override.

    Raises:
        UserError: names the key or the name that is wrong, and the value received.
    """

    def __init__(
        self,
        budget: Path,
        data: str,
        overrides: Sequence[str],
        variants: Iterable[Variant],
    ):
        self.budget, self.data = budget, data
        self._shared = _checked(budget)
        self.model: str = load_recipe(budget).model.name
        names = {name for row in variants for name in (row.name, row.model)}
        self._words = [_addressed(word, names) for word in overrides]

    def values(
        self,
        variant: Variant,
        chosen: Mapping[str, Any] | None = None,
        tuned: Mapping[str, Any] | None = None,
    ) -> dict:
        """What a variant's recipe says, defaults left out.

        Args:
            variant: whose it is.
            chosen: dotted key → value, which count above all.
            tuned: dotted key → value of the variant's model, below what makes the
                variant and what the overrides say.
        """
        section = _model_section(variant.model, self.budget, self.model)
        values = configs.set_keys({**self._shared, "model": section}, dict(tuned or {}))
        values["model"] = {**values["model"], **variant.overrides}
        values = configs.override(values, [*variant.settings, *self._words_of(variant)])
        read_ranges(values.pop(_TUNE, None))  # says what is wrong with it
        return configs.set_keys(values, {"data.path": self.data, **(chosen or {})})

    def ranges(self, model: str) -> dict[str, Range | tuple]:
        """What `ctr-tf tune` may try for a model.

        Returns:
            Dotted key → range, by the budget's section `tune`, or `DEFAULT_RANGES`,
            without the keys that an override sets. The peer has those that it reads.
        """
        words = self._words_of(Variant(model))
        section = configs.override(self._shared, words).get(_TUNE)
        ranges = read_ranges(section) or dict(DEFAULT_RANGES)
        fixed = [word.partition("=")[0] for word in words]
        return {
            key: given
            for key, given in ranges.items()
            if not any(_touches(key, other) for other in fixed)
            and (model != TFRS or key.startswith(_OF_PEER))
        }

    def _words_of(self, variant: Variant) -> list[str]:
        mine = (None, variant.model, variant.name)
        return [word for name, word in self._words if name in mine]


def resolved(variant: Variant, values: dict) -> dict:
    """The recipe of a variant, every default resolved.

    Args:
        variant: whose it is.
        values: of `Recipes.values`.

    Raises:
        UserError: names the key that is wrong, and the value received.
    """
    if variant.model != TFRS:
        return configs.to_mapping(configs.parse(Config, values))
    values = dict(values)
    if values.pop("model"):
        raise UserError(f"`{TFRS}` has no keys `model.…` that could be set.")
    recipe = configs.to_mapping(configs.parse(Config, values))
    if recipe["objective"] != configs.to_mapping(ObjectiveConfig()):
        raise UserError(
            f"`{TFRS}` is trained on the log loss alone: compare it without other "
            f"terms. Received: objective={recipe['objective']}"
        )
    if recipe["distillation"] is not None:
        raise UserError(
            f"`{TFRS}` has no teacher: compare it without one. "
            f"Received: distillation={recipe['distillation']}"
        )
    return {**recipe, "model": TFRS}


def _touches(key: str, other: str) -> bool:
    """Whether setting one of two dotted keys sets something of the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _checked(recipe: Path) -> dict:
    load_recipe(recipe)  # says what is wrong with it
    return read_recipe(recipe)


def _model_section(model: str, budget: Path, of_budget: str) -> dict:
    """The model's section of its recipe beside the budget's; else its name alone.

    Beside `sparsectr_synthetic.yaml` din's recipe is `din_synthetic.yaml`, beside
    others `din.yaml`. Sections are taken as they are written: a resolved one could not
    be overridden any more by a key that sets others.
    """
    if model == TFRS:
        return {}
    for name in (budget.name.replace(of_budget, model, 1), f"{model}.yaml"):
        own = budget.with_name(name)
        if own.is_file() and load_recipe(own).model.name == model:
            return {**_checked(own).get("model", {}), "name": model}
    return {"name": model}


def _addressed(word: str, names: set[str]) -> tuple[str | None, str]:
    """`name:key=value` as (name, key=value); (None, word) if it is for all."""
    name, colon, rest = word.partition(":")
    if not colon or "=" in name:
        return None, word
    if name not in names:
        raise UserError(unknown_name("model of an override", name, names))
    return name, rest
