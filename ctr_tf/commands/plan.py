"""`ctr-tf plan`: what memory a training needs on each worker, and what to change.

    ctr-tf plan --config sparsectr --data DATA --workers 8 --memory 64

Trains for a few steps with small tables, on a worker's share of the global batch (as
far as this machine has memory for it) with histories and slates of the largest size.
What a worker needs is computed from that and the data's vocabularies:

    tables      rows, and what their optimizer remembers of them
    step        activations and gradients of a sample, times the samples of a replica
    program     TensorFlow, the network, graphs, batches that wait

Where there is a GPU, the step is measured on it, and what is told is a GPU's memory;
else it is the memory of a process on the processor. Nothing is written. The status is 1
if what is needed is more than `--memory`.
"""

from ctr_tf.commands.arguments import Parser, recipe_words
from ctr_tf.commands.loading import load_tensorflow
from ctr_tf.errors import check_positive_options


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("plan", __doc__)
    add = parser.add_argument
    parser.add_recipe()
    parser.add_data(required=False)
    add("--workers", type=int, default=1, help="of the training")
    add("--replicas", type=int, default=1, help="of each worker: its GPUs")
    add("--memory", type=float, help="GiB that a replica may take")
    return parser


def main(argv: list[str]) -> int:
    """Plans by the command line."""
    options = parser().parse_intermixed_args(argv)
    check_positive_options(options, "workers", "replicas")
    if options.memory is not None:
        check_positive_options(options, "memory")
    words = recipe_words(options, {"data": "data.path", "model": "model.name"})
    load_tensorflow()
    from ctr_tf.training.plan import plan

    return plan(options, words)
