"""`ctr-tf evaluate`: measures a run: metrics.json and a one-page report on one split.

ctr-tf evaluate --run RUN
ctr-tf evaluate --run RUN --slice_by category,age,history_length
ctr-tf evaluate --run RUN --importance
ctr-tf evaluate --run RUN --against OTHER_RUN

`--slice_by` cuts the split by features of users, requests and candidates.
`--importance` permutes groups of features and tells what is lost. `--against` scores
another run on the same samples and tells whether the difference is real; a metrics.json
in its place is what RelaImpr is relative to. docs/evaluation.md has the rest.
"""

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.loading import load_tensorflow


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("evaluate", __doc__)
    add = parser.add_argument
    parser.add_run()
    parser.add_data(required=False, what="prepared data set; default: the run's own")
    add("--split", default="test", help="of the data")
    add("--against", metavar="RUN", help="run or metrics.json to compare with")
    add(
        "--slice_by",
        metavar="FEATURES",
        type=lambda text: tuple(text.split(",")),
        default=(),
        help="features to cut the split by, and `history_length`, with commas",
    )
    add(
        "--importance",
        nargs="?",
        const="groups",
        choices=("groups", "all"),
        help="permute groups of features, or `all`: each one by itself",
    )
    add(
        "--importance_requests",
        type=int,
        default=2_000,
        help="requests that importance is measured on, at most",
    )
    add(
        "--baselines",
        metavar="FOLDER",
        help="of `ctr-tf baselines`; default: runs/baselines-<name of the data>",
    )
    parser.renamed("--base", "--against RUN")
    add("--output", help="folder to write to; default: RUN/evaluation/SPLIT")
    add("--task", help="label to measure; default: the one that the run is trained for")
    add("--batch_size", type=int, help="samples scored at once; default: the run's")
    add("--scores", action="store_true", help="also keep every score, in scores.npz")
    add(
        "--no_withheld",
        action="store_true",
        help="do not score everything once more with the history withheld",
    )
    return parser


def main(argv: list[str]) -> int:
    """Evaluates by the command line."""
    options = parser().parse_args(argv)
    load_tensorflow()
    from ctr_tf.evaluation.evaluate import Asked, evaluate_run, output_folder
    from ctr_tf.evaluation.report import console_tables, headline
    from ctr_tf.storage import as_path, files

    output = as_path(
        options.output or output_folder(options.run, options.split, options.task)
    )
    with files.naming(output):
        result = evaluate_run(
            options.run,
            options.split,
            options.against,
            output,
            options.batch_size,
            options.scores,
            options.task,
            not options.no_withheld,
            options.data,
            Asked(
                options.slice_by,
                options.importance,
                options.importance_requests,
                options.baselines,
            ),
        )
    print("\n".join(f"{label:<30}{value}" for label, value in headline(result)))
    for lines in console_tables(result):
        print("", *lines, "", sep="\n")
    print(f"{'report':<30}{output / 'report.html'}")
    return 0
