"""The grid of a study, advice, and the command from end to end."""

import json

import numpy as np
import pytest
from small_run import write_small_data

from ctr_tf.commands.main import main
from ctr_tf.commands.scaling import parser
from ctr_tf.compare import jobs
from ctr_tf.compare.jobs import make_jobs
from ctr_tf.recipes.find import find_recipe
from ctr_tf.scaling.advice import advice, pareto_front
from ctr_tf.scaling.grid import Cell, Grade, parse_grades, parse_shares
from ctr_tf.scaling.plot import plot_study
from ctr_tf.scaling.points import Point
from ctr_tf.scaling.scaling import chosen, studies_of

RECIPE = "sparsectr_synthetic"
GRADES = "2:1:4,4:1:4,4:1:8,8:1:8"


def test_a_grade_is_read_and_told():
    assert parse_grades("2:1:4,32:2:128,32:2:128:4") == [
        Grade(2, 1, 4, 1),
        Grade(32, 2, 128, 8),
        Grade(32, 2, 128, 4),
    ]
    assert parse_shares("1,1/4,0.125") == [1.0, 0.25, 0.125]
    assert str(Cell(Grade(2, 1, 4, 1), 0.25)) == "2:1:4:1 on 0.25 of the samples"


def test_points_of_the_grid_are_recipes(tmp_path):
    cells = [Cell(Grade(16, 2, 32, 4), 1.0), Cell(Grade(2, 1, 4, 1), 1 / 16)]
    rows = [cell.variant("sparsectr") for cell in cells]
    recipe = find_recipe(RECIPE)
    words = ["training.epochs=1", "model.embedding_dim=4"]
    made = make_jobs(rows, 2, tmp_path, recipe, "DATA", words)
    names = [job.name for job in made]
    assert names[1] == "sparsectr-2-1-4-1-share-0.0625-seed-0" and len(set(names)) == 4
    for job, cell in zip(made, cells * 2, strict=True):
        model, data = job.recipe["model"], job.recipe["data"]
        assert model["dim"] == cell.grade.dim and model["embedding_dim"] == 4
        assert model["num_blocks"] == cell.grade.blocks
        assert model["num_heads"] == cell.grade.heads
        assert list(data["history_lengths"]) == [cell.grade.history]
        assert data["train_share"] == cell.share and data["path"] == "DATA"
        assert job.recipe["training"]["epochs"] == 1


