"""`ctr-tf inspect`: a prepared data set, and its samples as a person wants to see them.

```
ctr-tf inspect --data DATA                               summary, and one sample
ctr-tf inspect --data DATA --split train --index 7 --num 2
ctr-tf inspect --data DATA --user_id 4711 --full
ctr-tf inspect --data DATA --verify                      checksums of all files
ctr-tf inspect --data DATA --bytes 1000                  what each key of a sample costs
ctr-tf inspect --data DATA --attention RUN,OTHER_RUN     where a language model looks
```

A sample is shown with its ids turned back into words by the vocabularies (`?` is out of
vocabulary, `-` is missing), times in the schema's local time, the history cut where its
chunks are, and the slate with labels and counters.

`--attention` names runs of models that read texts, with sinks and without, say. It
tells and draws, for the user of the first sample shown, how much of the attention of
the layers that read his texts sinks get, behaviors, and other tokens.
"""

import argparse

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.loading import load_tensorflow
from ctr_tf.errors import UserError, check_positive_options


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("inspect", __doc__)
    add = parser.add_argument
    parser.add_data()
    parser.renamed("prepared", "--data PREPARED")
    add("--split", help="default: test, if it has samples")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--index", type=int, default=0, help="of the first sample")
    which.add_argument("--request_id", help="samples of this request")
    which.add_argument("--user_id", help="samples of this user")
    which.add_argument(
        "--bytes",
        type=int,
        metavar="SAMPLES",
        help="what each key costs in the first so many, before compression",
    )
    add("--num", type=int, default=1, help="samples to show")
    add("--full", action="store_true", help="all of a long history and slate")
    add("--verify", action="store_true", help="compare all files with their checksums")
    add(
        "--attention",
        type=lambda text: text.split(","),
        metavar="RUN,…",
        help="where the language models of these runs look, for the first sample",
    )
    add(
        "--output",
        help="picture of --attention; default: attention-SPLIT-INDEX.png in the first "
        "run's plots",
    )
    return parser


def main(argv: list[str]) -> int:
    """Shows a data set by the command line."""
    arguments = parser().parse_args(argv)
    _check(arguments)
    load_tensorflow()
    from ctr_tf.data.inspect import inspect

    inspect(arguments)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    for name in ("index", "num"):
        if getattr(arguments, name) < 0:
            raise UserError(
                f"`--{name}` must not be negative. Received: {getattr(arguments, name)}"
            )
    if arguments.output and not arguments.attention:
        raise UserError(
            "`--output` is for the picture of `--attention`. "
            f"Received: --output {arguments.output}"
        )
    if arguments.attention and (arguments.verify or not arguments.num):
        raise UserError(
            "`--attention` looks into a sample, and `--verify` and `--num 0` show none."
            f" Received: --attention {','.join(arguments.attention)}"
        )
    if arguments.bytes is not None:
        check_positive_options(arguments, "bytes")
        if arguments.attention or arguments.verify:
            raise UserError(
                "`--bytes` shows what samples cost, and nothing else. "
                f"Received: --bytes {arguments.bytes} with --attention or --verify"
            )
