"""The world of fresh titles, from `ctr-tf synthesize` to samples with texts."""

import json

import numpy as np
import pandas as pd
import pytest
from job_helpers import read_samples

from ctr_tf.commands.main import main
from ctr_tf.data.prepared import PreparedData
from ctr_tf.schema import FIRST_ID


@pytest.fixture(scope="module", params=["parquet", "csv"])
def logs(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh") / "logs"
    words = ["--users=60", "--items=400", "--candidates=8", "--output", str(folder)]
    words += ["--world=fresh_titles", f"--format={request.param}"]
    assert main(["synthesize", *words]) == 0
    return folder


def prepare(logs, output, *words):
    paths = ["--input", str(logs), "--output", str(output)]
    sizes = ["--num_buckets=2", "--num_shards=2"]
    return main(["prepare", "--source", "synthetic", *paths, *sizes, *words])


def test_samples_have_the_titles(logs, tmp_path):
    output = tmp_path / "data"
    assert prepare(logs, output, "--tokenizer", str(logs / "language_model")) == 0
    data = PreparedData.load(output)
    assert [feature.name for feature in data.schema.texts] == ["title"]
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv}
    kind = json.loads((logs / "meta.json").read_text())["format"]
    tables = {
        name: read[kind](logs / f"{name}.{kind}")
        for name in ("exposures", "behaviors", "items")
    }
    texts = data.vocabularies.known_texts
    titles = tables["items"].title.tolist()
    assert texts.words("title", range(FIRST_ID, texts.num_rows)) == titles
    title = tables["items"].set_index("item_id").title
    samples = read_samples(output)
    assert len(samples) == 60
    histories = dict(list(tables["behaviors"].groupby("user_id")))
    for (user, request), (_, sample) in samples.items():
        history = histories[int(user)].sort_values("time")
        slate = tables["exposures"][tables["exposures"].request_id == request]
        for name, rows in (("behavior", history), ("candidate", slate)):
            found = texts.words("title", np.asarray(sample[f"{name}_title"]))
            assert sorted(found) == sorted(title[rows.item_id])
        assert sample["behavior_time"] == history.time.tolist()


def test_without_a_tokenizer_there_is_nothing_to_read(logs, tmp_path, capsys):
    assert prepare(logs, tmp_path / "data") == 2
    assert "`--tokenizer FOLDER_OR_FILE`. Received: title" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
