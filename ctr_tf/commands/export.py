"""`ctr-tf export`: a trained run becomes a SavedModel for TF Serving.

    ctr-tf export --run RUN [--slate_sizes 10,100,1000] [--verify]

writes

    <output>/<version>/saved_model.pb  variables/  assets/<vocabulary>.txt
                       assets.extra/tf_serving_warmup_requests
                                    export.json  signature.json  README.md  schema.yaml
                                    example_request.json  golden.json  texts/

A version is written beside its place, reloaded, held against the model's own scores,
warmed up as a server does it, and then renamed: a server that watches the folder sees a
whole version or none. `--verify` holds more held-out samples against it.
"""

import sys

from ctr_tf.commands.arguments import Parser, sizes
from ctr_tf.commands.loading import load_tensorflow
from ctr_tf.errors import UserError
from serving.defaults import (
    BATCH_SIZES,
    GOLDEN_SAMPLES,
    SLATE_SIZES,
    STATE_DTYPES,
    VERIFY_SAMPLES,
)


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("export", __doc__)
    add = parser.add_argument
    parser.add_run()
    add("--output", help="folder of versions; default: export/ of the run")
    parser.add_data(required=False, what="prepared data set; default: the run's own")
    add(
        "--history_lengths",
        type=sizes,
        default=(),
        metavar="SIZE,…",
        help="sizes that histories are padded to; default: the recipe's, or its "
        "one and its halves",
    )
    add(
        "--slate_sizes",
        type=sizes,
        default=SLATE_SIZES,
        metavar="SIZE,…",
        help="sizes that slates are padded to",
    )
    add(
        "--batch_sizes",
        type=sizes,
        default=BATCH_SIZES,
        metavar="SIZE,…",
        help="users in one batch, for servers that batch",
    )
    add("--state_dtype", choices=STATE_DTYPES, default="float32", help="of user states")
    add(
        "--xla",
        action="store_true",
        help="compile by XLA, for servers that can (stock TF Serving images cannot, "
        "but on CPU with --xla_cpu_compilation_enabled=true). Every size and batch "
        "size is compiled when the model is loaded: choose few",
    )
    add(
        "--verify",
        action="store_true",
        help="hold many held-out samples, not just a few, against the model's scores",
    )
    add(
        "--samples",
        type=int,
        help=f"held-out samples to compare; default: {GOLDEN_SAMPLES}, with --verify "
        f"{VERIFY_SAMPLES}",
    )
    return parser


def main(argv: list[str]) -> int:
    """Exports by the command line."""
    options, words = parser().parse_known_args(argv)
    if words:
        raise UserError(
            "Sizes are listed with commas, and there are no other options. "
            f"Received: {' '.join(words)}"
        )
    load_tensorflow()
    from serving.export import export

    try:
        folder = export(options)
    except RuntimeError as error:
        print(f"ctr-tf: error: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0
