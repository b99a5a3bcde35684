"""`ctr-tf score`: a JSON request, scored by an exported SavedModel alone.

Needs the export and TensorFlow; neither Keras nor the model's code is imported. A wrong
request is refused by the export's schema, before TensorFlow is.
"""

import functools
import json
import logging
import sys
from pathlib import Path
from typing import Any

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.loading import load_tensorflow
from ctr_tf.errors import UserError
from ctr_tf.schema import ITEM_KEY
from ctr_tf.storage import as_path, files
from serving.exported import EXAMPLE_REQUEST, EXTRA, find_version, load_content
from serving.messages import ranked
from serving.request import request_to_tensors
from serving.unknown import unknown_values

_log = logging.getLogger(__name__)
_COLUMNS = "{:>5}  {:<24}{:>12}{:>10}"


class Scorer:
    """An exported model, loaded for the first request that fits it.

    Args:
        model: folder of a version, or of versions, of which the latest is taken.

    Raises:
        FileNotFoundError: if there is no export in the folder.
        UserError: if its schema or vocabularies are not those that were exported.
    """

    def __init__(self, model: str | Path):
        self.folder = find_version(model)
        self.schema, self._vocabularies = load_content(self.folder)

    @functools.cached_property
    def _predict(self):
        """Arrays → outputs. To import TensorFlow and load the model takes seconds."""
        load_tensorflow()
        from serving.saved_model import call, load

        model = load(self.folder)
        return lambda arrays: call(model.signatures["serving_default"], arrays)

    def score(self, request: Any) -> list[dict]:
        """Scores a request's candidates.

        Args:
            request: as read from JSON; see `serving.request`.

        Returns:
            One `{"item_id", "probability", "logit", "position"}` a candidate, the most
            probable first; the position is the one in the request.

        Raises:
            UserError: names what is wrong with the request.
        """
        tensors = request_to_tensors(request, self.schema)
        outputs = self._predict(tensors)  # the first call loads the model
        probability, logit = (
            outputs[key].numpy()[0].tolist() for key in ("probability", "logit")
        )
        items = [candidate[ITEM_KEY] for candidate in request["candidates"]]
        return ranked(items, probability, logit)

    def unknown(self, request: Any) -> list[str]:
        """What of a request the model does not know; see `unknown_values`."""
        tensors = request_to_tensors(request, self.schema)
        return unknown_values(tensors, self.schema, self._vocabularies)


def print_scores(scorer: Scorer, request: Any, as_json: bool) -> None:
    """Scores a request and prints the scores; tells what the model does not know."""
    scores = scorer.score(request)
    for line in scorer.unknown(request):
        _log.warning("%s", line)
    if as_json:
        print(json.dumps({"candidates": scores}))
        return
    print(_COLUMNS.format("rank", ITEM_KEY, "probability", "position"))
    for rank, score in enumerate(scores, start=1):
        item, probability = str(score["item_id"]), f"{score['probability']:.6f}"
        print(_COLUMNS.format(rank, item, probability, score["position"]))


def read_request(path: str) -> object:
    """Reads a request from a JSON file, or from standard input for ``-``."""
    if path != "-" and not as_path(path).is_file():
        raise FileNotFoundError(f"There is no request at '{path}'.")
    if path != "-":
        return files.read_json(path)
    try:
        return json.load(sys.stdin)
    except ValueError as error:
        raise UserError(f"The request '-' is not JSON: {error}") from error


def main(argv: list[str]) -> int:
    """Scores a request."""
    parser = Parser("score", __doc__)
    parser.add_export()
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--request", help="JSON file, - for standard input")
    action.add_argument(
        "--example_request",
        action="store_true",
        help="print a request that the model can score, to start from",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args(argv)
    if options.example_request:
        path = find_version(options.export) / EXTRA / EXAMPLE_REQUEST
        sys.stdout.write(path.read_text("utf-8"))
        return 0
    request = read_request(options.request)
    print_scores(Scorer(options.export), request, options.json)
    return 0
