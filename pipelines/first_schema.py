"""A first schema for raw logs: what their columns look like, for people to correct.

Looks at some rows of each table (`pipelines.first_look`), and writes a `schema.yaml`
with the reason beside each guess. The command is `ctr_tf.commands.init`.
"""

import dataclasses
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.evaluation.pairs import pair_counts
from ctr_tf.schema import ITEM_KEY, USER_KEY, Schema
from ctr_tf.schema.schema import RAW_COLUMNS, TIME_UNITS
from ctr_tf.time import DAY
from pipelines.first_look import NULLS, Column, Table, look
from pipelines.sources.jsonl import Jsonl

_LABEL = re.compile(
    r"click|label|order|buy|bought|purchase|booking|booked|conver|like|watch|view", re.I
)
_NAME = re.compile(r"(^|_)(id|code|type|kind|category|brand|city|gender)s?$", re.I)
_PLACE = re.compile(r"(^|_)(pos|position|rank|slot|index|place)$", re.I)
_UNITS = (("seconds", 1e11), ("milliseconds", 1e14), ("microseconds", 1e17))
_FEW_NUMBERS = 50  # distinct whole numbers that are taken for names
_WORDS_OF_A_TEXT = 3
_SKEWED = 5  # times the median: where the largest are larger, a logarithm helps
_SURE = 0.99  # of the rows
_MANY_PLACES = 1_000  # of a slate
_MONTHS = 120  # days; of longer logs events are rare
_AGAIN = 20  # rows of items that stand there before, to say that a column is theirs
_WIDEST = 64  # of a line, before its comment
_HISTORY = (16, 1_024)


@dataclasses.dataclass(frozen=True)
class _Line:
    """A line of the schema and why it says so."""

    text: str
    why: str = ""


def first_schema(folder: str) -> str:
    """The text of a first schema, with a comment on each guess.

    Args:
        folder: of the raw logs.

    Raises:
        FileNotFoundError, UserError: see `look`.
    """
    tables, whole = look(folder)
    exposures = tables["exposures"]
    slates = _slates(exposures)
    labels = _labels(exposures, slates)
    clicked = _clicked(exposures, labels)
    all_clicked = bool(pc.all(clicked).as_py())
    columns = [column for table in tables.values() for column in table.values()]
    nulls = sorted(set().union(*(column.nulls for column in columns)))
    name = re.sub(r"\W+", "_", str(folder).rstrip("/").rpartition("/")[2]) or "logs"
    lines = [_Line(f"name: {name}"), *_time_lines(exposures["time"])]
    lines.append(_history_line(tables, whole, clicked))
    why = "over which a candidate's impressions and clicks are counted"
    lines.append(_Line(f"counter_windows: [{_windows(exposures['time'])}]", why))
    lines.append(_Line("num_chunks: 16", "parts of a history that models tell apart"))
    if "request_id" not in exposures:
        why = "there is no `request_id`: rows of a user closer than this are a slate"
        lines.append(_Line("session_gap: 30m", why))
    if labels:
        why = "columns of 0 and 1; the first is what is trained for"
        if all_clicked:
            why = "1 in every row: `prepare --negatives` draws what was not clicked"
        lines.append(_Line(f"labels: [{', '.join(labels)}]", why))
    else:
        why = "no column of 0 and 1: each row is a click; see `prepare --negatives`"
        lines.append(_Line("all_clicked: true", why))
    if nulls:
        words = ", ".join(json.dumps(word) for word in ["", *nulls])
        lines.append(_Line(f"null_values: [{words}]", "how a missing value is written"))
    lines.append(_Line("features:"))
    for column, role in _features(tables, slates, labels, all_clicked):
        if all_clicked and role == "candidate":
            why = "left out: nobody knows it of items that are drawn; of role context "
            why += "if it does not depend on what was clicked"
            lines.append(_Line(_left_out(column, role), why))
        elif role == "candidate" and (line := _position(column)):
            lines.append(line)
        elif role == "candidate" and (reason := _unknown_before(column, clicked)):
            lines.append(_Line(_left_out(column, role), reason))
        else:
            line = _feature(column, role)
            if role == "behavior" and f"behavior_{column.name}" not in exposures:
                line = _of_clicks(line, [*labels, "click"][0])
            lines.append(line)
    return _text(lines, tables, whole)


