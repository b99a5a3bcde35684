"""Running a pipeline so that a user's mistake in a worker is told like any other."""

import builtins
import importlib
import logging
import re

import apache_beam as beam
from apache_beam.runners.runner import PipelineState

from ctr_tf.errors import UserError

_RAISED = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|ArrowInvalid)): (.*)")
_MENDABLE = (OSError, UserError)
_OURS = ("ctr_tf.", "pipelines.")
_WHERE = re.compile(r" \[while running '[^']*'\]\s*$")


def run_pipeline(pipeline: beam.Pipeline) -> None:
    """Runs a pipeline to its end.

    A runner hands on a worker's error as a text, which is its traceback; an error that
    a user can mend, a `UserError` or one of the disk, becomes again what it was.

    Args:
        pipeline: with all its steps.

    Raises:
        OSError: if a worker could not read or write.
        UserError: if a worker was given what it cannot take.
        RuntimeError: if anything else went wrong.
    """
    logger = logging.getLogger("apache_beam.runners.common")
    logger.addFilter(_is_a_bug)
    try:
        state = pipeline.run().wait_until_finish()
    except (RuntimeError, *_MENDABLE) as error:
        known = original_error(str(error))
        if known is None and not isinstance(error, RuntimeError):
            known = type(error)(_WHERE.sub("", str(error)))
        if known is None:
            raise
        raise known from error
    finally:
        logger.removeFilter(_is_a_bug)
    if state != PipelineState.DONE:
        raise RuntimeError(f"The pipeline ended in the state {state}.")


def original_error(text: str) -> Exception | None:
    """The worker's error that a traceback ends in, if a user can mend it."""
    lines = text.rstrip().split("\n")
    for place in reversed(range(len(lines))):
        match = _RAISED.fullmatch(lines[place])
        if match is None:
            continue
        message = "\n".join([match[2], *lines[place + 1 :]])
        kind = _exception_class(match[1])
        for base in _MENDABLE:
            if kind is not None and issubclass(kind, base):
                return base(_WHERE.sub("", message))
        return None
    return None


def _exception_class(name: str) -> type[Exception] | None:
    """The class of Python's own errors and of ours, by the name in a traceback."""
    if name.endswith(".BeamIOError"):
        return OSError
    if not name.startswith(_OURS):
        return getattr(builtins, name, None)
    module, _, name = name.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _is_a_bug(record: logging.LogRecord) -> bool:
    """False for a traceback of what `run_pipeline` tells in one line."""
    return not (record.exc_info and isinstance(record.exc_info[1], _MENDABLE))
