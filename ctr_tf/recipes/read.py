"""A recipe from its file, with what it takes from another."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ctr_tf import config as configs
from ctr_tf.errors import UserError
from ctr_tf.recipes.find import find_recipe, recipe_name
from ctr_tf.training.config import Config

_LIKE = "like"


def read_recipe(path: str | Path) -> dict:
    """Keys and values as they are written, over those of the recipe it is `like`.

    Args:
        path: of the file. Its key `like`, where it has one, names another recipe, as
            `find_recipe` does; a section is merged with that one's section, key by key.

    Raises:
        FileNotFoundError: names the path.
        UserError: for a file that is no recipe; for a recipe that is like one that is
            like a third.
    """
    values = dict(configs.read(path))
    name = values.pop(_LIKE, None)
    if name is None:
        return values
    if not isinstance(name, str):
        raise UserError(f"`{_LIKE}` is the name of a recipe. Received: {name!r}")
    base = configs.read(find_recipe(name))
    if _LIKE in base:
        raise UserError(
            f"Recipe '{path}' must be `{_LIKE}` one that stands by itself. "
            f"Received: {_LIKE}: {name}, which is like {base[_LIKE]!r}"
        )
    return _merged(base, values)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The recipe, checked.

    Args:
        path: see `read_recipe`.
        overrides: words such as `"model.num_chunks=16"`; the value is YAML.

    Raises:
        FileNotFoundError: names the path.
        UserError: names the dotted key and the value received.
    """
    values = {"recipe": recipe_name(path), **read_recipe(path)}
    return configs.parse(Config, configs.override(values, overrides))


def _merged(base: Mapping, values: Mapping) -> dict:
    merged = dict(base)
    for key, value in values.items():
        known = merged.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            value = _merged(known, value)
        merged[key] = value
    return merged
