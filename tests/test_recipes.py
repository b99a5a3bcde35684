from pathlib import Path

import pytest

from ctr_tf.config import load
from ctr_tf.training.config import Config
from pipelines.sources.source import get_source

RECIPES = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_load_and_name_a_model_and_a_source(path):
    config = load(Config, path, [])
    model, _, source = path.stem.rpartition("_")
    assert config.model.name == model
    schema = get_source(source).schema()
    assert max(config.data.history_lengths, default=0) <= schema.history_length
    text = path.read_text("utf-8")
    for part in ("# command:", f"--config configs/{path.name} ", "# expected:"):
        assert part in text
