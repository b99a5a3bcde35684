"""The size of a user's state by model and history: what a feature store has to hold.

    ctr-tf bench state [--lengths 256 512 1024 2048 5000 10000] [--json]

SparseCTR with the sparsity sets S1 to S4 beside full causal self-attention (d = 32, two
blocks, eight heads), each as exported for histories of up to N behaviors. Bytes are
those of one serialized state, header included (`serving.state`); they follow from the
shapes of the graph, so that nothing is run and nothing varies.
"""

import argparse
import json
import sys
import tempfile

from ctr_tf.errors import UserError

LENGTHS = (256, 512, 1024, 2048, 5_000, 10_000)
VARIANTS = ("S1", "S2", "S3", "S4", "full")
VOCABULARY = 100


def state_layout(variant: str, length: int):
    """Layout of the state of a model, untrained, in float32.

    Args:
        variant: one of `VARIANTS`.
        length: N.
    """
    from benchmarks.attention import _schema
    from ctr_tf.models import build_ranker
    from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
    from ctr_tf.synthetic.random_samples import random_vocabularies
    from serving.signatures import ServingModule

    schema = _schema(length)
    config = (
        SparseCTRConfig(attention="full")
        if variant == "full"
        else SparseCTRConfig(sparsity=variant)
    )
    vocabularies = random_vocabularies(schema, VOCABULARY)
    ranker = build_ranker(config, schema, vocabularies.table_sizes(schema))
    with tempfile.TemporaryDirectory() as folder:
        vocabularies.save(folder)
        return ServingModule(ranker, folder, (length,), (1,)).layout


def measure(lengths) -> dict:
    """Everything, as the JSON object that `--json` prints."""
    variants = {}
    for variant in VARIANTS:
        layouts = {length: state_layout(variant, length) for length in lengths}
        variants[variant] = {
            "float32": {n: layout.num_bytes for n, layout in layouts.items()},
            "bfloat16": {n: _halved(layout) for n, layout in layouts.items()},
        }
        print(f"{variant}: measured", file=sys.stderr, flush=True)
    return {"bench": "state", "lengths": list(lengths), "bytes": variants}


def _halved(layout) -> int:
    """Bytes with the floating tensors in bfloat16."""
    return layout.num_bytes - sum(
        tensor.num_bytes // 2 for tensor in layout.tensors if tensor.dtype == "float32"
    )


def _table(report: dict) -> str:
    lengths = report["lengths"]
    lines = ["bytes of one state" + "".join(f"{f'N={n:,}':>14}" for n in lengths)]
    for variant, dtypes in report["bytes"].items():
        for dtype, sizes in dtypes.items():
            cells = "".join(f"{size:14,}" for size in sizes.values())
            lines.append(f"{variant:<8}{dtype:<10}{cells}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """`ctr-tf bench state`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench state", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="N")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)
    if min(arguments.lengths) < 1:
        raise UserError(f"`--lengths` are positive. Received: {arguments.lengths}")
    report = measure(arguments.lengths)
    print(json.dumps(report) if arguments.json else _table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
