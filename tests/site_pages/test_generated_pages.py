"""Generated pages: nothing that they are made from is forgotten."""

import dataclasses
import re

import pytest

from ctr_tf import config as configs
from ctr_tf.commands.main import VERBS
from ctr_tf.losses import LOSSES
from ctr_tf.models import MODELS
from ctr_tf.schema.kinds import kind_class
from ctr_tf.training.config import Config
from site_pages import api, command_line, notebooks, ours, recipe_keys
from site_pages.docstrings import as_markdown


@pytest.fixture(scope="module")
def sections():
    return {part.name: part for part in recipe_keys.sections()}


def test_every_key_of_a_recipe_is_told(sections):
    told = {
        f"{part.name}.{key.name}".lstrip(".")
        for part in sections.values()
        for key in part.keys
    }
    default = {**configs.to_mapping(Config()), "model": {}}
    assert set(configs.leaves(default)) <= told
    for model in MODELS.values():
        section = sections[f"model ({model.config_class.name})"]
        fields = {field.name for field in dataclasses.fields(model.config_class)}
        assert {key.name for key in section.keys} == fields
    assert {"model.texts.lora (with_texts)", "model.lora (ctr_sink)"} <= set(sections)


def test_rows_say_type_default_and_meaning(sections):
    rows = {key.name: key for key in sections["data"].keys}
    assert rows["batch_size"] == recipe_keys.Key(
        "batch_size",
        "integer",
        "`64`",
        "samples (slates) of the global batch, over all workers.",
    )
    assert rows["slate_sizes"].type == "list of integer"
    assert rows["label"].default == "`null`"
    weights = {key.name: key.default for key in sections["objective"].keys}
    assert weights == {"log_loss": "`1.0`", "listwise": "`0.0`", "auxiliary": "`1.0`"}


def test_a_key_without_a_description_is_an_error():
    @dataclasses.dataclass
    class Forgetful:
        """Of two keys.

        Args:
            one: which is told.
        """

        one: int = 1
        two: int = 2

    with pytest.raises(ValueError, match=r"Received: section\.two"):
        recipe_keys.section("section", Forgetful)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_its_help(verb):
    first, *_ = command_line.help_text(verb).split("\n")
    assert first.startswith(f"usage: ctr-tf {verb}")


def test_every_model_loss_and_kind_has_its_place():
    def classes(page):
        return set(re.findall(r"^::: [\w.]+\.(\w+)$", api.PAGES[page](), re.MULTILINE))

    assert {model.__name__ for model in MODELS.values()} <= classes("api/models.md")
    assert {loss.__name__ for loss in LOSSES.values()} <= classes("api/losses.md")
    kinds = ("categorical", "numeric", "bucketized", "text")
    assert {kind_class(kind).__name__ for kind in kinds} <= classes("api/schema.md")


def test_sentences_of_ours_are_whole():
    found = {(path, name): told for path, name, told in ours.places()}
    assert found["ctr_tf/layers/asga.py", "ASGA"] == [
        "The heads are concatenated and projected by W_O (ours)."
    ]
    assert len(found) > 30


def test_sections_that_are_ours_become_markdown():
    text = (
        "A layer.\n\nCall arguments:\n    x: `[B]`, or\n        more.\n\n"
        "Returns:\n    `[B]`."
    )
    expected = (
        "A layer.\n\n**Call arguments**\n\n* `x`: `[B]`, or\n    more.\n\n"
        "**Returns**\n\n`[B]`.\n\n"
    )
    assert as_markdown(text) == expected


@pytest.mark.parametrize("page", notebooks.PAGES)
def test_a_pages_blocks_are_its_notebooks_cells(page):
    text = (notebooks.ROOT / "docs" / page).read_text("utf-8")
    blocks = re.findall(r"^```(console|python)\n(.*?)^```", text, re.M | re.S)
    made = notebooks.notebook(page)
    assert made.metadata.kernelspec.name == "python3"
    cells = [cell for cell in made.cells if cell.cell_type == "code"]
    sources = [cell.source.removeprefix("%%bash\n") for cell in cells]
    assert sources == [code.rstrip() for _, code in blocks]
    is_bash = [cell.source.startswith("%%bash") for cell in cells]
    assert is_bash == [kind == "console" for kind, _ in blocks]
