"""`ctr-tf day`: three days, interrupted at every stage, beside what each must be."""

import argparse
import datetime
import json
import shutil

import numpy as np
import pytest
from helpers import make_narrow_schema
from small_run import make_splits, train_two_steps

from ctr_tf.commands import day as daily
from ctr_tf.commands import train
from ctr_tf.daily.day import Day
from ctr_tf.daily.record import write_record
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation import evaluate
from ctr_tf.evaluation.predictions import predictions
from ctr_tf.evaluation.scorer import Scorer
from ctr_tf.models.sdim import SDIMConfig
from ctr_tf.schema.vocabulary import check_extended
from ctr_tf.synthetic import synthesize
from ctr_tf.synthetic.random_samples import random_vocabularies, write_prepared
from ctr_tf.training.run import load_run, read_config, read_content
from pipelines import listwise

FIRST, SECOND, THIRD = "2024-01-05", "2024-01-06", "2024-01-07"
TINY = (
    *("model.dim=8", "model.num_heads=2", "model.num_blocks=1", "training.epochs=1"),
    *("data.batch_size=32", "training.row_dropout.user=0.1"),
)


class KilledError(Exception):
    """Stands for the end of the process."""


def arguments(root, raw, day, *more):
    return [
        *("--config", "sparsectr_synthetic", "--source", "synthetic"),
        *("--input", str(raw), "--root", str(root), "--day", day),
        *("--num_shards=2", "--num_buckets=2", *more, *TINY),
    ]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs") / "raw"
    sizes = {"users": 50, "days": 8, "requests_per_user": 8, "behaviors_per_user": 30}
    words = [word for name, n in sizes.items() for word in (f"--{name}", str(n))]
    synthesize.main(["--output", str(folder), *words])
    return folder


def killed(module, name, after):
    """The function, which ends the process before or after its work."""
    work = getattr(module, name)

    def dying(*args, **kwargs):
        if after:
            work(*args, **kwargs)
        raise KilledError

    return dying


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.long
def test_every_sample_of_a_day_is_learned_once(raw, tmp_path, caplog):
    """Whatever the recipe says: that of any data has three epochs, 500 steps."""
    root = tmp_path / "root"
    words = arguments(root, raw, FIRST)
    words[1] = "default"
    words = [*words[: -len(TINY)], "--model", "sdim", "model.dim=8"]

    def steps_of(batch_size):
        shutil.rmtree(root / FIRST / "run", ignore_errors=True)
        (root / FIRST / "day.json").unlink(missing_ok=True)
        caplog.clear()
        with caplog.at_level("INFO"):
            assert daily.main([*words, f"data.batch_size={batch_size}"]) == 0
        row = json.loads((root / FIRST / "day.json").read_text())
        return row["samples"], row["steps"]

    samples, steps = steps_of(16)
    assert steps == samples // 16 < 500 and samples % 16
    told = f"{samples % 16} of the day's {samples} samples were not learned"
    assert told in caplog.text and "has no effect" not in caplog.text
    assert steps_of(128) == (samples, 1) and samples < 128
    told = f"the day's {samples} samples were passed over again, to learn 128 in"
    assert told in caplog.text