def _text(lines: list[_Line], tables: Mapping[str, Table], whole: set[str]) -> str:
    counts = ", ".join(
        f"{len(next(iter(table.values())).cells):,} {name}"
        + ("" if name in whole else " (not all)")
        for name, table in tables.items()
    )
    width = min(_WIDEST, max(len(line.text) for line in lines))
    head = [
        f"# A first guess, by {counts}.",
        "# Read every line, and correct it: docs/schema.md explains the keys.",
    ]
    body = [
        f"{line.text:<{width}}  # {line.why}" if line.why else line.text
        for line in lines
    ]
    return "\n".join([*head, *body]) + "\n"


def _time_lines(column: Column) -> Iterator[_Line]:
    if not column.is_number:
        yield _Line("time_unit: milliseconds", f"times are told as {column.shown}")
    else:
        unit = _unit(column)
        ends = pc.min_max(column.values)
        first, last = (_date(ends[end].as_py(), unit) for end in ("min", "max"))
        yield _Line(f"time_unit: {unit}", f"the exposures are of {first} to {last}")
    why = "of local time; or `time_zone: Europe/Copenhagen`"
    yield _Line("utc_offset_hours: 0", why)


def _unit(time: Column) -> str:
    """What numbers of about that size count since 1970."""
    middle = float(np.median(time.values.to_numpy()))
    return next((unit for unit, most in _UNITS if middle < most), "microseconds")


def _windows(time: Column) -> str:
    """Short ones, of a log of days; of one of months or years long ones."""
    if time.is_number and len(time.values):
        values = time.values.to_numpy().astype(np.float64)
        span = (values.max() - values.min()) / TIME_UNITS[_unit(time)]
        if span / DAY > _MONTHS:
            return "1d, 7d, 30d"
    return "30m, 2h, 1d, 3d"


def _date(time: float, unit: str) -> str:
    try:
        moment = np.datetime64(0, "s") + np.timedelta64(
            int(time / TIME_UNITS[unit]), "s"
        )
        return str(moment)[:10]
    except (OverflowError, ValueError):
        return f"{time:g}"


def _history_line(
    tables: Mapping[str, Table], whole: set[str], clicked: pa.ChunkedArray
) -> _Line:
    """By the behaviors that users have, the clicks of exposures among them."""
    parts = [name for name in ("exposures", "behaviors") if name in tables]
    users = {name: tables[name][USER_KEY].cells.cast(pa.string()) for name in parts}
    users["exposures"] = users["exposures"].filter(clicked)
    every = pa.chunked_array([chunk for c in users.values() for chunk in c.chunks])
    counts = pc.value_counts(every).field("counts").to_numpy()
    if not set(parts) <= whole or not len(counts):
        return _Line("history_length: 256", "latest behaviors that a sample keeps")
    most = float(np.quantile(counts, 0.95))
    length = int(np.clip(2 ** np.ceil(np.log2(max(most, 1))), *_HISTORY))
    why = f"19 of 20 users have at most {most:,.0f} behaviors"
    return _Line(f"history_length: {length}", why)


def _clicked(exposures: Table, labels: Sequence[str]) -> pa.ChunkedArray:
    """Which rows are clicks: all where no column tells."""
    if not labels:
        return pa.chunked_array([np.ones(len(exposures[ITEM_KEY].cells), bool)])
    cells = exposures[labels[0]].cells
    if pa.types.is_boolean(cells.type):
        return pc.fill_null(cells, False)
    return pc.is_in(cells.cast(pa.string()), pa.array(["1", "1.0", "true", "True"]))


