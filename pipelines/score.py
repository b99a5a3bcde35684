"""Samples → every candidate's probability, by a SavedModel.

Scores the samples of a prepared data set, or those that the listwise job
(`pipelines.listwise`) makes of raw logs first, with the signature `serialized_examples`
by Beam's RunInference. The command is `ctr_tf.commands.batch_score`, which tells what
it writes.
"""

import argparse
import contextlib
import dataclasses
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from ctr_tf.commands.batch_score import parser
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError, check_positive_options
from ctr_tf.schema import Schema
from ctr_tf.schema.texts import FOLDER
from ctr_tf.schema.vocabulary import without_limits
from ctr_tf.time import MAX_TIME
from pipelines import listwise, steps
from pipelines.inference import (
    ExampleModelHandler,
    ReadSamples,
    WriteScoreReport,
    WriteScores,
    to_rows,
)
from pipelines.limits import RejectionLimits
from pipelines.output import Output
from pipelines.publish import WriteRejected
from pipelines.run import run_pipeline
from pipelines.score_manifest import ScoreFile, ScoreManifest
from serving.exported import EXTRA, SCHEMA, find_version, load_content

# Of the output: the scores alone, so that readers of Parquet take it as one table.
FILES = "scores"

_log = logging.getLogger(__name__)


def run(argv: list[str]) -> ScoreManifest:
    """Runs the job.

    Args:
        argv: options of the job and of Beam.

    Returns:
        The manifest of the published scores.

    Raises:
        UserError: for an impossible option, data that do not fit the model, or too
            many rejected samples.
        FileNotFoundError: for a model or data that do not exist.
        FileExistsError: if the output exists.
    """
    started = time.perf_counter()
    options, beam_words = parser().parse_known_args(argv)
    if not any(word.split("=")[0] == "--runner" for word in beam_words):
        beam_words = [*beam_words, "--runner=FnApiRunner"]
    listwise.check_options(beam_words)
    _check(options)
    model = find_version(options.export)
    content = load_content(model)
    schema = content[0]
    output = Output(options.output, options.overwrite)
    samples = _samples(options, beam_words, schema, model)
    with samples as (data, split), output.unfinished() as temporary:
        maps = data.read_as(*content).id_maps
        pipeline = beam.Pipeline(options=PipelineOptions(beam_words))
        build(pipeline, model, data, split, maps, options, temporary)
        run_pipeline(pipeline)
        limits = RejectionLimits(options.max_rejected_fraction)
        manifest = output.finish(ScoreManifest, limits)
    seconds = time.perf_counter() - started
    _log.info(
        "%s samples, %s candidates scored in %.1f s → %s",
        f"{manifest.samples:,}",
        f"{manifest.candidates:,}",
        seconds,
        output.path,
    )
    return manifest


def build(
    pipeline: beam.Pipeline,
    model: Path,
    data: PreparedData,
    split: str,
    maps: Mapping[str, np.ndarray],
    options: argparse.Namespace,
    folder: str,
) -> None:
    """Adds the job's steps to a pipeline.

    Args:
        pipeline: to add to.
        model: folder of a version.
        data: whose samples are scored.
        split: of the data.
        maps: to the model's ids, see `ctr_tf.schema.vocabulary.id_maps`.
        options: of the job.
        folder: where the scores are written.
    """
    schema = data.schema
    samples = (
        pipeline
        | "Files" >> beam.Create(data.files(split))
        | "Spread files" >> beam.Reshuffle()
        | "Read samples"
        >> beam.ParDo(
            ReadSamples(schema, data.vocabularies, maps, data.compression)
        ).with_outputs(*ReadSamples.OUTPUTS, main="samples")
    )
    handler: KeyedModelHandler = KeyedModelHandler(ExampleModelHandler(str(model)))
    files = (
        samples.samples
        | "Spread samples" >> beam.Reshuffle()
        | "Score" >> RunInference(handler)
        | "To rows" >> beam.Map(to_rows, options.num_shards)
    )
    every_shard = [(shard, None) for shard in range(options.num_shards)]
    files = (
        (files, pipeline | "Every shard" >> beam.Create(every_shard))
        | "With empty shards" >> beam.Flatten()
        | "Group by shard" >> beam.GroupByKey()
        | "Write scores"
        >> beam.ParDo(
            WriteScores(f"{folder}/{FILES}", options.num_shards, options.format, schema)
        )
        | "Name by the output" >> beam.Map(_within, FILES)
    )
    rejected = (
        samples.rejected
        | "Key rejected" >> beam.Map(steps.spread, 1)
        | "Group rejected" >> beam.GroupByKey()
        | "Write rejected" >> beam.ParDo(WriteRejected(folder))
    )
    (
        pipeline
        | "Once" >> beam.Create([None])
        | "Write report"
        >> beam.ParDo(
            WriteScoreReport(folder, str(model), options.format),
            files=beam.pvalue.AsList(files),
            rejected=beam.pvalue.AsList(rejected),
        )
    )


def _within(file: ScoreFile, folder: str) -> ScoreFile:
    return dataclasses.replace(file, path=f"{folder}/{file.path}")


@contextlib.contextmanager
def _samples(
    options: argparse.Namespace, beam_words: list[str], schema: Schema, model: Path
) -> Iterator[tuple[PreparedData, str]]:
    """The prepared data and the split to score; raw logs are prepared for as long."""
    if options.data:
        yield PreparedData.load(options.data), options.split
        return
    if schema.all_clicked:
        raise UserError(
            "By the schema's `all_clicked` raw logs hold clicks alone, and nothing to "
            "rank: give candidates as prepared data, `--data`. Received: --input="
            f"{options.input}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        own = Path(temporary) / SCHEMA
        without_limits(schema).save(own)
        words = ["--source", options.source, "--input", options.input]
        words += ["--schema", str(own), "--output", f"{temporary}/data"]
        if schema.texts:
            words += ["--tokenizer", str(model / EXTRA / FOLDER)]
        words += ["--validation_from", str(MAX_TIME - 2), "--test_from"]
        listwise.run(
            [*words, str(MAX_TIME - 1), *beam_words]
        )  # all samples are of one split
        yield PreparedData.load(f"{temporary}/data"), "train"


def _check(options: argparse.Namespace) -> None:
    raw = bool(options.source and options.input)
    if bool(options.data) == raw or bool(options.source) != bool(options.input):
        raise UserError(
            "Give `--data`, or `--source` and `--input`. Received: "
            f"data={options.data}, source={options.source}, input={options.input}"
        )
    check_positive_options(options, "num_shards")
