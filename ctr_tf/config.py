"""Configuration: nested dataclasses, read from YAML with overrides by dotted key.

A config is a dataclass whose fields are numbers, strings, booleans, further such
dataclasses, or tuples of these, or dicts of these by name. Every error names the full
dotted key and the value received, and an unknown key the nearest known one.
"""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.storage import as_path, files

T = TypeVar("T")

_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")  # a text for YAML 1.1
_WORDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def load(cls: type[T], path: str | Path, overrides: Sequence[str] = ()) -> T:
    """Reads a config from a YAML file.

    Args:
        cls: dataclass of the config.
        path: of the file.
        overrides: words such as `"model.num_chunks=16"`; the value is YAML.

    Raises:
        FileNotFoundError: names the path.
        UserError: names the dotted key and the value received.
    """
    return parse(cls, override(read(path), overrides))


def read(path: str | Path) -> Mapping:
    """Keys and values of a YAML file.

    Raises:
        FileNotFoundError: names the path.
        UserError: if the file holds something else.
    """
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no config file at '{path}'.")
    try:
        values = yaml.safe_load(files.read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"Config file '{path}' is not YAML: {error}") from error
    if not isinstance(values, Mapping):
        raise UserError(
            f"Config file '{path}' must hold keys and values. Received: {values!r}"
        )
    return values


def override(values: Mapping, overrides: Sequence[str]) -> dict:
    """Sets values by dotted key.

    Args:
        values: nested keys and values; left as they are.
        overrides: words such as `"model.num_chunks=16"`.

    Returns:
        A changed copy.

    Raises:
        UserError: for a word that is not of this form.
    """
    result = dict(values)
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals or not all(key.split(".")):
            raise UserError(
                "An override has the form key=value, such as model.num_chunks=16. "
                f"Received: '{word}'"
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(
                f"`{key}`: the value is not YAML. Received: '{text}'"
            ) from error
        result = set_keys(result, {key: value})
    return result


def set_keys(values: Mapping, chosen: Mapping[str, Any]) -> dict:
    """Sets values by dotted key.

    Args:
        values: nested keys and values; left as they are.
        chosen: dotted key → value.

    Returns:
        A changed copy.
    """
    result = dict(values)
    for key, value in chosen.items():
        *parents, last = key.split(".")
        level = result
        for parent in parents:
            inner = level.get(parent)
            level[parent] = dict(inner) if isinstance(inner, Mapping) else {}
            level = level[parent]
        level[last] = value
    return result


def leaves(values: Mapping, key: str = "") -> dict[str, Any]:
    """Dotted key → value, of all values that are not keys and values themselves."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        full = _join(key, name)
        result |= leaves(value, full) if isinstance(value, Mapping) else {full: value}
    return result


def parse(cls: type[T], values: Mapping, key: str = "", what: str = "config key") -> T:
    """Makes a config from nested keys and values.

    Args:
        cls: dataclass of the config. A field with `metadata={"choose": function}` gets
            its dataclass from `function(values of the field)`; one with
            `metadata={"read": function}` its value from `function(values, key)`.
        values: nested keys and values; what is absent has its default.
        key: dotted key of the config, for errors.
        what: what its keys are called there.

    Raises:
        UserError: names the dotted key and the value received.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"`{key}` must hold keys and values. Received: {values!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type] # `T` is a dataclass
    hints = typing.get_type_hints(cls)
    arguments = {}
    for name, value in values.items():
        full = _join(key, name)
        if name not in fields:
            known = [_join(key, field) for field in fields]
            raise UserError(
                f"{unknown_name(what, full, known)} Received: {full}={value!r}"
            )
        if read := fields[name].metadata.get("read"):
            arguments[name] = read(value, full)
            continue
        choose = fields[name].metadata.get("choose")
        kind = _chosen(choose, value, full) if choose else hints[name]
        arguments[name] = _convert(kind, value, full, what)
    try:
        return cls(**arguments)
    except UserError as error:
        if not key or f"{key}." in str(error):
            raise
        raise UserError(f"`{key}`: {error}") from error
    except TypeError as error:
        missing = ", ".join(name for name in _required(cls) if name not in arguments)
        where = key or what.removesuffix(" key")
        raise UserError(f"`{where}` lacks {missing}.") from error


def to_mapping(config: Any) -> dict:
    """The config as nested dicts, lists and plain values; `parse` reads it back."""
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def dump(config: Any, path: str | Path) -> None:
    """Writes the config, with every default resolved, as YAML."""
    text = yaml.safe_dump(to_mapping(config), sort_keys=False, width=88)
    as_path(path).write_text(text, "utf-8")


def differences(one: Mapping, other: Mapping, key: str = "") -> list[str]:
    """Dotted keys in which two nested mappings differ, each with both values."""
    result = []
    for name in sorted({*one, *other}):
        a, b = one.get(name), other.get(name)
        full = _join(key, name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            result += differences(a, b, full)
        elif a != b:
            result.append(f"{full} ({a!r} and {b!r})")
    return result


def _chosen(choose: Any, value: Any, key: str) -> Any:
    try:
        return choose(value)
    except UserError as error:
        raise UserError(f"`{key}.name`: {error}") from error


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _required(cls: type) -> list[str]:
    missing = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(cls)
        if field.default is missing and field.default_factory is missing
    ]


def _convert(kind: Any, value: Any, key: str, what: str) -> Any:
    """Checks a value against a field's type; ints become floats, lists tuples."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, kind):
            return value
        return parse(kind, {} if value is None else value, key, what)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if type(value) in inner:
            return value
        kind = [t for t in inner if t is not type(None)][-1]
        return _convert(kind, value, key, what)
    if origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(
                _convert(inner[0], item, f"{key}[{index}]", what)
                for index, item in enumerate(value)
            )
        raise UserError(f"`{key}` must be a list. Received: {value!r}")
    if origin is dict:
        if isinstance(value, Mapping):
            return {
                str(name): _convert(inner[1], item, _join(key, name), what)
                for name, item in value.items()
            }
        raise UserError(f"`{key}` must hold keys and values. Received: {value!r}")
    if kind is float:
        if isinstance(value, str) and _EXPONENT.fullmatch(value):
            return float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif type(value) is kind:
        return value
    raise UserError(f"`{key}` must be {_WORDS[kind]}. Received: {value!r}")
