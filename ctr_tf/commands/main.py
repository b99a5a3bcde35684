"""The command `ctr-tf`: one verb a stage, from raw logs to a scored request.

Every verb is a `main(argv)` of its own module, imported when it is called, so that
`ctr-tf --help` answers at once and a job loads only what it uses.
"""

import importlib
import logging
import os
import sys
from types import ModuleType
from typing import NoReturn

from ctr_tf import __version__
from ctr_tf.commands.benches import BENCHES, load_bench
from ctr_tf.commands.extras import check_extras, missing_package
from ctr_tf.errors import UserError, storage_trouble, unknown_name
from ctr_tf.storage.tensorflow_stores import leave

VERBS = {
    "init": "look at your logs, and write a first schema",
    "synthesize": "write logs whose truth is known",
    "prepare": "raw logs → listwise TFRecord samples (Beam)",
    "inspect": "show a prepared data set and its samples",
    "recipes": "the recipes that `train` knows by name",
    "train": "train a model by a recipe",
    "plan": "what memory a training needs on each worker",
    "launch": "start a training's workers, and again",
    "day": "a day: prepare, predict, train on it, export",
    "send": "send a split's samples to a Kafka topic, by time",
    "evaluate": "AUC, GAUC, log loss, … and a report",
    "baselines": "popularity, logistic regression, boosted trees, tower",
    "compare": "many models under one budget, one table",
    "tune": "seek values for a recipe's keys, by validation",
    "scaling": "a model in many sizes: laws and advice",
    "export": "write a SavedModel for TF Serving",
    "score": "score a JSON request with a SavedModel",
    "batch-score": "score prepared data or raw logs (Beam)",
    "serving-config": "TF Serving's files for an export",
    "serve": "serve an export; for development",
    "ingest": "feed an online store with events",
    "rank": "rank items for a user by an online store",
    "replay": "does a store answer what the records say?",
    "check": "check a running server",
    "loadtest": "load a running server, measure its latency",
    "demo": "all of the above, one after the other",
    "engine": "a Beam job on a local Flink or Spark",
}
# Verbs whose module is another than that of their name beside this one.
_ELSEWHERE = {
    "synthesize": "ctr_tf.synthetic.synthesize",
    "score": "serving.score",
    "serving-config": "serving.config.generate",
    "ingest": "serving.online.ingest",
    "rank": "serving.online.rank",
    "engine": "pipelines.engines.engine",
}


# Who tells of checkpoints, of names of tensors, of stages, of where credentials are.
_CHATTY = ("absl", "tensorflow", "apache_beam", "botocore", "aiobotocore")


def _is_of_use(record: logging.LogRecord) -> bool:
    """False for chatter, and for what Beam says of Google's cloud when imported."""
    if record.levelno < logging.WARNING and record.name.split(".")[0] in _CHATTY:
        return False
    message = record.getMessage()
    return not message.startswith(("apitools not found", "No module named google."))


def _help() -> str:
    lines = ["usage: ctr-tf VERB [options]      (ctr-tf VERB --help for each)", ""]
    lines += [f"  {verb:<18}{text}" for verb, text in VERBS.items()]
    lines += ["", "in a checkout of the source:", ""]
    lines += [f"  {'bench ' + name:<20}{text}" for name, text in BENCHES.items()]
    return "\n".join(lines)


def resolve(argv: list[str]) -> tuple[ModuleType, list[str]]:
    """Finds a verb's module.

    Args:
        argv: the verb (for `bench`, and the benchmark's name) and its arguments.

    Returns:
        The module, which has `main(argv)`, and the arguments left for it.

    Raises:
        UserError: names an unknown verb and the nearest known one; see `load_bench`.
    """
    verb, *rest = argv
    if verb == "bench":
        return load_bench(rest[0] if rest else "(none)"), rest[1:]
    if verb not in VERBS:
        raise UserError(unknown_name("verb", verb, [*VERBS, "bench"]))
    name = _ELSEWHERE.get(verb, f"ctr_tf.commands.{verb.replace('-', '_')}")
    return importlib.import_module(name), rest


def main(argv: list[str] | None = None) -> int:
    """Runs one verb.

    Args:
        argv: words after `ctr-tf`; those of the process by default.

    Returns:
        The exit status: 0, or 2 for a user's mistake, which is told in one line; with
        `CTR_TF_TRACEBACK=1` in the environment it comes with its traceback.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(__version__)
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_of_use)
    try:
        if not {"-h", "--help"} & set(argv):
            check_extras(argv[0])
        module, rest = resolve(argv)
        return module.main(rest) or 0
    except (UserError, OSError) as error:
        if os.environ.get("CTR_TF_TRACEBACK"):
            raise
        print(f"ctr-tf: error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        trouble = storage_trouble(error)
        if isinstance(error, ModuleNotFoundError):
            trouble = missing_package(error, argv[0])
        if trouble is None or os.environ.get("CTR_TF_TRACEBACK"):
            raise
        print(f"ctr-tf: error: {trouble}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ctr-tf: interrupted", file=sys.stderr)
        return 130


def run() -> NoReturn:
    """The command `ctr-tf`; ends the process."""
    leave(main())
