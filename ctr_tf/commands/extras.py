"""Which verbs need which extras of the package, and how that is said.

`pip install .` brings what schemas, recipes and synthetic logs need; a client, a worker
of Beam and a trainer each take their own extra, and `all` is all of it (`setup.py`).
"""

import importlib.util
import sys

from ctr_tf.errors import UserError

# An extra is there if this module of its own is.
_PROBES = {"client": "msgpack", "beam": "apache_beam", "train": "tensorflow"}
_CLIENT, _BEAM, _TRAIN = ((name,) for name in _PROBES)
NEEDS: dict[str, tuple[str, ...]] = {
    "init": (),
    "synthesize": (),
    "prepare": _BEAM,
    "inspect": _TRAIN,
    "recipes": (),
    "train": _TRAIN,
    "plan": _TRAIN,
    "launch": _TRAIN,
    "day": (*_BEAM, *_TRAIN),
    "send": _TRAIN,
    "evaluate": _TRAIN,
    "baselines": _TRAIN,
    "compare": _TRAIN,
    "tune": _TRAIN,
    "scaling": _TRAIN,
    "export": _TRAIN,
    "score": _TRAIN,
    "batch-score": (*_BEAM, *_TRAIN),
    "serving-config": _TRAIN,
    "serve": _TRAIN,
    "ingest": _CLIENT,
    "rank": (*_CLIENT, *_TRAIN),
    "replay": tuple(_PROBES),
    "check": _CLIENT,
    "loadtest": _CLIENT,
    "demo": (*_BEAM, *_TRAIN),
    "engine": _BEAM,
}


def check_extras(verb: str) -> None:
    """UserError, in one line, if a verb's extras are not installed."""
    missing = [e for e in NEEDS.get(verb, ()) if not is_installed(_PROBES[e])]
    if missing:
        word = "extra" if len(missing) == 1 else "extras"
        names = " and ".join(f"`{extra}`" for extra in missing)
        raise UserError(
            f"`ctr-tf {verb}` needs the {word} {names}: "
            f"pip install 'ctr-tf[{','.join(missing)}]'"
        )


def is_installed(module: str) -> bool:
    """Whether a module could be imported; it is not."""
    return module in sys.modules or importlib.util.find_spec(module) is not None


def missing_package(error: ModuleNotFoundError, verb: str) -> str | None:
    """What to say of a package that is not installed; None for a module of our own."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "ctr_tf", "pipelines", "serving", "benchmarks"):
        return None
    try:
        check_extras(verb)
    except UserError as needed:
        return str(needed)
    words = "'ctr-tf[test]'" if verb == "bench" else "'ctr-tf[all]'"
    if package == "keras_hub":  # not of `all` on Python 3.12
        words = "--no-deps keras-hub==0.31.0"
    return (
        f"`ctr-tf {verb}` came upon a package that is not installed, {package}: "
        f"pip install {words}"
    )
