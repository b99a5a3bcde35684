"""The listwise job: raw logs → samples, one `tf.train.Example` an exposure.

Reads the raw tables of a source (`pipelines/sources`): exposures, and where there are
any behaviors, users and items. Groups exposures into slates, joins each with the user's
behaviors strictly before it (clicked exposures of the log are behaviors, too), counts
what was known of every candidate strictly before the request, builds the vocabularies
from the training period, encodes, splits by request time, and writes. The command is
`ctr_tf.commands.prepare`, which tells what.
"""

import argparse
import logging
import sys
import time
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from ctr_tf.commands.prepare import add_options, parser
from ctr_tf.data.manifest import Manifest
from ctr_tf.data.negatives import Negatives
from ctr_tf.data.record_files import COMPRESSIONS
from ctr_tf.errors import UserError, check_positive_options, unknown_name
from ctr_tf.schema import Schema
from ctr_tf.storage import as_path, check_store
from ctr_tf.time import MAX_TIME
from pipelines import steps
from pipelines.earlier import find_vocabularies
from pipelines.engines.options import OF_RUNNERS
from pipelines.joins import check_joins
from pipelines.limits import RejectionLimits
from pipelines.negatives import check_negatives
from pipelines.output import WORK, Output
from pipelines.parts import Parts
from pipelines.pool import WritePool, add_pools
from pipelines.publish import WriteRejected, WriteReport
from pipelines.run import run_pipeline
from pipelines.sources.source import EVENTS, TABLES, Source, get_source
from pipelines.sources.unread import check_all_read
from pipelines.splits import Period, SplitRule, date_of, parse_time
from pipelines.summary import empty_splits, folder_notes, summary
from pipelines.texts import WriteTexts, check_texts, read_tokenizer
from pipelines.vocabulary import BuildVocabularies

_log = logging.getLogger(__name__)
_REJECTED_FILES = 8


