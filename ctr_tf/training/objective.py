"""The objective of a training: a sum of named, weighted terms."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.losses import LOSSES
from ctr_tf.losses.loss import MAIN, Loss
from ctr_tf.losses.outputs import Outputs


def _check_weights(config: Any) -> None:
    weights = dataclasses.asdict(config)
    for name, weight in weights.items():
        if not weight >= 0:
            raise UserError(
                f"`objective.{name}` must not be negative. Received: {weight!r}"
            )
    trains = [name for name, loss in LOSSES.items() if loss.trains_scores]
    if not any(weights[name] for name in trains):
        raise UserError(
            f"The objective needs one of {', '.join(trains)}: nothing else trains the "
            f"scores. Received: objective={weights}"
        )


def _told() -> str:
    """The docstring of `ObjectiveConfig`: each term as its own class tells it."""
    lines = ["What each term of the sum weighs, 0 to leave it out.", "", "Args:"]
    for name, loss in LOSSES.items():
        about, _, _ = (inspect.getdoc(loss) or "").partition("\n\n")
        lines.append(f"    {name}: {' '.join(about.split())}")
    return "\n".join(lines)


# The keys of a recipe's section `objective`.
ObjectiveConfig = dataclasses.make_dataclass(
    "ObjectiveConfig",
    [(name, float, loss.weight) for name, loss in LOSSES.items()],
    namespace={"__post_init__": _check_weights, "__doc__": _told()},
    frozen=True,
)


@dataclasses.dataclass(frozen=True)
class Term:
    """A weighted term.

    Args:
        name: that it is logged under.
        loss: what it is.
        weight: that it is multiplied by; positive.
        ramp: step → share of the weight, 0 … 1, that counts then; all of it where None.
    """

    name: str
    loss: Loss
    weight: float = 1.0
    ramp: Callable[[Any], Any] | None = None

    def weight_at(self, step: Any) -> Any:
        """The weight after so many steps."""
        return self.weight if self.ramp is None else self.weight * self.ramp(step)


class Objective:
    """``sum of weight · total / count``, over its terms and the global batch.

    Args:
        terms: one or more, of different names.
    """

    def __init__(self, terms: Sequence[Term]):
        self.terms = tuple(terms)
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names):
            raise UserError(
                f"An objective has terms of different names. Received: {names}"
            )

    def counts(self, labels: Any, weights: Any) -> dict[str, Any]:
        """Each term's count over a share of the batch; see `Loss.count`."""
        return {t.name: t.loss.count(labels, weights) for t in self.terms}

    def factors(self, counts: Mapping[str, Any], step: Any) -> dict[str, Any]:
        """What each term's total is multiplied by, from the global batch's counts."""
        return {
            t.name: t.weight_at(step) / ops.maximum(counts[t.name], 1.0)
            for t in self.terms
        }

    def totals(
        self, outputs: Mapping[str, Outputs], labels: Any, weights: Any
    ) -> dict[str, Any]:
        """Each term's sum over a share of the batch; see `Loss.total`."""
        return {t.name: t.loss.total(outputs, labels, weights) for t in self.terms}


def make_terms(config: Any, ranker: Any, name: str = MAIN) -> list[Term]:
    """The terms that a recipe describes, for one ranker.

    Args:
        config: an `ObjectiveConfig`.
        ranker: terms that do not apply to it are left out.
        name: of the ranker; terms of another than the main one begin with it.

    Raises:
        UserError: for a weight that was chosen for a term that does not apply to the
            main ranker.
    """
    terms = []
    for key, weight in dataclasses.asdict(config).items():
        loss = LOSSES[key](name)
        if weight and loss.applies_to(ranker):
            of_main = name == MAIN
            terms.append(Term(key if of_main else f"{name}_{key}", loss, weight))
        elif name == MAIN and weight not in (0, loss.weight):
            raise UserError(
                f"`objective.{key}` has no effect: '{ranker.config.name}' has no "
                f"logits for it. Received: {weight!r}"
            )
    return terms


def make_objective(config: Any, ranker: Any) -> Objective:
    """The objective of `make_terms`, of one ranker."""
    return Objective(make_terms(config, ranker))
