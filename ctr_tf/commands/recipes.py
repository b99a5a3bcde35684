"""`ctr-tf recipes`: the recipes that `--config` takes by their names."""

from ctr_tf.commands.arguments import Parser
from ctr_tf.recipes.find import FOLDER, recipe_names, recipe_title


def main(argv: list[str]) -> int:
    """Lists the shipped recipes: name and title; and the folder that they lie in."""
    parser = Parser("recipes", __doc__)
    parser.parse_args(argv)
    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {recipe_title(name)}")
    print(f"\nThey lie in {FOLDER}.")
    return 0
