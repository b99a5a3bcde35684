"""Samples whose scores a new export must give before it is published."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.manifest import SPLITS
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import checked, read_examples
from ctr_tf.data.records import places, record_spec
from ctr_tf.data.text_inputs import TextInputs
from ctr_tf.data.writing import serialize
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import FIRST_ID, ITEM_KEY, OUT_OF_VOCABULARY_ID, Schema
from serving.exported import Exported
from serving.request import request_from_sample, request_to_tensors
from serving.saved_model import Signatures, call, read_meta_graph

_TWICE = "encode_user and score_candidates"
_BLOCK = 32  # samples scored together
# By precision: the same sums in another order, or a stored state rounded, may move a
# probability by so much.
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


def read_samples(data: PreparedData, count: int) -> list[dict]:
    """Some samples that the model was not trained on, where there are any.

    Hashed ids become those of made-up raw values: their own values are not known. Left
    out are samples in which two behaviors differ in values that are unknown alone: the
    export takes them for one. Texts are those that the items' ids lead to.
    """
    split = next((s for s in SPLITS[::-1] if data.num_samples(s)), SPLITS[0])
    examples = read_examples(data.files(split), data.compression)
    samples = []
    for file, index, example in examples:
        sample = data.map_ids(checked(file, index, example, data.schema))
        sample |= _made_up_ids(sample, data)
        sample |= _text_rows(sample, data)
        if data.schema.history_may_tie or not _has_equals(sample, data.schema):
            samples.append(sample)
        if len(samples) == count:
            break
    return samples


def _made_up_ids(sample: dict, data: PreparedData) -> dict[str, np.ndarray]:
    """Hashed ids for which there are raw values, in place of the sample's own."""
    ids = {}
    for group, features in data.schema.groups().items():
        for feature in features:
            if feature.can_decode or feature.is_text:
                continue
            own = sample[f"{group}_{feature.name}"]
            known = np.sort(list(data.vocabularies.made_up(feature)))
            others = known[(own - FIRST_ID) % len(known)]
            ids[f"{group}_{feature.name}"] = np.where(own < FIRST_ID, own, others)
    return ids


def _text_rows(sample: dict, data: PreparedData) -> dict[str, np.ndarray]:
    """The rows of texts that an export finds by the items' raw ids."""
    rows = {}
    item = next(f for f in data.schema.of("item") if f.name == ITEM_KEY)
    for text in data.schema.texts:
        for group in ("behavior", "candidate"):
            ids = sample[f"{group}_{ITEM_KEY}"].tolist()
            items = [item.any_raw(i, data.vocabularies) for i in ids]
            words = pa.array(
                [None if i is None else str(i) for i in items], pa.string()
            )
            rows[f"{group}_{text.name}"] = data.vocabularies.known_texts.rows(words)
    return rows


def _has_equals(sample: dict, schema: Schema) -> bool:
    """Whether two behaviors have one time, one known item and equal features."""
    names = [f.name for f in schema.of("behavior") if not f.computed]
    fields = record_spec(schema)
    columns = [places(sample, fields[f"behavior_{n}"]) for n in (ITEM_KEY, *names)]
    seen = set()
    for time, item, *values in zip(sample["behavior_time"], *columns, strict=True):
        key = str([time, *(np.ravel(value).tolist() for value in (item, *values))])
        if key in seen and int(np.ravel(item)[0]) != OUT_OF_VOCABULARY_ID:
            return True
        seen.add(key)
    return False


def example_request(samples: list[dict], data: PreparedData, candidates: int) -> dict:
    """A request made of real samples: one user's, with many slates' candidates.

    Candidates without an id are left out, unless there are no others.
    """
    requests = (request_from_sample(s, data.schema, data.vocabularies) for s in samples)
    first = next(requests)
    slate: dict[Any, dict] = {}
    for request in itertools.chain([first], requests):
        for candidate in request["candidates"]:
            if candidate["item_id"] is not None:
                slate.setdefault(candidate["item_id"], candidate)
        if len(slate) >= candidates:
            break
    rows = list(slate.values()) or first["candidates"]
    return first | {"candidates": rows[:candidates]}


