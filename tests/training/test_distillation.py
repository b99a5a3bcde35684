"""A student and its teacher: what each learns, sees and leaves behind."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_schema
from small_run import reordered

from ctr_tf import config as configs
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import read_examples
from ctr_tf.data.records import check_example
from ctr_tf.errors import UserError
from ctr_tf.models import build_ranker
from ctr_tf.models.can import CANConfig
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.saved_variables import SavedVariables
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training.checkpoints import named
from ctr_tf.training.config import Config
from ctr_tf.training.distillation import DistillationConfig, Ramp
from ctr_tf.training.run import load_run
from ctr_tf.training.teacher import find_teacher
from ctr_tf.training.train import make_trainer, train
from serving.export import ExportOptions, export_ranker
from serving.golden import served_scores

pytestmark = pytest.mark.long

STEPS = 12  # 2 epochs of 6
LONG, SHORT = 64, 16
SCHEMA = dataclasses.replace(
    make_schema(history_length=LONG, num_chunks=8), labels=("click", "cart")
)
STUDENT = {"name": "sparsectr", "dim": 8, "num_heads": 2, "num_blocks": 1}
STUDENT |= {"num_chunks": 4, "candidate_tower": []}
TEACHER = {**STUDENT, "dim": 16, "num_chunks": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    vocabularies = random_vocabularies(SCHEMA, 30)
    random = np.random.default_rng(0)
    samples = [
        random_sample(SCHEMA, vocabularies, random, int(random.integers(0, 65)), 4)
        for _ in range(88)
    ]
    folder = tmp_path_factory.mktemp("prepared") / "data"
    splits = {"train": samples[:48], "validation": samples[48:68]}
    splits["test"] = samples[68:]
    write_prepared(folder, SCHEMA, vocabularies, splits, shards=2)
    return folder


def recipe(data, run, distillation=None, **training):
    return {
        "run": str(run),
        "data": {
            "path": str(data),
            "batch_size": 8,
            "shuffle_buffer": 32,
            "history_lengths": [SHORT],
        },
        "model": STUDENT,
        "distillation": distillation,
        "optimizer": {
            "learning_rate": 0.01,
            "schedule": "cosine",
            "warmup_steps": 4,
            "global_clipnorm": 0.1,
        },
        "training": {
            "epochs": 2,
            "checkpoint_every": 2,
            "keep_checkpoints": 9,
            "log_every": 3,
            "row_dropout": {"behavior": 0.1},
            **training,
        },
    }


def online(**keys):
    return {"teacher": TEACHER, "history_lengths": [LONG], **keys}


def run_training(*arguments, **options):
    return train(configs.parse(Config, recipe(*arguments, **options)))


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "alone"
    run_training(data, run)
    return run


@pytest.fixture(scope="module")
def distilled(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "distilled"
    run_training(data, run, online(warmup_share=0.5))
    return run


def last(run):
    return run / "checkpoints" / f"step-{STEPS:08d}"


def values_of(folder, file, part):
    reader = tf.train.load_checkpoint(str(folder / file))
    keys = [k for k in reader.get_variable_to_shape_map() if k.startswith(f"{part}/")]
    return {key.removeprefix(part): reader.get_tensor(key) for key in keys}


def assert_equal(one, other):
    assert one.keys() == other.keys() and len(one) > 5
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


@pytest.fixture(scope="module")
def unheard(data, tmp_path_factory):
    """The student does not listen."""
    run = tmp_path_factory.mktemp("runs") / "unheard"
    run_training(data, run, online(weight=0.0))
    return run


@pytest.mark.study
def test_at_weight_0_the_student_is_as_if_alone(alone, unheard):
    for file, part in (("network", "main"), ("tables", "tables")):
        expected = values_of(last(alone), file, part)
        assert_equal(values_of(last(unheard), file, part), expected)
    validation = [
        json.loads((run / "metrics.json").read_text())["validation"]
        for run in (alone, unheard)
    ]
    assert validation[0]["auc"] == validation[1]["auc"]


@pytest.mark.study
def test_the_teacher_is_as_if_there_were_no_student(distilled, unheard):
    """But for rounding, which changes with the graph."""
    for file, part in (("network", "main_teacher"), ("tables", "tables_teacher")):
        expected = values_of(last(unheard), file, part)
        for key, value in values_of(last(distilled), file, part).items():
            np.testing.assert_allclose(value, expected[key], 1e-4, 1e-5, err_msg=key)


def test_the_student_learns_from_its_teacher(alone, distilled):
    one, other = (values_of(last(run), "network", "main") for run in (alone, distilled))
    assert any(np.abs(one[key] - other[key]).max() > 1e-3 for key in one)


def test_three_losses_are_told_and_the_student_alone_is_left(distilled):
    validation = json.loads((distilled / "metrics.json").read_text())["validation"]
    assert {"log_loss", "teacher_log_loss", "distillation", "teacher_auc"} <= set(
        validation
    )
    best = max((distilled / "checkpoints").glob("best-*"))
    shapes = tf.train.load_checkpoint(str(best / "network")).get_variable_to_shape_map()
    assert not [key for key in shapes if "teacher" in key]
    assert load_run(distilled).ranker.config.dim == STUDENT["dim"]


def test_the_student_scores_as_its_export_does(data, distilled, tmp_path):
    """In training it is fed from the teacher's batches: more behaviors, other chunks.

    The export holds itself against the scores of an ordinary run, by all signatures.
    """
    prepared, run = PreparedData.load(data), load_run(distilled, "last")
    teacher = find_teacher(run.config, prepared)
    assert teacher.history_lengths == {"main": SHORT}
    trainer = make_trainer(run.config, prepared, STEPS, teacher)
    for own, value in zip(trainer.ranker.variables, run.ranker.variables, strict=True):
        own.assign(value)
    batches = dataset(
        prepared,
        "test",
        teacher.batches_by,
        num_chunks=trainer.num_chunks,
        training=False,
    )
    rows = []
    for inputs, _, weights in batches:
        assert inputs["behavior_time"].shape[1] == LONG
        assert inputs["behavior_chunk"].numpy().max() == TEACHER["num_chunks"]
        seen = trainer.inputs_of("main", inputs)
        assert seen["behavior_time"].shape[1] == SHORT
        assert seen["behavior_chunk"].numpy().max() == STUDENT["num_chunks"]
        probability = tf.sigmoid(trainer.ranker(seen)[..., 0]).numpy()
        rows += [p[w > 0] for p, w in zip(probability, weights.numpy(), strict=True)]
    folder = export_ranker(
        run.ranker,
        prepared,
        tmp_path / "export",
        ExportOptions((SHORT,), slate_sizes=(4,), batch_sizes=(1,)),
    )
    signatures = tf.saved_model.load(str(folder)).signatures
    samples = [
        check_example(example, SCHEMA)
        for _, _, example in read_examples(prepared.files("test"), prepared.compression)
    ]
    assert len(samples) == len(rows) == 20
    found = served_scores(signatures, samples, prepared)
    for row, served in zip(rows, found, strict=True):
        np.testing.assert_allclose(served["serialized_examples"], row, atol=1e-6)


def test_resumed_in_the_warm_up_equals_uninterrupted(data, distilled, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(distilled, run)
    (run / "metrics.json").unlink()
    for path in (run / "checkpoints").iterdir():
        if int(path.name.partition("-")[2]) > 2:
            shutil.rmtree(path)
    assert run_training(data, run, online(warmup_share=0.5))["steps"] == STEPS
    for file, parts in (
        ("network", ("main", "main_teacher", "optimizer")),
        ("tables", ("tables", "tables_teacher", "slots")),
    ):
        for part in parts:
            expected = values_of(last(distilled), file, part)
            assert_equal(values_of(last(run), file, part), expected)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of the teacher alone."""
    run = tmp_path_factory.mktemp("runs") / "teacher"
    values = recipe(data, run)
    values["model"] = TEACHER
    values["data"]["history_lengths"] = [LONG]
    train(configs.parse(Config, values))
    return run


