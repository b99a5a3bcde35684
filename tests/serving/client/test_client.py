"""The client against `ctr-tf serve`, over gRPC and REST."""

import copy
import shutil
import threading

import numpy as np
import pytest
from running_server import Server, offline
from small_export import OPTIONS

from serving.client import Client, layout_of
from serving.errors import ServingError
from serving.exported import Exported, find_version
from serving.inputs import user_inputs
from serving.messages import Request
from serving.request import request_to_tensors
from serving.retry import Retry
from serving.state_cache import StateCache

TIMEOUT = 30.0


def address(server, transport):
    return server.grpc if transport == "grpc" else server.rest


@pytest.fixture(scope="module", params=["grpc", "rest"])
def transport(request):
    return request.param


@pytest.fixture
def make_client(server, models, transport):
    clients = []

    def make(**options):
        options = {"model_dir": models, "timeout": TIMEOUT} | options
        clients.append(Client(address(server, transport), "ctr", transport, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_scores_are_those_of_the_saved_model(make_client, requests, expected):
    client = make_client()
    for request, probabilities in zip(requests, expected, strict=True):
        scores = client.score(request)
        assert scores.version == 1 and not scores.from_cache
        assert_close(scores.probability, probabilities)
        assert_close(1 / (1 + np.exp(-scores.logit)), probabilities)


def test_a_large_slate_is_split_and_merged_in_order(make_client, requests, expected):
    client = make_client(max_candidates=7)
    assert_close(client.score(requests[3]).probability, expected[3])  # 30 = 4 x 7 + 2
    assert client.counts["calls"] == 2 + 1 + 5  # status, metadata; state; parts
    cached = make_client(max_candidates=7, cache=StateCache())
    for from_cache in (False, True):
        scores = cached.score(requests[3], user="u")
        assert scores.from_cache == from_cache
        assert_close(scores.probability, expected[3])


def test_the_largest_slate_is_the_exports(make_client):
    assert make_client().max_candidates == OPTIONS.slate_sizes[-1]


def test_a_kept_state_needs_no_history(make_client, requests, expected):
    client = make_client(cache=StateCache())
    fetched = []

    def behaviors():
        fetched.append(True)
        return requests[0]["behaviors"]

    request = Request.from_json(requests[0] | {"behaviors": behaviors})
    for _ in range(3):
        assert_close(client.score(request, user="u").probability, expected[0])
    assert len(fetched) == 1
    assert (client.cache.counts.hits, client.cache.counts.misses) == (2, 1)
    other = client.score(requests[1], user="v")
    assert not other.from_cache
    assert_close(other.probability, expected[1])
    client.forget("u")
    assert not client.score(request, user="u").from_cache
    assert len(fetched) == 2


def test_the_cache_may_be_any_clients(make_client, requests, expected):
    cache = StateCache()
    make_client(cache=cache).score(requests[0], user="u")
    scores = make_client(cache=cache).score(requests[0], user="u")
    assert scores.from_cache
    assert_close(scores.probability, expected[0])


def test_a_client_forgets_before_it_has_asked_anything(make_client, requests):
    cache = StateCache()
    client = make_client(cache=cache)
    client.score(requests[0], user="u")
    client.score(requests[0], user="v")
    make_client(cache=cache).forget("u")
    assert not client.score(requests[0], user="u").from_cache
    assert client.score(requests[0], user="v").from_cache


def test_what_cannot_be_forgotten_is_told(make_client, server, transport):
    make_client().forget("u")  # keeps nothing
    nowhere = "127.0.0.1:9", "ctr", transport
    other = address(server, transport), "other", transport
    for words, status in ((nowhere, "UNAVAILABLE"), (other, "NOT_FOUND")):
        with Client(*words, timeout=5, cache=StateCache()) as client:
            with pytest.raises(ServingError) as error:
                client.forget("u")
            assert error.value.status == status


def test_a_damaged_or_foreign_state_is_refused(make_client, requests, expected):
    cache = StateCache()
    client = make_client(cache=cache)
    client.score(requests[0], user="u")
    good = cache.get("ctr:1:u")
    foreign = good[:12] + bytes([good[12] ^ 1]) + good[13:]
    for number, bad in enumerate((good[:-1], b"nonsense", foreign), start=1):
        cache.put("ctr:1:u", bad)
        scores = client.score(requests[0], user="u")
        assert not scores.from_cache
        assert cache.counts.refused == number
        assert_close(scores.probability, expected[0])
        assert cache.get("ctr:1:u") == good


def test_the_layout_is_learned_from_the_server(make_client, models, requests):
    client = make_client(model_dir=None, cache=StateCache())
    client.score(requests[0], user="u")
    learned, known = client._layouts[1], Exported.load(find_version(models)).state
    assert learned.packed == known.packed
    assert learned.fingerprint == known.fingerprint
    assert client.score(requests[0], user="u").from_cache


def test_layout_of_knows_every_packed_tensor(make_client, requests):
    client = make_client()
    schema = client.schema()
    tensors = request_to_tensors(requests[0], schema)
    inputs = {i.name: tensors[i.name] for i in user_inputs(schema)}
    state, _ = client.transport.predict("encode_user", inputs, TIMEOUT)
    layout = layout_of(state)
    assert len(layout.packed) == len(state) - 1 == 3
    restored = layout.deserialize(layout.serialize(state))
    for name, value in state.items():
        np.testing.assert_array_equal(restored[name], value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["user"].pop("age"), "`user` lacks the feature 'age'"),
        (lambda r: r["user"].update(age="old"), "`user.age` must be a number"),
        (lambda r: r["context"].update(devise="x"), "Did you mean 'device'"),
        (lambda r: r["candidates"][1].update(item_id="x"), r"candidates\[1\].item_id"),
        (lambda r: r["behaviors"][2].update(time=0), r"behaviors\[2\].time"),
        (lambda r: r.update(candidates=[]), "`candidates` must hold at least one"),
        (lambda r: r.update(behaviours=[]), "Did you mean 'behaviors'"),
        (lambda r: r.pop("request_time"), "lacks 'request_time'"),
    ],
)
def test_a_wrong_request_does_not_leave(make_client, requests, change, words):
    client = make_client()
    client.score(requests[0])
    request, calls = copy.deepcopy(requests[0]), client.counts["calls"]
    change(request)
    with pytest.raises(ValueError, match=words):
        client.score(request)
    assert client.counts["calls"] == calls


