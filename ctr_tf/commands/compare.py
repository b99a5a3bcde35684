"""`ctr-tf compare`: many models under one budget, in one table and one plot.

    ctr-tf compare --data DATA --models din,sparsectr --seeds 3 [key=value …]

Every model is trained by one recipe's sections `data`, `objective`, `optimizer` and
`training`; its own section `model` is that of its recipe beside it. `key=value` sets a
key for all, `name:key=value` for one model. Each run is a process of its own. The same
command goes on where it was interrupted, and more models or seeds add to what is there.

With `--tune N` each model first gets N trials of its own, as of `ctr-tf tune`, under
the ranges of the recipe's section `tune`: validation decides, and the model's runs, and
those of its variants, take the best values. A key that is set is left as it is set.
"""

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.loading import load_tensorflow
from ctr_tf.errors import check_positive_options


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("compare", __doc__)
    add = parser.add_argument
    parser.add_data()
    add(
        "--models",
        default="sparsectr",
        help="kinds, with commas; also tfrs, and variants by their row's name: "
        "sparsectr-B1, or two at once, sparsectr-B1+fixed_chunks",
    )
    add("--base", help="what others are compared with; default: the first model")
    add("--seeds", type=int, default=3, help="runs of each")
    add("--tune", type=int, metavar="N", help="trials of each model before; none")
    add("--config", help="recipe: the budget; default: SparseCTR's for the data")
    add("--output", help="folder; default: runs/compare-<name of the data>")
    add("--split", default="test", help="to evaluate on")
    add("--candidates", type=int, default=100, help="of the request that cost is of")
    add("--ablations", action="store_true", help="and the models without their parts")
    add(
        "--alternatives", action="store_true",
        help="and the models with other parts, where they have a choice",
    )  # fmt: skip
    parser.add_overrides("keys of all recipes to set; name:key=value, of one model's")
    return parser


def main(argv: list[str]) -> int:
    """Compares by the command line."""
    options = parser().parse_intermixed_args(argv)
    check_positive_options(options, "seeds", "candidates")
    if options.tune is not None:
        check_positive_options(options, "tune")
    load_tensorflow()
    from ctr_tf.compare.compare import compare

    return compare(options)
