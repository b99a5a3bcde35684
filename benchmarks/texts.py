"""What language models cost that read histories, beside SparseCTR.

    ctr-tf bench texts --language_models FOLDER [FOLDER …] [--behaviors 50]
        [--history_tokens 512] [--candidates 100] [--json]

Each folder has a language model of Hugging Face's layout; of its weights nothing is
read, since cost depends on sizes alone. An encoder is tuned in its upper half, or in
all of its layers; a decoder by LoRA. Histories are full, of random titles. Times are
medians in float32 on this machine: of a training step, by sample; of reading a user's
history to the state that is kept; of scoring candidates from a kept state, their texts
read, or taken from the table of all items where training leaves it as it is.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ctr_tf.errors import UserError, check_positive_options

_ITEMS = 1_000
_TITLE = 16  # tokens
_BATCH, _SLATE = 4, 10  # of a training step
_WARM_UP, _CALLS, _SECONDS = 2, 20, 20.0


def variants(folders: list[str], history_tokens: int) -> dict:
    """Name → config of each model that is measured."""
    from ctr_tf.layers.text.lm_config import read_lm_config
    from ctr_tf.layers.text.low_rank import LoRA
    from ctr_tf.models.ctr_sink import CTRSinkConfig
    from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
    from ctr_tf.models.texts_config import TextsConfig
    from ctr_tf.models.with_texts import WithTextsConfig

    found: dict = {"sparsectr": SparseCTRConfig()}
    for folder in folders:
        name = Path(folder).resolve().name
        texts = TextsConfig(
            language_model=folder,
            pretrained=False,
            history_tokens=history_tokens,
            candidate_tokens=_TITLE + 2,
        )
        own = {f.name: getattr(texts, f.name) for f in dataclasses.fields(texts)}
        if read_lm_config(folder).is_causal:
            changes: list[dict] = [{"tune": "lora", "lora": LoRA(8)}]
        else:
            changes = [{"tune": "upper"}, {"tune": "layers"}]
        for change in changes:
            config = CTRSinkConfig(**(own | change))
            found[f"ctr_sink, {name}, {change['tune']}"] = config
        both = WithTextsConfig(texts=texts.with_texts(**changes[0]))
        found[f"with_texts, {name}, {changes[0]['tune']}"] = both
    return found


def measure(config, behaviors: int, candidates: int) -> dict:
    """Milliseconds of one model.

    Args:
        config: of it.
        behaviors: of a history.
        candidates: C, scored at once.
    """
    import tensorflow as tf

    from ctr_tf.evaluation.request_cost import random_request
    from ctr_tf.models import build_ranker

    schema, vocabularies = _world(config, behaviors)
    sizes = vocabularies.table_sizes(schema)
    ranker = build_ranker(config, schema, sizes, texts=vocabularies.texts)
    inputs = random_request(
        schema, vocabularies, ranker.num_chunks, behaviors, candidates
    )

    def groups(names):
        every = ranker.embedding.assemble(inputs, ranker.lookup(inputs))
        return [every[name] for name in names]

    def scored(state, vectors=None):
        (shown,) = groups(["candidates"])
        if vectors is not None:
            shown = {**shown, "text_vectors": vectors}
        return ranker.score(state, shown)

    def encoded():
        return ranker.encode(*groups(["user", "behaviors", "context"]))

    encode = tf.function(encoded, autograph=False)
    state, score = encode(), tf.function(scored, autograph=False)
    result = {
        "weights": sum(ranker.count_weights().values()),
        "train_ms": _training(ranker, schema, vocabularies, behaviors) / _BATCH,
        "encode_ms": _median(encode),
        "score_ms": _median(lambda: score(state)),
        "score_kept_ms": None,
    }
    if ranker.reads_items_once:
        (shown,) = groups(["candidates"])
        vectors = ranker.read_items(shown["texts"])
        result["score_kept_ms"] = _median(lambda: score(state, vectors))
    return result


def _world(config, behaviors: int):
    """A schema with a title, and titles of random tokens."""
    from ctr_tf.schema import Bucketized, Categorical, Schema, Text
    from ctr_tf.schema.texts import Texts
    from ctr_tf.schema.vocabulary import Vocabularies
    from ctr_tf.synthetic.random_samples import random_vocabularies
    from ctr_tf.text.tokenizer import TOKENIZER

    schema = Schema(
        name="bench",
        features=(
            Categorical("item_id", "item", dtype="int64"),
            Categorical("category", "item"),
            Text("title", "item", length=_TITLE),
            Bucketized("age", "user", num_values=100, dtype="int64"),
        ),
        history_length=behaviors,
    )
    made = random_vocabularies(schema, _ITEMS)
    texts = made.texts
    assert texts is not None
    tables = {name: _full(table) for name, table in texts.tables.items()}
    tokenizer = texts.tokenizer
    if hasattr(config, "texts"):
        own = Path(config.texts.language_model) / TOKENIZER
        tokenizer = own.read_text("utf-8") if own.is_file() else tokenizer
    texts = Texts(tokenizer, texts.items.to_pylist(), tables)
    values = {name: made.values(name) for name in schema.vocabularies()}
    return schema, Vocabularies(values, texts)


def _full(table: np.ndarray) -> np.ndarray:
    """Titles that have all of their tokens."""
    random = np.random.default_rng(0)
    return random.integers(5, 100, table.shape, np.int32)


def _training(ranker, schema, vocabularies, behaviors: int) -> float:
    """Milliseconds of a step."""
    import tensorflow as tf

    from ctr_tf.data.batches import BatchReader
    from ctr_tf.data.text_inputs import TextInputs
    from ctr_tf.data.writing import serialize
    from ctr_tf.synthetic.random_samples import random_sample
    from ctr_tf.training.objective import ObjectiveConfig, make_objective
    from ctr_tf.training.optimizers import OptimizerConfig, make_optimizer
    from ctr_tf.training.trainer import Trainer

    trainer = Trainer(make_objective(ObjectiveConfig(), ranker), ranker)
    trainer.compile(make_optimizer(OptimizerConfig(), trainer.tables), total_steps=100)
    random = np.random.default_rng(0)
    records = [
        serialize(random_sample(schema, vocabularies, random, behaviors, _SLATE))
        for _ in range(_BATCH)
    ]
    reader = BatchReader(
        schema,
        ranker.num_chunks,
        behaviors,
        texts=TextInputs.of_tokens(vocabularies.texts),
    )
    batch = reader.read(tf.constant(records))
    return _median(lambda: trainer.train_on_batch(*batch))


def _median(call: Callable) -> float:
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < _WARM_UP + 3 or (
        len(seconds) < _WARM_UP + _CALLS and time.perf_counter() - started < _SECONDS
    ):
        before = time.perf_counter()
        result = call()
        getattr(result, "numpy", list)()
        seconds.append(time.perf_counter() - before)
    return 1e3 * statistics.median(seconds[_WARM_UP:])


def _table(report: dict) -> str:
    wide = max(map(len, report["models"]))
    heads = ("trained, M", "train", "user", "score", "score, kept items")
    lines = [
        f"{'milliseconds':<{wide}}" + "".join(f"{head:>19}" for head in heads),
    ]
    for name, row in report["models"].items():
        kept = row["score_kept_ms"]
        cells = [
            f"{row['weights'] / 1e6:.2f}",
            *(f"{row[key]:.1f}" for key in ("train_ms", "encode_ms", "score_ms")),
            "–" if kept is None else f"{kept:.1f}",
        ]
        lines.append(f"{name:<{wide}}" + "".join(f"{cell:>19}" for cell in cells))
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """`ctr-tf bench texts`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench texts", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add("--language_models", nargs="+", required=True, help="folders")
    add("--behaviors", type=int, default=50, help="of a history; default: 50")
    add("--history_tokens", type=int, default=512, help="of it; default: 512")
    add("--candidates", type=int, default=100, help="scored at once; default: 100")
    add("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)
    check_positive_options(arguments, "behaviors", "history_tokens", "candidates")
    for folder in arguments.language_models:
        if not Path(folder).is_dir():
            raise UserError(f"There is no folder of a language model at '{folder}'.")
    models = {}
    chosen = variants(arguments.language_models, arguments.history_tokens)
    for name, config in chosen.items():
        models[name] = measure(config, arguments.behaviors, arguments.candidates)
        print(f"{name}: measured", file=sys.stderr, flush=True)
    report = {
        "bench": "texts",
        "behaviors": arguments.behaviors,
        "history_tokens": arguments.history_tokens,
        "candidates": arguments.candidates,
        "models": models,
    }
    print(json.dumps(report) if arguments.json else _table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
