"""`assets.extra/tf_serving_warmup_requests`: what a server runs before it serves.

TF Serving replays these records when it loads a version and serves it only if none
fails. There is one for each signature and each size that requests are padded to
(`serving.sizes`), made of real samples; where XLA compiles the graph, also for each
batch size, for it compiles each shape anew.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.records import BEHAVIORS, CANDIDATES, take
from ctr_tf.data.writing import serialize
from ctr_tf.errors import UserError
from ctr_tf.schema import Schema
from serving import inputs as names
from serving.exported import Exported
from serving.request import request_from_sample, request_to_tensors
from serving.saved_model import Signatures, call
from serving.tensors import to_proto

MAX_RECORDS = 1_000  # TF Serving refuses a file with more


def write_warmup(
    path: str | Path,
    signatures: Signatures,
    exported: Exported,
    samples: Sequence[dict],
    data: PreparedData,
) -> int:
    """Writes the records of an export.

    Args:
        path: of the file.
        signatures: of the reloaded export; one makes the states of the records.
        exported: its sizes.
        samples: real ones, to take behaviors and candidates from.
        data: they come from.

    Returns:
        How many records there are.

    Raises:
        UserError: if the sizes need more than TF Serving takes.
    """
    count = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in _requests(signatures, exported, samples, data):
            log = PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())
            count += 1
            if count > MAX_RECORDS:
                raise UserError(
                    f"TF Serving takes at most {MAX_RECORDS:,} warm-up records: choose "
                    "fewer sizes. Received: "
                    f"history_lengths={exported.history_lengths}, "
                    f"slate_sizes={exported.slate_sizes}, "
                    f"batch_sizes={exported.batch_sizes}"
                )
    return count


def _requests(
    signatures: Signatures,
    exported: Exported,
    samples: Sequence[dict],
    data: PreparedData,
) -> Iterator[PredictRequest]:
    def request(signature, tensors):
        result = PredictRequest()
        result.model_spec.name = exported.name
        result.model_spec.signature_name = signature
        for key in signatures[signature].structured_input_signature[1]:
            to_proto(np.asarray(tensors[key]), result.inputs[key])
        return result

    histories, slates = exported.history_lengths, exported.slate_sizes
    sample = _largest_sample(samples, data.schema, histories[-1], slates[-1])
    whole = request_to_tensors(
        request_from_sample(sample, data.schema, data.vocabularies), data.schema
    )
    for batch in exported.batch_sizes if exported.xla else (1,):
        for history in histories:
            tensors = _cut_tensors(whole, history, slates[-1], batch)
            yield request("encode_user", tensors)
        state = call(signatures["encode_user"], tensors)
        for slate in slates:
            tensors = _cut_tensors(whole, histories[-1], slate, batch)
            yield request("score_candidates", tensors | state)
        for history, slate in itertools.product(histories, slates):
            tensors = _cut_tensors(whole, history, slate, batch)
            yield request("serving_default", tensors)
            record = serialize(_cut_sample(sample, data.schema, history, slate))
            examples = np.array([record] * batch, object)
            yield request("serialized_examples", {"examples": examples})


def _largest_sample(
    samples: Sequence[dict], schema: Schema, behaviors: int, candidates: int
) -> dict:
    """The sample with the longest history; places are repeated as needed."""
    longest = dict(max(samples, key=lambda sample: len(sample[names.BEHAVIOR_TIME])))
    for size, key, count in (
        (CANDIDATES, "label", candidates),
        (BEHAVIORS, names.BEHAVIOR_TIME, behaviors),
    ):
        index = np.arange(count) % max(1, len(longest[key]))
        longest = take(longest, schema, size, index)
    time = np.sort(longest[names.BEHAVIOR_TIME])
    before = longest[names.REQUEST_TIME] - np.arange(behaviors, 0, -1)
    longest[names.BEHAVIOR_TIME] = np.where(time > 0, time, before)
    return longest


def _cut_sample(sample: dict, schema: Schema, behaviors: int, candidates: int) -> dict:
    """The latest behaviors and the first candidates."""
    count = len(sample[names.BEHAVIOR_TIME])
    index = np.arange(count - behaviors, count)
    sample = take(sample, schema, BEHAVIORS, index)
    return take(sample, schema, CANDIDATES, np.arange(candidates))


def _cut_tensors(whole: dict, behaviors: int, candidates: int, batch: int) -> dict:
    """As `_cut_sample`, of a request's tensors; and a batch of equal rows."""
    counts = {
        names.BEHAVIOR_LENGTH: behaviors,
        names.CANDIDATE_LENGTH: candidates,
        names.SLATE_SIZE: candidates,
    }
    result = {}
    for key, value in whole.items():
        if key in counts:
            value = np.array([counts[key]])
        elif key.startswith("behavior_"):
            value = value[:, -behaviors:]
        elif key.startswith("candidate_"):
            value = value[:, :candidates]
        result[key] = np.repeat(value, batch, axis=0)
    return result
