import pytest

from benchmarks.plants import TRIALS, _table, trial_jobs
from ctr_tf import config as configs
from ctr_tf.commands.main import main
from ctr_tf.synthetic.config import PLANTS
from ctr_tf.training.config import Config


def test_every_plant_is_tried():
    assert {trial.plant for trial in TRIALS} == set(PLANTS)


@pytest.mark.parametrize("trial", TRIALS, ids=lambda t: t.plant + t.condition)
def test_runs_differ_in_the_part_alone(trial, tmp_path):
    jobs = trial_jobs(trial, 2, tmp_path)
    assert len(jobs) == 2 * (1 + len(trial.off))
    assert len({job.run for job in jobs}) == len(jobs)
    on = configs.to_mapping(configs.parse(Config, jobs[0].recipe))
    for job, keys in zip(jobs[1:], trial.off.values(), strict=False):
        differences = [text.split()[0] for text in configs.differences(on, job.recipe)]
        assert set(differences) == {"run", *(f"model.{key}" for key in keys)}


def test_table():
    entry = {
        "plant": "daily_rhythm",
        "condition": "",
        "model": "sparsectr",
        "part": "hour relation",
        "reachable": 0.9,
        "with": [0.88, 0.86],
        "without": [0.84, 0.85],
    }
    line = _table({"results": [entry]}).splitlines()[-1]
    assert line == (
        "| daily_rhythm | hour relation | .8700 | .8450 | +.0250 | "
        "92.5 % against 86.2 % | +.0400, +.0100 |"
    )
    entry |= {"with": [0.862, 0.862], "without": [0.54, 0.54]}
    line = _table({"results": [entry]}).splitlines()[-1]
    assert "| 90.5 % against 10.0 % |" in line


def test_seeds_are_positive():
    assert main(["bench", "plants", "--seeds", "0"]) == 2
