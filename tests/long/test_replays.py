"""Thousands of requests, event by event: every field and score the record's.

`make test-studies` runs them. `make test` replays smaller logs: random ones in
tests/pipelines/test_replay.py, EB-NeRD's in sources/test_real_counters.py.
"""

from pathlib import Path

import pytest
from redis_server import Redis

from ctr_tf.commands.main import main
from ctr_tf.data.prepared import PreparedData
from pipelines.sources.source import get_source
from serving.online.replay import TOLERANCE, model_scores, replay
from serving.online.store import OnlineStore

pytestmark = [pytest.mark.long, pytest.mark.study]
DATA = Path(__file__).parents[3] / "shared" / "data"


def make_run(source, raw, folder):
    """Prepared data and an export of a model that has learned a little."""
    words = ["--source", source, "--input", str(raw), "--output", str(folder / "data")]
    assert main(["prepare", *words]) == 0
    settings = [f"run={folder / 'run'}", f"data.path={folder / 'data'}"]
    settings += ["training.max_steps=20", "training.validate=false"]
    settings += ["model.num_blocks=1"]
    assert main(["train", "--config", f"sparsectr_{source}", *settings]) == 0
    padded = ["--slate_sizes", "10,1000"]
    assert main(["export", "--run", str(folder / "run"), *padded]) == 0
    return PreparedData.load(folder / "data"), folder / "run" / "export"


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    sizes = ["--users=500", "--requests_per_user=8", "--behaviors_per_user=100"]
    assert main(["synthesize", "--output", str(folder / "raw"), *sizes]) == 0
    return folder / "raw", *make_run("synthetic", folder / "raw", folder)


def check(source, raw, data, model, where, most=None):
    store = OnlineStore.open(where, data.schema, sync=False)
    score = model_scores(model)
    result = replay(get_source(source), str(raw), data, store, score, most)
    store.close()
    assert result.scored == result.requests
    assert result.largest <= TOLERANCE
    return result.requests


def test_synthetic_logs(synthetic, tmp_path):
    raw, data, model = synthetic
    requests = check("synthetic", raw, data, model, tmp_path / "store")
    assert requests == sum(data.num_samples(split) for split in data.splits) > 3_500


def test_synthetic_logs_with_redis(synthetic, tmp_path):
    raw, data, model = synthetic
    redis = Redis(tmp_path)
    redis.start()
    try:
        assert check("synthetic", raw, data, model, redis.url, 1_000) == 1_000
    finally:
        redis.stop()


@pytest.mark.parametrize("source", ["kuairand", "ebnerd"])
def test_real_logs(source, tmp_path):
    raw = DATA / source
    if not raw.is_dir():
        pytest.skip(f"the real data set '{source}' is not at ../shared/data/{source}")
    data, model = make_run(source, raw, tmp_path)
    most = min(1_500, sum(data.num_samples(split) for split in data.splits))
    found = check(source, raw, data, model, tmp_path / "store", most)
    assert found == most > 1_000
