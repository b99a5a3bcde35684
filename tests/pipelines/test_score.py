"""The scoring job gives the scores that the SavedModel gives, whatever the ids."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from helpers import make_schema
from small_run import reordered

from ctr_tf.commands.main import main
from ctr_tf.data.prepared import PreparedData
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from pipelines import score
from pipelines.score_manifest import SampleCounts, ScoreManifest
from serving.defaults import SCORE_FORMATS
from serving.export import ExportOptions, export_ranker
from serving.request import request_from_sample
from serving.score import Scorer

pytestmark = pytest.mark.long

SCHEMA = make_schema(history_length=16, num_chunks=4)
VOCABULARIES = random_vocabularies(SCHEMA, 30)
SIZES = [(16, 5), (0, 1), (3, 12), (9, 4), (16, 7), (12, 2)]


@pytest.fixture(scope="module")
def samples():
    random = np.random.default_rng(0)
    return [random_sample(SCHEMA, VOCABULARIES, random, *size) for size in SIZES]


@pytest.fixture(scope="module")
def data(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("prepared") / "data"
    splits = {"train": samples, "validation": [], "test": samples}
    write_prepared(folder, SCHEMA, VOCABULARIES, splits, compression="gzip")
    return PreparedData.load(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory, data):
    config = SparseCTRConfig(dim=16, num_heads=2, embedding_dim=4)
    ranker = build_ranker(config, SCHEMA, VOCABULARIES.table_sizes(SCHEMA))
    random = np.random.default_rng(0)
    for variable in ranker.trainable_variables:
        variable.assign(variable + random.normal(scale=0.3, size=variable.shape))
    options = ExportOptions(slate_sizes=(10,), batch_sizes=(1,))
    return export_ranker(ranker, data, tmp_path_factory.mktemp("models"), options)


@pytest.fixture(scope="module")
def expected(model, samples):
    """(request id, candidate) → (item, probability), by raw requests."""
    scorer = Scorer(model)
    rows = {}
    for sample in samples:
        request = request_from_sample(sample, SCHEMA, VOCABULARIES)
        for row in scorer.score(request):
            key = sample["request_id"][0].decode(), row["position"]
            rows[key] = row["item_id"], row["probability"]
    return rows


def run(model, output, *words):
    words = ["--export", str(model), "--output", str(output), *map(str, words)]
    return score.run(words)


def read(output):
    """Rows of all files, in order."""
    folder = output / score.FILES
    paths = sorted(folder.iterdir())
    if paths[0].suffix == ".parquet":
        return pq.read_table(folder).to_pylist()
    lines = [line for path in paths for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def assert_scores(rows, expected):
    found = {(row["request_id"], row["candidate"]): row for row in rows}
    assert len(found) == len(rows)
    assert found.keys() == expected.keys()
    for key, (item, probability) in expected.items():
        assert found[key]["item_id"] == item
        assert found[key]["probability"] == pytest.approx(probability, abs=1e-5)


@pytest.mark.parametrize("kind", SCORE_FORMATS)
def test_scores_equal_those_of_raw_requests(model, data, expected, tmp_path, kind):
    output = tmp_path / "scores"
    words = ["--data", data.folder, "--format", kind, "--num_shards", 2]
    manifest = run(model.parent, output, *words)
    rows = read(output)
    assert_scores(rows, expected)
    assert manifest == ScoreManifest.load(output / "manifest.json")
    assert (manifest.samples, manifest.candidates) == (6, len(rows))
    assert [f.path for f in manifest.files] == sorted(
        f"{score.FILES}/{path.name}" for path in (output / score.FILES).iterdir()
    )
    slates = {row["request_id"]: [] for row in rows}
    for row in rows:
        slates[row["request_id"]].append(row["candidate"])
    assert all(slate == list(range(len(slate))) for slate in slates.values())
    with pytest.raises(FileExistsError, match="exists"):
        run(model, output, *words)


def test_ids_of_other_vocabularies_become_the_models(
    model, samples, expected, tmp_path
):
    samples, vocabularies = reordered(samples, SCHEMA, VOCABULARIES)
    splits = {"train": samples, "validation": [], "test": samples}
    write_prepared(tmp_path / "data", SCHEMA, vocabularies, splits)
    run(model, tmp_path / "scores", "--data", tmp_path / "data")
    assert_scores(read(tmp_path / "scores"), expected)


def note_size(folder, path):
    """Makes the manifest agree with a file that a test has changed."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (entry,) = (f for f in manifest["files"] if (folder / f["path"]) == path)
    entry["bytes"] = path.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_bad_sample_is_kept_aside(model, data, samples, expected, tmp_path):
    folder = tmp_path / "data"
    splits = {"train": samples, "validation": [], "test": samples}
    write_prepared(folder, SCHEMA, VOCABULARIES, splits, shards=1)
    (path,) = (folder / "test").glob("*.tfrecord")
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in [*records[:2], b"\xff\xff", *records[2:]]:
            writer.write(record)
    note_size(folder, path)
    words = ["--data", folder, "--max_rejected_fraction", 0.5]
    manifest = run(model, tmp_path / "scores", *words)
    assert manifest.events == {"samples": SampleCounts(7, 6, {"unfit sample": 1})}
    assert_scores(read(tmp_path / "scores"), expected)
    (line,) = (tmp_path / "scores" / "rejected" / "part-00000.jsonl").open()
    assert json.loads(line)["source"].endswith("tfrecord: record 2")
    with pytest.raises(ValueError, match="1 of 7 rows of samples are unfit"):
        run(model, tmp_path / "other", "--data", folder)
    assert not (tmp_path / "other").exists()
    content = path.read_bytes()
    path.write_bytes(content[:-5])  # cut off: the last record is lost
    note_size(folder, path)
    manifest = run(model, tmp_path / "cut", *words)
    assert manifest.events["samples"].rejected == {
        "unfit sample": 1,
        "unreadable record file": 1,
    }


