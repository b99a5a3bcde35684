"""A table's training step beside stock Keras, from ten thousand rows to ten million.

    ctr-tf bench embedding [--rows 10000 1000000 5000000 10000000] [--json]

Both train the same model under `fit`, on the same random ids: rows of one table
(width 32), mean over 200 ids, one dense unit, batch 64. Of a batch's 12,800 ids 6,400
are distinct, each there twice, whatever the table's size: cases differ in it alone.
"ours" is an `EmbeddingTable` under `Ranker` with the row-wise Adam, on huge pages, all
as `ctr-tf train` has it; "stock" is `keras.layers.Embedding` with
`keras.optimizers.Adam`. Every case runs in a process of its own; a step's time is the
median over steps after the first ones, which trace and warm up. A stock case
that needs more memory than there is, or more time than `--timeout`, is left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from ctr_tf.errors import UserError
from ctr_tf.process_memory import peak_bytes

BATCH, IDS, WIDTH = 64, 200, 32
ROWS = (10_000, 1_000_000, 5_000_000, 10_000_000)
STEPS = {"ours": (10, 100), "stock": (3, 10)}  # warm-up, measured
COPIES = {"ours": 4, "stock": 8}  # of the table that a case holds at its peak
BATCHES = 16


def _dataset(rows: int):
    import tensorflow as tf

    random = np.random.default_rng(0)
    distinct = [
        random.choice(rows, BATCH * IDS // 2, replace=False) for _ in range(BATCHES)
    ]
    ids = random.permuted(np.tile(distinct, 2), axis=1).reshape(BATCHES, BATCH, IDS)
    labels = random.integers(0, 2, (BATCHES, BATCH, 1)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((ids, labels)).cache().repeat()


def trainer_of(rows: int, shard=None):
    """A trainer of the bench's model: a table of `rows`, or a shard of them."""
    import keras

    from ctr_tf.losses import LogLoss
    from ctr_tf.losses.outputs import Outputs
    from ctr_tf.models import Ranker
    from ctr_tf.models.sizes import TowerSizes
    from ctr_tf.schema import FIRST_ID, Categorical, Schema
    from ctr_tf.training.huge_pages import use_huge_pages
    from ctr_tf.training.objective import Objective, Term
    from ctr_tf.training.optimizers import OptimizerConfig, make_optimizer
    from ctr_tf.training.trainer import Trainer

    class Mean(Ranker):
        def build_parts(self):
            self.logit = keras.layers.Dense(1)
            self.logit.build((None, WIDTH))

        def outputs(self, inputs, rows, training=False):
            mean = keras.ops.mean(rows["behavior_item_id"], axis=1)
            return Outputs(self.logit(mean)[:, None], {})

    item = Categorical("item_id", "item", hash_buckets=rows - FIRST_ID)
    schema = Schema(name="bench", features=(item,))
    sizes = {f.table: f.num_ids for f in schema.features if f.is_embedded}
    ranker = Mean(schema, sizes, TowerSizes("mean", embedding_dim=WIDTH))
    if shard is not None:
        ranker.embedding.cut(shard)
    ranker.build()
    trainer = Trainer(Objective([Term("log_loss", LogLoss())]), ranker)
    trainer.compile(make_optimizer(OptimizerConfig(), trainer.tables))
    use_huge_pages(trainer.store.variables)
    return trainer


def as_batches(dataset):
    """Ids and labels, as the trainer takes them."""
    import tensorflow as tf

    return dataset.map(
        lambda ids, labels: (
            {"behavior_item_id": ids},
            labels[..., None],
            tf.ones_like(labels),
        )
    )


def _ours(rows: int):
    return trainer_of(rows), as_batches(_dataset(rows))


