"""Golden requests of an export, asked again before a version serves.

`ctr-tf export` writes requests and their right answers (`assets.extra/golden.json`). A
file that was damaged after that may still load, TensorFlow having no checksum of graphs
and vocabularies, and score wrongly: here it shows. TF Serving does not look.
"""

import json
from pathlib import Path

import numpy as np
from grpc import StatusCode

from ctr_tf.schema import Schema
from serving.exported import EXTRA, GOLDEN, SCHEMA
from serving.request import request_to_tensors
from serving.server.checks import check_inputs, find_signature
from serving.server.errors import ServingError
from serving.server.tensorflow_c import SavedModel

# In probability: far above what another processor's arithmetic changes.
_TOLERANCE = 1e-2


def replay_golden(model: SavedModel, folder: Path) -> int:
    """Compares a model's scores with those of its export.

    Args:
        model: loaded.
        folder: it was loaded from.

    Returns:
        How many requests there were; none in a folder that `ctr-tf export` did not
        write.

    Raises:
        ServingError: DATA_LOSS, if a score differs.
    """
    path = folder / EXTRA / GOLDEN
    if not path.is_file():
        return 0
    schema = Schema.load(folder / EXTRA / SCHEMA)
    signature = find_signature(model, "")
    golden = json.loads(path.read_text("utf-8"))
    for i, item in enumerate(golden):
        tensors = request_to_tensors(item["request"], schema)
        inputs = {name: _with_bytes(array) for name, array in tensors.items()}
        check_inputs(inputs, signature)
        right = np.array(item["probability"])
        found = model.run(signature, inputs)["probability"][0, : len(right)]
        if not np.abs(found - right).max(initial=0) <= _TOLERANCE:  # NaN is no match
            raise ServingError(
                StatusCode.DATA_LOSS,
                f"Request {i} of '{path}' scores {found[:3]}…, and not {right[:3]}…: "
                "the graph, the weights or a vocabulary was changed after the export.",
            )
    return len(golden)


def _with_bytes(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "O":
        return array
    result = np.empty(array.size, object)
    result[:] = [v if isinstance(v, bytes) else v.encode() for v in array.ravel()]
    return result.reshape(array.shape)
