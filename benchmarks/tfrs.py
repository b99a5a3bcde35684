"""A DCN-V2 built with tensorflow-recommenders, trained from the same records.

    ctr-tf bench tfrs --data DATA [--epochs 1] [--json]

It stands for what a user of TensorFlow would otherwise take: see
`benchmarks/tfrs_peer.py`. The batches are those that our models are trained on, the
metrics come from the same code, and examples/s (requests) leave out the first step.
Weights are those after the last step.
"""

import argparse
import dataclasses
import json
import logging
import sys
import time
from pathlib import Path

import yaml

from ctr_tf import config as configs
from ctr_tf.data.config import DataConfig
from ctr_tf.errors import UserError

_log = logging.getLogger(__name__)
_METRICS = ("auc", "gauc_user", "ndcg@10", "map", "log_loss")


@dataclasses.dataclass(frozen=True)
class PeerConfig:
    """What the peer takes from a recipe.

    Args:
        run: folder to write to.
        data: the prepared data set and its batches.
        epochs: passes over the training samples.
        max_steps: stop after so many steps even so; None: no limit.
        seed: of weights and the order of the samples.
        learning_rate: of Adam.
    """

    run: str
    data: DataConfig
    epochs: int = 1
    max_steps: int | None = None
    seed: int = 0
    learning_rate: float = 1e-3

    @classmethod
    def from_recipe(cls, path: str) -> "PeerConfig":
        """Reads what it needs of a resolved recipe of `ctr-tf compare`."""
        values = yaml.safe_load(Path(path).read_text("utf-8"))
        training, optimizer = values["training"], values["optimizer"]
        return cls(
            values["run"],
            configs.parse(DataConfig, values["data"], "data"),
            *(training[key] for key in ("epochs", "max_steps", "seed")),
            optimizer["learning_rate"],
        )


def measure(config: PeerConfig, split: str, candidates: int) -> dict:
    """Trains, evaluates and times the peer; leaves the files that a run leaves.

    Args:
        config: what to do.
        split: to evaluate on.
        candidates: of the request whose cost is measured.

    Returns:
        The JSON object that `--json` prints.
    """
    from benchmarks.tfrs_peer import TFRSPeer, tf
    from ctr_tf.data.dataset import dataset, steps_per_epoch
    from ctr_tf.data.prepared import PreparedData
    from ctr_tf.evaluation.evaluate import evaluate_predictions
    from ctr_tf.evaluation.predictions import predictions, sigmoid
    from ctr_tf.evaluation.request_cost import random_request, request_cost
    from ctr_tf.evaluation.scores import SCORES, saving_scores

    folder, data = Path(config.run), PreparedData.load(config.data.path)
    schema = data.schema
    tf.keras.utils.set_random_seed(config.seed)
    chunks = {"num_chunks": schema.num_chunks}
    train = dataset(
        data, "train", config.data, training=True, seed=config.seed, **chunks
    )
    steps = config.epochs * steps_per_epoch(data, "train", config.data)
    steps = min(steps, config.max_steps or steps)
    peer = TFRSPeer(schema, data.vocabularies.table_sizes(schema))
    peer.adapt(train)
    peer.compile(tf.keras.optimizers.Adam(config.learning_rate))
    training = _fit(peer, train, steps, config.data.batch_size)
    longest = config.data.longest_history(schema.history_length)
    request = random_request(
        schema, data.vocabularies, schema.num_chunks, longest, candidates
    )
    cost = {"parameters": peer.parameters(), **request_cost(peer, request)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("metrics.json", training), ("cost.json", cost)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    output = folder / "evaluation" / split
    logits = tf.function(lambda inputs: peer(inputs), reduce_retracing=True)
    batches = dataset(data, split, config.data, training=False, metadata=True, **chunks)
    quality = evaluate_predictions(
        saving_scores(
            predictions(batches, lambda inputs: sigmoid(logits(inputs))),
            output / SCORES,
        ),
        output,
        name=f"{folder.resolve().name}, {split}",
        zone=schema.zone,
        total=data.num_samples(split),
    )
    metrics = {key: quality[key] for key in _METRICS}
    return {"bench": "tfrs", **metrics, **training, **cost, "output": str(output)}


def _fit(peer, train, steps: int, batch_size: int) -> dict:
    from benchmarks.tfrs_peer import tf

    ends = []
    clock = tf.keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: ends.append(time.perf_counter())
    )
    peer.fit(train, steps_per_epoch=steps, callbacks=[clock], verbose=0)
    seconds = ends[-1] - ends[0]
    _log.info("%d steps of %d in %.1f s", steps, batch_size, seconds)
    return {
        "steps": steps,
        "seconds": seconds,
        "examples_per_second": (steps - 1) * batch_size / (seconds or 1),
    }


def main(argv: list[str]) -> int:
    """`ctr-tf bench tfrs`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench tfrs", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add("--data", help="folder of `ctr-tf prepare`")
    add("--config", help="or a resolved recipe; --epochs and others do not count then")
    add("--epochs", type=int, default=1)
    add("--batch_size", type=int, default=64, help="requests")
    add("--learning_rate", type=float, default=1e-3)
    add("--max_steps", type=int)
    add("--seed", type=int, default=0)
    add("--split", default="test", help="to evaluate on")
    add("--candidates", type=int, default=100, help="of the request that is timed")
    add("--output", help="default: runs/tfrs-<name of the data>")
    add("--json", action="store_true", help="one JSON object")
    a = parser.parse_args(argv)
    if bool(a.data) == bool(a.config):
        raise UserError(
            f"Give either `--data` or `--config`. Received: {a.data!r}, {a.config!r}"
        )
    if a.config:
        config = PeerConfig.from_recipe(a.config)
    else:
        config = PeerConfig(
            a.output or f"runs/tfrs-{Path(a.data).resolve().name}",
            DataConfig(a.data, a.batch_size),
            *(a.epochs, a.max_steps, a.seed, a.learning_rate),
        )
    report = measure(config, a.split, a.candidates)
    if a.json:
        print(json.dumps(report))
    else:
        print("\n".join(f"{key:<22}{value}" for key, value in report.items()))
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s")
    sys.exit(main(sys.argv[1:]))