def model_scores(
    ranker: Ranker, history_length: int, samples: list[dict], data: PreparedData
) -> Iterator[np.ndarray]:
    """The model's own probabilities of each sample's candidates.

    Texts of candidates are read anew, whatever an export has read once.
    """
    texts = data.vocabularies.texts if ranker.reads_texts else None
    reader = BatchReader(
        ranker.schema,
        ranker.num_chunks,
        history_length,
        with_labels=False,
        texts=TextInputs.of_tokens(texts),
    )
    for start in range(0, len(samples), _BLOCK):
        block = samples[start : start + _BLOCK]
        (inputs,) = reader.read(tf.constant([serialize(s) for s in block]))
        logits = ranker(inputs, training=False)[..., 0]
        rows = tf.sigmoid(logits).numpy()
        for row, sample in zip(rows, block, strict=True):
            yield row[: len(sample[f"candidate_{ITEM_KEY}"])]


def served_scores(
    signatures: Signatures, samples: list[dict], data: PreparedData
) -> Iterator[dict[str, np.ndarray]]:
    """An export's probabilities of each sample's candidates, by all ways to ask for it.

    The records themselves, and the raw requests that they came from, in one pass and
    in two.
    """
    for start in range(0, len(samples), _BLOCK):
        block = samples[start : start + _BLOCK]
        records = tf.constant([serialize(sample) for sample in block])
        rows = signatures["serialized_examples"](examples=records)["probability"]
        for row, sample in zip(rows.numpy(), block, strict=True):
            request = request_from_sample(sample, data.schema, data.vocabularies)
            tensors = request_to_tensors(request, data.schema)
            yield {
                "serialized_examples": row[: len(sample[f"candidate_{ITEM_KEY}"])],
                "serving_default": score_once(signatures, tensors)[0],
                _TWICE: score_twice(signatures, tensors)[0],
            }


def check_export(
    folder: str | Path,
    signatures: Signatures,
    ranker: Ranker,
    samples: list[dict],
    data: PreparedData,
) -> float:
    """Compares a reloaded export's scores with the model's own, all ways.

    Args:
        folder: of the export.
        signatures: of the export, reloaded.
        ranker: that was exported.
        samples: to score.
        data: they come from.

    Returns:
        The largest difference of two probabilities.

    Raises:
        RuntimeError: if a score differs by more than the export's tolerance, or a
            plain graph asks for XLA.
    """
    exported = Exported.load(folder)
    compiled = compiled_functions(folder)
    if compiled and not exported.xla:
        raise RuntimeError(
            f"The export in '{folder}' asks for XLA, which TF Serving does not run, in "
            f"{', '.join(compiled)}."
        )
    expected = model_scores(ranker, exported.history_lengths[-1], samples, data)
    worst = 0.0
    for number, (right, found) in enumerate(
        zip(expected, served_scores(signatures, samples, data), strict=True)
    ):
        for way, scores in found.items():
            tolerance = exported.tolerance
            if way == _TWICE:
                tolerance = exported.state_tolerance
            difference = float(np.abs(scores - right).max())
            if not difference <= tolerance:  # NaN is no match either
                raise RuntimeError(
                    f"The export in '{folder}' does not score like the model: {way} "
                    f"differs by {difference} in probability, more than {tolerance}, "
                    f"in sample {number + 1} of {len(samples)}."
                )
            worst = max(worst, difference)
    return worst


def golden_requests(
    ranker: Ranker, history_length: int, samples: list[dict], data: PreparedData
) -> list[dict]:
    """Requests and the probabilities that a right server answers, for `golden.json`."""
    return [
        {
            "request": request_from_sample(sample, data.schema, data.vocabularies),
            "probability": row.tolist(),
        }
        for sample, row in zip(
            samples, model_scores(ranker, history_length, samples, data), strict=True
        )
    ]


def score_once(signatures: Signatures, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Probabilities by `serving_default`."""
    return call(signatures["serving_default"], tensors)["probability"].numpy()


def score_twice(signatures: Signatures, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Probabilities by `encode_user` and then `score_candidates`."""
    state = call(signatures["encode_user"], tensors)
    return call(signatures["score_candidates"], tensors | state)["probability"].numpy()


def compiled_functions(folder: str | Path) -> list[str]:
    """Functions of a SavedModel that ask for XLA; stock TF Serving runs none."""
    graph = read_meta_graph(folder).graph_def
    holders = [(f.signature.name, f.attr) for f in graph.library.function]
    holders += [(node.name, node.attr) for node in graph.node]
    for function in graph.library.function:
        holders += [
            (f"{function.signature.name}/{node.name}", node.attr)
            for node in function.node_def
        ]
    return [
        name
        for name, attributes in holders
        if "_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b
    ]
