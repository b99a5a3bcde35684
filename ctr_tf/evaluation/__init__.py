"""Metrics of scored slates, the report on them, and the baselines to beat.

`from ctr_tf.evaluation import Metrics` needs NumPy alone, and imports nothing else.
"""

import importlib
from typing import Any

_MODULES = {
    "Metrics": "metrics",
    "PairCounts": "pairs",
    "pair_counts": "pairs",
    "slate_metrics": "ranking",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Imports the file of a metric when the metric is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
