"""The C++ loader without Python TensorFlow gives the scores that Python's gives."""

import json
import subprocess
import sys

import numpy as np
import pytest
from grpc import StatusCode
from live_server import assert_close

from serving.server.errors import ServingError
from serving.server.tensorflow_c import SavedModel

PROGRAM = """
import json, sys
import numpy as np
from serving.server.tensorflow_c import SavedModel
model = SavedModel(sys.argv[1])
signature = model.signatures["serving_default"]
scores = []
for tensors in json.load(sys.stdin):
    inputs = {}
    for name, (dtype, shape, values) in tensors.items():
        if dtype == "object":
            values = [value.encode() for value in values]
        inputs[name] = np.array(values, dtype).reshape(shape)
    scores.append(model.run(signature, inputs)["probability"].tolist())
model.close()
import serving.server.serve  # the whole server
loaded = {name.split(".")[0] for name in sys.modules}
print(json.dumps([
    scores,
    "tensorflow" in sys.modules,
    "tensorflow.python" in sys.modules,
    "keras" in loaded,
    "ctr_tf.models" in sys.modules,
]))
"""


def test_no_python_tensorflow_in_the_process(exports, inputs, expected):
    plain = [
        {
            name: (
                array.dtype.name,
                array.shape,
                [v.decode() if isinstance(v, bytes) else v for v in array.ravel()]
                if array.dtype.kind == "O"
                else array.ravel().tolist(),
            )
            for name, array in tensors.items()
        }
        for tensors in inputs
    ]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(exports / "2")],
        input=json.dumps(plain),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    scores, *loaded = json.loads(result.stdout)
    assert loaded == [False, False, False, False]
    for actual, right in zip(scores, expected[2], strict=True):
        assert_close(actual, right)


def test_errors_have_tensorflows_status(tmp_path, exports, inputs):
    with pytest.raises(ServingError) as error:
        SavedModel(tmp_path)
    assert error.value.code is StatusCode.NOT_FOUND
    model = SavedModel(exports / "1")
    signature = model.signatures["serialized_examples"]
    examples = np.empty(1, object)
    examples[0] = b"no example"
    with pytest.raises(ServingError) as error:
        model.run(signature, {"examples": examples})
    assert error.value.code is StatusCode.INVALID_ARGUMENT
    assert set(model.signatures) == {
        "serving_default",
        "encode_user",
        "score_candidates",
        "serialized_examples",
    }
    model.close()
