"""Reading records: as a dataset for training, one by one for people and diagnosis."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.records import check_example
from ctr_tf.data.stored import StoredSamples
from ctr_tf.errors import UserError
from ctr_tf.schema import Schema
from ctr_tf.storage.tensorflow_stores import for_tensorflow

_TENSORFLOW_NAMES = {"none": "", "gzip": "GZIP"}  # of `record_files.COMPRESSIONS`


class UnreadableRecordError(UserError):
    """A record file is damaged; what comes after that place is lost, too."""


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without TensorFlow's tuner.

    The tuner may cost up to a minute at the end of an iterator: when its thread is
    cancelled it may look too early, sleep on, and the iterator waits for it. Without
    it, AUTOTUNE parallel calls are as many as there are cores, 16 at most.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def record_dataset(file: str | tf.Tensor, compression: str) -> tf.data.Dataset:
    """The serialized records of one file, as part of a larger dataset.

    Args:
        file: its path.
        compression: a key of `ctr_tf.data.record_files.COMPRESSIONS`.
    """
    return tf.data.TFRecordDataset(file, _TENSORFLOW_NAMES[compression])


def read_records(file: str, compression: str) -> Iterator[bytes]:
    """Reads the serialized records of one file, one by one.

    Args:
        file: its path.
        compression: a key of `ctr_tf.data.record_files.COMPRESSIONS`.

    Raises:
        UnreadableRecordError: names the file and the record's index.
    """
    dataset = record_dataset(for_tensorflow(file), compression)
    records = untuned(dataset).as_numpy_iterator()
    for index in itertools.count():
        try:
            record = next(records, None)
        except tf.errors.OpError as error:
            raise UnreadableRecordError(
                f"{file}: record {index} is corrupt or cut off ({error.message})."
            ) from error
        if record is None:
            return
        yield record


def read_examples(
    files: Iterable[str], compression: str
) -> Iterator[tuple[str, int, tf.train.Example]]:
    """Reads records one by one; for people and for diagnosis, not for training.

    Args:
        files: record files.
        compression: a key of `ctr_tf.data.record_files.COMPRESSIONS`.

    Yields:
        File, index of the record in it (from 0), and the sample.

    Raises:
        UserError: names the file, the record's index and what is wrong with it.
    """
    for file in map(str, files):
        for index, record in enumerate(read_records(file, compression)):
            try:
                example = parsed_example(record)
            except UserError as error:
                raise UserError(f"{file}: record {index} {error}.") from error
            yield file, index, example


def parsed_example(record: bytes) -> tf.train.Example:
    """A serialized sample, not yet checked.

    Raises:
        UserError: if it is none.
    """
    example = tf.train.Example()
    try:
        example.ParseFromString(record)
    except Exception as error:  # protobuf has its own for a bad message
        raise UserError(f"is not a tf.train.Example ({error})") from error
    return example


def checked(
    file: str, index: int, example: tf.train.Example, schema: Schema
) -> dict[str, np.ndarray]:
    """A sample's values, see `check_example`.

    Args:
        file: that it was read from.
        index: of the record in it.
        example: the sample.
        schema: of the data set.

    Raises:
        UserError: names the file, the record's index, the key and what is wrong.
    """
    try:
        return check_example(example, schema)
    except UserError as error:
        raise UserError(f"{file}: record {index}: {error}") from error


def find_fault(data: PreparedData, split: str) -> None:
    """Looks through a split for the first record that is bad, or not as indexed.

    Raises:
        UserError: names the file, the record's number and what is wrong.
    """
    stored = StoredSamples(data, split)
    examples = read_examples(data.files(split), data.compression)
    for number, (file, place, example) in enumerate(examples):
        sample = checked(file, place, example, data.schema)
        where = f"{file}: record {place}: the index says"
        try:
            stored.read(np.array([number]))
        except UserError as error:
            raise UserError(f"{where} that it is elsewhere ({error})") from error
        indexed = [int(counted[0]) for counted in stored.sizes(np.array([number]))]
        found = [len(sample[key]) for key in ("behavior_time", "label")]
        if indexed != found:
            raise UserError(
                f"{where} {indexed[0]} behaviors and {indexed[1]} candidates. "
                f"Received: {found[0]} and {found[1]}"
            )


@contextlib.contextmanager
def diagnosed(data: PreparedData, *splits: str) -> Iterator[None]:
    """Turns an input error of the loop inside into one that names the bad record.

    The fast path reads and parses whole batches, so TensorFlow's own error knows
    neither file nor record. Where it fails, the records are read once more, one by
    one, to find the culprit.

    Args:
        data: that the loop reads.
        *splits: of the data, those that it reads.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        for split in splits:
            find_fault(data, split)
        raise
