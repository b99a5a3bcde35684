"""`ctr-tf replay`: does an online store answer what the prepared records say?

    ctr-tf replay --source jsonl --input LOGS --data DATA [--export EXPORT]

Feeds the events of a raw log, by their times, into an online store, and asks at each
request what the store knows. Every field must be that of the request's record in the
prepared data set: ids, times, numbers, counters; with a model, the score too. Whoever
ranks by a store can so prove that a request means what it meant in training.
"""

import tempfile

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.loading import load_tensorflow
from ctr_tf.errors import UserError


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("replay", __doc__)
    add = parser.add_argument
    parser.add_source()
    parser.add_data(what="prepared from them")
    parser.add_export(required=False, what="an export, to compare scores too")
    add("--store", help="an empty one, a folder or redis://…; default: a temporary one")
    add("--requests", type=int, help="how many; default: all")
    return parser


def main(argv: list[str]) -> int:
    """Replays by the command line."""
    options = parser().parse_args(argv)
    load_tensorflow()
    from ctr_tf.data.prepared import PreparedData
    from pipelines.sources.source import get_source
    from serving.online.replay import model_scores, replay, summary
    from serving.online.store import OnlineStore

    data = PreparedData.load(options.data)
    score = model_scores(options.export) if options.export else None
    with tempfile.TemporaryDirectory() as folder:
        store = OnlineStore.open(options.store or folder, data.schema, sync=False)
        if store.latest:
            raise UserError(
                f"The store must be empty. Received: '{options.store}', whose latest "
                f"event is at {store.latest}"
            )
        source = get_source(options.source)
        result = replay(source, options.input, data, store, score, options.requests)
        keys, size = store.size()
        store.close()
    print(summary(result, keys, size))
    return 0
