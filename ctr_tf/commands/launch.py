"""`ctr-tf launch`: starts the workers of a training, and all again if one fails.

    ctr-tf launch --workers 4 -- train --config sparsectr --data DATA --run RUN
    ctr-tf launch --hosts a:2222,b:2222 --index 0 -- train --config …

With `--workers` all of them run on this machine. With `--hosts` this machine runs one
of them: the same command on every machine, each with its own `--index`; eight hosts are
`node[0-7]:2222`. Every worker gets `TF_CONFIG`; what it says is told behind its number.

A worker that ends with the status 2 has met a mistake that it would meet again: all are
ended, with that status. After any other end but success all are started again, at most
`--restarts` times; they go on from the latest checkpoint. A SIGTERM to this command is
passed on: the workers write a checkpoint and leave, and so does it, with the status 75.
"""

import argparse

from ctr_tf.commands.arguments import Parser
from ctr_tf.errors import UserError
from ctr_tf.training.launch import launch_cluster


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("launch", __doc__)
    add = parser.add_argument
    add("--workers", type=int, help="on this machine, all of them")
    add("--hosts", help="host:port of all workers, in their order")
    add("--index", type=int, help="this machine's place among --hosts")
    add(
        "--gpus_per_worker",
        type=int,
        help="with --workers: how many of this machine's GPUs each one gets",
    )
    add("--restarts", type=int, default=10, help="after failures, at most")
    add("command", nargs=argparse.REMAINDER, metavar="-- train …")
    return parser


def main(argv: list[str]) -> int:
    """Launches by the command line."""
    options = parser().parse_args(argv)
    words = options.command[options.command[:1] == ["--"] :]
    if words[:1] != ["train"]:
        raise UserError(
            "After `--` comes the command of a worker, `train …`. "
            f"Received: {' '.join(words) or 'nothing'}"
        )
    return launch_cluster(options, words)
