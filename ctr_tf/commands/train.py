"""`ctr-tf train`: trains a model by a recipe, or goes on where a killed run stopped.

    ctr-tf train --config sparsectr --data DATA --run RUN [--model din]
    ctr-tf train --config … --from RUN --run NEXT --data TOMORROW
    ctr-tf train --config … --from RUN --run NEXT … --stream HOST:PORT --topics samples

A recipe is named (`ctr-tf recipes` lists those that are shipped) or given by its path.
Any key of it can be set as `key=value`. A run whose folder exists goes on from
its latest checkpoint if the recipe is the same, and is refused otherwise. With `--from`
a new run starts from another's best weights: on new data, whose vocabularies are mapped
by their values, or for more steps. `--slots` starts from its last step, with its
optimizer.

Where it validates, it ends with two lines: what the run has reached on the validation
split, and what logistic regression on the same features does there; a run that does not
beat it is told so, and what to try. `training.baseline=false` leaves that out.

With `--stream` it trains on the samples of a Kafka broker's topics as they come: each
window of them is predicted, and only then learned (`ctr_tf.training.stream`).

A SIGTERM to any worker ends all of them with a checkpoint and the status 75, which says
that the same command goes on. So does the loss of a worker, from the latest checkpoint.
"""

from ctr_tf.commands.arguments import Parser, recipe_words
from ctr_tf.commands.loading import load_tensorflow

_KEYS = {
    "data": "data.path",
    "run": "run",
    "model": "model.name",
    "from": "training.start_from",
    "slots": "training.start_slots",
    "stream": "stream.broker",
    "topics": "stream.topics",
    "to_end": "stream.to_end",
}


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("train", __doc__)
    add = parser.add_argument
    parser.add_recipe()
    parser.add_data(required=False)
    add("--run", help="folder to make, or to go on with; default: the recipe's")
    add(
        "--from",
        metavar="RUN",
        help="start from a run's best weights: new data, or more steps",
    )
    add(
        "--slots",
        action="store_true",
        default=None,
        help="with --from: go on from the run's last step, optimizer and all",
    )
    add("--stream", metavar="HOST:PORT", help="a Kafka broker")
    add("--topics", type=lambda text: text.split(","), help="of samples, with commas")
    add(
        "--to_end",
        action="store_true",
        default=None,
        help="stop where the topics have no more",
    )
    return parser


def main(argv: list[str]) -> int:
    """Trains by the command line."""
    options = parser().parse_intermixed_args(argv)
    words = recipe_words(options, _KEYS)
    load_tensorflow()
    from ctr_tf.evaluation.baseline_line import tell_baseline
    from ctr_tf.recipes.find import find_recipe
    from ctr_tf.recipes.read import load_recipe
    from ctr_tf.training.train import run

    config = load_recipe(find_recipe(options.config), words)
    if status := run(config):
        return status
    tell_baseline(config)
    return 0
