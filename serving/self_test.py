"""What an export brings along to be tried with, asked before it serves.

`assets.extra/tf_serving_warmup_requests` holds requests, one for each signature and
size, and `golden.json` requests with their right answers. A file that was damaged after
the export may still load, TensorFlow having no checksum of graphs and vocabularies, and
score wrongly: here it shows. TF Serving runs the warm-up requests, and looks at no
answer.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from ctr_tf.data.reading import UnreadableRecordError, read_records
from ctr_tf.schema import Schema
from ctr_tf.storage import as_path, files
from serving.exported import EXTRA, GOLDEN, SCHEMA
from serving.received_tensors import from_proto
from serving.request import request_to_tensors
from serving.saved_model import Signatures, call, own_words

# In probability: far above what another processor's arithmetic changes.
_TOLERANCE = 1e-2


def read_warmup(path: str | Path) -> Iterator[PredictRequest]:
    """The requests of a warm-up file.

    Raises:
        RuntimeError: if the file is damaged.
    """
    try:
        for record in read_records(str(path), "none"):
            yield PredictionLog.FromString(record).predict_log.request
    except (UnreadableRecordError, DecodeError) as error:
        raise RuntimeError(f"Warm-up file '{path}' is damaged: {error}") from error


def replay_warmup(path: str | Path, signatures: Signatures) -> int:
    """Runs every warm-up request as a server does when it loads a version.

    Args:
        path: of the warm-up file.
        signatures: of the version, by `tf.saved_model.load`.

    Returns:
        How many there are.

    Raises:
        RuntimeError: names the record that fails.
    """
    count = 0
    for count, request in enumerate(read_warmup(path), start=1):
        name = request.model_spec.signature_name
        try:
            inputs = {key: from_proto(key, v) for key, v in request.inputs.items()}
            signatures[name](**inputs)
        except (KeyError, TypeError, OSError, tf.errors.OpError) as error:
            raise RuntimeError(
                f"Warm-up record {count} of '{path}', for {name}, fails: "
                f"{own_words(str(error))}"
            ) from error
    return count


def replay_golden(folder: str | Path, signatures: Signatures) -> int:
    """Compares a model's scores with those of its export.

    Args:
        folder: of the version, as `ctr-tf export` wrote it.
        signatures: of it, by `tf.saved_model.load`.

    Returns:
        How many requests there were.

    Raises:
        RuntimeError: if a score differs.
    """
    path = as_path(folder) / EXTRA / GOLDEN
    schema = Schema.load(as_path(folder) / EXTRA / SCHEMA)
    golden = files.read_json(path)
    for i, item in enumerate(golden):
        tensors = request_to_tensors(item["request"], schema)
        right = np.array(item["probability"])
        outputs = call(signatures["serving_default"], tensors)
        found = outputs["probability"].numpy()[0, : len(right)]
        if not np.abs(found - right).max(initial=0) <= _TOLERANCE:  # NaN is no match
            raise RuntimeError(
                f"Request {i} of '{path}' scores {found[:3]}…, and not {right[:3]}…: "
                "the graph, the weights or a vocabulary was changed after the export."
            )
    return len(golden)
