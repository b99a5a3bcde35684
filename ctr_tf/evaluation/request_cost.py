"""What one request costs a model: FLOPs and time.

The request is random: cost depends on sizes, not on values. Time is that of the plain
graph from inputs to logits on this machine, the median of many calls after a few.
"""

import statistics
import time

import numpy as np
import tensorflow as tf

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.text_inputs import TextInputs
from ctr_tf.data.writing import serialize
from ctr_tf.evaluation.flops import graph_flops, request_graph
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import Schema
from ctr_tf.schema.vocabulary import Vocabularies
from ctr_tf.synthetic.random_samples import random_sample

_WARM_UP = 3
_CALLS = 50
_SECONDS = 10.0


def random_request(
    schema: Schema,
    vocabularies: Vocabularies,
    num_chunks: int,
    behaviors: int,
    candidates: int,
) -> dict[str, tf.Tensor]:
    """A batch of one random request, its history full."""
    random = np.random.default_rng(0)
    sample = random_sample(schema, vocabularies, random, behaviors, candidates)
    texts = TextInputs.of_tokens(vocabularies.texts)
    reader = BatchReader(schema, num_chunks, behaviors, with_labels=False, texts=texts)
    (inputs,) = reader.read(tf.constant([serialize(sample)]))
    return inputs


def request_cost(ranker: Ranker, inputs: dict[str, tf.Tensor]) -> dict:
    """FLOPs and time of one request.

    Args:
        ranker: `(inputs, training=False)` → logits.
        inputs: of `random_request`.

    Returns:
        `flops`, `latency_ms`, and the request's `behaviors` and `candidates`.
    """
    score = request_graph(ranker, inputs)
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < _WARM_UP + 1 or (
        len(seconds) < _WARM_UP + _CALLS and time.perf_counter() - started < _SECONDS
    ):
        before = time.perf_counter()
        score(inputs).numpy()
        seconds.append(time.perf_counter() - before)
    return {
        "flops": graph_flops(score.graph),
        "latency_ms": 1e3 * statistics.median(seconds[_WARM_UP:]),
        "behaviors": inputs["behavior_time"].shape[1],
        "candidates": inputs["candidate_mask"].shape[1],
    }