def _stock(rows: int):
    import keras

    model = keras.Sequential(
        [
            keras.layers.Embedding(rows, WIDTH),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(
        keras.optimizers.Adam(),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return model, _dataset(rows)


def measure_here(kind: str, rows: int) -> dict:
    """Measures one case in this process.

    Args:
        kind: `"ours"` or `"stock"`.
        rows: of the table.

    Returns:
        `seconds` a step (median), the `steps` measured, and the process's peak memory.
    """
    import keras

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.times = []

        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])
            self.times.append(time.perf_counter())

    model, dataset = {"ours": _ours, "stock": _stock}[kind](rows)
    clock, (warm, measured) = Clock(), STEPS[kind]
    model.fit(
        dataset,
        steps_per_epoch=warm + measured + 1,
        shuffle=False,
        verbose=0,
        callbacks=[clock],
    )
    return {
        "seconds": statistics.median(np.diff(clock.times)[warm:].tolist()),
        "steps": measured,
        "peak_bytes": peak_bytes(),
    }


def _available_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def measure(kind: str, rows: int, timeout: float) -> dict:
    """Measures one case in a process of its own; see `measure_here`.

    Returns:
        Its result, or `{"left_out": why}`.
    """
    needed = COPIES[kind] * rows * WIDTH * 4
    if needed > _available_bytes():
        return {"left_out": f"needs about {needed / 2**30:.0f} GiB of memory"}
    command = [sys.executable, "-m", "ctr_tf", "bench", "embedding"]
    command += ["--case", kind, str(rows)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=timeout,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return {"left_out": f"takes more than {timeout:.0f} s"}
    if done.returncode:
        last = done.stderr.decode().strip().splitlines()[-1:] or [""]
        return {"left_out": f"ended with status {done.returncode}: {last[0]}"}
    return json.loads(done.stdout.splitlines()[-1])


def report(rows: list[int], timeout: float) -> dict:
    """Measures all cases.

    Returns:
        The cases, and the two ratios that the project promises, where measured.
    """
    cases = []
    for count in rows:
        case = {"rows": count}
        for kind in STEPS:
            case[kind] = measure(kind, count, timeout)
            _log(f"{count:,} rows, {kind}: {_words(case[kind])}")
        cases.append(case)
    seconds = {
        (case["rows"], kind): case[kind]["seconds"]
        for case in cases
        for kind in STEPS
        if "seconds" in case[kind]
    }

    def ratio(one, other):
        if one in seconds and other in seconds:
            return seconds[one] / seconds[other]
        return None

    return {
        "bench": "embedding",
        "batch": BATCH,
        "ids": IDS,
        "width": WIDTH,
        "cores": len(os.sched_getaffinity(0)),
        "cases": cases,
        "ours_largest_to_smallest": ratio((rows[-1], "ours"), (rows[0], "ours")),
        "stock_to_ours": {
            str(count): ratio((count, "stock"), (count, "ours")) for count in rows
        },
    }


def _words(case: dict) -> str:
    if "left_out" in case:
        return f"left out, {case['left_out']}"
    return f"{1e3 * case['seconds']:.1f} ms, {case['peak_bytes'] / 2**30:.1f} GiB"


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(result: dict) -> str:
    lines = [f"{'rows':>12}  {'ours':>22}  {'stock Keras':>22}  {'ratio':>7}"]
    for case in result["cases"]:
        ratio = result["stock_to_ours"][str(case["rows"])]
        lines.append(
            f"{case['rows']:>12,}  {_words(case['ours']):>22}  "
            f"{_words(case['stock']):>22}  " + (f"{ratio:7.1f}" if ratio else "      -")
        )
    largest = result["ours_largest_to_smallest"]
    if largest:
        lines.append(f"ours, largest to smallest table: {largest:.2f}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """`ctr-tf bench embedding`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench embedding", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds a case")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.case:
        print(json.dumps(measure_here(arguments.case[0], int(arguments.case[1]))))
        return 0
    if min(arguments.rows) < 10:
        raise UserError(f"A table has at least 10 rows. Received: {arguments.rows}")
    result = report(arguments.rows, arguments.timeout)
    print(json.dumps(result) if arguments.json else _table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
