"""Caches of states: least recently used in memory, and a real Redis."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from redis_server import Redis
from running_server import SECONDS

from serving.client import Client
from serving.state_cache import RedisStateCache, StateCache


def test_the_state_used_longest_ago_goes_first():
    cache = StateCache(capacity=30)
    for key in "abc":
        cache.put(key, key.encode() * 10)
    assert cache.get("a") == b"a" * 10
    cache.put("d", b"d" * 10)
    assert cache.get("b") is None
    assert [cache.get(key) is not None for key in "acd"] == [True] * 3
    cache.put("a", b"A" * 5)  # replaces, and counts its bytes once
    cache.put("e", b"e" * 5)
    assert len(cache) == 4
    cache.put("huge", b"x" * 31)
    assert len(cache) == 0


@pytest.fixture
def clock(monkeypatch):
    """Seconds, a list of one, that pass for caches when a test says so."""
    now = [1_000.0]
    monkeypatch.setattr(
        "serving.state_cache.time", SimpleNamespace(monotonic=lambda: now[0])
    )
    return now


def test_a_state_grows_old(clock):
    cache = StateCache(ttl=0.05)
    cache.put("a", b"a")
    clock[0] += 0.04
    assert cache.get("a") == b"a"
    clock[0] += 0.02
    assert cache.get("a") is None
    assert (cache.counts.hits, cache.counts.misses) == (1, 1)
    with pytest.raises(ValueError, match="`ttl` must be positive. Received: 0"):
        StateCache(ttl=0)


@pytest.fixture
def redis(tmp_path):
    redis = Redis(tmp_path)
    redis.start()
    yield redis
    redis.stop()


def test_redis_keeps_bytes_for_a_while(redis):
    cache = RedisStateCache(redis.url, timeout=SECONDS)
    other = RedisStateCache(redis.url, timeout=SECONDS)
    short = RedisStateCache(redis.url, ttl=0.2, timeout=SECONDS)
    assert cache.get("a") is None
    state = bytes(range(256)) * 100
    cache.put("a", state)
    assert other.get("a") == state
    short.put("a", state)
    deadline = time.monotonic() + SECONDS
    while other.get("a") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cache.put("b", state)
    cache.delete("b")
    assert cache.get("b") is None
    assert (cache.counts.misses, cache.counts.errors) == (2, 0)


def test_clients_share_states_in_redis(redis, server, models, requests, expected):
    def client():
        cache = RedisStateCache(redis.url, timeout=SECONDS)
        return Client(server.grpc, model_dir=models, cache=cache, timeout=30)

    for from_cache in (False, True):
        with client() as one:
            scores = one.score(requests[0], user="u")
        assert scores.from_cache == from_cache
        np.testing.assert_allclose(
            scores.probability, expected[0], rtol=1e-5, atol=1e-6
        )


def test_without_redis_the_client_goes_without(
    redis, server, models, requests, expected, caplog, clock
):
    cache = RedisStateCache(redis.url, timeout=SECONDS, pause=0.3)
    with Client(server.grpc, model_dir=models, cache=cache, timeout=30) as client:

        def score():
            scores = client.score(requests[0], user="u")
            np.testing.assert_allclose(
                scores.probability, expected[0], rtol=1e-5, atol=1e-6
            )
            return scores.from_cache

        assert [score(), score()] == [False, True]
        redis.stop()
        assert [score(), score()] == [False, False]
        assert cache.counts.errors == 4  # two look-ups, two states to keep
        assert len(caplog.records) == 1  # the pause: only the first was tried
        redis.start()
        assert not score()  # the pause is not over
        clock[0] += 0.3
        assert [score(), score()] == [False, True]
        assert cache.counts.errors == 6
