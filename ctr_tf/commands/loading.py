"""TensorFlow is loaded by the verbs that need it, in seconds, and no more of it."""

import logging
import sys
from typing import Any

_log = logging.getLogger(__name__)
# Keras imports these where they are installed, for a wrapper and plots of its own that
# nothing here uses. That is a quarter of the seconds.
_UNUSED_BY_KERAS = ("matplotlib", "sklearn")


def load_tensorflow() -> None:
    """Says that TensorFlow is being loaded, and loads it, unless it is.

    What Keras would import beside it is found by whoever imports it afterwards.
    """
    if "tensorflow" in sys.modules:
        return
    _log.info("loading TensorFlow")
    modules: Any = sys.modules
    hidden = [name for name in _UNUSED_BY_KERAS if name not in modules]
    modules.update(dict.fromkeys(hidden))  # None there: an import of it fails
    try:
        import tensorflow  # noqa: F401
    finally:
        for name in hidden:
            del modules[name]
