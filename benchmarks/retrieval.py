"""What a long history costs: models that search it beside those that read it all.

    ctr-tf bench retrieval [--lengths 256 1024 4096 10000] [--candidates 10 100]
                           [--plot FILE] [--json]

One pass (batch 8, d = 32, four heads, the models' default sizes) over histories of N
behaviors and slates of C candidates: `forward`, and its halves `encode` (once a user)
and `score` (on the state that `encode` left), with the bytes of one user's state.
"full" is multi-head target attention over every behavior, which the others are to beat;
DIN weighs every pair by a small network; SIM, ETA, SDIM and TWIN-V2 search first.

All models run on the same random batch in one process with interleaved repeats; times
are medians. What is timed is the dense computation on rows already looked up, in plain
graphs as they are exported, or compiled by XLA.
"""

import argparse
import json
import os
import statistics
import sys
import time

from benchmarks.schemas import bench_schema
from ctr_tf.errors import UserError

MODELS = ("full", "din", "sim_soft", "sim_hard", "eta", "sdim", "twin_v2")
LENGTHS = (256, 1_024, 4_096, 10_000)
CANDIDATES = (10, 100)
PASSES = ("forward", "encode", "score")
ROWS = 10_000


def _full_attention(schema, sizes):
    """Target attention over the whole history, as a model."""
    from ctr_tf.layers.target_attention import TargetAttention
    from ctr_tf.layers.tower_head import TowerHead
    from ctr_tf.models.ranker import Ranker
    from ctr_tf.models.sizes import TowerSizes

    class FullTargetAttention(Ranker):
        def build_parts(self):
            width, dim = self.embedding.width, self.config.dim
            self.behavior_projection = self.dense(dim, "behavior")
            self.behavior_projection.build((None, None, width("behavior")))
            self.candidate_projection = self.dense(dim, "candidate")
            self.candidate_projection.build((None, None, width("candidate")))
            self.attention = TargetAttention(self.config.num_heads, name="attention")
            self.attention.build((None, None, dim), (None, None, dim))
            self.head = TowerHead(self.config.head_units, name="head")
            self.head.build_for(self.embedding, dim, dim)

        def encode(self, user, behaviors, context, training=False):
            return {
                **self.request_state(user, context),
                "mask": behaviors["mask"],
                "behaviors": self.behavior_projection(behaviors["embedding"]),
            }

        def score(self, state, candidates, training=False):
            target_BCD = self.candidate_projection(candidates["embedding"])
            found_BCD = self.attention(target_BCD, state["behaviors"], state["mask"])
            return self.head(found_BCD, state["user"], state["context"], target_BCD)

    ranker = FullTargetAttention(schema, sizes, TowerSizes("full"))
    ranker.build()
    return ranker


def make_ranker(name: str, schema):
    """An untrained model of `MODELS` with its default sizes."""
    from ctr_tf.models import MODELS as known
    from ctr_tf.models import build_ranker

    sizes = {
        feature.table: feature.num_ids or ROWS
        for feature in schema.features
        if feature.is_embedded
    }
    if name == "full":
        return _full_attention(schema, sizes)
    return build_ranker(known[name].config_class(), schema, sizes)


class Subject:
    """A model with its passes over one batch.

    Args:
        name: of `MODELS`.
        schema: of the batch.
        inputs: the batch, tensors.
        xla: whether XLA compiles the passes.
    """

    def __init__(self, name: str, schema, inputs: dict, xla: bool):
        import tensorflow as tf

        from ctr_tf.layers.state_spec import flatten

        ranker = make_ranker(name, schema)
        rows = ranker.lookup(inputs)
        groups = ranker.embedding.assemble(inputs, rows)
        user = tuple(groups[key] for key in ("user", "behaviors", "context"))
        compiled = {
            name: tf.function(function, jit_compile=xla, autograph=False)
            for name, function in (
                ("forward", ranker.forward),
                ("encode", ranker.encode),
                ("score", ranker.score),
            )
        }
        state = compiled["encode"](*user)
        self.state_bytes = sum(
            value.dtype.size * value[0].shape.num_elements()
            for value in flatten(state).values()
        )
        arguments = {
            "forward": (inputs, rows),
            "encode": user,
            "score": (state, groups["candidates"]),
        }
        self.passes = {name: (compiled[name], arguments[name]) for name in PASSES}

    def run(self, name: str) -> float:
        """Seconds of one pass."""
        import tensorflow as tf

        function, arguments = self.passes[name]
        start = time.perf_counter()
        for tensor in tf.nest.flatten(function(*arguments)):
            tensor.numpy()
        return time.perf_counter() - start


