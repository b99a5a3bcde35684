"""A client of TF Serving's API that others wrote: what it can talk to is compatible.

It brings protos of its own under the names of TensorFlow's, hence its own process. Its
default version, 0, is another server's word for the latest, so that 1 is asked for.
"""

import importlib.util
import json
import subprocess
import sys

import pytest
from live_server import assert_close, rows

PROGRAM = """
import json, sys
import numpy as np
import ovmsclient
grpc_address, rest_address, plain = json.load(sys.stdin)
inputs = {name: np.array(values, dtype) for name, (dtype, values) in plain.items()}
grpc = ovmsclient.make_grpc_client(grpc_address)
http = ovmsclient.make_http_client(rest_address)
result = {}
for name, client in (("grpc", grpc), ("http", http)):
    errors = {}
    for mistake, call in {
        "model": lambda: client.predict(inputs, "other", 1),
        "version": lambda: client.predict(inputs, "ctr", 7),
        "input": lambda: client.predict({"x": np.zeros(3)}, "ctr", 1),
        "status": lambda: client.get_model_status("ctr", 7),
        "metadata": lambda: client.get_model_metadata("other", 1),
    }.items():
        try:
            call()
            errors[mistake] = ["no error", ""]
        except Exception as error:
            errors[mistake] = [type(error).__name__, str(error)]
    result[name] = {
        "status": client.get_model_status("ctr", 1),
        "metadata": client.get_model_metadata("ctr", 1),
        "scores": client.predict(inputs, "ctr", 1, timeout=60)["probability"].tolist(),
        "errors": errors,
    }
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def found(server, inputs):
    if importlib.util.find_spec("ovmsclient") is None:
        pytest.skip("ovmsclient is not installed (it is one of the test extras)")
    plain = {
        name: (
            "S" if array.dtype.kind == "O" else array.dtype.name,
            values,
        )
        for (name, array), values in zip(
            inputs[0].items(), rows(inputs[0]).values(), strict=True
        )
    }
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([server.grpc, server.rest, plain]),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("door", ["grpc", "http"])
def test_ovmsclient_gets_scores_and_states(found, expected, door):
    assert_close(found[door]["scores"], expected[1][0])
    assert found[door]["status"] == {
        "1": {"state": "AVAILABLE", "error_code": 0, "error_message": ""}
    }


def test_ovmsclient_reads_metadata(found, inputs):
    metadata = found["grpc"]["metadata"]
    assert metadata["model_version"] == 1
    assert metadata["inputs"].keys() == inputs[0].keys()
    assert metadata["inputs"]["user_tags"] == {"shape": [-1, 3], "dtype": "DT_STRING"}
    assert metadata["outputs"]["logit"] == {"shape": [-1, -1], "dtype": "DT_FLOAT"}
    assert found["http"]["metadata"]["model_spec"]["version"] == "1"


@pytest.mark.parametrize("door", ["grpc", "http"])
def test_ovmsclient_understands_errors(found, door):
    errors = found[door]["errors"]
    kinds = {mistake: kind for mistake, (kind, _) in errors.items()}
    assert kinds == {
        "model": "ModelNotFoundError",
        "version": "ModelNotFoundError",
        "input": "InvalidInputError",
        "status": "ModelNotFoundError",
        "metadata": "ModelNotFoundError",
    }
    assert "Specific(other, 1)" in errors["model"][1]
    assert "Could not find version 7 of model ctr" in errors["status"][1]
