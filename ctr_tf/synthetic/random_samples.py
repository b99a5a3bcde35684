"""Random samples of any schema, for benchmarks and tests: nothing to learn here.

Everything that follows from something else does: hour, weekend, chunks, slate size,
places within the slate.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ctr_tf import time as times
from ctr_tf.data.manifest import MANIFEST, Counts, Manifest, Split
from ctr_tf.data.record_files import file_name
from ctr_tf.data.records import record_spec
from ctr_tf.data.writing import Samples, write_records
from ctr_tf.schema import FIRST_ID, Schema
from ctr_tf.schema.texts import Texts
from ctr_tf.schema.vocabulary import Vocabularies, content_digests, content_hash
from ctr_tf.storage import as_path

LAST_TIME = 1_700_000_000
_RANDOM_WORDS = 100  # of made-up texts
_SPECIAL = ("[PAD]", "[UNK]", "[unused1]")

Sample = Mapping[str, np.ndarray]


def random_vocabularies(schema: Schema, size: int) -> Vocabularies:
    """Vocabularies of `size` made-up values each, and texts where there are any."""
    values = {}
    for name, features in schema.vocabularies().items():
        numbers = all(feature.dtype == "int64" for feature in features)
        start = 1_000
        values[name] = [
            str(start + i) if numbers else f"{name} {i}" for i in range(size)
        ]
    return Vocabularies(values, _random_texts(schema, size))


def _random_texts(schema: Schema, items: int) -> Texts | None:
    """Of no token up to all that fit, for the items of their vocabulary and another."""
    if not schema.texts:
        return None
    random = np.random.default_rng(items)
    words = [*_SPECIAL, *(f"word{i}" for i in range(_RANDOM_WORDS))]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": vocabulary},
    }
    tables = {}
    for feature in schema.texts:
        shape = (FIRST_ID + items + 1, feature.length)
        lengths = random.integers(0, feature.length + 1, shape[0])
        lengths[:FIRST_ID] = 0
        table = random.integers(len(_SPECIAL), len(words), shape)
        table[np.arange(feature.length) >= lengths[:, None]] = 0
        tables[feature.name] = table.astype(np.int32)
    ids = [str(1_000 + item) for item in range(items + 1)]
    return Texts(json.dumps(tokenizer), ids, tables)


def random_sample(
    schema: Schema,
    vocabularies: Vocabularies,
    random: np.random.Generator,
    behaviors: int,
    candidates: int,
) -> dict[str, np.ndarray]:
    """One sample: record key → values, of every key there is.

    Args:
        schema: of the data.
        vocabularies: whose ids the categorical features take.
        random: source of everything.
        behaviors: of the history.
        candidates: of the slate.
    """
    request_time = LAST_TIME - int(random.integers(0, 30 * times.DAY))
    gaps = random.exponential(size=behaviors) * 10.0 ** random.uniform(0, 5, behaviors)
    behavior_time = request_time - 1 - np.cumsum(gaps.astype(np.int64))[::-1]
    sizes: dict[int | str, int] = {"behaviors": behaviors, "candidates": candidates}
    sample: dict[str, np.ndarray] = {}
    for key, field in record_spec(schema).items():
        size = int(sizes.get(field.size, field.size))
        if field.at_most:
            size = int(random.integers(0, size + 1))
        if field.length > 1:
            lengths = random.integers(0, field.length + 1, size)
            sample[field.length_key] = lengths
            size = int(lengths.sum())
        if field.feature is not None:
            sample[key] = field.feature.random(random, size, vocabularies)
        elif field.dtype == "float32":
            sample[key] = random.random(size).astype(np.float32)
    label_keys = [key for key in sample if key.startswith("label")]
    for key in label_keys:
        sample[key] = (sample["true_probability"] > random.random(candidates)).astype(
            np.float32
        )
    offset = schema.zone
    chunk = times.chunk_ids(
        behavior_time[None], np.ones((1, behaviors), bool), schema.num_chunks
    )
    for place in schema.computed.places:
        counts = sample[f"candidate_{place.of}"]
        for name, values in place.values(counts, np.zeros(1, np.int64)).items():
            sample[f"candidate_{name}"] = values
    if schema.computed.slate_size:
        sample["context_slate_size"] = np.array([candidates])
    return sample | {
        "request_id": np.array([b"r%d" % random.integers(2**60)], object),
        "user_id": np.array([b"u%d" % random.integers(100)], object),
        "request_time": np.array([request_time]),
        "behavior_time": behavior_time,
        "behavior_chunk": chunk[0],
        "behavior_hour": times.hour_of_day(behavior_time, offset),
        "behavior_weekend": times.is_weekend(behavior_time, offset),
        "context_hour": times.hour_of_day(np.array([request_time]), offset),
        "context_weekend": times.is_weekend(np.array([request_time]), offset),
    }


def write_prepared(
    folder: str | Path,
    schema: Schema,
    vocabularies: Vocabularies,
    splits: Mapping[str, Sequence[Sample]],
    shards: int = 2,
    compression: str = "none",
) -> None:
    """Writes a prepared data set of these samples.

    Args:
        folder: to write to.
        schema: of the samples.
        vocabularies: of the samples.
        splits: split → samples.
        shards: files a split; sample i goes to file i % shards.
        compression: a key of `ctr_tf.data.record_files.COMPRESSIONS`.
    """
    folder = as_path(folder)
    files = []
    for split, samples in splits.items():
        for shard in range(shards):
            name = file_name(split, shard, shards, compression)
            blocks = [Samples.of(samples[shard::shards])]
            files.append(write_records(folder, name, blocks, compression))
    schema.save(folder / "schema.yaml")
    vocabularies.save(folder / "vocabularies")
    manifest = Manifest(
        name=schema.name,
        compression=compression,
        content_hash=content_hash(schema, vocabularies),
        content=content_digests(schema, vocabularies),
        events={},
        clicks=Counts(0, 0),
        out_of_vocabulary={},
        joins={},
        splits={split: _count(samples) for split, samples in splits.items()},
        files=tuple(files),
    )
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")


def _count(samples: Sequence[Sample]) -> Split:
    slates = [len(sample["label"]) for sample in samples]
    moments = [int(sample["request_time"][0]) for sample in samples]
    return Split(
        samples=len(samples),
        candidates=sum(slates),
        max_candidates=max(slates, default=0),
        clicks=sum(int(sample["label"].sum()) for sample in samples),
        behaviors=sum(len(sample["behavior_time"]) for sample in samples),
        begins=None,
        time_range=(min(moments), max(moments)) if moments else None,
    )
