"""Metrics of scored slates, the report on them, and the baselines to beat.

`from ctr_tf.evaluation import Metrics` needs NumPy alone, and imports nothing else.
"""

from typing import Any

from ctr_tf.lazy import attribute

_MODULES = {
    "Metrics": "metrics",
    "PairCounts": "pairs",
    "pair_counts": "pairs",
    "slate_metrics": "ranking",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Imports the file of a metric when the metric is asked for."""
    return attribute(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return __all__
