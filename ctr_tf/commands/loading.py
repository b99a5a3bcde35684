"""The first word of a verb that needs TensorFlow, which takes seconds to load."""

import logging
import sys

_log = logging.getLogger(__name__)


def loading() -> None:
    """Says that TensorFlow is being loaded, unless it is."""
    if "tensorflow" not in sys.modules:
        _log.info("loading TensorFlow")
