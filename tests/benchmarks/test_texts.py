"""The bench of language models: small ones, by its command."""

import json

import pytest
import small_language_model

from ctr_tf.commands.main import main


@pytest.mark.study
@pytest.mark.long
def test_every_way_of_tuning_is_measured(capsys):
    folders = [small_language_model.folder(name) for name in ("bert", "qwen3")]
    sizes = "--behaviors 6 --history_tokens 48 --candidates 5".split()
    words = ["bench", "texts", "--language_models", *map(str, folders), *sizes]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    tuned = {name: row for name, row in report["models"].items() if name != "sparsectr"}
    assert len(tuned) == 5 and len(report["models"]) == 6
    for name, row in report["models"].items():
        assert min(row["train_ms"], row["encode_ms"], row["score_ms"]) > 0
        assert (row["score_kept_ms"] is not None) == name.endswith("upper")


def test_a_folder_that_is_not_there(capsys):
    assert main(["bench", "texts", "--language_models", "nowhere"]) == 2
    assert "no folder of a language model at 'nowhere'" in capsys.readouterr().err
