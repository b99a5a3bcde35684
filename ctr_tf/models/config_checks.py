"""What the config dataclasses of the models have to check, one function a rule."""

import dataclasses
from typing import Any

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import Schema


def check_positive(config: Any, *fields: str) -> None:
    """Raises UserError unless the fields are positive integers."""
    for field in fields:
        value = getattr(config, field)
        if not isinstance(value, int) or value < 1:
            raise UserError(
                f"`{field}` must be a positive integer. Received: {field}={value!r}"
            )


def check_heads(config: Any) -> None:
    """Raises UserError unless `num_heads` divides `dim`."""
    if config.dim % config.num_heads:
        raise UserError(
            f"`num_heads` must divide `dim`={config.dim}. "
            f"Received: num_heads={config.num_heads}"
        )


def without_effect(config: Any) -> dict[str, Any]:
    """Keys that are set and that others leave without effect, with their values.

    A config class with such keys has a property `unread`, which names them. Those of a
    config within it are called as in a recipe, `ranker.window`.
    """
    unread = getattr(config, "unread", ())
    default = type(config)() if unread else None
    values = {key: getattr(config, key) for key in unread}
    idle = {k: value for k, value in values.items() if value != getattr(default, k)}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            within = without_effect(value)
            idle |= {f"{field.name}.{key}": own for key, own in within.items()}
    return idle


def check_units(config: Any, field: str) -> None:
    """Makes a field of widths a tuple; UserError unless they are positive integers."""
    units = tuple(getattr(config, field))
    object.__setattr__(config, field, units)
    if any(not isinstance(width, int) or width < 1 for width in units):
        raise UserError(
            f"`{field}` must be positive integers. Received: {field}={units}"
        )


def check_tasks(tasks: tuple[str, ...], schema: Schema) -> tuple[str, ...]:
    """The tasks; UserError for one that is no label of the schema, or there twice."""
    for task in tasks:
        if task not in schema.labels:
            raise UserError(unknown_name("label in `tasks`", task, schema.labels))
    if len(set(tasks)) < len(tasks):
        raise UserError(f"`tasks` must differ. Received: tasks={tasks}")
    return tasks