@pytest.mark.long
def test_days_that_are_killed_at_every_stage(raw, tmp_path, capsys, monkeypatch):
    root = tmp_path / "root"
    assert daily.main(arguments(root, raw, FIRST)) == 0
    row = json.loads((root / FIRST / "day.json").read_text())
    assert row["from"] is None and row["predicted"] is None and row["samples"] > 50
    assert row["new_values"]["item_id"] > 100

    words = arguments(root, raw, SECOND)
    before = {}
    for module, name, after in (
        (listwise, "run", False),
        (listwise, "run", True),
        (evaluate, "evaluate_run", False),
        (evaluate, "evaluate_run", True),
        (train, "main", False),
        (train, "main", True),
    ):
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(module, name, killed(module, name, after))
            daily.main(words)
        assert not (root / SECOND / "day.json").exists()
        now = files_of(root / SECOND)
        for part in ("data/", "predicted/"):  # whole, and then left alone
            mine = {path: at for path, at in before.items() if path.startswith(part)}
            assert mine.items() <= now.items()
        before = now
    assert daily.main(words) == 0
    capsys.readouterr()
    before = files_of(root / SECOND)
    assert daily.main(words) == 0
    assert "2024-01-06 is done already: there was nothing to do." in (
        capsys.readouterr().out
    )
    assert files_of(root / SECOND) == before

    row = json.loads((root / SECOND / "day.json").read_text())
    manifest = PreparedData.load(root / SECOND / "data").manifest
    start = 1_704_499_200  # of the day, UTC
    first, last = manifest.splits["train"].time_range
    assert start <= first <= last < start + 86_400
    assert manifest.splits["validation"].samples == 0
    config = read_config(root / SECOND / "run").training
    assert config.start_from == str(root / FIRST / "run") and config.start_slots
    # The run of the first day, which has never seen the second, scores the same.
    again = evaluate.evaluate_run(
        root / FIRST / "run",
        "train",
        output=tmp_path / "again",
        withheld=False,
        data=root / SECOND / "data",
    )
    assert {name: again[name] for name in row["predicted"]} == row["predicted"]
    assert row["samples"] == again["samples"] == manifest.splits["train"].samples
    state = max((root / SECOND / "run/checkpoints").glob("step-*")) / "state.json"
    state = json.loads(state.read_text())
    one = json.loads((root / FIRST / "run/metrics.json").read_text())["steps"]
    assert state["first_step"] == one and state["best_step"] == state["step"]

    # Ids stay, and forgetting them is said.
    one, two = (read_content(root / day / "run")[1] for day in (FIRST, SECOND))
    check_extended(one, two, FIRST, SECOND)
    assert len(two.values("item_id")) > len(one.values("item_id"))
    with pytest.raises(ValueError, match=r"begun with other options.*renew"):
        daily.main(arguments(root, raw, SECOND, "--renew"))
    with pytest.raises(ValueError, match="goes on from 2024-01-08, which is not fini"):
        daily.main(arguments(root, raw, "2024-01-09"))
    assert not (root / "2024-01-09").exists()
    assert daily.main(arguments(root, raw, THIRD, "--renew")) == 0
    three = read_content(root / THIRD / "run")[1]
    with pytest.raises(ValueError, match="Ids of"):
        check_extended(two, three, SECOND, THIRD)
    rows = json.loads((root / "days.json").read_text())
    assert [row["day"] for row in rows] == [FIRST, SECOND, THIRD]
    assert (root / "days.png").stat().st_size > 1_000
    assert THIRD in capsys.readouterr().out

    # Data whose ids are others, put in the place of those, are refused.
    shutil.rmtree(root / THIRD)
    words = arguments(root, raw, THIRD)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(evaluate, "evaluate_run", killed(evaluate, "evaluate_run", False))
        daily.main(words)
    shutil.rmtree(root / THIRD / "data")
    shutil.copytree(root / FIRST / "data", root / THIRD / "data")
    with pytest.raises(ValueError, match="Ids of .* must be those of"):
        daily.main(words)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_day_of_one_class_is_predicted_without_auc(tmp_path, caplog, label):
    schema = make_narrow_schema(history_length=8)
    previous = tmp_path / "root" / FIRST
    train_two_steps(previous, schema, SDIMConfig(dim=8, candidate_tower=()))
    options = argparse.Namespace(
        root=tmp_path / "root", day=datetime.date.fromisoformat(SECOND)
    )
    day = Day(options, [], previous)
    samples = make_splits(schema)["train"][:10]
    for sample in samples:
        sample["label"][:] = label
    write_prepared(
        day.data, schema, random_vocabularies(schema, 20), {"train": samples}
    )
    assert day.predict()
    assert "cannot be evaluated on no" in caplog.text
    run = load_run(previous / "run")
    batches = dataset(
        day.data,
        "train",
        run.config.data,
        num_chunks=run.ranker.num_chunks,
        training=False,
        metadata=True,
    )
    scored = list(predictions(batches, Scorer(run.ranker)))
    scores = np.concatenate([batch.probabilities[batch.mask] for batch in scored])
    expected = -np.log(scores if label else 1 - scores).mean()
    found = day._metrics()
    assert found.pop("log_loss") == pytest.approx(expected, rel=1e-5)
    assert found == dict.fromkeys(("auc", "gauc_user", "gauc_request"))
    assert not day.predict()  # it is done
    assert [path.name for path in day.folder.iterdir() if "un" in path.name] == []


def test_a_day_without_exposures_leaves_nothing(raw, tmp_path):
    with pytest.raises(ValueError, match=r"Received: none of 2023-05-01 \(UTC\)"):
        daily.main(arguments(tmp_path / "root", raw, "2023-05-01"))
    left = [path.name for path in (tmp_path / "root" / "2023-05-01").iterdir()]
    assert left == ["options.json"]


def test_two_calls_at_once_are_refused(raw, tmp_path):
    from ctr_tf.storage import files

    (tmp_path / "root").mkdir()
    with files.held(tmp_path / "root"), pytest.raises(ValueError, match="at work in"):
        daily.main(arguments(tmp_path / "root", raw, FIRST))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--day", "yesterday"], "`--day` must be a date such as 2022-05-03. Rec"),
        (["--after", FIRST], "`--after` must be a day before 2024-01-05"),
        (["--num_shards", "2"], "are written `--name=value`"),
        (["--test_days=2"], "and none of output, overwrite, vocabularies"),
        (["--root", "s3://bucket/root"], "`--root` must lie on this machine"),
    ],
)
def test_what_is_no_day(tmp_path, words, message):
    own = arguments(tmp_path / "root", tmp_path, FIRST)
    with pytest.raises(ValueError, match=message):
        daily.main([*own[:10], *words])


def test_the_record_is_of_finished_days(tmp_path):
    for day, auc in ((FIRST, None), (SECOND, 0.7), (THIRD, 0.8)):
        predicted = auc and {
            **dict.fromkeys(("auc", "gauc_user"), auc),
            **{"gauc_request": None, "log_loss": 0.5},
        }
        row = {"day": day, "samples": 3, "predicted": predicted, "new_values": {"i": 2}}
        (tmp_path / day).mkdir()
        (tmp_path / day / "day.json").write_text(json.dumps(row))
    (tmp_path / "2024-01-08").mkdir()  # begun
    only = tmp_path / "only" / FIRST  # of no clicks
    only.mkdir(parents=True)
    row["predicted"] |= dict.fromkeys(("auc", "gauc_user"))
    (only / "day.json").write_text(json.dumps(row))
    assert write_record(only.parent) == [row]
    assert [row["day"] for row in write_record(tmp_path)] == [FIRST, SECOND, THIRD]
    assert (tmp_path / "days.png").stat().st_size > 1_000