def _slates(exposures: Table) -> np.ndarray:
    """Number of each row's slate, as far as one can say."""
    keys = ["request_id"] if "request_id" in exposures else [USER_KEY, "time"]
    words = [exposures[key].cells.cast(pa.string()).to_pylist() for key in keys]
    numbers: dict[tuple, int] = {}
    return np.array(
        [numbers.setdefault(row, len(numbers)) for row in zip(*words, strict=True)]
    )


def _is_of_the_slate(column: Column, slates: np.ndarray) -> bool:
    """Whether all rows of a slate have the same."""
    words = [str(value) for value in column.cells.to_pylist()]
    return len(set(zip(slates.tolist(), words, strict=True))) == len(set(slates))


def _labels(exposures: Table, slates: np.ndarray) -> list[str]:
    binary = [
        name
        for name, column in exposures.items()
        if column.is_binary and not _is_of_the_slate(column, slates)
    ]
    named = [name for name in binary if _LABEL.search(name)] or binary[:1]
    if not named:  # of clicks alone, with a column that says so
        named = [n for n, c in exposures.items() if c.is_one and _LABEL.search(n)]
    named.sort(key=lambda name: "click" not in name.lower())
    return named


def _features(
    tables: Mapping[str, Table],
    slates: np.ndarray,
    labels: Sequence[str],
    all_clicked: bool,
) -> Iterator[tuple[Column, str]]:
    """The columns that are features, each once, and their roles."""
    nothing: Table = {}
    exposures, behaviors = tables["exposures"], tables.get("behaviors", nothing)
    items, users = tables.get("items", nothing), tables.get("users", nothing)
    yield exposures[ITEM_KEY], "item"
    done = {*RAW_COLUMNS, *labels}
    for name, column in items.items():
        if name not in done:
            yield column, "item"
    done |= set(items)
    for name, column in behaviors.items():
        if name not in done:
            yield column, "item" if name in exposures else "behavior"
    done |= set(behaviors)
    for name, column in exposures.items():
        own = name.removeprefix("behavior_") in behaviors and name[:9] == "behavior_"
        if name not in done and not own:
            item = exposures[ITEM_KEY]
            yield column, _role(column, item, slates, all_clicked)
    for name, column in users.items():
        if name not in {USER_KEY, *exposures, *behaviors, *items}:
            yield column, "user"


def _role(column: Column, item: Column, slates: np.ndarray, all_clicked: bool) -> str:
    """Of a column of the exposures alone."""
    if not all_clicked:
        return "context" if _is_of_the_slate(column, slates) else "candidate"
    # What is bought alone agrees with its request: what agrees with the item is its.
    words = [str(value) for value in item.cells.to_pylist()]
    number = {word: place for place, word in enumerate(dict.fromkeys(words))}
    items = np.array([number[word] for word in words])
    come_again = len(items) - len(number) >= _AGAIN
    tells = come_again and column.distinct > 1
    return "item" if tells and _is_of_the_slate(column, items) else "candidate"


def _position(column: Column) -> _Line | None:
    """Of a column that says where candidates were shown."""
    if not _PLACE.search(column.name) or not pa.types.is_integer(column.values.type):
        return None
    ends = pc.min_max(column.values)
    least, most = ends["min"].as_py(), ends["max"].as_py()
    if least is None or least < 0 or most >= _MANY_PLACES:
        return None
    return _Line(
        f"  - {{name: {column.name}, role: position, kind: bucketized, "
        f"num_values: {most + 1}}}",
        f"{least} to {most}: where it was shown, for the training alone",
    )


