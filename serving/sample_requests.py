"""Requests for checks and load tests of a server whose traffic nobody has at hand."""

import itertools
from pathlib import Path

from ctr_tf.storage import files
from serving.exported import EXAMPLE_REQUEST, EXTRA, find_version
from serving.inputs import RequestSchema, given

_TIME = 1_700_000_000
_BEHAVIORS = 64


def sample_request(schema: RequestSchema, model_dir: str | Path | None) -> dict:
    """A request in JSON's form: the export's example, or one of unknown values.

    Args:
        schema: of the server's model.
        model_dir: the export, if there is one at hand.
    """
    if model_dir is not None:
        path = find_version(model_dir) / EXTRA / EXAMPLE_REQUEST
        return files.read_json(path)

    def unknown(group: str) -> dict:
        names = [feature.name for feature in given(schema, group)]
        return dict.fromkeys(n for n in names if n not in schema.computed.placed)

    size = {"slate_size": 10} if schema.computed.slate_size else {}
    return size | {
        "request_time": _TIME,
        "user": unknown("user"),
        "context": unknown("context"),
        "behaviors": [
            {"time": _TIME - 60 * (_BEHAVIORS - i)} | unknown("behavior")
            for i in range(_BEHAVIORS)
        ],
        "candidates": [unknown("candidate")] * 10,
    }


def resized(request: dict, candidates: int) -> dict:
    """The request with so many candidates, its own over and over."""
    slate = itertools.islice(itertools.cycle(request["candidates"]), candidates)
    return request | {"candidates": list(slate)}
