"""Messages of a Kafka broker, block by block, as a consumer that says what it has done.

A position is committed only when whoever takes the blocks has kept the last one: after
a crash its messages come again, and none is left out (at least once).
"""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ctr_tf.errors import UserError, unknown_name

_log = logging.getLogger(__name__)
_SECONDS_TO_ANSWER = 30.0


class Topics:
    """Topics of a broker, read by one member of a group.

    Args:
        broker: host and port, several with commas between.
        names: of the topics.
        group: whose positions the broker keeps; one that it does not know begins with
            the earliest messages.

    Raises:
        UserError: if the client is not installed, the broker does not answer, or there
            is no such topic.
    """

    def __init__(self, broker: str, names: Sequence[str], group: str):
        try:
            import confluent_kafka
        except ImportError:
            raise UserError(
                "A stream needs the package confluent-kafka: "
                f"`pip install 'ctr-tf[kafka]'`. Received: stream={broker}"
            ) from None
        self._kafka = confluent_kafka
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": broker,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )
        self._check(broker, names)
        self._ended: set[tuple] = set()  # partitions without more for now
        self._consumer.subscribe(
            list(names), on_assign=self._forget, on_revoke=self._forget
        )

    def _check(self, broker: str, names: Sequence[str]) -> None:
        try:
            known = self._consumer.list_topics(timeout=_SECONDS_TO_ANSWER).topics
        except self._kafka.KafkaException as error:
            raise UserError(
                f"The broker must answer within {_SECONDS_TO_ANSWER:.0f} s ({error}). "
                f"Received: {broker}"
            ) from error
        for name in names:
            if name not in known:
                raise UserError(unknown_name("topic", name, sorted(known)))

    def _forget(self, *_: Any) -> None:
        self._ended.clear()

    def blocks(self, most: int, seconds: float, to_end: bool) -> Iterator[list[bytes]]:
        """Messages in the order of each partition; positions are committed in between.

        Args:
            most: messages that come together.
            seconds: how long to wait for more of them.
            to_end: whether to stop where there are no more for now.
        """
        while True:
            block = self._block(most, seconds)
            if block:
                yield block
                self._consumer.commit(asynchronous=False)
            elif to_end and self._is_at_end():
                return

    def _block(self, most: int, seconds: float) -> list[bytes]:
        block: list[bytes] = []
        until = time.monotonic() + seconds
        while len(block) < most and (left := until - time.monotonic()) > 0:
            message = self._consumer.poll(left)
            if message is None:
                break
            place = message.topic(), message.partition()
            error = message.error()
            if error is None:
                self._ended.discard(place)
                if value := message.value():  # none, where a key was deleted
                    block.append(value)
            elif error.code() == self._kafka.KafkaError._PARTITION_EOF:
                self._ended.add(place)
            else:
                raise UserError(f"The stream cannot be read: {error}")
        return block

    def _is_at_end(self) -> bool:
        mine = {(p.topic, p.partition) for p in self._consumer.assignment()}
        return bool(mine) and mine <= self._ended

    def close(self) -> None:
        """Leaves the group, so that others take over at once."""
        self._consumer.close()
