"""What a sample costs: bytes of each key, of a behavior, and of a candidate."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import tensorflow as tf

from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import checked, read_examples
from ctr_tf.data.record_files import FRAME_BYTES
from ctr_tf.data.records import BEHAVIORS, CANDIDATES, record_spec
from ctr_tf.data.text_tables import plural, table


@dataclasses.dataclass
class Costs:
    """Bytes of some samples, before the file's compression.

    Args:
        keys: bytes of each record key in all of them, what names it included.
        total: bytes of the samples, as a plain file has them.
        count: how many `"samples"`, `"behaviors"` and `"candidates"` there are.
    """

    keys: collections.Counter[str]
    total: int
    count: collections.Counter[str]


def add_up(examples: Iterable[tf.train.Example]) -> Costs:
    """Adds up the bytes of samples."""
    costs = Costs(collections.Counter(), 0, collections.Counter())
    for example in examples:
        feature = example.features.feature
        for key, values in feature.items():
            costs.keys[key] += tf.train.Features(feature={key: values}).ByteSize()
        costs.total += example.ByteSize() + FRAME_BYTES
        costs.count["samples"] += 1
        costs.count[BEHAVIORS] += len(feature["behavior_time"].int64_list.value)
        costs.count[CANDIDATES] += len(feature["label"].float_list.value)
    return costs


def describe_costs(data: PreparedData, split: str, most: int) -> str:
    """A table of what samples of a split cost, key by key.

    Args:
        data: the data set.
        split: has samples.
        most: of its first samples, how many to read.

    Raises:
        UserError: names a record that does not fit the schema.
    """
    costs = add_up(_samples(data, split, most))
    spec = record_spec(data.schema)
    of_all, rows = collections.Counter[str](), []
    for key, size in costs.keys.most_common():
        size_of = spec[key].size if key in spec else 1  # somebody else's key
        what = size_of if isinstance(size_of, str) else "samples"
        of_all[what] += size
        one = f"a {what[:-1]}"
        rows.append([key, f"{size / costs.total:.1%}", _mean(costs, size, what), one])
    samples = costs.count["samples"]
    lines = [f"the first {plural(samples, 'sample')} of '{split}'", ""]
    lines += table(["key", "share", "bytes", ""], rows, [False, True, True, False])
    summary = [
        f"{_mean(costs, of_all[what], what)} bytes a {what[:-1]}"
        for what in (BEHAVIORS, CANDIDATES)
    ]
    others = costs.total - of_all[BEHAVIORS] - of_all[CANDIDATES]
    summary.append(f"{others / samples:,.0f} bytes a sample beside these")
    whole = f"{costs.total / samples:,.0f} bytes a sample"
    return "\n".join([*lines, "", f"{whole}: {', '.join(summary)}"])


def _samples(data: PreparedData, split: str, most: int) -> Iterator[tf.train.Example]:
    found = read_examples(data.files(split), data.compression)
    for file, index, example in itertools.islice(found, most):
        checked(file, index, example, data.schema)
        yield example


def _mean(costs: Costs, size: int, what: str) -> str:
    count = costs.count[what]
    return f"{size / count:,.1f}" if count else "-"