@pytest.mark.study
def test_a_finished_teacher_says_what_its_run_says(data, finished, tmp_path):
    """It is in no checkpoint, and found again, unchanged, whenever the run goes on."""
    values = run_training(data, tmp_path / "run", {"teacher_run": str(finished)})
    assert "teacher_log_loss" not in values["validation"]
    assert values["validation"]["distillation"] > 0
    alone = json.loads((finished / "metrics.json").read_text())["validation"]
    assert values["validation"]["teacher_auc"] == pytest.approx(alone["auc"], abs=1e-6)
    reader = tf.train.load_checkpoint(str(last(tmp_path / "run") / "network"))
    assert not [k for k in reader.get_variable_to_shape_map() if "teacher" in k]


@pytest.mark.study
def test_a_teacher_whose_weights_have_changed_is_refused(data, finished, tmp_path):
    teacher = tmp_path / "teacher"
    shutil.copytree(finished, teacher)
    run_training(data, tmp_path / "run", {"teacher_run": str(teacher)}, max_steps=2)
    best = max((teacher / "checkpoints").glob("best-*"))
    ranker = load_run(teacher).ranker
    ranker.network[-1].assign(ranker.network[-1] + 1)
    SavedVariables("network", {"main": named(ranker)}).write(best)
    with pytest.raises(UserError, match="other weights of the teacher"):
        run_training(data, tmp_path / "run", {"teacher_run": str(teacher)}, max_steps=2)


