"""Messages that are serialized samples: those that are fit, and the batches of them."""

import collections
import json
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import history_lengths, slate_sizes
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import parsed_example, untuned
from ctr_tf.data.records import check_example, record_spec
from ctr_tf.data.sizes import PaddedSizes
from ctr_tf.data.stored import SampleSizes
from ctr_tf.data.text_inputs import TextInputs
from ctr_tf.data.topics import Message
from ctr_tf.errors import UserError
from ctr_tf.schema import ITEM_KEY

_SIZED = ("behavior_time", f"candidate_{ITEM_KEY}")  # as `SampleSizes` has them
_READY_BATCHES = 4


class SampleMessages:
    """Looks at messages as samples of a data set, and makes batches of them.

    Args:
        data: whose schema and vocabularies the samples are of.
        config: batch size and padding; a batch has the smallest sizes that hold it.
        num_chunks: P of the model.
        tasks: further labels, the model's.
        texts: what the model takes of texts.
    """

    def __init__(
        self,
        data: PreparedData,
        config: DataConfig,
        num_chunks: int,
        tasks: tuple[str, ...],
        texts: TextInputs,
    ):
        self._schema = data.schema
        self._sizes = PaddedSizes(
            history_lengths(data, config), slate_sizes(data, config)
        )
        self._batch_size = config.batch_size
        self._rows = _rows(data)
        self._reader = BatchReader(
            data.schema,
            num_chunks,
            self._sizes.history[-1],
            config.label,
            tasks,
            positions=True,
            id_maps=data.id_maps,
            texts=texts,
        )
        self._now: Sequence[bytes] = ()
        spec = tf.TensorSpec([], tf.int64)
        groups = tf.data.Dataset.from_generator(
            self._groups,
            output_signature=(tf.TensorSpec([None], tf.string), spec, spec),
        )
        self._batches = untuned(groups.map(self._read).prefetch(_READY_BATCHES))

    def batches(self, samples: Sequence[bytes]) -> tf.data.Dataset:
        """Batches of `ctr_tf.data.dataset`, in the order given; the last may be small.

        The dataset is the same every time, and of the samples given last.

        Args:
            samples: serialized.
        """
        self._now = samples
        return self._batches

    def fault(self, message: Message) -> str | None:
        """What is wrong with a message as a sample; None: nothing."""
        try:
            sample = check_example(parsed_example(message.value), self._schema)
        except UserError as error:
            return str(error)
        candidates, most = len(sample["label"]), self._sizes.slate[-1]
        if candidates > most:
            return f"more candidates than `data.slate_sizes` hold, {most}: {candidates}"
        for key, rows in self._rows.items():
            wrong = (ids := sample[key])[(ids < 0) | (ids >= rows)]
            if len(wrong):
                return (
                    f"'{key}' is no id of the data set's, which are 0 to "
                    f"{rows - 1}; of later vocabularies? Received: {wrong[0]}"
                )
        return None

    def _groups(self) -> Iterator[tuple]:
        for start in range(0, len(self._now), self._batch_size):
            batch = np.array(self._now[start : start + self._batch_size], object)
            parsed = tf.io.parse_example(
                batch, {key: tf.io.RaggedFeature(tf.int64) for key in _SIZED}
            )
            counts = [parsed[key].row_lengths().numpy() for key in _SIZED]
            history, slate = self._sizes.of_batches(
                SampleSizes(*counts), np.array([len(batch)])
            )
            yield batch, history[0], slate[0]

    @tf.autograph.experimental.do_not_convert
    def _read(self, serialized, history, slate):
        sizes = self._sizes.static(history, slate)
        inputs, labels, weights = self._reader.read(serialized, *sizes)
        fit = [tf.reduce_all((labels == 0) | (labels == 1))]
        fit += [
            tf.reduce_all((inputs[key] >= 0) & (inputs[key] < rows))
            for key, rows in self._rows.items()
            if key in inputs and inputs[key].dtype == tf.int64  # tokens were looked up
        ]
        check = tf.debugging.Assert(
            tf.reduce_all(fit), ["A sample is bad: its labels or ids."]
        )
        with tf.control_dependencies([check]):
            return inputs, tf.identity(labels), weights


def _rows(data: PreparedData) -> dict[str, int]:
    """Record key → how many ids there are of it."""
    vocabularies, rows = data.vocabularies, {}
    for key, field in record_spec(data.schema).items():
        if field.feature is None:
            continue
        if key in data.id_maps:
            rows[key] = len(data.id_maps[key])
        elif field.feature.is_text:
            rows[key] = vocabularies.known_texts.num_rows
        elif field.feature.stores_ids:
            rows[key] = vocabularies.table_size(field.feature)
    return rows


def told(faults: Sequence[tuple[Message, str]]) -> list[str]:
    """Lines of JSON that say which messages are unfit, and why."""
    return [
        json.dumps(
            {"place": message.place, "offset": message.offset, "reason": reason},
            ensure_ascii=False,
        )
        for message, reason in faults
    ]


def reasons(faults: Sequence[tuple[Message, str]]) -> str:
    """The most frequent reasons, in one line."""
    counts = collections.Counter(reason for _, reason in faults)
    return "; ".join(f"{count:,} × {reason}" for reason, count in counts.most_common(3))
