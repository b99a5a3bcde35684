"""`ctr-tf batch-score`: samples → every candidate's probability, by a SavedModel.

```
ctr-tf batch-score --export EXPORT --data DATA --split test --output SCORES
ctr-tf batch-score --export EXPORT --source jsonl --input LOGS --output SCORES
```

Scores the samples of a prepared data set, or those that the listwise job
(`pipelines.listwise`) makes of raw logs first, with the signature `serialized_examples`
by Beam's RunInference, and writes

    scores/part-00000-of-00004.parquet | .jsonl    request_id, user_id, request_time,
                                                   candidate, item_id, probability
    rejected/part-00000.jsonl                      samples without scores, and why
    manifest.json                                  counts, model, files, their SHA-256

The folder `scores` is one table: `pyarrow.parquet.read_table("SCORES/scores")`. In a
store it lies in the folder that the manifest names (`folder`).

`candidate` counts from 0 in the order of the slate; `item_id` is the raw one, null
where the data's vocabulary does not know it. A sample that cannot be read is counted
and kept aside with its reason, and never stops the job; the output appears by a rename,
whole or not at all.

The data's vocabularies need not be the model's: ids are turned into the model's own
before they are scored, so that logs of a later day score as if the server had been
asked. A value that the data's vocabulary left out (`min_count`, `max_size`) is unknown
to the model, too; raw logs are therefore prepared here with vocabularies that leave out
nothing. Raw logs must reach back as far as histories and counters shall.

Runners: as in `pipelines.listwise`; workers need this package and a file system that
they share with the submitting process.
"""

from ctr_tf.commands.arguments import Parser
from serving.defaults import SCORE_FORMATS


def parser() -> Parser:
    """The words of the verb, beside those of Beam."""
    parser = Parser("batch-score", __doc__, abbreviated=False)
    add = parser.add_argument
    parser.add_export()
    parser.add_data(required=False, what="prepared data set, to be scored")
    add("--split", default="test", help="of the prepared data set")
    parser.add_source(required=False)
    add("--output", required=True, help="folder to write")
    add("--format", choices=SCORE_FORMATS, default="parquet", help="of the files")
    add("--num_shards", type=int, default=4, help="files to write")
    add(
        "--max_rejected_fraction",
        type=float,
        default=0.01,
        help="fail, and publish nothing, if more of the samples cannot be scored",
    )
    add("--overwrite", action="store_true", help="replace the output if it exists")
    return parser


def main(argv: list[str]) -> int:
    """Scores by the command line."""
    parser().parse_known_args(argv)  # which answers `--help`
    from pipelines.score import run

    run(argv)
    return 0