START = 1_700_000_000


def write_logs(folder):
    """Four users with one slate each; no item is shown twice, so counters are 0."""
    folder.mkdir()
    rows = {"exposures": [], "behaviors": [], "users": [], "items": []}
    for user in range(4):
        rows["users"].append({"user_id": user, "age": 20.0 + user, "tags": ["tags 1"]})
        for i in range(5):
            behavior = {"time": START + 60 * i, "item_id": 1000 + 3 * i}
            rows["behaviors"].append({"user_id": user, "action": "action 2"} | behavior)
        for i in range(3):
            exposure = {"user_id": user, "request_id": f"r{user}", "click": 0}
            exposure |= {"time": START + 9_000 + user, "device": "device 1"}
            exposure |= {"item_id": 1015 + 3 * user + i, "position": i}
            rows["exposures"].append(exposure)
    for item in range(1000, 1030):
        row = {"item_id": item, "category": f"category {item % 7}"}
        if item < 1015:  # the behaviors'
            place = (item - 1000) // 3
            row |= {"genres": [f"genres {place}", "genres 9"], "price": 2.5 * place}
        rows["items"].append(row)
    for name, table in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in table)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")


def test_raw_logs_are_prepared_and_scored(model, tmp_path):
    write_logs(tmp_path / "logs")
    words = ["--source", "jsonl", "--input", tmp_path / "logs"]
    manifest = run(model, tmp_path / "scores", *words)
    assert (manifest.samples, manifest.candidates) == (4, 12)
    scorer = Scorer(model)
    nothing = {
        name: None if name.startswith(("since", "item_age")) else 0
        for name in scorer.schema.computed.counts
    }
    for row in read(tmp_path / "scores"):
        user = int(row["user_id"])
        request = {
            "request_time": START + 9_000 + user,
            "slate_size": 3,
            "user": {"age": 20.0 + user, "tags": ["tags 1"]},
            "context": {"device": "device 1"},
            "behaviors": [
                {
                    "time": START + 60 * i,
                    "item_id": 1000 + 3 * i,
                    "category": f"category {(1000 + 3 * i) % 7}",
                    "genres": [f"genres {i}", "genres 9"],
                    "price": 2.5 * i,
                    "action": "action 2",
                }
                for i in range(5)
            ],
            "candidates": [
                {
                    "item_id": row["item_id"],
                    "category": f"category {row['item_id'] % 7}",
                    "genres": None,
                    "price": None,
                    "position": row["candidate"],
                }
                | nothing
            ],
        }
        (expected,) = scorer.score(request)
        assert row["probability"] == pytest.approx(expected["probability"], abs=1e-5)


def test_mistakes_are_told(model, data, tmp_path):
    output = tmp_path / "scores"
    for words, error in (
        ([], "Give `--data`, or `--source` and `--input`"),
        (["--data", data.folder, "--source", "jsonl"], "Give `--data`, or"),
        (["--data", tmp_path / "none"], "no folder"),
        (["--data", data.folder, "--num_shards", "0"], "must be positive"),
        (["--data", data.folder, "--shards", "2"], "Unknown option '--shards'"),
        (["--data", data.folder, "--split", "tset"], "Did you mean 'test'"),
        (["--data", data.folder, "--split", "validation"], "has no samples"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=error):
            run(model, output, *words)
        assert not output.exists()
    other = make_schema(history_length=8, num_chunks=2)
    random = np.random.default_rng(0)
    sample = random_sample(other, VOCABULARIES, random, 4, 2)
    splits = {"train": [sample], "validation": [], "test": [sample]}
    write_prepared(tmp_path / "data", other, VOCABULARIES, splits)
    with pytest.raises(ValueError, match="schema must be that of the model"):
        run(model, output, "--data", tmp_path / "data")
    assert not list(tmp_path.glob("scores*"))


def test_the_verb_says_what_it_takes(capsys):
    with pytest.raises(SystemExit) as end:
        main(["batch-score", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: ctr-tf batch-score ")
    assert "--export EXPORT --source jsonl --input LOGS" in text


@pytest.mark.parametrize(
    "words, message",
    [
        ("--data {tmp}", "the following arguments are required: --export, --output"),
        ("--sorce x", "Unknown option '--sorce'. Did you mean '--source'?"),
        ("", "Give `--data`, or `--source` and `--input`. Received: data=None, "),
        ("--data {tmp} --num_shards 0", "`--num_shards` must be positive. Received: 0"),
        ("--data {tmp} --format csv", "invalid choice: 'csv' (choose from 'parquet', "),
        ("--data {tmp}", "There is no exported model: no folder '{tmp}/model'."),
    ],
)
def test_wrong_words_of_the_verb(tmp_path, capsys, words, message):
    if "required" not in message:
        words += " --export {tmp}/model --output {tmp}/out"
    assert main(["batch-score", *words.format(tmp=tmp_path).split()]) == 2
    assert message.format(tmp=tmp_path) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
