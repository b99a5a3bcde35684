"""`ctr-tf init`: a first schema for your logs, with a comment on each guess.

    ctr-tf init --input LOGS

Looks at the tables of the general format (docs/data_format.md) in a folder, `exposures`
and where there are any `behaviors`, `users` and `items`, as JSON lines, CSV or Parquet,
and writes `schema.yaml` beside them: what each column is, and what was seen that says
so. Read every line and correct it: a number may be a name, and nobody but you knows
which columns are known before a click.
"""

from ctr_tf.commands.arguments import Parser


def parser() -> Parser:
    """The words of the verb."""
    parser = Parser("init", __doc__)
    add = parser.add_argument
    add("--input", required=True, help="folder of the raw logs")
    add("--output", help="file to write; default: schema.yaml in that folder")
    add("--overwrite", action="store_true", help="replace the file if it is there")
    return parser


def main(argv: list[str]) -> int:
    """Writes a first schema by the command line."""
    options = parser().parse_args(argv)
    from ctr_tf.storage import check_store, files
    from pipelines.first_schema import check, first_schema

    own = check_store(options.input) / "schema.yaml"
    output = check_store(options.output) if options.output else own
    if output.exists() and not options.overwrite:
        raise FileExistsError(
            f"'{output}' exists; `--overwrite` replaces it, or give another `--output`."
        )
    text = first_schema(options.input)
    check(text, options.input)
    files.write_text(output, text)
    print(text)
    print(f"schema          {output}")
    words = "" if output == own else f" --schema {output}"
    negatives = " --negatives 4" if "`prepare --negatives`" in text else ""
    print(
        f"then            ctr-tf prepare --source jsonl --input {options.input}{words} "
        f"--output DATA{negatives}"
    )
    return 0
