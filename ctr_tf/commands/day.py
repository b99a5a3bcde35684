"""`ctr-tf day`: one day, from raw logs to the run that serves the next one.

    ctr-tf day --config sparsectr --source jsonl --input LOGS --root ROOT
        --day 2022-05-03

prepares the day's samples with the vocabularies of the day before, scores them by the
run of the day before, which has seen none of them (predict), goes on from that run on
them (train), exports the new run if asked, and writes the day down:

    ROOT/2022-05-03/options.json   what the day was begun with
                    data/          samples of the day alone; histories and counters
                                   know all that the logs tell of before
                    predicted/     how the run of the day before did on them
                    run/           trained on them; run/export with `--with_export`
                    day.json       written last
    ROOT/days.json  days.png       all days that are finished

LOGS hold the day and what histories and counters need of before; what comes after the
day (UTC) is not looked at. The first day of a ROOT begins from nothing. Each stage
leaves its result whole or not at all: the same command goes on where it was killed, and
does nothing where all is done. Options that are not listed, written `--name=value`, are
those of `ctr-tf prepare`; `key=value` those of the recipe.
"""

import datetime

from ctr_tf.commands.arguments import Parser
from ctr_tf.errors import UserError


def parser() -> Parser:
    """The words of the verb, beside those of `ctr-tf prepare`."""
    parser = Parser("day", __doc__, abbreviated=False)
    add = parser.add_argument
    parser.add_source()
    add("--root", required=True, help="folder of all days")
    add("--day", required=True, help="such as 2022-05-03 (UTC)")
    add("--after", metavar="DAY", help="go on from this day, not from the one before")
    add(
        "--renew",
        action="store_true",
        help="make vocabularies anew: what the logs do not tell of any more is "
        "forgotten, ids change, and rows are found by their values",
    )
    add("--with_export", action="store_true", help="export the run, too")
    parser.renamed("--export", "--with_export")
    parser.add_recipe()
    return parser


def main(argv: list[str]) -> int:
    """Runs a day by the command line."""
    options, further = parser().parse_known_args(argv)
    options.overrides += [word for word in further if not word.startswith("--")]
    options.day = _date("day", options.day)
    if options.after is not None:
        options.after = _date("after", options.after).isoformat()
    from ctr_tf.daily.day import run

    return run(options, [word for word in further if word.startswith("--")])


def _date(option: str, text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"`--{option}` must be a date such as 2022-05-03. Received: {text!r}"
        ) from None
