"""`ctr-tf check`: whether a running server serves an exported model, and how well.

    ctr-tf check --target HOST:PORT [--rest HOST:PORT] [--export EXPORT] [--wait 60]

For any server that speaks TF Serving's API. Over gRPC and over REST: the status of the
model, its signatures, scores in one pass and from a kept state, what a wrong request is
answered, and how long warm requests take. With the export at hand, served scores are
held against those that the SavedModel gives in this process. One line a check; status
1 if one fails.
"""

from ctr_tf.commands.arguments import Parser
from ctr_tf.errors import UserError, check_positive_options


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("check", __doc__)
    add = parser.add_argument
    add("--target", metavar="HOST:PORT", help="of gRPC")
    add("--rest", metavar="HOST:PORT", help="of REST")
    add("--name", default="ctr", help="of the model in requests")
    parser.add_export(required=False, what="to hold served scores against")
    parser.renamed("--model_dir", "--export EXPORT")
    add("--requests", type=int, default=100, help="to be timed")
    add("--timeout", type=float, default=10.0, help="of a request, s")
    add(
        "--wait",
        type=float,
        default=0.0,
        help="seconds that the model may take to load",
    )
    return parser


def main(argv: list[str]) -> int:
    """Checks by the command line."""
    options = parser().parse_args(argv)
    if options.target is None and options.rest is None:
        raise UserError("Give `--target`, `--rest`, or both. Received: neither")
    check_positive_options(options, "requests")
    from serving.check import check

    return 0 if check(options) else 1