def measure_size(models, length, candidates, batch, repeats, xla) -> list[dict]:
    """One entry a model, repeats interleaved."""
    import tensorflow as tf

    from benchmarks.attention import _inputs

    schema = bench_schema(length)
    inputs = _inputs(schema, batch, candidates, schema.num_chunks)
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    subjects = {name: Subject(name, schema, inputs, xla) for name in models}
    entries = []
    seconds = {(name, one): [] for name in models for one in PASSES}
    for repeat in range(repeats + 1):
        for (name, one), values in seconds.items():
            value = subjects[name].run(one)
            if repeat:  # the first one traces
                values.append(value)
    for name in models:
        medians = {
            f"{one}_seconds": statistics.median(seconds[name, one]) for one in PASSES
        }
        size = {"model": name, "length": length, "candidates": candidates}
        entries.append(size | medians | {"state_bytes": subjects[name].state_bytes})
    return entries


def measure(models, lengths, candidates, batch, repeats, xla) -> dict:
    """Everything, as the JSON object that `--json` prints."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it takes many sizes for needless retracing
    results = []
    for count in candidates:
        for length in lengths:
            results += measure_size(models, length, count, batch, repeats, xla)
            print(f"N={length}, C={count}: timed", file=sys.stderr, flush=True)
    return {
        "bench": "retrieval",
        "batch": batch,
        "repeats": repeats,
        "xla": xla,
        "cores": len(os.sched_getaffinity(0)),
        "results": results,
    }


def _by_size(report: dict) -> tuple[dict, list, list, list]:
    """(C, N, model) → entry; then every C, every N and every model."""
    entries = {
        (entry["candidates"], entry["length"], entry["model"]): entry
        for entry in report["results"]
    }
    return entries, *(
        list(dict.fromkeys(key[place] for key in entries)) for place in range(3)
    )


def _table(report: dict) -> str:
    entries, counts, lengths, models = _by_size(report)
    lines = []
    for count in counts:
        head = "".join(f"{f'N={n:,}':>12}" for n in lengths)
        lines.append(f"{f'C={count}, ms':<20}{head}")
        for model in models:
            for one in PASSES:
                cells = "".join(
                    f"{1e3 * entries[count, n, model][f'{one}_seconds']:12.2f}"
                    for n in lengths
                )
                lines.append(f"{model if one == PASSES[0] else '':<10}{one:<10}{cells}")
        lines.append("")
    lines.append("bytes of one state")
    for model in models:
        cells = "".join(
            f"{entries[counts[0], n, model]['state_bytes']:12,}" for n in lengths
        )
        lines.append(f"{model:<20}{cells}")
    return "\n".join(lines)


def plot(report: dict, path: str) -> None:
    """Draws a pass over N as a PNG: all of it, and on a kept state, for the most C."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from ctr_tf.evaluation.plots import STYLE

    entries, counts, lengths, models = _by_size(report)
    count = max(counts)
    panels = {"forward": "history and candidates", "score": "on a kept state"}
    with rc_context(STYLE):
        figure = Figure(figsize=(12, 5), layout="constrained")
        for axes, one in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
            for model in models:
                milliseconds = [
                    1e3 * entries[count, n, model][f"{one}_seconds"] for n in lengths
                ]
                axes.plot(lengths, milliseconds, marker="o", markersize=4, label=model)
            axes.set(xscale="log", yscale="log", xlabel="behaviors", title=panels[one])
            axes.set_xticks(lengths, [f"{n:,}" for n in lengths])
            axes.minorticks_off()
        figure.axes[0].set(ylabel=f"ms, {count} candidates, batch {report['batch']}")
        figure.axes[1].legend()
        figure.savefig(path, dpi=130)


def main(argv: list[str]) -> int:
    """`ctr-tf bench retrieval`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench retrieval", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="N")
    parser.add_argument(
        "--candidates", type=int, nargs="+", default=CANDIDATES, help="C"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--xla", action="store_true", help="compile the passes")
    parser.add_argument("--plot", help="PNG file to draw")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)
    sizes = (arguments.batch, arguments.repeats)
    sizes += (*arguments.lengths, *arguments.candidates)
    if min(sizes) < 1:
        raise UserError(
            f"Batch, repeats, lengths and candidates are positive. Received: {sizes}"
        )
    report = measure(
        arguments.models,
        arguments.lengths,
        arguments.candidates,
        *sizes[:2],
        arguments.xla,
    )
    if arguments.plot:
        plot(report, arguments.plot)
    print(json.dumps(report) if arguments.json else _table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
