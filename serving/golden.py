"""Samples whose scores a new export must give before it is published."""

import itertools
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.random_samples import serialize
from ctr_tf.data.records import check_example, read_examples
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import OUT_OF_VOCABULARY_ID
from serving.request import request_from_sample, request_to_tensors

_SPLITS = ("test", "validation", "train")
_NUM_SAMPLES = 8
_POOL = 200  # samples whose candidates the example request may take
_TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}


def read_samples(data: PreparedData, count: int = _POOL) -> list[dict]:
    """Some samples that the model was not trained on, where there are any.

    Hashed ids become unknown ones: they cannot be turned back into raw values.
    """
    split = next((s for s in _SPLITS if data.num_samples(s)), _SPLITS[-1])
    examples = read_examples(data.files(split), data.compression)
    hashed = [
        f"{group}_{feature.name}"
        for group, features in data.schema.groups().items()
        for feature in features
        if feature.hash_buckets is not None
    ]
    samples = []
    for _, _, example in itertools.islice(examples, count):
        sample = check_example(example, data.schema)
        for key in hashed:
            sample[key] = np.full_like(sample[key], OUT_OF_VOCABULARY_ID)
        samples.append(sample)
    return samples


def example_request(samples: list[dict], data: PreparedData, candidates: int) -> dict:
    """A request made of real samples: one user's, with many slates' candidates."""
    requests = (request_from_sample(s, data.schema, data.vocabularies) for s in samples)
    first = next(requests)
    slate = {}
    for request in itertools.chain([first], requests):
        for candidate in request["candidates"]:
            if candidate["item_id"] is not None:
                slate.setdefault(candidate["item_id"], candidate)
        if len(slate) >= candidates:
            break
    return first | {"candidates": list(slate.values())[:candidates]}


def check_export(
    folder: str | Path,
    ranker: Ranker,
    history_length: int,
    samples: list[dict],
    data: PreparedData,
) -> float:
    """Reloads an export and compares its scores with the model's, three ways.

    The model reads the records as in evaluation; the export reads the records, and the
    raw requests that they came from, in one pass and in two.

    Returns:
        The largest difference of two probabilities.

    Raises:
        RuntimeError: if a score differs, or a graph asks for XLA.
    """
    compiled = compiled_functions(folder)
    if compiled:
        raise RuntimeError(
            f"The export in '{folder}' asks for XLA, which TF Serving does not run, in "
            f"{', '.join(compiled)}."
        )
    signatures = tf.saved_model.load(str(folder)).signatures
    samples = samples[:_NUM_SAMPLES]
    records = tf.constant([serialize(sample) for sample in samples])
    reader = BatchReader(
        data.schema, ranker.num_chunks, history_length, with_labels=False
    )
    expected = tf.sigmoid(ranker(reader.read(records)[0], training=False)).numpy()
    found = {
        "serialized_examples": signatures["serialized_examples"](examples=records)[
            "probability"
        ]
    }
    mask = np.zeros(expected.shape, bool)
    for i, sample in enumerate(samples):
        mask[i, : len(sample["label"])] = True
    for name in ("serving_default", "encode_user and score_candidates"):
        found[name] = np.zeros_like(expected)
    for i, sample in enumerate(samples):
        request = request_from_sample(sample, data.schema, data.vocabularies)
        tensors = request_to_tensors(request, data.schema)
        once, twice = score_once(signatures, tensors), score_twice(signatures, tensors)
        found["serving_default"][i, : once.shape[1]] = once[0]
        found["encode_user and score_candidates"][i, : twice.shape[1]] = twice[0]
    tolerance = _TOLERANCE[ranker.compute_dtype]
    differences = {
        name: float(np.abs(scores - expected)[mask].max())
        for name, scores in found.items()
    }
    for name, difference in differences.items():
        if not difference <= tolerance:  # NaN is no match either
            raise RuntimeError(
                f"The export in '{folder}' does not score like the model: {name} "
                f"differs by {difference} in probability, more than {tolerance}."
            )
    return max(differences.values())


def score_once(signatures, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Probabilities by `serving_default`."""
    return call(signatures["serving_default"], tensors)["probability"].numpy()


def score_twice(signatures, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Probabilities by `encode_user` and then `score_candidates`."""
    state = call(signatures["encode_user"], tensors)
    return call(signatures["score_candidates"], tensors | state)["probability"].numpy()


def call(signature, tensors: dict) -> dict[str, tf.Tensor]:
    """Calls a signature with those of the tensors that it takes."""
    specs = signature.structured_input_signature[1]
    return signature(
        **{
            name: tf.convert_to_tensor(tensors[name], spec.dtype)
            for name, spec in specs.items()
        }
    )


def compiled_functions(folder: str | Path) -> list[str]:
    """Functions of a SavedModel that ask for XLA; stock TF Serving runs none."""
    saved = SavedModel()
    saved.ParseFromString((Path(folder) / "saved_model.pb").read_bytes())
    found = []
    for meta_graph in saved.meta_graphs:
        graph = meta_graph.graph_def
        holders = [(f.signature.name, f.attr) for f in graph.library.function]
        holders += [(node.name, node.attr) for node in graph.node]
        for function in graph.library.function:
            holders += [
                (f"{function.signature.name}/{node.name}", node.attr)
                for node in function.node_def
            ]
        found += [
            name
            for name, attributes in holders
            if "_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b
        ]
    return found
