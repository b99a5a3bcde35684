"""What a user sees for a wrong input: one line that names the thing and the value."""

import pytest
from wrong_inputs import (
    broken_data,
    exposure,
    file_with,
    flip_a_byte,
    float_items,
    prepare_rows,
    prepare_with_schema,
    remove,
    request_with,
    rewrite,
    set_at,
    short_column,
    train_with,
    words,
)

from ctr_tf.commands import recipes
from ctr_tf.commands.main import main
from ctr_tf.errors import UserError
from serving.score import Scorer, read_request

PREPARE = "prepare --source synthetic --input {world}/raw --output {tmp}/out"
SCORE = "score --export {world}/run/export/1 --request {tmp}/request.json"
SHARD = "{tmp}/data/train/part-00000-of-00008.tfrecord"
ONE_OF_TWO = "1 of 2 rows of exposures are unfit for use, more than 0.01 of them"

COMMAND_LINE = {
    words("trian"): "Unknown verb 'trian'. Did you mean 'train'? Known: baselines, ",
    words("bench atention"): (
        "Unknown bench 'atention'. Did you mean 'attention'? Known: attention, "
    ),
    words("prepare --sorce x"): "Unknown option '--sorce'. Did you mean '--source'?",
    words(PREPARE + " --compression zip"): (
        "`--compression` must be 'none' or 'gzip'. Received: 'zip'"
    ),
    words("demo --source ebnerd"): (
        "Give `--input` (INPUT=… with make) for a source of real logs, none for "
        "'synthetic'. Received: source='ebnerd', input=None"
    ),
    words("synthesize --output {tmp}/raw --users 0"): (
        "`users` lies between 1 and 10,000,000. Received: users=0"
    ),
    words("synthesize --output {tmp}/raw --format xml"): (
        "Unknown format 'xml'. Known: csv, jsonl, parquet."
    ),
}
RAW_LOGS = {
    words(PREPARE.replace("synthetic", "ebnred")): (
        "Unknown source 'ebnred'. Did you mean 'ebnerd'? Known: alibaba, "
    ),
    words("prepare --source synthetic --input {tmp}/none --output {tmp}/out"): (
        "There is no folder '{tmp}/none'."
    ),
    words("prepare --source synthetic --input {tmp} --output {tmp}/out"): (
        "There is no table 'exposures' in '{tmp}': expected a file or folder "
        "'exposures' with one of the endings .jsonl, .csv, .parquet. Found: (nothing)."
    ),
    words("prepare --source synthetic --input {world}/raw --output {world}/data"): (
        "The output '{world}/data' exists. Give another `--output`, or `--overwrite`"
    ),
    prepare_rows(exposure(time=1_700_000_000_000), exposure()): (
        "time after the year 2242: times are read as seconds, perhaps they are "
        "milliseconds or microseconds; set the schema's time_unit"
    ),
    prepare_rows(exposure(time=-5), exposure()): "negative time",
    prepare_rows(exposure(time=0), exposure()): "time is zero",
    prepare_rows(exposure(item_id=...), exposure()): "missing field item_id",
    prepare_rows('{"user_id": "u", "time":', exposure()): "unparsable",
    prepare_rows(exposure(click=3), exposure()): "label click is neither 0 nor 1",
    prepare_rows(exposure(click_time=1_600_000_000), exposure()): (
        "click_time is before time"
    ),
    prepare_rows(exposure(item_id="seven"), exposure()): "bad value of item_id",
    prepare_rows(exposure(time=-1), exposure()): ONE_OF_TWO,
}
SCHEMA = {
    words(PREPARE + " --schema {tmp}/none.yaml"): (
        "There is no schema file at '{tmp}/none.yaml'."
    ),
    prepare_with_schema("time_unit:", "timeunit:"): (
        "{tmp}/schema.yaml: Unknown schema key 'timeunit'. Did you mean 'time_unit'?"
    ),
    prepare_with_schema("role: user", "role: profile"): (
        "{tmp}/schema.yaml: `features[6]`: Feature 'age_group': Unknown role "
        "'profile'. Known: behavior, candidate, context, item, position, user."
    ),
    prepare_with_schema("kind: numeric", "kind: number"): (
        "Feature 'price': Unknown kind 'number'. Did you mean 'numeric'?"
    ),
    prepare_with_schema("time_unit: seconds", "time_unit: hours"): (
        "Unknown time_unit 'hours'. Known: microseconds, milliseconds, seconds."
    ),
}
RECIPE = {
    words("train --config {tmp}/none.yaml"): (
        "There is no config file at '{tmp}/none.yaml'."
    ),
    train_with("model.num_chunk=4"): (
        "Unknown config key 'model.num_chunk'. Did you mean 'model.num_chunks'?"
    ),
    train_with("data.batch_size=many"): (
        "`data.batch_size` must be an integer. Received: 'many'"
    ),
    train_with("epochs"): (
        "An override has the form key=value, such as model.num_chunks=16. "
        "Received: 'epochs'"
    ),
    train_with("model.name=sparsctr"): (
        "`model.name`: Unknown model 'sparsctr'. Did you mean 'sparsectr'?"
    ),
    train_with("model.num_heads=5"): (
        "`model`: `num_heads` must divide `dim`=32. Received: num_heads=5"
    ),
    train_with("training.precision=bf16"): (
        "Unknown training.precision 'bf16'. Known: float32, mixed_bfloat16, "
    ),
    train_with("model.sparsity=S5"): (
        "`model`: Unknown sparsity 'S5'. Known: S1, S2, S3, S4."
    ),
    train_with("data.slate_sizes=[4]"): (
        "`data.slate_sizes` must hold the data's largest slate, 10 candidates: none is "
        "ever dropped. Received: [4]"
    ),
    train_with("run={world}/run", "model.dim=64"): (
        "Run '{world}/run' exists and was made by another recipe."
    ),
}
PREPARED_DATA = {
    train_with("data.path={tmp}/none"): (
        "There is no prepared data set: no folder '{tmp}/none'."
    ),
    broken_data(remove("manifest.json")): (
        "'{tmp}/data' is not a prepared data set: it has no manifest.json, which "
        "`ctr-tf prepare` writes last."
    ),
    broken_data(remove("vocabularies/category.txt")): (
        "Vocabulary 'category' of feature 'category' is missing: there is no file "
        "'{tmp}/data/vocabularies/category.txt'."
    ),
    broken_data(remove("train/*")): (
        "The data set is incomplete: its manifest.json lists '" + SHARD + "', which is "
        "missing."
    ),
    broken_data(flip_a_byte): SHARD + ": record 0 is corrupt or cut off",
    broken_data(rewrite(float_items)): (
        SHARD + ": record 0: 'behavior_item_id' must be int64. Received: float32"
    ),
    broken_data(rewrite(short_column)): (
        SHARD + ": record 0: 'candidate_price' must have as many values as the sample "
        "has candidates, 10. Received: 9"
    ),
    words("inspect --data {world}/data --index 100000"): (
        "samples, counted from 0. Received: --index 100000"
    ),
    words("inspect --data {world}/data --request_id nobody"): (
        "Split 'test' has no sample with this `request_id`. Received: nobody"
    ),
}
RUN = {
    words("evaluate --run {tmp}"): (
        "'{tmp}' is not the folder of a run: it has no config.yaml."
    ),
    words("evaluate --run {world}/run --split tset"): (
        "'{world}/data': Unknown split 'tset'. Did you mean 'test'?"
    ),
    words("evaluate --run {world}/run --against {tmp}/metrics.json"): (
        "There is no metrics file of a base at '{tmp}/metrics.json'."
    ),
    words("export --run {tmp}"): (
        "'{tmp}' is not the folder of a run: it has no config.yaml."
    ),
}
REQUEST = {
    words(SCORE): "There is no request at '{tmp}/request.json'.",
    file_with("request.json", "{", SCORE): (
        "'{tmp}/request.json' is not JSON: Expecting property name"
    ),
    request_with(set_at("candidates", value=[])): (
        "`candidates` must hold at least one. Received: []"
    ),
    request_with(set_at("candidates", 0, "category", value=...)): (
        "`candidates[0]` lacks the feature 'category'; give null where it is unknown."
    ),
    request_with(set_at("user", "agegroup", value="x")): (
        "`user`: Unknown feature 'agegroup'. Did you mean 'age_group'?"
    ),
    request_with(set_at("candidates", 0, "item_id", value="7")): (
        "`candidates[0].item_id` must be a whole number, or null where it is unknown. "
        "Received: '7'"
    ),
    request_with(set_at("request_time", value=1_704_742_528_000)): (
        "`request_time` must be seconds since 1970-01-01 UTC, not milliseconds. "
        "Received: 1704742528000"
    ),
    request_with(set_at("behaviors", -1, "time", value=1_999_999_999)): (
        "Received: 1999999999"
    ),
    request_with(set_at("behaviors", 0, "time", value=1_704_700_000)): (
        "`behaviors` must be sorted by time, oldest first: `behaviors[1].time` is "
        "before the 1704700000 of the one before it."
    ),
}
GROUPS = {
    "command line": COMMAND_LINE,
    "raw logs": RAW_LOGS,
    "schema": SCHEMA,
    "recipe": RECIPE,
    "prepared data": PREPARED_DATA,
    "run": RUN,
    "request": REQUEST,
}
CASES = [
    pytest.param(make, message, id=f"{group} {number}")
    for group, cases in GROUPS.items()
    for number, (make, message) in enumerate(cases.items())
]


