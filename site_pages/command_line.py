"""The page of the command line: what `ctr-tf VERB --help` says, word for word."""

import contextlib
import io
import os

from ctr_tf.commands.benches import BENCHES
from ctr_tf.commands.main import VERBS, resolve

_HEAD = """# Command line

`ctr-tf VERB`, or `python -m ctr_tf VERB`; this page is what `--help` says of each verb.
A word means the same in every verb: `--data` is a folder that `ctr-tf prepare` made,
`--run` one that `ctr-tf train` made, `--export` what `ctr-tf export` made, `--config` a
recipe, by its name or path, whose [keys](recipe_keys.md) are set as `key=value`. A
mistake is told in one line that ends in what was received, with the status 2.

| verb | what it does |
|---|---|
"""
_BENCHES = """
## bench

Measurements of the project itself, in a checkout of the source alone; what they showed
is in [the results](../benchmarks/RESULTS.md).

| bench | what it measures |
|---|---|
"""


def help_text(verb: str) -> str:
    """What `ctr-tf VERB --help` prints, 88 columns wide."""
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "90"  # argparse leaves two free
    printed = io.StringIO()
    try:
        module, _ = resolve([verb])
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            module.main(["--help"])
    finally:
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    return printed.getvalue()


def page() -> str:
    """The page, as Markdown."""
    rows = [f"| [`{verb}`](#{verb}) | {text} |" for verb, text in VERBS.items()]
    parts = [_HEAD + "\n".join(rows) + "\n"]
    parts += [f"## {verb}\n\n````text\n{help_text(verb)}````\n" for verb in VERBS]
    rows = [f"| `ctr-tf bench {name}` | {text} |" for name, text in BENCHES.items()]
    return "\n".join(parts) + _BENCHES + "\n".join(rows) + "\n"
