"""Stores of both kinds, empty."""

import pytest
from redis_server import Redis

from ctr_tf.data.prepared import PreparedData


@pytest.fixture(scope="session")
def prepared(world):
    return PreparedData.load(world / "data")


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    redis = Redis(tmp_path_factory.mktemp("redis"))
    redis.start()
    yield redis
    redis.stop()


@pytest.fixture(params=["embedded", "redis"])
def where(request, tmp_path):
    """A folder or a URL, of an empty database each time."""
    if request.param == "embedded":
        yield str(tmp_path / "store")
        return
    import redis as client

    url = request.getfixturevalue("redis").url
    client.Redis.from_url(url).flushdb()
    yield url
