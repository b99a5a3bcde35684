"""The size of a user's state by model and history: what a feature store has to hold.

    ctr-tf bench state [--lengths 256 512 1024 2048 5000 10000] [--json]
        [--variants S2 full hstu suan light_suan] [--candidates 10]

SparseCTR with the sparsity sets S1 to S4 beside full causal self-attention (d = 32, two
blocks, eight heads), or models by name with their defaults (d = 32, two blocks, four
heads), each as exported for histories of up to N behaviors. Bytes are those of one
serialized state, header included (`serving.state`). Beside them, the FLOPs of a request
without a state, `ctr_tf.evaluation.flops`. Both follow from the shapes of the graph, so
that nothing is run and nothing varies.
"""

import argparse
import json
import sys
import tempfile

from ctr_tf.errors import UserError

LENGTHS = (256, 512, 1024, 2048, 5_000, 10_000)
VARIANTS = ("S1", "S2", "S3", "S4", "full")
CANDIDATES = 10
VOCABULARY = 100


def state_and_flops(variant: str, length: int, candidates: int):
    """Layout of the state of a model, untrained, in float32, and a request's FLOPs.

    Args:
        variant: one of `VARIANTS`, or a model's name.
        length: N.
        candidates: C.
    """
    from benchmarks.attention import _schema
    from ctr_tf.evaluation.flops import graph_flops, request_graph
    from ctr_tf.evaluation.request_cost import random_request
    from ctr_tf.models import MODELS, build_ranker
    from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
    from ctr_tf.synthetic.random_samples import random_vocabularies
    from serving.signatures import ServingModule

    schema = _schema(length)
    if variant in MODELS:
        config = MODELS[variant].config_class()
    elif variant == "full":
        config = SparseCTRConfig(attention="full")
    else:
        config = SparseCTRConfig(sparsity=variant)
    vocabularies = random_vocabularies(schema, VOCABULARY)
    ranker = build_ranker(config, schema, vocabularies.table_sizes(schema))
    chunks = ranker.num_chunks
    inputs = random_request(schema, vocabularies, chunks, length, candidates)
    flops = graph_flops(request_graph(ranker, inputs).graph)
    with tempfile.TemporaryDirectory() as folder:
        vocabularies.save(folder)
        return ServingModule(ranker, folder, (length,), (1,)).layout, flops


def measure(lengths, variants=VARIANTS, candidates=CANDIDATES) -> dict:
    """Everything, as the JSON object that `--json` prints."""
    sizes, flops = {}, {}
    for variant in variants:
        found = {n: state_and_flops(variant, n, candidates) for n in lengths}
        sizes[variant] = {
            "float32": {n: layout.num_bytes for n, (layout, _) in found.items()},
            "bfloat16": {n: _halved(layout) for n, (layout, _) in found.items()},
        }
        flops[variant] = {n: count for n, (_, count) in found.items()}
        print(f"{variant}: measured", file=sys.stderr, flush=True)
    return {
        "bench": "state",
        "lengths": list(lengths),
        "candidates": candidates,
        "bytes": sizes,
        "flops": flops,
    }


def _halved(layout) -> int:
    """Bytes with the floating tensors in bfloat16."""
    return layout.num_bytes - sum(
        tensor.num_bytes // 2 for tensor in layout.tensors if tensor.dtype == "float32"
    )


def _table(report: dict) -> str:
    lengths = report["lengths"]
    head = "".join(f"{f'N={n:,}':>14}" for n in lengths)
    lines = [f"{'bytes of one state':<22}{head}"]
    for variant, dtypes in report["bytes"].items():
        for dtype, sizes in dtypes.items():
            cells = "".join(f"{size:14,}" for size in sizes.values())
            lines.append(f"{variant:<12}{dtype:<10}{cells}")
    title = f"MFLOP, {report['candidates']} candidates"
    lines.append(f"{title:<22}{head}")
    for variant, counts in report["flops"].items():
        cells = "".join(f"{count / 1e6:14,.2f}" for count in counts.values())
        lines.append(f"{variant:<22}{cells}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """`ctr-tf bench state`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench state", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="N")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, help="or models")
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="C")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)
    if min(arguments.lengths) < 1:
        raise UserError(f"`--lengths` are positive. Received: {arguments.lengths}")
    if arguments.candidates < 1:
        raise UserError(f"`--candidates` is positive. Received: {arguments.candidates}")
    report = measure(arguments.lengths, arguments.variants, arguments.candidates)
    print(json.dumps(report) if arguments.json else _table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
