"""`ctr-tf serve`: a development server with TF Serving's gRPC and REST API.

    ctr-tf serve --export run/export
    curl localhost:8501/v1/models/ctr

For development and tests, on machines without Docker. It loads the newest versions of
an export once, tries each with the requests that the export brought along, and serves
them until it is stopped. In production use TF Serving (`docker/`), which batches
requests, finds new versions and measures itself.
"""

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.loading import load_tensorflow
from ctr_tf.errors import check_positive_options


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("serve", __doc__)
    add = parser.add_argument
    parser.add_export()
    add("--name", default="ctr", help="of the model in requests")
    add("--versions", type=int, default=1, help="newest ones to serve at a time")
    add("--host", default="127.0.0.1", help="to listen on")
    add("--grpc_port", type=int, default=8500, help="0: any free one")
    add("--rest_port", type=int, default=8501, help="0: any free one")
    return parser


def main(argv: list[str]) -> int:
    """Serves by the command line."""
    options = parser().parse_args(argv)
    check_positive_options(options, "versions")
    load_tensorflow()
    from serving.server.serve import serve

    serve(options)
    return 0
