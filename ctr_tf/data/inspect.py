"""A prepared data set, and its samples as a person wants to see them.

The command is `ctr_tf.commands.inspect`.
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ctr_tf.data.costs import describe_costs
from ctr_tf.data.manifest import MANIFEST, Split
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import checked, read_examples
from ctr_tf.data.records import label_key
from ctr_tf.data.text_tables import (
    WIDTH,
    bands,
    local_time,
    paragraph,
    plural,
    table,
    total_width,
)
from ctr_tf.errors import UserError
from ctr_tf.schema import Feature, Schema
from ctr_tf.schema.feature import ROLES
from ctr_tf.schema.vocabulary import Vocabularies
from ctr_tf.storage import as_path
from ctr_tf.time import duration

FIRST_SHOWN = 6  # of a long history
LAST_SHOWN = 14
MOST_CANDIDATES = 20
_TIME_WIDTH = 23
_NARROW = 6  # what a wide column of the history may be cut to

Sample = Mapping[str, np.ndarray]


def describe(data: PreparedData) -> str:
    """The data set in a dozen lines: its splits, features, and rejected rows."""
    schema = data.schema
    lines = [f"{schema.name}   {data.folder}", ""]
    rows = [
        [name, *_split_row(split, schema)]
        for name, split in data.manifest.splits.items()
    ]
    header = ["split", "samples", "candidates", "clicks", "rate", "history"]
    header += ["from", "to"]
    lines += table(header, rows, [False] + [True] * 5 + [False] * 2)
    lines += ["", *_schema_lines(schema, data.vocabularies)]
    events = data.manifest.events
    read = [plural(rows.read, name[:-1]) for name, rows in events.items()]
    lines += paragraph("read", read)
    if data.manifest.negatives is not None:
        lines += paragraph("drawn", [data.manifest.negatives.described])
    rejected = [
        f"{plural(count, name[:-1])}: {reason}"
        for name, rows in events.items()
        for reason, count in rows.rejected.items()
    ]
    return "\n".join(lines + paragraph("rejected", rejected))


def _split_row(split: Split, schema: Schema) -> list[str]:
    row = [f"{n:,}" for n in (split.samples, split.candidates, split.clicks)]
    row.append(f"{split.clicks / split.candidates:.2%}" if split.candidates else "-")
    row.append(f"{split.behaviors / split.samples:.1f}" if split.behaviors else "-")
    moments = split.time_range or ()
    times = [local_time(moment, schema.zone)[4:-3] for moment in moments]
    return row + (times or ["-", "-"])


def _schema_lines(schema: Schema, vocabularies: Vocabularies) -> list[str]:
    lines = paragraph(
        "time",
        [
            _zone(schema),
            f"history of {schema.history_length:,}"
            + (f" within {schema.horizon}" if schema.horizon else ""),
            plural(schema.num_chunks, "chunk"),
        ],
    )
    for role in ROLES:
        names = [_with_size(feature, vocabularies) for feature in schema.of(role)]
        lines += paragraph(role, names)
    return lines


def _with_size(feature: Feature, vocabularies: Vocabularies) -> str:
    if feature.is_text:
        rows = vocabularies.known_texts.num_rows
        return f"{feature.name} ({rows:,}, {plural(feature.length, 'token')})"
    if feature.is_embedded:
        return f"{feature.name} ({vocabularies.table_size(feature):,})"
    return feature.name


def find_samples(
    data: PreparedData,
    split: str,
    index: int = 0,
    request_id: str | None = None,
    user_id: str | None = None,
) -> Iterator[tuple[int, Sample]]:
    """Samples of a split from `index` on, or those of a request or a user.

    Args:
        data: the data set.
        split: its split.
        index: of the first sample, in the order of the files.
        request_id: only samples of this request.
        user_id: only samples of this user.

    Yields:
        Index of the sample in the split, and its values.

    Raises:
        UserError: if a record is corrupt or does not fit the schema.
    """
    asked = {"request_id": request_id, "user_id": user_id}
    wanted = {key: value.encode() for key, value in asked.items() if value is not None}
    files = data.manifest.files_of(split)
    counts = {str(data.root / file.path): file.samples for file in files}
    first = 0
    for file in data.files(split):
        if first + counts[file] > index:
            examples = read_examples([file], data.compression)
            for _, position, example in itertools.islice(
                examples, max(index - first, 0), None
            ):
                feature = example.features.feature
                if all(
                    list(feature[key].bytes_list.value) == [value]
                    for key, value in wanted.items()
                ):
                    values = checked(file, position, example, data.schema)
                    yield first + position, values
        first += counts[file]


def render(
    sample: Sample, schema: Schema, vocabularies: Vocabularies, full: bool = False
) -> str:
    """One sample as text, at most `WIDTH` columns wide.

    Args:
        sample: values by record key.
        schema: of the data set.
        vocabularies: of the data set.
        full: show all of a long history and slate.
    """
    time = int(sample["request_time"][0])
    request, user = (sample[key][0].decode() for key in ("request_id", "user_id"))
    lines = [
        f"request {request}   user {user}   "
        f"{local_time(time, schema.zone)} ({_zone(schema)})"
    ]
    for title, group in (("profile", "user"), ("context", "context")):
        items = []
        for feature in schema.groups()[group]:
            values = _words(feature, sample[f"{group}_{feature.name}"], vocabularies)
            items.append(f"{feature.name} {', '.join(values) or '-'}")
        lines += paragraph(title, items)
    lines += ["", *_history(sample, schema, vocabularies, full)]
    lines += ["", *_slate(sample, schema, vocabularies, full)]
    return "\n".join(lines)


def _history(
    sample: Mapping[str, np.ndarray],
    schema: Schema,
    vocabularies: Vocabularies,
    full: bool,
) -> list[str]:
    time, chunk = sample["behavior_time"], sample["behavior_chunk"]
    length = len(time)
    if not length:
        return ["history     (empty)"]
    before = duration(int(sample["request_time"][0] - time[-1]))
    title = (
        f"history     {plural(length, 'behavior')} in "
        f"{plural(len(np.unique(chunk)), 'chunk')} over "
        f"{duration(int(time[-1] - time[0]))}; the latest {before} before the request"
    )
    shown = np.arange(length)
    elided = length - FIRST_SHOWN - LAST_SHOWN
    if elided > 1 and not full:
        shown = np.delete(shown, slice(FIRST_SHOWN, length - LAST_SHOWN))
    columns = [("time", False, [local_time(time[i], schema.zone) for i in shown])]
    for feature in schema.behavior:
        words = _words_of_places(sample, "behavior", feature, vocabularies)
        words = [words[i] for i in shown]
        columns.append((feature.name, feature.reads_as_number, words))
    lines, hidden = _fit(columns)
    header, *rows = lines
    result = [title, *_hidden(hidden), "  " + header]
    for row, i in zip(rows, shown, strict=True):
        if i == length - LAST_SHOWN and len(shown) < length:
            low, high = chunk[FIRST_SHOWN], chunk[i - 1]
            result.append(
                f"  … {plural(elided, 'behavior')} (chunks {low} to {high}) …"
            )
        if i == 0 or chunk[i] != chunk[i - 1]:
            size = plural(int((chunk == chunk[i]).sum()), "behavior")
            gap = f", after {duration(int(time[i] - time[i - 1]))}" if i else ""
            result.append(f"  -- chunk {chunk[i]}: {size}{gap} ".ljust(WIDTH, "-"))
        result.append("  " + row)
    return result


def _slate(
    sample: Mapping[str, np.ndarray],
    schema: Schema,
    vocabularies: Vocabularies,
    full: bool,
) -> list[str]:
    label = sample["label"]
    size = len(label)
    shown = size if full else min(size, MOST_CANDIDATES)
    columns = [("#", True, [str(i + 1) for i in range(size)])]
    for name in schema.labels:
        values = sample[label_key(schema, name)]
        columns.append((name, True, [f"{value:g}" for value in values]))
    if "true_probability" in sample:
        words = [f"{value:.3f}" for value in sample["true_probability"]]
        columns.append(("truth", True, words))
    for feature in schema.position:
        words = _words_of_places(sample, "position", feature, vocabularies)
        columns.append((feature.name, True, words))
    num_keys = len(columns) + 1
    for feature in schema.candidate:
        words = _words_of_places(sample, "candidate", feature, vocabularies)
        columns.append((feature.name, feature.reads_as_number, words))
    header = [name for name, _, _ in columns]
    rows = [[words[i] for *_, words in columns] for i in range(shown)]
    right = [to_right for _, to_right, _ in columns]
    clicks = plural(int(label.sum()), schema.labels[0])
    lines = [f"slate       {plural(size, 'candidate')}, {clicks}"]
    for band in bands(header, rows, right, num_keys, WIDTH - 2):
        lines += ["  " + line for line in band] + [""]
    if shown < size:
        return [*lines, f"  … {plural(size - shown, 'more candidate')}"]
    return lines[:-1]


def _fit(columns: Sequence[tuple]) -> tuple[list[str], list[str]]:
    """Table of the columns that fit, and the names of those that do not."""
    width = WIDTH - 2
    shown = len(columns)
    while shown > 2:
        sizes = [min(max(map(len, words)), _NARROW) for *_, words in columns[1:shown]]
        if total_width([_TIME_WIDTH, *sizes]) <= width:
            break
        shown -= 1
    names, right, words = zip(*columns[:shown], strict=True)
    lines = table(names, list(zip(*words, strict=True)), right, width, whole=1)
    return lines, [name for name, *_ in columns[shown:]]


def _hidden(names: Sequence[str]) -> list[str]:
    return [f"  (no room for {', '.join(names)})"] if names else []


def _words_of_places(
    sample: Sample, group: str, feature: Feature, vocabularies: Vocabularies
) -> list[str]:
    """What each behavior or candidate has, several values joined by "|"."""
    key = f"{group}_{feature.name}"
    words = _words(feature, sample[key], vocabularies)
    if feature.max_values == 1:
        return words
    ends = np.cumsum(sample[f"{key}_length"]).tolist()
    return ["|".join(words[a:b]) or "-" for a, b in zip([0, *ends], ends, strict=False)]


def _words(
    feature: Feature, values: np.ndarray, vocabularies: Vocabularies
) -> list[str]:
    if feature.is_age:
        raw = (feature.from_stored(int(value), vocabularies) for value in values)
        return ["never" if value is None else duration(value) for value in raw]
    return feature.words(values.tolist(), vocabularies)


def _zone(schema: Schema) -> str:
    if schema.time_zone:
        return schema.time_zone
    return f"UTC{schema.utc_offset_hours:+g}" if schema.zone else "UTC"


def inspect(arguments: argparse.Namespace) -> None:
    """Prints what the command asks for.

    Args:
        arguments: of the command.

    Raises:
        UserError: if there is no such sample.
    """
    data = PreparedData.load(arguments.data)
    if arguments.verify:
        data.verify()
        files = len(data.manifest.sizes) + len(data.manifest.content)
        print(f"{data.folder}: all {files} files are what {MANIFEST} says")
        return
    print(describe(data))
    split = arguments.split or _default_split(data)
    if arguments.bytes is not None:
        if not data.num_samples(split):
            raise UserError(f"Split '{split}' has no samples. Received: --bytes")
        print(f"\n{describe_costs(data, split, arguments.bytes)}")
        return
    if not arguments.num:
        return
    found = find_samples(
        data, split, arguments.index, arguments.request_id, arguments.user_id
    )
    count = 0
    for index, sample in itertools.islice(found, arguments.num):
        print(f"\n{f'== {split} {index} '.ljust(WIDTH, '=')}")
        print(render(sample, data.schema, data.vocabularies, arguments.full))
        if arguments.attention and not count:
            _show_attention(arguments, data, sample, f"{split}-{index}")
        count += 1
    if not count:
        raise UserError(_nothing_found(arguments, data, split))


def _show_attention(
    arguments: argparse.Namespace, data: PreparedData, sample: Sample, name: str
) -> None:
    from ctr_tf.evaluation import attention  # which loads models

    found = [
        one
        for run in arguments.attention
        for one in attention.attention_of(run, data, sample)
    ]
    if not found:
        raise UserError(
            f"The user of this sample has no behavior to read of. Received: {name}"
        )
    default = as_path(arguments.attention[0]) / "plots" / f"attention-{name}.png"
    path = as_path(arguments.output or default)
    user = sample["user_id"][0].decode()
    title = f"Attention in the texts of user {user}"
    attention.plot_attention(found, title, path)
    print(f"\n{title}\n\n{attention.describe_attention(found)}\n\n{path}")


def _default_split(data: PreparedData) -> str:
    filled = [split for split in data.splits if data.num_samples(split)]
    return filled[-1] if filled else data.splits[-1]


def _nothing_found(
    arguments: argparse.Namespace, data: PreparedData, split: str
) -> str:
    for name in ("request_id", "user_id"):
        value = getattr(arguments, name)
        if value is not None:
            return (
                f"Split '{split}' has no sample with this `{name}`. Received: {value}"
            )
    return (
        f"Split '{split}' has {plural(data.num_samples(split), 'sample')}, counted "
        f"from 0. Received: --index {arguments.index}"
    )