def test_errors_of_the_server_have_a_status(make_client, server, transport):
    with Client(address(server, transport), "other", transport) as client:
        with pytest.raises(ServingError, match="NOT_FOUND") as error:
            client.version()
        assert error.value.status == "NOT_FOUND"
        assert client.counts["retries"] == 0
    client = make_client()
    with pytest.raises(ServingError) as error:
        client.transport.predict("serving_default", {}, TIMEOUT)
    assert error.value.status == "INVALID_ARGUMENT"
    with pytest.raises(ServingError) as error:
        client.transport.signatures(TIMEOUT, version=77)
    assert error.value.status == "NOT_FOUND"


def test_a_deadline_is_kept(make_client, requests):
    client = make_client()
    client.score(requests[0])
    with pytest.raises(ServingError) as error:
        client.score(requests[0], timeout=1e-4)
    assert error.value.status == "DEADLINE_EXCEEDED"


def test_unavailable_is_tried_again_and_nothing_else_is(transport):
    with Client(
        "127.0.0.1:9", transport=transport, retry=Retry(3, first=0.01), timeout=5
    ) as client:
        with pytest.raises(ServingError) as error:
            client.version()
        assert error.value.status == "UNAVAILABLE"
        assert (client.counts["calls"], client.counts["retries"]) == (3, 2)


def test_a_server_that_comes_late_is_found(models, requests, expected):
    server = Server(models)
    start = threading.Timer(1.0, server.start)
    retry = Retry(attempts=1_000, first=0.1, longest=0.5)
    try:
        with Client(
            server.grpc,
            model_dir=models,
            retry=retry,
            timeout=90,
        ) as client:
            start.start()
            assert_close(client.score(requests[0]).probability, expected[0])
            assert client.counts["retries"] > 0
    finally:
        start.join()
        server.stop()


def test_a_model_of_other_features_is_told(server, models, tmp_path, transport):
    version = find_version(models)
    copied = tmp_path / "1"
    shutil.copytree(version / "assets.extra", copied / "assets.extra")
    shutil.copy(version / "saved_model.pb", copied)
    schema = copied / "assets.extra" / "schema.yaml"
    text = schema.read_text("utf-8")
    schema.write_text(text.replace("name: age", "name: years"), "utf-8")
    with (
        Client(
            address(server, transport), transport=transport, model_dir=copied, timeout=9
        ) as client,
        pytest.raises(ValueError, match="needs `user_age`"),
    ):
        client.schema()


@pytest.mark.long
def test_a_swapped_version_is_encoded_anew(
    models, other_version, requests, tmp_path, expected
):
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    server = Server(folder)
    options = {"model_dir": folder / "1", "cache": StateCache(), "timeout": 30}
    options["version_ttl"] = 600
    server.start()
    try:
        server.wait()
        with (
            Client(server.grpc, **options) as client,
            Client(server.grpc, **options) as late,
        ):
            assert late.version() == 1
            for _ in range(2):
                scores = client.score(requests[0], user="u")
                assert_close(scores.probability, expected[0])
            assert scores.from_cache and scores.version == 1
            shutil.copytree(other_version, folder / "new")
            (folder / "new").rename(folder / "2")
            server.stop()
            server.start()
            server.wait()
            (anew,) = offline(folder / "2", requests[:1])
            assert np.abs(anew - expected[0]).max() > 1e-3
            for from_cache in (False, True):
                scores = client.score(requests[0], user="u")
                assert scores.version == 2 and scores.from_cache == from_cache
                assert_close(scores.probability, anew)
            assert client.counts["version gone"] == 1
            late.forget("u")
            assert not client.score(requests[0], user="u").from_cache
    finally:
        server.stop()
