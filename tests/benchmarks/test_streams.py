"""`ctr-tf bench streams` on a small data set."""

import json

import numpy as np
import pytest
from helpers import make_schema

from ctr_tf.commands.main import main
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)


@pytest.mark.study
def test_every_number_is_measured(tmp_path, capsys):
    schema = make_schema(history_length=8)
    vocabularies, random = random_vocabularies(schema, 20), np.random.default_rng(0)
    samples = [random_sample(schema, vocabularies, random, 4, 3) for _ in range(40)]
    write_prepared(tmp_path / "data", schema, vocabularies, {"train": samples})
    words = ["--data", str(tmp_path / "data"), "--batch_size", "8", "--streams", "4"]
    words += ["--workers", "2", "--epochs", "3", "--json"]
    assert main(["bench", "streams", *words]) == 0
    result = json.loads(capsys.readouterr().out)
    found = result["workers"]["2"]
    assert found["padding"] == [0.5, 0.0] and found["cpu"] > 0
    assert result["epochs"]["3"]["first_wall"] > 0
