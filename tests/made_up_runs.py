"""Runs that are not trained: what they reach is a function of their recipe."""

import json

import yaml

from ctr_tf.compare import jobs


def make_up_runs(monkeypatch, reached):
    """Each run reaches `reached(recipe)` on validation, and fails where that is None.

    Args:
        monkeypatch: of pytest.
        reached: recipe → value.

    Returns:
        Names of the runs that were done, which grows.
    """
    done = []

    def run(job, command, lock):
        for path in (job.recipe_file, job.log, job.run):
            path.parent.mkdir(parents=True, exist_ok=True)
        job.recipe_file.write_text(yaml.safe_dump(job.recipe), "utf-8")
        value = reached(job.recipe)
        done.append(job.name)
        if value is None:
            job.log.write_text("begun\nthe loss is no number\n", "utf-8")
            return 1
        job.run.mkdir()
        content = {"validation": {"auc": value}, "seconds": 12.0}
        (job.run / "metrics.json").write_text(json.dumps(content), "utf-8")
        return 0

    monkeypatch.setattr(jobs, "_run", run)
    return done
