"""`ctr-tf baselines`: the honest lines that a model has to beat.

* *popularity*: the candidate's click-through rate in the last so many hours or days,
  smoothed, from the point-in-time counters alone. The window and the smoothing are
  those that do best on the validation split.
* *logistic regression*: on the same features as the models, ids one-hot and the
  history as a bag of items. The penalty is the one that does best on the validation
  split.
* *gradient-boosted trees*: on the features of user, request and candidate, without the
  history. There are as many trees as do best on the validation split.
* *tower*: the ranker of that name, a network on these features, trained by its recipe.

All are fitted on the train split and measured as `ctr-tf evaluate` measures a run.
"""

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.loading import load_tensorflow


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("baselines", __doc__)
    parser.add_data()
    parser.add_argument("--split", default="test", help="to measure on")
    parser.add_argument(
        "--output", help="folder; default: runs/baselines-<name of the data>"
    )
    return parser


def main(argv: list[str]) -> int:
    """Fits and measures the baselines of a data set."""
    options = parser().parse_args(argv)
    load_tensorflow()
    from ctr_tf.evaluation.baselines import evaluate_baselines, shown
    from ctr_tf.evaluation.known_baselines import default_output

    results = evaluate_baselines(options.data, options.split, options.output)
    print(f"{'':<24}{'AUC':>8}{'GAUC':>8}{'log loss':>10}")
    for name, result in results.items():
        gauc = result["gauc_user"]
        print(
            f"{shown(name):<24}{result['auc']:>8.4f}"
            f"{'–' if gauc is None else f'{gauc:.4f}':>8}{result['log_loss']:>10.4f}"
        )
    print(f"{'reports':<24}{options.output or default_output(options.data)}")
    return 0
