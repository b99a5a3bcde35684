"""What a client is given and what it gives back."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ctr_tf.errors import UserError, unknown_name


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be scored; see `serving.request` for the values.

    Args:
        request_time: seconds since 1970-01-01 UTC.
        candidates: one `{feature: value}` each.
        user: `{feature: value}`.
        context: `{feature: value}`.
        behaviors: one `{"time": seconds, feature: value}` each, oldest first, or one
            list each of these; or a function that fetches them, called only where no
            kept state makes them needless.
        slate_size: how many candidates are shown, of a model with that feature.
    """

    request_time: int
    candidates: list[dict]
    user: dict = dataclasses.field(default_factory=dict)
    context: dict = dataclasses.field(default_factory=dict)
    behaviors: list[dict] | dict[str, list] | Callable[[], list[dict]] = (
        dataclasses.field(default_factory=list)
    )
    slate_size: int | None = None

    @classmethod
    def from_json(cls, request: Mapping) -> "Request":
        """From the request's form in JSON.

        Raises:
            UserError: names an unknown key, or one that is missing.
        """
        if not isinstance(request, Mapping):
            raise UserError(f"A request must be an object. Received: {request!r}")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in request:
            if key not in known:
                raise UserError(f"The request: {unknown_name('key', key, known)}")
        for key in ("request_time", "candidates"):
            if key not in request:
                raise UserError(f"The request lacks '{key}'.")
        return cls(**request)

    def to_json(self, with_behaviors: bool = True) -> dict:
        """The request's form in JSON."""
        names = [field.name for field in dataclasses.fields(self)]
        request = {name: getattr(self, name) for name in names}
        if request["slate_size"] is None:
            del request["slate_size"]
        behaviors: list[dict] | dict[str, list] = []
        if with_behaviors:
            behaviors = self.behaviors() if callable(self.behaviors) else self.behaviors
        return request | {"behaviors": behaviors}


@dataclasses.dataclass(frozen=True)
class Scores:
    """The answer to a request.

    Args:
        probability: `[C]`, in the order of the candidates.
        logit: `[C]`.
        version: of the model that gave them, where the server says so.
        from_cache: whether the user's state was there already.
    """

    probability: np.ndarray
    logit: np.ndarray
    version: int | None
    from_cache: bool = False


def ranked(
    items: Sequence,
    probability: Sequence | np.ndarray,
    logit: Sequence | np.ndarray,
) -> list[dict]:
    """Scores by item, the most probable first.

    Args:
        items: ids of the candidates.
        probability: one a candidate.
        logit: one a candidate.

    Returns:
        One `{"item_id", "probability", "logit", "position"}` a candidate; the position
        is the one in `items`.
    """
    order = np.argsort(-np.asarray(logit, np.float64), kind="stable").tolist()
    return [
        {
            "item_id": items[i],
            "probability": float(probability[i]),
            "logit": float(logit[i]),
            "position": i,
        }
        for i in order
    ]
