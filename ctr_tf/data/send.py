"""A split's samples as messages of a Kafka topic, by their time.

The command is `ctr_tf.commands.send`.
"""

import logging
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.stored import StoredSamples
from ctr_tf.data.topics import client
from ctr_tf.errors import UserError

_log = logging.getLogger(__name__)
_TOGETHER = 1_000  # samples that are read at once
_SECONDS_TO_SEND = 60.0
_TELL_EVERY = 10.0  # seconds


def by_time(data: PreparedData, split: str) -> Iterator[tuple[bytes, bytes]]:
    """User's id and serialized sample, in the order of the requests.

    Args:
        data: whose samples.
        split: of them.
    """
    stored = StoredSamples(data, split)
    numbers = np.arange(sum(stored.samples))
    times = [_parsed(block)[0] for block in _blocks(stored, numbers)]
    order = np.argsort(np.concatenate(times), kind="stable")
    for block in _blocks(stored, order):
        yield from zip(_parsed(block)[1], block, strict=True)


def _blocks(stored: StoredSamples, numbers: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(numbers), _TOGETHER):
        wanted, places = np.unique(
            numbers[start : start + _TOGETHER], return_inverse=True
        )
        yield stored.read(wanted)[places]


def _parsed(serialized: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times of request and users' ids."""
    found = tf.io.parse_example(
        serialized,
        {
            "request_time": tf.io.FixedLenFeature([], tf.int64),
            "user_id": tf.io.FixedLenFeature([], tf.string),
        },
    )
    return found["request_time"].numpy(), found["user_id"].numpy()


def send(
    data: PreparedData, split: str, broker: str, topic: str, rate: float | None = None
) -> int:
    """Sends a split.

    Args:
        data: whose samples.
        split: of them.
        broker: host and port.
        topic: that takes them.
        rate: samples a second at most; None: as fast as the broker takes them.

    Returns:
        How many were sent.

    Raises:
        UserError: if the broker does not take one.
    """
    kafka = client(broker)
    failed: list[str] = []

    def delivered(error: object, _: object) -> None:
        if error is not None:
            failed.append(str(error))

    producer = kafka.Producer(
        {
            "bootstrap.servers": broker,
            "delivery.timeout.ms": int(1_000 * _SECONDS_TO_SEND),
            "log_level": 4,  # warnings
        }
    )
    sent, started = 0, time.monotonic()
    told = started
    for user, sample in by_time(data, split):
        while True:
            try:
                producer.produce(topic, sample, user, on_delivery=delivered)
                break
            except BufferError:  # the broker is slower than we are
                producer.poll(0.5)
        producer.poll(0)
        if failed:
            break
        sent += 1
        if rate is not None:
            time.sleep(max(started + sent / rate - time.monotonic(), 0))
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            _log.info("%s samples sent", f"{sent:,}")
    if (left := producer.flush(_SECONDS_TO_SEND)) or failed:
        trouble = failed[0] if failed else f"{left:,} are not taken"
        raise UserError(
            f"The broker '{broker}' does not take samples into '{topic}': {trouble}"
        )
    return sent
