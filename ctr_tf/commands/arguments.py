"""Words of the command line: each means the same in every verb.

    --data      a folder that `ctr-tf prepare` made
    --run       a folder that `ctr-tf train` made
    --export    what `ctr-tf export` made: a version, or the folder of versions
    --model     a kind of model, such as din
    --name      a served model's name
    --config    a recipe, by its name or path; `key=value` sets a key of it

Lists have commas between. A verb's module holds its words and nothing else that takes
long to import, so that `--help`, and a mistake, are answered at once.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ctr_tf.errors import UserError


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Tells defaults that the help does not tell in words."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        default = action.default
        silent = default in (None, False, argparse.SUPPRESS, (), [])
        if silent or "default" in text or not action.option_strings:
            return text
        many = isinstance(default, tuple)
        told = ",".join(map(str, default)) if many else "%(default)s"
        return "; ".join(filter(None, [text, f"default: {told}"]))


class _Renamed(argparse.Action):
    """An old spelling, which tells the new one."""

    def __init__(self, option_strings: Sequence[str], dest: str, now: str, **_: Any):
        super().__init__(option_strings, dest, nargs="*", help=argparse.SUPPRESS)
        self._now = now

    def __call__(
        self, parser: Any, options: Any, values: Any, word: Any = None
    ) -> None:
        if values or word:
            received = " ".join(filter(None, [word, *map(str, values)]))
            raise UserError(f"That is `{self._now}` now. Received: {received}")


class Parser(argparse.ArgumentParser):
    """The parser of a verb.

    Args:
        verb: after `ctr-tf`.
        description: the docstring of its module.
        abbreviated: whether an option may be cut short; not where others follow that
            are another program's.
        parents: parsers whose options it has, too.
    """

    def __init__(
        self,
        verb: str,
        description: str | None,
        abbreviated: bool = True,
        parents: Sequence[argparse.ArgumentParser] = (),
    ):
        super().__init__(
            prog=f"ctr-tf {verb}",
            description=description,
            formatter_class=_Formatter,
            allow_abbrev=abbreviated,
            parents=list(parents),
        )

    def error(self, message: str) -> NoReturn:
        """A mistake is told in one line, as all others are."""
        raise UserError(f"{message} (`{self.prog} --help` tells the options)")

    def add_data(self, required: bool = True, what: str = "prepared data set") -> None:
        """Adds `--data`."""
        self.add_argument("--data", required=required, help=what)

    def add_run(self) -> None:
        """Adds `--run`, of a run that is read."""
        self.add_argument("--run", required=True, help="folder of the run")

    def add_export(
        self, required: bool = True, what: str = "a version, or the folder of versions"
    ) -> None:
        """Adds `--export`; `--model` was its name."""
        self.add_argument("--export", required=required, help=what)
        self.renamed("--model", "--export EXPORT")

    def add_source(self, required: bool = True) -> None:
        """Adds `--source` and `--input`."""
        self.add_argument("--source", required=required, help="kind of raw logs")
        self.add_argument("--input", required=required, help="folder of the raw logs")

    def add_recipe(self) -> None:
        """Adds `--config`, `--model`, and `key=value`."""
        what = "a recipe, by its name or path"
        self.add_argument("--config", required=True, help=what)
        what = "of another kind than the recipe's, such as din"
        self.add_argument("--model", help=what)
        self.add_overrides()

    def add_base_recipe(self, what: str) -> None:
        """Adds `--config`, `--model`, and `key=value`, where none need be given.

        Args:
            what: the recipe is for.
        """
        what = f"recipe {what}; default: SparseCTR's for the data"
        self.add_argument("--config", help=what)
        what = "of another kind, with its own recipe beside that of --config"
        self.add_argument("--model", help=what)
        self.add_overrides()

    def add_overrides(self, what: str = "keys of the recipe to set") -> None:
        """Adds `key=value`, as many as one likes."""
        self.add_argument("overrides", nargs="*", metavar="key=value", help=what)

    def renamed(self, old: str, new: str) -> None:
        """An old spelling of an option, or an old positional, tells the new one."""
        dest: dict[str, Any] = {"dest": argparse.SUPPRESS} if old[0] == "-" else {}
        self.add_argument(old, action=_Renamed, now=new, **dest)


def sizes(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between: the `type` of an option."""
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"sizes are whole numbers with commas between. Received: {text!r}"
        ) from None


def recipe_words(options: argparse.Namespace, keys: Mapping[str, str]) -> list[str]:
    """The overrides of a recipe, those that options set among them.

    Args:
        options: of the command line; `overrides` are those that the user wrote.
        keys: option, as `options` calls it → the key that it sets, unless it is None.

    Raises:
        UserError: if a key is set by its option and as `key=value`.
    """
    words = list(options.overrides)
    for option, key in keys.items():
        value = getattr(options, option)
        if value is None:
            continue
        for word in options.overrides:
            if word.partition("=")[0] == key:
                raise UserError(
                    f"`--{option}` and `{key}` are one. "
                    f"Received: --{option} {value} and {word}"
                )
        words.append(f"{key}={json.dumps(value)}")
    return words
