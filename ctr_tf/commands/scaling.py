"""`ctr-tf scaling`: a model in many sizes, the law of what it reaches, and advice.

    ctr-tf scaling --data DATA --grades 2:1:4,4:1:8,8:1:16,16:2:32,32:2:64 --seeds 3

A grade is width:blocks:history (and :heads; by default they are 4 wide). With several
--shares grades are trained on parts of the training samples, too. Each point is trained
with each seed by one recipe, in a process of its own, costed and evaluated. The same
command goes on where it was interrupted, and more grades, shares or seeds add to what
is there.

The law AUC = E - A X^(-alpha) and its rival a + b ln X are fitted to all but the
largest points, which they then predict. X is the FLOPs of a request, and the number of
training samples if there are several shares. scaling.md says what came out.
"""

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.loading import load_tensorflow


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("scaling", __doc__)
    add = parser.add_argument
    parser.add_data()
    add("--grades", required=True, help="width:blocks:history[:heads], with commas")
    add("--shares", default="1", help="of the training samples, such as 1,1/4,1/16")
    add("--shares_of", help="grades that are trained on each share; default: all")
    add("--seeds", type=int, default=3, help="runs of each point")
    add("--hold_out", type=int, default=2, help="largest points to predict")
    parser.add_base_recipe("of all runs")
    add("--limit", type=float, help="AUC that cannot be exceeded, if it is known")
    add("--flops_budget", type=float, help="of a request: which grade is the best?")
    add("--latency_budget_ms", type=float, help="of a request: which is the best?")
    add("--candidates", type=int, default=10, help="of that request")
    add("--split", default="test", help="to evaluate on")
    add("--output", help="folder; default: runs/scaling-<model>-<name of the data>")
    return parser


def main(argv: list[str]) -> int:
    """Studies by the command line."""
    options = parser().parse_intermixed_args(argv)
    load_tensorflow()
    from ctr_tf.scaling.scaling import scaling

    return scaling(options)
