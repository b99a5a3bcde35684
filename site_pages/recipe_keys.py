"""The page of a recipe's keys: from the dataclasses that read it, and their docstrings.

A key without a description is an error, so that none can be forgotten.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any

import griffe
import yaml

_HEAD = """# Every key of a recipe

A recipe is a YAML file with the sections below. Every key may be left out, and any can
be set on the command line as `key=value`, such as `optimizer.learning_rate=2e-3` or
`'model.head_units=[64,32]'`. An unknown key is an error that names the nearest one.
`ctr-tf recipes` lists the recipes that come along; the key `like: sparsectr` takes what
a recipe does not say from another one. A run's `config.yaml` has every key with the
value that it was trained by. What Python calls `None` is `null` in YAML.

This page is made from the classes that read a recipe.
"""
_TYPES = {int: "integer", float: "number", str: "text", bool: "true or false"}


@dataclasses.dataclass(frozen=True)
class Key:
    """A row of a table.

    Args:
        name: dotted, within its section.
        type: in words.
        default: as YAML has it.
        description: from the docstring.
    """

    name: str
    type: str
    default: str
    description: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A table.

    Args:
        name: dotted key of the recipe.
        about: the docstring's first paragraphs.
        keys: its rows.
    """

    name: str
    about: str
    keys: tuple[Key, ...]


def descriptions(cls: type) -> dict[str, str]:
    """Field → what the docstrings of a dataclass and its bases say of it."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for part in _parsed(base):
            if part.kind is griffe.DocstringSectionKind.parameters:
                found |= {p.name: " ".join(p.description.split()) for p in part.value}
    return found


def section(name: str, cls: type) -> Section:
    """One section.

    Args:
        name: dotted key of the recipe.
        cls: its dataclass.

    Raises:
        ValueError: for a field that its docstring does not describe.
    """
    told, hints, keys = descriptions(cls), typing.get_type_hints(cls), []
    for field in dataclasses.fields(cls):
        if field.name not in told:
            raise ValueError(
                f"The docstring of {cls.__module__}.{cls.__qualname__} does not "
                f"describe a key. Received: {name}.{field.name}"
            )
        inner = _dataclass_of(hints[field.name])
        kind = "section" if inner or "choose" in field.metadata else ""
        keys.append(
            Key(
                field.name,
                kind or _words(hints[field.name]),
                _default(field, bool(kind)),
                told[field.name],
            )
        )
    about = "\n\n".join(
        part.value
        for part in _parsed(cls)
        if part.kind is griffe.DocstringSectionKind.text
    )
    return Section(name, about, tuple(keys))


def sections() -> Iterator[Section]:
    """All of them, those within others behind these."""
    from ctr_tf.models import MODELS
    from ctr_tf.training.config import Config

    yield from _with_inner("", Config)
    for name, model in MODELS.items():
        inner = _with_inner("model", model.config_class)
        yield from (dataclasses.replace(s, name=f"{s.name} ({name})") for s in inner)


def page() -> str:
    """The page, as Markdown."""
    parts = [_HEAD]
    for part in sections():
        title = f"`{part.name}`" if part.name else "The sections"
        rows = [
            f"| `{key.name}` | {_cell(key.type)} | {_cell(key.default)} "
            f"| {_cell(key.description)} |"
            for key in part.keys
        ]
        table = "| key | type | default | what it says |\n|---|---|---|---|\n"
        parts.append(f"## {title}\n\n{part.about}\n\n{table}" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _with_inner(name: str, cls: type) -> Iterator[Section]:
    yield section(name, cls)
    for field, hint in typing.get_type_hints(cls).items():
        inner = _dataclass_of(hint)
        if inner is not None:
            yield from _with_inner(f"{name}.{field}".lstrip("."), inner)


def _parsed(cls: type) -> list:
    # Its own docstring: a dataclass without one gets its signature for one.
    text = cls.__dict__.get("__doc__") or ""
    text = "" if text.startswith(f"{cls.__name__}(") else text
    docstring = griffe.Docstring(inspect.cleandoc(text), parser="google")
    return docstring.parse(warnings=False)


def _dataclass_of(hint: Any) -> type | None:
    """The dataclass that a field holds, or may hold, if it is one."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    found = [t for t in options if isinstance(t, type) and dataclasses.is_dataclass(t)]
    return found[0] if found else None


def _words(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, types.UnionType) or origin is typing.Union:
        return " or ".join(_words(t) for t in inner if t is not type(None))
    if origin is tuple:
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return "keys and values"
    return _TYPES[hint]


def _default(field: dataclasses.Field, is_section: bool) -> str:
    if field.default is dataclasses.MISSING:
        if field.default_factory is dataclasses.MISSING:
            return "needed"
        value = field.default_factory()
    else:
        value = field.default
    if is_section:
        return "none" if value is None else "its keys' own"
    if value is None:
        return "`null`"
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n")
    return f"`{text.strip()}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