@pytest.mark.study
def test_shared_tables_are_one_and_learn_from_both(data, alone, tmp_path):
    run_training(data, tmp_path / "run", online(weight=0.0, shared_tables=True))
    shapes = tf.train.load_checkpoint(
        str(last(tmp_path / "run") / "tables")
    ).get_variable_to_shape_map()
    assert not [key for key in shapes if key.startswith("tables_teacher/")]
    one, other = (
        values_of(last(run), "tables", "tables") for run in (alone, tmp_path / "run")
    )
    assert any(np.abs(one[key] - other[key]).max() > 1e-3 for key in one)
    with pytest.raises(UserError, match="whose tables are shared, have equal `embed"):
        wide = {**TEACHER, "embedding_dim": 4}
        keys = {"teacher": wide, "shared_tables": True}
        run_training(data, tmp_path / "wide", {**online(), **keys})


@pytest.mark.study
def test_half_precision_and_xla(data, tmp_path):
    """With loss scaling, over both rankers at once."""
    options = {"precision": "mixed_float16", "jit_compile": True, "max_steps": 2}
    quick = {"name": "sdim", "dim": 8, "candidate_tower": []}  # to compile
    section = {"teacher": {**quick, "dim": 16}, "temperature": 2.0, "warmup_share": 0.0}
    values, plain = (
        train(configs.parse(Config, {**made, "model": quick}))
        for made in (
            recipe(data, tmp_path / "run", section, **options),
            recipe(data, tmp_path / "plain", section, max_steps=2),
        )
    )
    for key in ("log_loss", "teacher_log_loss", "distillation"):
        found, expected = (v["validation"][key] for v in (values, plain))
        assert found == pytest.approx(expected, abs=0.02), key


def test_the_weight_rises_after_the_warm_up():
    ramp = Ramp(0.25, 100)
    found = [float(ramp(step)) for step in (0, 25, 26, 40, 50, 51, 100)]
    np.testing.assert_allclose(found, [0, 0, 0.04, 0.6, 1, 1, 1], atol=1e-6)
    assert Ramp(0.25, 100).full_at == 50
    assert float(Ramp(0.0, 100)(0)) == 1.0
    assert DistillationConfig(teacher_run="run").warmup_share == 0.0
    assert DistillationConfig(teacher=SparseCTRConfig()).warmup_share == 0.25


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "`distillation` needs a `teacher`"),
        ({"teacher": TEACHER, "teacher_run": "x"}, "teacher_run='x'"),
        (online(weight=-1.0), "`distillation.weight` is not negative. Received: -1.0"),
        (online(temperature=0.0), "`distillation.temperature` is positive"),
        (online(warmup_share=0.6), "`distillation.warmup_share` is 0 … 0.5"),
        ({"teacher": {**TEACHER, "tasks": ["cart"]}}, "student have equal `tasks`"),
        (
            {"teacher_run": "x", "shared_tables": True},
            "`distillation.shared_tables` is for a teacher that learns",
        ),
        ({"teacher": {"name": "suanne"}}, "`distillation.teacher.name`: Unknown model"),
        ({"teacher": {"dimm": 3}}, "distillation.teacher.dimm"),
        ({"teacher_run": "nowhere"}, "'nowhere' is not the folder of a run"),
        (online(history_lengths=[8]), "which the student's cannot exceed"),
    ],
)
def test_mistakes(data, tmp_path, section, message):
    with pytest.raises((UserError, FileNotFoundError)) as error:
        run_training(data, tmp_path / "run", section)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_student_sees_what_its_run_will_see(data):
    """By one rule: a longer history than the teacher's is refused, too, by default."""
    values = recipe(data, "run", online())
    values["data"]["history_lengths"] = []
    prepared = PreparedData.load(data)
    found = find_teacher(configs.parse(Config, values), prepared)
    assert found.history_lengths == {} and found.student_history == LONG
    values["distillation"]["history_lengths"] = [SHORT]
    with pytest.raises(UserError, match="a history of 64, by data.history_lengths="):
        find_teacher(configs.parse(Config, values), prepared)


