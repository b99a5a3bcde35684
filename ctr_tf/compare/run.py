"""One run of a comparison, in a process of its own: train, measure, evaluate.

    python -m ctr_tf.compare.run --config RECIPE [--split test] [--candidates 100]

Each of the three goes on, or is left out, where an earlier process came to; the
evaluation's metrics.json is written last.
"""

import argparse
import json
import logging
import sys

from ctr_tf import config as configs
from ctr_tf.compare.jobs import COST, read_finished
from ctr_tf.evaluation.evaluate import evaluate_run
from ctr_tf.evaluation.request_cost import random_request, request_cost
from ctr_tf.layers.feature_embedding import ITEM_VECTORS
from ctr_tf.storage import as_path, files
from ctr_tf.training.config import Config
from ctr_tf.training.run import Run, load_run
from ctr_tf.training.train import train


def run_cost(run: Run, candidates: int) -> dict:
    """What a run's model costs.

    Args:
        run: of `load_run`.
        candidates: of the request, whose history is the longest that the run takes.

    Returns:
        See `request_cost`, and `parameters` of `network` and `tables`.
    """
    longest = run.config.data.longest_history(run.schema.history_length)
    inputs = random_request(
        run.schema, run.vocabularies, run.ranker.num_chunks, longest, candidates
    )
    if run.ranker.reads_items_once:  # as an export does
        tokens = {n: inputs[f"candidate_{n}"] for n in run.ranker.item_texts}
        inputs[ITEM_VECTORS] = run.ranker.read_items(tokens)
    return {
        "parameters": run.ranker.count_weights(),
        **request_cost(run.ranker, inputs),
    }


def main(argv: list[str]) -> int:
    """Does one run by its recipe."""
    parser = argparse.ArgumentParser(
        prog="python -m ctr_tf.compare.run", description=__doc__
    )
    parser.add_argument("--config", required=True, help="recipe, a YAML file")
    parser.add_argument("--split", default="test", help="to evaluate on")
    parser.add_argument("--candidates", type=int, default=100, help="of a request")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s")
    logging.getLogger("absl").setLevel(logging.WARNING)  # TensorFlow, on checkpoints
    config = configs.load(Config, arguments.config)
    folder = as_path(config.run)
    train(config)
    cost = run_cost(load_run(folder), arguments.candidates)
    files.write_text(folder / COST, json.dumps(cost, indent=1) + "\n")
    if read_finished(folder, arguments.split, arguments.candidates) is None:
        evaluate_run(folder, arguments.split, scores=True, withheld=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
