"""How a recipe is named and found: a shipped one by its name, others by a path."""

from pathlib import Path

from ctr_tf.errors import UserError, unknown_name

FOLDER = Path(__file__).parent
_ENDINGS = (".yaml", ".yml")


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_recipe(name: str) -> Path:
    """Where a recipe lies.

    Args:
        name: of a shipped recipe (``"sparsectr_synthetic"``), or the path of a YAML
            file: what has a ``/`` or ends in ``.yaml`` or ``.yml`` is a path.

    Returns:
        The file; one that is named by its path may be missing.

    Raises:
        UserError: names an unknown recipe and the nearest shipped one.
    """
    if "/" in name or name.endswith(_ENDINGS):
        return Path(name)
    if name not in (known := recipe_names()):
        raise UserError(
            f"{unknown_name('recipe', name, known)} A recipe of your own is given by "
            "its path, such as `--config ./recipe.yaml`."
        )
    return FOLDER / f"{name}.yaml"


def recipe_name(path: str | Path) -> str:
    """What the recipe of a file is called: a shipped one's name, others' path."""
    return Path(path).stem if Path(path).parent == FOLDER else str(path)


def recipe_of_data(name: str) -> str:
    """Name of SparseCTR's recipe for a data set or source: its own, or that for any."""
    own = f"sparsectr_{name}"
    return own if own in recipe_names() else "sparsectr"


def recipe_title(name: str) -> str:
    """What a shipped recipe is for: the first line of its file, a comment."""
    first, *_ = find_recipe(name).read_text("utf-8").split("\n", 1)
    return first.removeprefix("# ")