class ListwiseOptions(PipelineOptions):
    """Options of the listwise job."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        add_options(parser)


def run(argv: list[str]) -> Manifest:
    """Runs the job.

    Args:
        argv: options of the job (`ListwiseOptions`) and of Beam.

    Returns:
        The manifest of the published data set.

    Raises:
        UserError: for an impossible option, too many rejected rows, or a table of which
            no row fits any other.
        FileNotFoundError: for raw files that do not exist.
        FileExistsError: if the output exists.
    """
    started = time.perf_counter()
    if not any(word.split("=")[0] == "--runner" for word in argv):
        argv = [*argv, "--runner=FnApiRunner"]
    check_options(argv)
    beam_options = PipelineOptions(argv)
    options = beam_options.view_as(ListwiseOptions)
    source = get_source(_required(options, "source"))
    folder = _required(options, "input")
    output = Output(_required(options, "output"), options.overwrite)
    for name in ("num_shards", "num_buckets"):
        if getattr(options, name) is not None:
            check_positive_options(options, name)
    if options.compression not in COMPRESSIONS:
        raise UserError(
            f"`--compression` must be {' or '.join(map(repr, COMPRESSIONS))}. "
            f"Received: {options.compression!r}"
        )
    schema = _load_schema(options, source, folder)
    rule = _split_rule(options, source)
    earlier = None
    if options.vocabularies is not None:
        earlier = find_vocabularies(options.vocabularies, schema)
    limits = RejectionLimits.parse(
        options.max_rejected_fraction, options.allow_rejected, TABLES
    )
    source.since = rule.period.first_known(schema)
    shards = source.shards(folder, schema)
    negatives = _negatives(options)
    check_negatives(negatives, schema, shards)
    check_texts(schema, shards, options.tokenizer)
    tokenizer = read_tokenizer(options.tokenizer) if schema.texts else ""
    ignored = check_all_read(source, folder, shards, options.ignore)
    old = [shard for shard in shards if shard.is_old]
    shards = [shard for shard in shards if not shard.is_old]
    _log.info(
        "Reading %d shards of %s by source '%s'", len(shards), folder, source.name
    )
    for table in EVENTS:
        if since := source.reads_from(table):
            _log.info(
                "No sample knows of %s before %s: they are passed over, and %d files "
                "of them in folders of such days are not opened",
                *(table, date_of(since), sum(shard.table == table for shard in old)),
            )
    if source.since and not source.reads_from("exposures"):
        _log.info("All exposures are read: a click of any of them may be known late")
    with output.unfinished() as temporary:
        pipeline = beam.Pipeline(options=beam_options)
        build(
            *(pipeline, source, schema, shards, rule, options, tokenizer, temporary),
            earlier,
            negatives,
        )
        run_pipeline(pipeline)
        manifest = output.finish(Manifest, limits)
    seconds = time.perf_counter() - started
    notes = folder_notes(ignored, shards)
    if rule.period.stop is None:  # of a period, what follows it may be empty
        notes += empty_splits(manifest, rule.meant_empty)
    _log.info("%s", summary(manifest, notes, seconds, output.path))
    return manifest


def build(
    pipeline: beam.Pipeline,
    source: Source,
    schema: Schema,
    shards: list,
    rule: SplitRule,
    options: ListwiseOptions,
    tokenizer: str,
    folder: str,
    earlier: str | None = None,
    negatives: Negatives | None = None,
) -> None:
    """Adds the job's steps to a pipeline.

    Args:
        pipeline: to add to.
        source: of the raw logs.
        schema: of the data set.
        shards: of the source, to be read.
        rule: of the splits.
        options: of the job.
        tokenizer: text of the `tokenizer.json`, where the schema has texts.
        folder: where the data set is written.
        earlier: folder of vocabularies whose values keep their ids.
        negatives: what is drawn beside the candidates of the log, if anything.
    """
    parts = Parts.of(shards, options.num_shards, options.num_buckets)
    work = str(as_path(folder) / WORK)
    has_users = any(shard.table == "users" for shard in shards)
    end = MAX_TIME if rule.period.stop is None else rule.period.stop
    once = pipeline | "Once" >> beam.Impulse()
    raw = (
        once
        | "Shards" >> beam.FlatMap(lambda _: enumerate(shards))
        | "Spread shards" >> beam.Reshuffle()
        | "Read and validate"
        >> beam.ParDo(
            steps.ReadShard(source, schema, parts, None if negatives is None else end)
        ).with_outputs(*steps.ReadShard.OUTPUTS)
    )
    days = raw.times | "Times by day" >> beam.CombinePerKey(steps.add_times)
    starts = beam.pvalue.AsSingleton(
        once
        | "Find splits"
        >> beam.Map(
            steps.find_starts,
            days=beam.pvalue.AsList(days),
            rule=rule,
            since=source.reads_from("exposures"),
        )
    )
    items = (
        raw["items"]
        | "Group items" >> beam.GroupByKey()
        | "Merge items"
        >> beam.ParDo(steps.MergeItems(schema, work)).with_outputs(
            *steps.MergeItems.OUTPUTS, main="merged"
        )
    )
    texts = items.texts | "Tokenize" >> beam.ParDo(
        WriteTexts(folder, schema, tokenizer)
    ).with_outputs(*WriteTexts.OUTPUTS, main="files")
    pool: Any = ""
    counted = [raw.counts, items.counts, texts.counts]
    if negatives is not None:
        pools = (
            raw.pool
            | "Add pools" >> beam.CombineGlobally(add_pools)
            | "Write pool"
            >> beam.ParDo(
                WritePool(work, negatives, schema),
                items=beam.pvalue.AsList(items.merged),
            ).with_outputs(*WritePool.OUTPUTS, main="path")
        )
        pool = beam.pvalue.AsSingleton(pools.path)
        counted.append(pools.counts)
    histories = (
        {name: raw[name] for name in steps.BY_USER}
        | "Group by user" >> beam.CoGroupByKey()
        | "Build histories"
        >> beam.ParDo(
            steps.BuildHistories(schema, parts, work, has_users, negatives, end),
            items=beam.pvalue.AsList(items.merged),
            starts=starts,
            pool=pool,
        ).with_outputs(*steps.BuildHistories.OUTPUTS, main="buckets")
    )
    fits = beam.pvalue.AsList(
        once
        | "Check joins"
        >> beam.Map(
            check_joins,
            counts=histories.counts
            | "Add counts of histories"
            >> beam.CombineGlobally(steps.add_counts).as_singleton_view(),
            ids=beam.pvalue.AsList(raw.ids),
        )
    )
    counters = (
        histories.events
        | "Group by key" >> beam.GroupByKey()
        | "Count events" >> beam.ParDo(steps.CountEvents(schema), fits=fits)
    )
    vocabularies = beam.pvalue.AsList(
        histories.vocabulary
        | "Build vocabularies" >> BuildVocabularies(folder, work, schema, earlier)
    )
    every = once | "Every shard" >> beam.FlatMap(
        lambda _: [(number, b"") for number in range(parts.users)]
    )
    samples = (
        {"buckets": histories.buckets, "counters": counters, "every": every}
        | "Bring counters home" >> beam.CoGroupByKey()
        | "Write samples"
        >> beam.ParDo(
            steps.WriteSamples(
                folder, schema, parts.users, options.compression, rule.period
            ),
            vocabularies=vocabularies,
            starts=starts,
            fits=fits,
        ).with_outputs(*steps.WriteSamples.OUTPUTS, main="files")
    )
    rejected = (
        (raw.rejected, items.rejected, histories.rejected)
        | "All rejected" >> beam.Flatten()
        | "Key rejected" >> beam.Map(steps.spread, _REJECTED_FILES)
        | "Group rejected" >> beam.GroupByKey()
        | "Write rejected" >> beam.ParDo(WriteRejected(folder))
    )
    counts = (
        (*counted, histories.counts)
        | "All counts" >> beam.Flatten()
        | "Add counts" >> beam.CombineGlobally(steps.add_counts).as_singleton_view()
    )
    statistics = (
        samples.statistics
        | "Add statistics"
        >> beam.CombineGlobally(steps.add_statistics).as_singleton_view()
    )
    once | "Write report" >> beam.ParDo(
        WriteReport(folder, schema, options.compression, rule.period.start, negatives),
        starts=starts,
        vocabularies=vocabularies,
        counts=counts,
        statistics=statistics,
        rejected=beam.pvalue.AsList(rejected),
        files=beam.pvalue.AsList(samples.files),
        texts=beam.pvalue.AsList(texts.files),
    )


def check_options(argv: list[str]) -> None:
    """Beam itself passes over options that it does not know.

    Args:
        argv: options of the job, of Beam, and of the runner's engine.

    Raises:
        UserError: for an option that is none of these, with the nearest known one.
    """
    parser: Any = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    parsed, left = parser.parse_known_args(argv)
    of_the_engine = OF_RUNNERS.get(parsed.runner, frozenset())
    known = [name for name in parser._option_string_actions if name[:2] == "--"]
    for word in left:
        name = word.split("=")[0]
        if not name.startswith("--") or name in of_the_engine:
            continue
        runners = [runner for runner, names in OF_RUNNERS.items() if name in names]
        if runners:
            raise UserError(
                f"`{name}` is an option of {' and '.join(runners)}. "
                f"Received: --runner={parsed.runner}"
            )
        raise UserError(unknown_name("option", name, [*known, *of_the_engine]))


def _required(options: ListwiseOptions, name: str) -> str:
    value = getattr(options, name)
    if not value:
        raise UserError(f"The listwise job needs `--{name}`. Received: {value!r}")
    return value


def _load_schema(options: ListwiseOptions, source: Source, folder: str) -> Schema:
    if options.schema:
        return Schema.load(options.schema)
    own = check_store(folder) / "schema.yaml"
    if own.is_file():
        return Schema.load(own)
    schema = source.schema(folder)
    if options.tokenizer is None and schema.texts:
        _log.info(
            "The texts of the source's schema, %s, are left out: they need the "
            "tokenizer of a language model (`--tokenizer`).",
            ", ".join(feature.name for feature in schema.texts),
        )
        return schema.without_texts()
    return schema


def _negatives(options: ListwiseOptions) -> Negatives | None:
    """What is to be drawn; raises UserError for its options without `--negatives`."""
    given = {
        name: value
        for name in ("by", "within", "window", "seed")
        if (value := getattr(options, f"negatives_{name}")) is not None
    }
    if options.negatives is None:
        if given:
            raise UserError(
                "How candidates are drawn needs `--negatives` N, how many. Received: "
                + ", ".join(f"--negatives_{name}={v}" for name, v in given.items())
            )
        return None
    return Negatives(options.negatives, **given)


def _split_rule(options: ListwiseOptions, source: Source) -> SplitRule:
    names = ("validation_from", "test_from", "samples_from", "samples_until")
    times = {
        name: None if text is None else parse_time(name, text)
        for name in names
        for text in [getattr(options, name)]
    }
    return SplitRule(
        source.default_split,
        times["validation_from"],
        times["test_from"],
        options.validation_days,
        options.test_days,
        Period(times["samples_from"], times["samples_until"]),
    )


if __name__ == "__main__":
    # Not by `ctr-tf prepare`, which would import this module once more.
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s  %(message)s", force=True
    )
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    parser().parse_known_args(sys.argv[1:])  # which answers `--help`
    run(sys.argv[1:])
