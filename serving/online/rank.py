"""`ctr-tf rank`: items for a user, ranked by a model with what a store knows of them.

ctr-tf rank --export EXPORT --store STORE --user u1 --candidates 7,9,12
"""

import json
import logging
import sys
from typing import Any

from ctr_tf.commands.arguments import Parser
from ctr_tf.errors import UserError
from serving.online.store import OnlineStore
from serving.score import Scorer, print_scores

_log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """The verb `ctr-tf rank`."""
    parser = Parser("rank", __doc__)
    parser.add_export()
    parser.add_argument("--store", required=True, help="a folder, or redis://…")
    parser.add_argument("--user", required=True, help="id")
    parser.add_argument(
        "--candidates",
        required=True,
        help="ids of items, with commas between; or a JSON list, of ids or objects",
    )
    parser.add_argument("--context", default="{}", help="JSON, features of the request")
    parser.add_argument(
        "--time", help="in the log's unit, or `latest`, of the store; default: now"
    )
    parser.add_argument("--slate_size", type=int, help="how many are shown")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args(argv)
    scorer = Scorer(options.export)
    store = OnlineStore.open_filled(options.store, scorer.schema)
    request = store.request(
        options.user,
        _candidates(options.candidates, store),
        _parsed("context", options.context),
        time=_time(options.time, store),
        slate_size=options.slate_size,
    )
    if not request["behaviors"]["time"]:
        _log.warning(
            "the store has no earlier behavior of user %r: scored without a history",
            options.user,
        )
    print_scores(scorer, request, options.json)
    store.close()
    return 0


def _time(text: str | None, store: OnlineStore) -> int | None:
    if text == "latest":
        return store.latest + 1
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    raise UserError(f"`--time` must be a whole number or `latest`. Received: {text!r}")


def _candidates(text: str, store: OnlineStore) -> list:
    if text.lstrip().startswith("["):
        return _parsed("candidates", text)
    words = [word.strip() for word in text.split(",") if word.strip()]
    item = next(f for f in store.schema.of("item") if f.name == "item_id")
    if item.dtype == "string":
        return words
    try:
        return [int(word) for word in words]
    except ValueError:
        raise UserError(
            f"`--candidates` must be whole numbers. Received: {text!r}"
        ) from None


def _parsed(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(
            f"`--{name}` is not JSON: {error}. Received: {text!r}"
        ) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