def test_shares_may_be_of_some_grades_alone():
    words = ["--data", "DATA", "--grades", GRADES, "--shares", "1/4,1,1/2,1/8"]
    words += ["--hold_out", "1"]
    assert len(chosen(parser().parse_intermixed_args(words), 8)) == 16
    cells = chosen(parser().parse_intermixed_args([*words, "--shares_of", "4:1:8"]), 8)
    assert [cell.share for cell in cells] == [1, 1, 1, 1, 0.5, 0.25, 0.125]
    assert {cell.grade for cell in cells[4:]} == {Grade(4, 1, 8, 1)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grades", "2:1"], "A grade is width:blocks:history .* Received: '2:1'"),
        (["--grades", "2:0:4"], "Received: '2:0:4'"),
        (["--grades", "2:1:4,2:1:4:1"], "A grade is named twice"),
        (["--grades", "2:1:4,4:1:4,4:1:8"], "name 5 or more in `--grades`.*: 3"),
        (["--grades", "2:1:4"], "A law needs an axis"),
        (["--grades", "2:1:16"], "The data keep 8 behaviors .* Received: 16"),
        (["--shares", "1,1/2"], "name 5 or more in `--shares`.*Received: 2"),
        (["--shares", "3/2"], "A share of the training samples .* '3/2'"),
        (["--shares", "1/0"], "A share of the training samples .* '1/0'"),
        (["--shares_of", "9:1:8"], "`--shares_of` must name some of `--grades`"),
        (["--hold_out", "-1"], "`--hold_out` must not be negative"),
        (["--seeds", "0"], "`--seeds` must be positive"),
        (["model.dim=8"], "`model.dim` is set by the grid"),
        (["sparsectr:data.train_share=1"], "`data.train_share` is set by the grid"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(words, message):
    grid = ["--data", "DATA", "--grades", f"{GRADES},8:2:8"]
    with pytest.raises(ValueError, match=message):
        chosen(parser().parse_intermixed_args([*grid, *words]), 8)


def make_point(grade, auc, flops, share=1.0, latency=1.0, limit=0.9):
    random = np.random.default_rng(flops)
    replicates = auc + 1e-3 * random.normal(size=(2, 50))
    samples = int(1000 * share)
    return Point(
        Cell(Grade.parse(grade), share), samples, flops, latency, 10, 20,
        [auc - 1e-3, auc + 1e-3], replicates, limit,
    )  # fmt: skip


def test_advice_is_of_what_was_measured():
    points = [
        make_point("8:1:8", 0.80, 4_000_000),
        make_point("2:1:4", 0.70, 1_000_000),
        make_point("4:1:4", 0.69, 2_000_000),
        make_point("4:1:8", 0.75, 2_000_000),
    ]
    front = pareto_front(points, "flops")
    assert [point.auc for point in front] == [0.70, 0.75, 0.80]
    told = advice(points, "flops", 3e6)
    assert told == (
        "For a budget of 3 MFLOP a request the best measured is 4:1:8:1: AUC 0.7500 "
        "for 2. The next, 8:1:8:2, brings +0.0500 AUC for 2 times as much."
    )
    assert "Nothing dearer was better." in advice(points, "flops", 4e6)
    assert "no grade was measured: the cheapest, 2:1:4:1, takes 1." in advice(
        points, "flops", 9e5
    )
    assert len(pareto_front(points, "latency_ms")) == 1


@pytest.mark.parametrize("limit", [0.9, None])
def test_axes_are_studied_and_drawn(limit, tmp_path):
    grades = GRADES.split(",")
    points = [
        make_point(grade, 0.89 - 0.2 * 4.0**-i, 10_000 * 4**i, limit=limit)
        for i, grade in enumerate(grades)
    ]
    points += [
        make_point(grades[-1], 0.88 - 0.05 * 4.0**i, 640_000, 0.25**i, limit=limit)
        for i in range(1, 4)
    ]
    flops, samples = studies_of(points, hold_out=1)
    assert (flops.axis, flops.fixed) == ("flops", "1,000 samples")
    assert (samples.axis, samples.fixed) == ("samples", "grade 8:1:8:2")
    assert len(samples.points) == len(flops.points) == 4
    assert flops.known_limit == limit
    assert studies_of(points, 1, 0.95)[0].known_limit == 0.95
    for study in (flops, samples):
        plot_study(study, tmp_path / f"{study.axis}.png")
        assert (tmp_path / f"{study.axis}.png").stat().st_size > 20_000


def interrupt(monkeypatch, finished_runs):
    """Ctrl-C once so many runs are done."""
    run, done = jobs._run, []

    def interrupted(job, *rest):
        if len(done) == finished_runs:
            raise KeyboardInterrupt
        done.append(job)
        return run(job, *rest)

    monkeypatch.setattr(jobs, "_run", interrupted)


@pytest.mark.study
@pytest.mark.long
def test_a_study_that_is_interrupted_and_goes_on(tmp_path, capsys, monkeypatch):
    data, output = write_small_data(tmp_path / "data"), tmp_path / "study"
    words = ["scaling", "--data", str(data), "--config", RECIPE, "--grades", GRADES]
    words += ["--seeds", "1", "--hold_out", "1", "--output", str(output)]
    words += ["--flops_budget", "1e5", "data.batch_size=16", "training.epochs=1"]
    with monkeypatch.context() as patched:
        interrupt(patched, finished_runs=2)
        assert main(words) == 130
    metrics = output.glob("runs/*/evaluation/test/metrics.json")
    before = {path: path.stat().st_mtime_ns for path in metrics}
    assert len(before) == 2 and not (output / "scaling.json").exists()

    assert main(words) == 0
    metrics = output.glob("runs/*/evaluation/test/metrics.json")
    after = {path: path.stat().st_mtime_ns for path in metrics}
    assert len(after) == 4 and before.items() < after.items()
    shown = capsys.readouterr().out
    assert "AUC = E - A X^(-alpha), X: FLOPs of a request" in shown
    assert "8:1:8:2, withheld, was predicted at" in shown
    assert "Three points for three numbers" in shown
    assert "For a budget of 0.1 MFLOP a request" in shown
    assert shown.startswith((output / "scaling.md").read_text("utf-8"))
    told = json.loads((output / "scaling.json").read_text("utf-8"))
    assert [point["history"] for point in told["points"]] == [4, 4, 8, 8]
    flops = [point["flops"] for point in told["points"]]
    assert flops == sorted(set(flops)) and told["points"][0]["samples"] == 48
    first = json.loads(min(after).read_text("utf-8"))
    assert told["points"][0]["aucs"] == [first["auc"]]
    (law,) = told["laws"]
    assert law["known_limit"] == first["reachable"]["auc"] and law["fitted"] == 3
    assert (output / "law-1-flops.png").is_file()
    assert main([*words, "training.epochs=2"]) == 2
    assert "training.epochs (1 and 2)" in capsys.readouterr().err
