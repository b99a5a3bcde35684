"""An export scored in a JVM, by `examples/java`: the scores are Python's."""

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_export import SCHEMA
from title_reader import SCHEMA as TITLES
from title_reader import export_title_reader, make_title_reader

from ctr_tf.storage import files
from serving.exported import EXTRA, GOLDEN
from serving.golden import score_once
from serving.request import request_to_tensors

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parents[2] / "examples" / "java"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ctr-tf"
LARGE_ID = 2**62 + 1  # no double is equal to it


def program(name):
    path = shutil.which(name)
    if path is None:
        pytest.fail(
            f"The example in Java needs `{name}`, which this machine lacks: "
            "apt-get install openjdk-17-jdk-headless maven"
        )
    return path


@pytest.fixture(scope="module")
def jar(tmp_path_factory):
    """Built as its README says, checksums of what Maven Central serves looked at."""
    program("javac")
    folder = tmp_path_factory.mktemp("java") / "java"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("target"))
    command = [program("mvn"), "--batch-mode", "--quiet", "--strict-checksums"]
    result = subprocess.run(
        [*command, "package"], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return folder / "target" / "score.jar"


@pytest.fixture(scope="module")
def score(jar):
    """Runs the example; returns its status and what it printed to both streams."""

    def run(folder, requests, *options):
        path = jar.parent / "requests.json"
        path.write_text(json.dumps(requests), "utf-8")
        unpacked = f"-Dorg.bytedeco.javacpp.cachedir={CACHE / 'javacpp'}"
        command = [program("java"), unpacked, "-jar", jar, *options, folder, path]
        result = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True
        )
        return result.returncode, result.stdout, result.stderr

    return run


def python_scores(folder, schema, requests):
    model = tf.saved_model.load(str(folder))
    tensors = [request_to_tensors(request, schema) for request in requests]
    return [
        score_once(model.signatures, each)[0, : each["candidate_length"][0]]
        for each in tensors
    ]


def assert_scores(answer, expected):
    status, printed, told = answer
    assert status == 0, told[-3000:]
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [len(line) for line in lines] == [len(row) for row in expected]
    for line, row in zip(lines, expected, strict=True):
        np.testing.assert_allclose(line, row, rtol=0, atol=1e-5)


def golden(folder):
    return files.read_json(folder / EXTRA / GOLDEN)


def odd_requests(folder):
    """Every value unknown, equal and unknown counters, large ids, lists too long."""
    whole = max((item["request"] for item in golden(folder)), key=candidates)
    unknown = copy.deepcopy(whole)
    for group in ("user", "context"):
        unknown[group] = dict.fromkeys(unknown[group])
    for row in [*unknown["behaviors"], *unknown["candidates"]]:
        row |= {key: None for key in row if key != "time"}
    counters = copy.deepcopy(whole)
    for i, row in enumerate(counters["candidates"]):
        row["clicks_1d"] = (7, 7, 0, None, 123, 7, 0)[i % 7]
    alone = copy.deepcopy(counters)
    alone["candidates"] = [{**alone["candidates"][0], "genres": ["genres1"] * 5}]
    alone["candidates"][0]["item_id"] = LARGE_ID
    del alone["behaviors"]
    return [unknown, counters, alone]


def candidates(request):
    return len(request["candidates"])


@pytest.mark.parametrize("options", [(), ("--two_steps",)])
def test_scores_are_pythons(small_export, score, options):
    requests = [item["request"] for item in golden(small_export)]
    right = [item["probability"] for item in golden(small_export)]
    odd = odd_requests(small_export)
    expected = [*right, *python_scores(small_export, SCHEMA, odd)]
    assert len(right) == 6 and min(len(r["behaviors"]) for r in requests) == 0
    assert np.std(np.concatenate(expected)) > 0.05
    assert_scores(score(small_export, [*requests, *odd], *options), expected)


def test_titles_are_the_models_or_brought_along(score, tmp_path):
    folder = export_title_reader(make_title_reader(), tmp_path)
    requests = [item["request"] for item in golden(folder)]
    brought = copy.deepcopy(max(requests, key=lambda r: len(r["behaviors"])))
    brought["behaviors"][0] |= {"item_id": 5, "title": [7, 8]}
    brought["candidates"] += [
        {"item_id": 5, "title": tokens}
        for tokens in ([9], [], None, [4, 5, 6, 7, 8, 9])
    ]
    expected = python_scores(folder, TITLES, [*requests, brought])
    assert len(set(expected[-1][-4:].round(4))) == 3
    assert_scores(score(folder, [*requests, brought]), expected)


WRONG = (
    (("candidates", 0, "price"), "absent", "`candidates[0]` lacks 'price'; give null"),
    (("candidates", 0, "clicks_1d"), "absent", "`candidates[0]` lacks 'clicks_1d'"),
    (("request_time",), "absent", "The request lacks 'request_time'."),
    (("candidates",), [], "`candidates` must hold at least one. Received: []"),
    (("user",), [], "`user` must be {…}. Received: []"),
    (("user", "tags"), "a", '`user.tags` must be a list […]. Received: "a"'),
    (("behaviors", 0, "item_id"), 1.5, "`behavior_item_id` must be whole"),
    (("behaviors", 0, "price"), "1", "`behavior_price` must be a number"),
    (("context", "device"), 1, "`context_device` must be a string. Received: 1"),
    (("request_time",), 1_700_000_000_000, "`request_time` must be"),  # by the graph
)


def test_a_wrong_request_is_refused_alone(small_export, score):
    right = golden(small_export)[0]
    requests = [right["request"]]
    for (*path, key), value, _ in WRONG:
        holder = request = copy.deepcopy(right["request"])
        for step in path:
            holder = holder[step]
        if value == "absent":
            del holder[key]
        else:
            holder[key] = value
        requests.append(request)
    status, printed, told = score(small_export, [*requests, right["request"]])
    assert status == 1, told[-3000:]
    first, *refusals, last = (json.loads(line) for line in printed.splitlines())
    assert first == last and len(first) == len(right["probability"])
    for refusal, (_, _, message) in zip(refusals, WRONG, strict=True):
        assert message in refusal["error"]
