"""Messages of a Kafka broker.

`Topics` is read by whoever keeps what it takes: a position is committed to the broker
only when the last block is kept, so that after a crash its messages come again, and
none is left out (at least once). `PlacedTopics` is read by whoever keeps the positions
beside what it made of the messages, and goes on from there (exactly once).
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ctr_tf.errors import UserError, unknown_name

_SECONDS_TO_ANSWER = 30.0
_SECONDS_TO_LOOK_UP = 1.0  # how often a wish to stop is looked for
SINCE = ("earliest", "latest")


def client(broker: str) -> Any:
    """The package `confluent_kafka`.

    Args:
        broker: that it is wanted for.

    Raises:
        UserError: if it is not installed.
    """
    try:
        import confluent_kafka
    except ImportError:
        raise UserError(
            "A stream needs the package confluent-kafka: "
            f"`pip install 'ctr-tf[kafka]'`. Received: stream={broker}"
        ) from None
    return confluent_kafka


class _Reader:
    """What reads topics of a broker, and knows where there is no more for now.

    Args:
        broker: host and port, several with commas between.
        names: of the topics.
        group: that the client says it belongs to.
        reset: where a partition begins without a position that the broker has.
    """

    def __init__(self, broker: str, names: Sequence[str], group: str, reset: str):
        self._kafka = client(broker)
        self._broker, self._names = broker, list(names)
        self._consumer = self._kafka.Consumer(
            {
                "bootstrap.servers": broker,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": reset,
                "enable.partition.eof": True,
            }
        )
        self._ended: set[str] = set()  # partitions without more for now

    def _partitions(self) -> dict[str, list[int]]:
        """Topic → its partitions.

        Raises:
            UserError: if the broker does not answer, or there is no such topic.
        """
        try:
            known = self._consumer.list_topics(timeout=_SECONDS_TO_ANSWER).topics
        except self._kafka.KafkaException as error:
            raise UserError(
                f"The broker must answer within {_SECONDS_TO_ANSWER:.0f} s ({error}). "
                f"Received: {self._broker}"
            ) from error
        for name in self._names:
            if name not in known:
                raise UserError(unknown_name("topic", name, sorted(known)))
        return {name: sorted(known[name].partitions) for name in self._names}

    def _is_message(self, polled: Any) -> bool:
        """Whether it is a message, and not that a partition has no more for now.

        Raises:
            UserError: if the broker says that one cannot be had.
        """
        error = polled.error()
        if error is None:
            self._ended.discard(_place(polled))
            return True
        if error.code() != self._kafka.KafkaError._PARTITION_EOF:
            raise UserError(f"The stream cannot be read: {_place(polled)}: {error}")
        self._ended.add(_place(polled))
        return False

    @property
    def is_at_end(self) -> bool:
        """Whether there was no further message in any partition."""
        mine = {f"{p.topic}/{p.partition}" for p in self._consumer.assignment()}
        return bool(mine) and mine <= self._ended

    def close(self) -> None:
        """Leaves the broker, and the group, so that others take over at once."""
        self._consumer.close()


def _place(polled: Any) -> str:
    return f"{polled.topic()}/{polled.partition()}"


class Topics(_Reader):
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
        super().__init__(broker, names, group, "earliest")
        self._partitions()  # which says what is wrong
        self._consumer.subscribe(
            list(names), on_assign=self._forget, on_revoke=self._forget
        )

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
            elif to_end and self.is_at_end:
                return

    def _block(self, most: int, seconds: float) -> list[bytes]:
        block: list[bytes] = []
        until = time.monotonic() + seconds
        while len(block) < most and (left := until - time.monotonic()) > 0:
            polled = self._consumer.poll(left)
            if polled is None:
                break
            # Without a value, where a key was deleted.
            if self._is_message(polled) and (value := polled.value()):
                block.append(value)
        return block


@dataclasses.dataclass(frozen=True)
class Message:
    """One of a topic.

    Args:
        place: topic and partition, `"<topic>/<partition>"`.
        offset: in the partition.
        value: its bytes.
    """

    place: str
    offset: int
    value: bytes


class PlacedTopics(_Reader):
    """All partitions of some topics, each from a place that the reader names.

    Partitions that a topic is given later are read from their beginning.

    Args:
        broker: host and port, several with commas between.
        names: of the topics.
        positions: `Message.place` → offset of the next message.
        since: where partitions begin that have no position: `"earliest"` or `"latest"`.

    Raises:
        UserError: if the client is not installed, the broker does not answer, or there
            is no such topic.
    """

    def __init__(
        self,
        broker: str,
        names: Sequence[str],
        positions: Mapping[str, int],
        since: str = "earliest",
    ):
        # The client asks for a group, which is used for nothing. Nothing is left out in
        # silence: a position that is no longer there is an error.
        super().__init__(broker, names, "ctr-tf", "error")
        self._next: dict[str, int] = dict(positions)
        self._take_partitions(since)

    def _take_partitions(self, since: str) -> None:
        """Begins with the partitions that are not yet read."""
        mine = {(p.topic, p.partition) for p in self._consumer.assignment()}
        begun = []
        for name, partitions in self._partitions().items():
            for number in partitions:
                if (name, number) in mine:
                    continue
                place = f"{name}/{number}"
                partition = self._kafka.TopicPartition(name, number)
                if place not in self._next:
                    ends = self._consumer.get_watermark_offsets(
                        partition, timeout=_SECONDS_TO_ANSWER
                    )
                    self._next[place] = ends[SINCE.index(since)]
                partition.offset = self._next[place]
                begun.append(partition)
        if begun:
            self._consumer.incremental_assign(begun)

    def window(
        self, most: int, seconds: float, to_end: bool, stop: Callable[[], bool]
    ) -> tuple[list[Message], bool]:
        """The next messages, each partition's in their order.

        Args:
            most: of them.
            seconds: how long to wait for more, once there is one.
            to_end: whether not to wait where there are no more for now.
            stop: looked at now and then: whether to wait no longer.

        Returns:
            The messages, and whether all partitions have been read to their ends.

        Raises:
            UserError: if the broker says that a message cannot be had.
        """
        self._take_partitions("earliest")
        found: list[Message] = []
        until = None
        while len(found) < most and not stop():
            left = _SECONDS_TO_LOOK_UP
            if until is not None:
                left = min(left, until - time.monotonic())
            if left <= 0 or (to_end and self.is_at_end):
                break
            polled = self._consumer.poll(left)
            if polled is None or not self._is_message(polled):
                continue
            self._next[_place(polled)] = polled.offset() + 1
            if polled.value() is None:  # where a key was deleted
                continue
            found.append(Message(_place(polled), polled.offset(), polled.value()))
            until = until or time.monotonic() + seconds
        return found, self.is_at_end

    @property
    def behind(self) -> int:
        """Messages that are known to be there and have not been read."""
        behind = 0
        for partition in self._consumer.assignment():
            _, end = self._consumer.get_watermark_offsets(partition, cached=True)
            place = f"{partition.topic}/{partition.partition}"
            behind += max(end - self._next[place], 0)
        return behind