def _unknown_before(column: Column, clicked: pa.ChunkedArray) -> str:
    """Why nobody knows the column when candidates are ranked; empty if one does."""
    if _PLACE.search(column.name):
        return "left out: where it was shown is not known before it is ranked"
    cells = column.cells
    if pa.types.is_nested(cells.type) or pa.types.is_temporal(cells.type):
        return ""
    nothing = pc.is_in(cells.cast(pa.string()), pa.array(["", "0", "0.0", *NULLS]))
    there = pc.invert(pc.or_(pc.is_null(cells), nothing)).to_numpy()
    clicks = clicked.to_numpy()
    if there.any() and not there.all() and (clicks[there]).mean() > _SURE:
        return "left out: only clicked rows have it, so that it tells of the click"
    if _tells_clicks(column, clicks):
        return (
            "left out: it alone tells clicks from others, so that nobody knows it yet"
        )
    return ""


def _tells_clicks(column: Column, clicks: np.ndarray) -> bool:
    """Whether the order of a number nearly is that of the clicks, up or down."""
    if not column.is_number or column.is_joined:
        return False
    label = clicks[column.known].astype(np.int64)
    rank = np.unique(column.values.to_numpy(), return_inverse=True)[1]
    auc = pair_counts(np.zeros_like(rank), rank, label, 1).auc()[0]
    return max(auc, 1 - auc) > _SURE  # of one class alone there is none: NaN


def _left_out(column: Column, role: str, kind: str = "…") -> str:
    return f"  # - {{name: {column.name}, role: {role}, kind: {kind}}}"


def _feature(column: Column, role: str) -> _Line:
    start = f"  - {{name: {column.name}, role: {role}, kind: "
    length = f", length: {column.longest}" if column.longest > 1 else ""
    is_key = column.name == ITEM_KEY
    if not len(column.values) or pa.types.is_temporal(column.values.type):
        return _Line(_left_out(column, role), f"left out: {column.shown}")
    if pa.types.is_nested(column.values.type):
        why = "left out: objects; write their values apart"
        return _Line(_left_out(column, role), why)
    if pa.types.is_boolean(column.values.type):
        return _Line(_left_out(column, role), "left out: write it as 0 and 1")
    if column.is_whole and not is_key:
        is_name = _NAME.search(column.name) or column.distinct <= _FEW_NUMBERS
        if is_name:
            return _Line(f"{start}categorical, dtype: int64{length}}}", column.shown)
    if column.is_number and length:
        return _Line(_left_out(column, role), "left out: several numbers")
    if column.is_number and not is_key:
        return _Line(f"{start}numeric{_transform(column)}}}", column.shown)
    if is_key:
        dtype = ", dtype: int64" if column.is_whole else ""
        return _Line(f"{start}categorical{dtype}}}", column.shown)
    if role == "item" and _words(column) >= _WORDS_OF_A_TEXT:
        why = f"a text? `prepare --tokenizer` reads it; {column.shown}"
        return _Line(_left_out(column, role, "text, length: 16"), why)
    return _Line(f"{start}categorical{length}}}", column.shown)


def _of_clicks(line: _Line, label: str) -> _Line:
    """With what a click is called among the actions, where no column says it."""
    if not line.text.endswith("kind: categorical}"):
        return line
    text = f"{line.text[:-1]}, of_clicks: {label}}}"
    return _Line(text, f"{line.why}; `of_clicks`: what clicked exposures become")


def _transform(column: Column) -> str:
    values = column.values.to_numpy().astype(np.float64)
    middle, high = np.quantile(values, (0.5, 0.99))
    skewed = values.min() >= 0 and high > _SKEWED * max(middle, 1e-9)
    return ", transform: log1p" if skewed else ""


def _words(column: Column) -> float:
    """Words of a value, in the middle; 1 where few values differ."""
    if column.distinct < len(column.values) / 2:
        return 1.0
    return float(np.median([len(text.split()) for text in column.values.to_pylist()]))


def check(text: str, folder: str) -> None:
    """Raises UserError if the text is no schema of the tables in the folder."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "schema.yaml"
        path.write_text(text, "utf-8")
        Jsonl().shards(folder, Schema.load(path))
