"""`ctr-tf prepare`: raw logs → samples, one `tf.train.Example` an exposure.

```
ctr-tf prepare --source jsonl --input LOGS --output PREPARED
python -m pipelines.listwise --source jsonl --input LOGS --output PREPARED
```

Reads the raw tables of a source (`pipelines/sources`): exposures, and where there are
any behaviors, users and items. Groups exposures into slates, joins each with the user's
behaviors strictly before it (clicked exposures of the log are behaviors, too), counts
what was known of every candidate strictly before the request, builds the vocabularies
from the training period, encodes, splits by request time, and writes

    schema.yaml  vocabularies/<name>.txt  manifest.json  statistics.json
    vocabularies/texts/…                 tokens of the items' texts, where there are any
    train/part-00000-of-00008.tfrecord[.gz]  validation/…  test/…
    rejected/part-00000.jsonl            rows unfit for use: reason, source, row

A click is a 1 in the schema's first label; everything that counts clicks counts those
of the exposures. The samples do not depend on the numbers of parts, nor on the runner
or the order of rows in a file.

Runners. Any of Beam's, with any of its options; workers need this package and a file
system that they share with the submitting process.

    in this process (default)   --runner=FnApiRunner
    two processes               --runner=FnApiRunner
                                --direct_running_mode=multi_processing
                                --direct_num_workers=2
    portable job service        --runner=PortableRunner --job_endpoint=HOST:PORT
                                --environment_type=EXTERNAL
                                --environment_config=HOST:PORT of a worker pool
    Dataflow                    --runner=DataflowRunner --project=… --region=…
                                --temp_location=gs://… --setup_file=./setup.py
    Flink, Spark                --runner=FlinkRunner --flink_master=HOST:PORT
                                --runner=SparkRunner --spark_master_url=…
                                and a worker pool, see docs/engines.md;
                                one that is started for the job on this machine:
                                `ctr-tf engine flink prepare …`, `… engine spark …`

Logs of clicks alone. `--negatives N` draws N items for each, see docs/negatives.md.

Day after day. `--samples_from` and `--samples_until` make samples of one period alone;
earlier events are known to its histories and counters. `--vocabularies EARLIER` keeps
the ids of another data set, or of a run: see docs/daily.md.

A worker holds one part of the users, or of the items, in memory at a time; how many
there are follows from the size of the input, and more `--num_shards` and
`--num_buckets` need less memory.
"""

from typing import Any

from ctr_tf.commands.arguments import Parser


def add_options(parser: Any) -> None:
    """Adds the job's own options, to a parser that may be Beam's."""
    parser.add_argument("--source", help="kind of raw logs, such as jsonl")
    parser.add_argument("--input", help="folder of the raw logs")
    parser.add_argument("--output", help="folder to write; must not exist")
    parser.add_argument("--schema", help="schema file; default: the source's own")
    parser.add_argument(
        "--tokenizer",
        help="tokenizer.json (or its folder) of the language model that is to read "
        "the schema's texts; without one a source's own texts are left out",
    )
    parser.add_argument(
        "--num_shards",
        type=int,
        help="parts that users are hashed to, and files a split; default: by the "
        "size of the input, 8 at least",
    )
    parser.add_argument(
        "--num_buckets",
        type=int,
        help="parts that items, and other values that exposures are counted by, "
        "are hashed to; default: likewise",
    )
    parser.add_argument("--compression", default="none", help="none or gzip")
    parser.add_argument(
        "--max_rejected_fraction",
        type=float,
        default=0.01,
        help="fail, and publish nothing, if more of a table's rows, or of the "
        "clicked exposures, are unfit for use",
    )
    parser.add_argument(
        "--allow_rejected",
        action="append",
        metavar="TABLE[:REASON]=FRACTION",
        help="another fraction; several with commas between, or given again",
    )
    parser.add_argument(
        "--ignore",
        default="",
        help="patterns of names in the input folder that are not read, with commas",
    )
    parser.add_argument(
        "--negatives",
        type=int,
        metavar="N",
        help="draw so many candidates for each clicked exposure, of items that its "
        "user did not take: for logs that tell clicks alone",
    )
    parser.add_argument(
        "--negatives_by",
        help="uniform (default): each that the log has shown before the request is as "
        "likely as any other; popularity: as often as the log shows it next",
    )
    parser.add_argument(
        "--negatives_within",
        metavar="FEATURE",
        help="draw among items that share this feature's value with the clicked one",
    )
    parser.add_argument(
        "--negatives_window",
        help="what a user took within it before or after, such as 30d, is not drawn; "
        "default: all, what the user took at any time before the split's end",
    )
    parser.add_argument("--negatives_seed", type=int, help="of the draws; default: 0")
    for split in ("validation", "test"):
        parser.add_argument(
            f"--{split}_from",
            help=f"begin of the {split}: ISO date-time (UTC) or unix seconds; default: "
            "the source's own, else the latest tenth of the exposures is the test, and "
            "the tenth before it the validation",
        )
        parser.add_argument(
            f"--{split}_days",
            type=float,
            help=f"length of the {split}, instead",
        )
    parser.add_argument(
        "--samples_from",
        help="earlier exposures, likewise told, are history and counters of later "
        "samples, and make none of their own",
    )
    parser.add_argument(
        "--samples_until",
        help="exposures from then on make no samples, and nothing of then is "
        "counted for the vocabularies",
    )
    parser.add_argument(
        "--vocabularies",
        metavar="EARLIER",
        help="a run, or prepared data, whose values keep their ids; new values "
        "follow behind them",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output if it exists"
    )


def parser() -> Parser:
    """The words of the verb, beside those of Beam."""
    parser = Parser("prepare", __doc__, abbreviated=False)
    add_options(parser)
    return parser


def main(argv: list[str]) -> int:
    """Prepares by the command line."""
    parser().parse_known_args(argv)  # which answers `--help`
    from pipelines.listwise import run

    run(argv)
    return 0
