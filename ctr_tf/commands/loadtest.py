"""`ctr-tf loadtest`: a server under requests at a given rate, and how long they took.

    ctr-tf loadtest --target HOST:PORT --export EXPORT --rate 10 --seconds 30
                    [--mode full | cached] [--candidates 100] [--json] [--plot FILE.png]

The load is open: requests leave by a schedule, evenly spaced, whether or not earlier
ones were answered, and a latency counts from the moment the schedule said. A server
that stalls is therefore charged for all who would have waited meanwhile (there is no
coordinated omission). Latencies of requests that failed are not among the percentiles;
the failures are counted by status.

`full` is one pass (`serving_default`); `cached` scores the candidates on a state that
was encoded before the clock started (`score_candidates`). Messages are made beforehand:
what is measured is the server and the way there. Each request waits for its answer in a
thread of its own, of which there are 256: later ones wait here for a free one. Needs no
Keras and no model's code.
"""

from ctr_tf.commands.arguments import Parser
from ctr_tf.errors import check_positive_options
from serving.defaults import MODES


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("loadtest", __doc__)
    add = parser.add_argument
    add("--target", metavar="HOST:PORT", required=True, help="of the server")
    add("--transport", default="grpc", help="grpc or rest")
    add("--name", default="ctr", help="of the model in requests")
    parser.add_export(required=False, what="schema and example request")
    parser.renamed("--model_dir", "--export EXPORT")
    add("--mode", choices=MODES, default="full", help="one pass, or from a kept state")
    add("--rate", type=float, default=10.0, help="requests/s")
    add("--seconds", type=float, default=10.0, help="that requests are sent for")
    add("--candidates", type=int, default=100, help="of a request")
    add("--timeout", type=float, default=5.0, help="of a request, s")
    add("--plot", help="PNG file for the histogram")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: list[str]) -> int:
    """Loads a server by the command line; status 1 if any request failed."""
    options = parser().parse_args(argv)
    check_positive_options(options, "rate", "seconds", "candidates", "timeout")
    from serving.loadtest import run

    return 0 if run(options) else 1
