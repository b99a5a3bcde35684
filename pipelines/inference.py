"""Steps of the scoring job: samples in, rows of scores out."""

import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from ctr_tf.data.reading import UnreadableRecordError, read_records
from ctr_tf.data.records import check_example
from ctr_tf.schema import (
    FIRST_ID,
    ITEM_KEY,
    Feature,
    Schema,
)
from ctr_tf.schema.vocabulary import Vocabularies
from ctr_tf.storage import as_path, files
from pipelines.publish import write_report
from pipelines.score_manifest import SampleCounts, ScoreFile, ScoreManifest
from serving.saved_model import load

_COLUMNS = ("request_id", "user_id", "request_time", "candidate", "item_id")


class ReadSamples(beam.DoFn):
    """A record file → (what a row says of its sample, serialized sample).

    Args:
        schema: of the data and of the model.
        vocabularies: of the data.
        maps: see `ctr_tf.schema.vocabulary.id_maps`.
        compression: of the file.
    """

    OUTPUTS = ("rejected",)

    def __init__(
        self,
        schema: Schema,
        vocabularies: Vocabularies,
        maps: Mapping[str, np.ndarray],
        compression: str,
    ):
        self._schema = schema
        self._maps = maps
        self._compression = compression
        self._item = next(f for f in schema.candidate if f.name == ITEM_KEY)
        self._words = _words(self._item, vocabularies)

    def process(self, file: str) -> Iterator:
        """Reads one file."""
        index = 0
        try:
            for record in read_records(file, self._compression):
                yield self._read(record, file, index)
                index += 1
        except UnreadableRecordError as error:  # the rest of the file is lost, too
            yield _rejected("unreadable record file", file, index, str(error))

    def _read(self, record: bytes, file: str, index: int) -> Any:
        try:
            return self._sample(record)
        except Exception as error:  # protobuf has its own for a bad message
            return _rejected("unfit sample", file, index, str(error))

    def _sample(self, record: bytes) -> tuple[tuple, bytes]:
        example = tf.train.Example.FromString(record)
        values = check_example(example, self._schema)
        about = (
            values["request_id"][0].decode(),
            values["user_id"][0].decode(),
            int(values["request_time"][0]),
            [self._words.get(i) for i in values[f"candidate_{ITEM_KEY}"].tolist()],
        )
        for key, ids in self._maps.items():
            field = example.features.feature[key].int64_list
            mapped = ids[np.array(field.value, np.int64)]
            field.value[:] = mapped.tolist()
        return about, example.SerializeToString() if self._maps else record


def _words(feature: Feature, vocabularies: Vocabularies) -> dict[int, int | str]:
    """Id → raw value; none of a hashed feature, which cannot be turned back."""
    if feature.vocabulary_name is None:
        return {}
    words = vocabularies.values(feature.vocabulary_name)
    raw = map(int, words) if feature.dtype == "int64" else words
    return dict(enumerate(raw, FIRST_ID))


def _rejected(reason: str, file: str, index: int, text: str) -> Any:
    line = {"reason": reason, "source": f"{file}: record {index}", "error": text}
    return beam.pvalue.TaggedOutput("rejected", ("samples", json.dumps(line)))


class ExampleModelHandler(ModelHandler[bytes, PredictionResult, tf.Module]):
    """Scores serialized samples with a SavedModel's `serialized_examples`.

    Args:
        model: folder of a version.
    """

    def __init__(self, model: str):
        super().__init__(min_batch_size=16, max_batch_size=64)
        self._model = model

    def load_model(self) -> tf.Module:
        """Loads the SavedModel, once a worker process."""
        return load(self._model)

    def run_inference(
        self,
        batch: Sequence[bytes],
        model: tf.Module,
        inference_args: dict[str, Any] | None = None,
    ) -> Iterator[PredictionResult]:
        """Probabilities of each sample's candidates, padding behind them."""
        score = model.signatures["serialized_examples"]
        probability = score(examples=tf.constant(batch))["probability"].numpy()
        for scores in probability:
            yield PredictionResult(b"", scores)


def to_rows(
    scored: tuple[tuple, PredictionResult], num_shards: int
) -> tuple[int, tuple]:
    """(sample, scores) → its file, and the columns of its rows."""
    about, result = scored
    request_id, user_id, request_time, items = about
    inference: Any = result.inference
    scores = inference[: len(items)].tolist()
    shard = zlib.crc32(f"{user_id}/{request_id}".encode()) % num_shards
    return shard, (request_id, user_id, request_time, items, scores)


class WriteScores(beam.DoFn):
    """(shard, samples with scores) → one file; output: its entry in the manifest.

    Rows are in the order of request time, request, user and candidate.

    Args:
        folder: of the scores in the making.
        num_shards: files.
        format: `"parquet"` or `"jsonl"`.
        schema: of the data.
    """

    def __init__(self, folder: str, num_shards: int, format: str, schema: Schema):
        self._folder = folder
        self._num_shards = num_shards
        self._format = format
        item = next(f for f in schema.candidate if f.name == ITEM_KEY)
        self._item_type = {"int64": pa.int64(), "string": pa.string()}[item.dtype]

    def process(self, keyed: tuple[int, Iterable[tuple | None]]) -> Iterator[ScoreFile]:
        """Writes one file."""
        shard, samples = keyed
        scored = [sample for sample in samples if sample is not None]
        scored.sort(key=lambda sample: (sample[2], sample[0], sample[1]))
        table = self._table(scored)
        if self._format == "parquet":
            stream = io.BytesIO()
            pq.write_table(table, stream)
            content = stream.getvalue()
        else:
            lines = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
            content = "".join(f"{line}\n" for line in lines).encode()
        name = f"part-{shard:05d}-of-{self._num_shards:05d}.{self._format}"
        files.write_bytes(as_path(self._folder) / name, content)
        yield ScoreFile.of(name, len(scored), len(table), content)

    def _table(self, samples: list[tuple]) -> pa.Table:
        sizes = [len(sample[4]) for sample in samples]
        rows = np.repeat(np.arange(len(samples)), sizes)
        strings, int64 = pa.string(), pa.int64()
        columns = {
            name: pc.take(pa.array([s[i] for s in samples], dtype), pa.array(rows))
            for i, (name, dtype) in enumerate(
                [("request_id", strings), ("user_id", strings), ("request_time", int64)]
            )
        }
        columns["candidate"] = pa.array([i for n in sizes for i in range(n)], int64)
        items = [item for sample in samples for item in sample[3]]
        columns[ITEM_KEY] = pa.array(items, self._item_type)
        scores = [score for sample in samples for score in sample[4]]
        columns["probability"] = pa.array(scores, pa.float32())
        return pa.table(columns)


class WriteScoreReport(beam.DoFn):
    """Writes what the manifest is made of; see `pipelines.publish.Output.finish`.

    Args:
        folder: of the scores in the making.
        model: that made them.
        format: of the files.
    """

    def __init__(self, folder: str, model: str, format: str):
        self._folder = folder
        self._model = model
        self._format = format

    def process(self, _: None, files: list[ScoreFile], rejected: list[tuple]) -> None:
        """Writes it."""
        samples = sum(file.samples for file in files)
        reasons = {reason: count for _, reason, count, _ in rejected}
        read = samples + sum(reasons.values())
        manifest = ScoreManifest(
            model=self._model,
            format=self._format,
            samples=samples,
            candidates=sum(file.candidates for file in files),
            events={"samples": SampleCounts(read, samples, reasons)},
            files=tuple(sorted(files, key=lambda file: file.path)),
        )
        write_report(self._folder, manifest, rejected)