@pytest.mark.parametrize(("make", "message"), CASES)
def test_a_wrong_input_is_told_in_words(make, message, world, tmp_path, capsys):
    status = main(make(world, tmp_path))
    error = capsys.readouterr().err
    assert status == 2
    assert "ctr-tf: error: " in error
    expected = message.replace("{tmp}", str(tmp_path)).replace("{world}", str(world))
    assert expected in error
    assert "Traceback" not in error


UNUSUAL = {
    "no history": set_at("behaviors", value=[]),
    "history of one": lambda r: r | {"behaviors": r["behaviors"][-1:]},
    "unknown item": set_at("candidates", 0, "item_id", value=987_654_321),
    "unknown value": set_at("user", "city", value="Atlantis"),
    "null": set_at("context", "device", value=None),
    "one candidate": lambda r: r | {"candidates": r["candidates"][:1]},
    "null counters": lambda r: (
        r
        | {
            "candidates": [
                {k: None if "impressions" in k else v for k, v in c.items()}
                for c in r["candidates"]
            ]
        }
    ),
}


@pytest.fixture(scope="module")
def scorer(world):
    return Scorer(world / "run" / "export")


@pytest.mark.parametrize("change", UNUSUAL.values(), ids=list(UNUSUAL))
def test_an_unusual_request_is_scored(change, scorer):
    request = read_request(str(scorer.folder / "assets.extra" / "example_request.json"))
    request = change(request) or request
    scores = scorer.score(request)
    assert len(scores) == len(request["candidates"])
    assert all(0 < score["probability"] < 1 for score in scores)


@pytest.mark.parametrize("mistake", [UserError, FileNotFoundError])
def test_a_bug_keeps_its_traceback_and_a_mistake_is_one_line(
    mistake, monkeypatch, capsys
):
    def fails(error):
        return lambda argv: (_ for _ in ()).throw(error)

    monkeypatch.setattr(recipes, "main", fails(mistake("say what is wrong")))
    assert main(["recipes"]) == 2
    assert capsys.readouterr().err == "ctr-tf: error: say what is wrong\n"
    monkeypatch.setattr(recipes, "main", fails(ValueError("math domain error")))
    with pytest.raises(ValueError, match="math domain error"):
        main(["recipes"])
