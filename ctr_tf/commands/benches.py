"""The scripts of `ctr-tf bench`, which stand beside the package in a checkout."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

from ctr_tf.errors import UserError, unknown_name

BENCHES = {
    "attention": "SparseCTR's attention beside full self-attention",
    "daily": "going on from yesterday's run beside beginning anew",
    "distillation": "what a student gains from a teacher",
    "fuxictr": "our DIN beside that of fuxictr, on the same samples",
    "fuzz": "malformed requests to `ctr-tf serve`",
    "embedding": "a table's step time beside stock Keras",
    "input": "what tf.data delivers beside what training consumes",
    "online": "a store of events: what it takes, holds and answers",
    "pipeline": "the Beam job's events/s beside polars",
    "plants": "whether a part of a model helps where there is what it is for",
    "retrieval": "what a long history costs models that search it",
    "serving": "one pass beside single ones, a cached state, latency",
    "tables": "tables whole on every worker beside tables cut over them",
    "streams": "what a worker's input costs, and where a run goes on",
    "tfrs": "a DCN-V2 built with tensorflow-recommenders, on the same records",
    "state": "bytes of a user's state for each history length",
    "texts": "what language models cost beside SparseCTR",
}
_CHECKOUT = Path(__file__).parents[2]


def load_bench(name: str) -> ModuleType:
    """Imports a bench from the checkout that this package stands in.

    Args:
        name: a key of `BENCHES`.

    Returns:
        The module, which has `main(argv)`.

    Raises:
        UserError: names an unknown bench and the nearest known one, or says that the
            package was installed without a checkout.
    """
    if name not in BENCHES:
        raise UserError(unknown_name("bench", name, BENCHES))
    if not (_CHECKOUT / "benchmarks" / f"{name}.py").is_file():
        raise UserError(
            "Benches are run from a checkout of the source, where `pip install "
            f"--editable .` makes `ctr-tf`; this package lies in '{_CHECKOUT}' without "
            f"one. Received: bench '{name}'"
        )
    if sys.path[0] != str(_CHECKOUT):  # before any other `benchmarks`
        sys.path.insert(0, str(_CHECKOUT))
    return importlib.import_module(f"benchmarks.{name}")
