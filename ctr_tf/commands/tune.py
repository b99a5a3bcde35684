"""`ctr-tf tune`: seeks values for a recipe's keys; validation alone decides.

    ctr-tf tune --data DATA --config RECIPE --trials 20 [key=value …]

A recipe's section `tune` says which keys may take which values:

    tune:
      optimizer.learning_rate: {low: 3.0e-4, high: 1.0e-2, log: true}
      training.row_dropout.behavior: {low: 0.0, high: 0.4}
      model.dim: [16, 32, 64]

Without one, the learning rates, weight decay, dropout of rows and the listwise term are
tuned. A key that is set as `key=value` is left as it is set. The first trial is the
recipe as it is. Each trial is a process that trains; what it reached is the best
validation of its `training.monitor`. The test split is never read.

The same command goes on where it was interrupted, tries again what failed, and with
more --trials adds to what is there. best.yaml is the recipe to train; tuning.png shows
what mattered.
"""

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.loading import load_tensorflow
from ctr_tf.errors import check_positive_options


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("tune", __doc__)
    add = parser.add_argument
    parser.add_data()
    parser.add_base_recipe("to begin with")
    add("--trials", type=int, default=20, help="in all")
    add("--output", help="folder; default: runs/tune-<model>-<name of the data>")
    return parser


def main(argv: list[str]) -> int:
    """Tunes by the command line."""
    options = parser().parse_intermixed_args(argv)
    check_positive_options(options, "trials")
    load_tensorflow()
    from ctr_tf.tuning.tune import tune

    tune(options)
    return 0