@pytest.mark.study
def test_patience_begins_when_the_student_listens(data, tmp_path):
    section = online(warmup_share=0.5)
    options = {"patience": 1, "validate_every": 1}
    values = recipe(data, tmp_path / "run", section, **options)
    values["optimizer"]["learning_rate"] = 1e-9  # no validation is better
    assert train(configs.parse(Config, values))["steps"] == STEPS


@pytest.mark.study
def test_a_finished_teacher_knows_values_by_what_they_stand_for(finished, tmp_path):
    """Of other data; what it does not know is unknown to it, as in its own run."""
    splits = {name: [] for name in ("train", "validation", "test")}
    random = np.random.default_rng(3)
    words = random_vocabularies(SCHEMA, 30)
    samples = [random_sample(SCHEMA, words, random, 20, 4) for _ in range(20)]
    samples, others = reordered(samples, SCHEMA, words)
    key = "candidate_item_id"
    samples[0][key] = np.full_like(samples[0][key], 2)  # the value that is new
    splits |= {"train": samples, "validation": samples}
    write_prepared(tmp_path / "data", SCHEMA, others, splits)
    prepared = PreparedData.load(tmp_path / "data")
    section = {"teacher_run": str(finished)}
    config = configs.parse(Config, recipe(tmp_path / "data", "run", section))
    found = find_teacher(config, prepared)
    student = build_ranker(config.model, SCHEMA, others.table_sizes(SCHEMA))
    teacher = found.make(prepared, student)
    assert not teacher.trainable
    run = load_run(finished)
    own = prepared.read_as(run.schema, run.vocabularies)
    options = {"num_chunks": teacher.num_chunks, "training": False}
    for one, other in zip(
        dataset(prepared, "validation", found.batches_by, **options),
        dataset(own, "validation", found.batches_by, **options),
        strict=True,
    ):
        np.testing.assert_allclose(teacher(one[0]), run.ranker(other[0]), atol=1e-6)


@pytest.mark.study
def test_a_run_that_has_not_ended_teaches_nobody(data, finished, tmp_path):
    teacher = tmp_path / "teacher"
    shutil.copytree(finished, teacher)
    (teacher / "metrics.json").unlink()
    with pytest.raises(UserError, match="has not come to its end: it has no metrics"):
        run_training(data, tmp_path / "run", {"teacher_run": str(teacher)})


def test_only_tables_of_features_are_shared():
    """CAN has one of its own beside them, whose rows are no embedding."""
    sizes = dict.fromkeys((f.table for f in SCHEMA.features if f.is_embedded), 30)
    one = build_ranker(CANConfig(), SCHEMA, sizes)
    other = build_ranker(CANConfig(), SCHEMA, sizes, shares_with=one)
    extras = {extra.name for extra in one.embedding.extra_tables}
    assert extras
    for name, table in one.embedding.tables.items():
        assert (other.embedding.tables[name] is table) == (name not in extras)


@pytest.mark.study
def test_a_teacher_of_another_label_is_refused(data, finished, tmp_path):
    values = recipe(data, tmp_path / "run", {"teacher_run": str(finished)})
    values["data"]["label"] = "cart"
    with pytest.raises(
        UserError, match="another `data.label`, 'click'. Received: 'cart'"
    ):
        train(configs.parse(Config, values))
