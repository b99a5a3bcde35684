"""What a recipe says about a stream that is trained on."""

import dataclasses

from ctr_tf.data.topics import SINCE
from ctr_tf.errors import UserError, unknown_name


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """Samples that come as messages of a Kafka broker; see `ctr_tf.training.stream`.

    Args:
        broker: host and port, several with commas between; `--stream` sets it.
        topics: whose messages are serialized samples; `--topics` sets them.
        since: where the first window begins: `"earliest"` or `"latest"`.
        window_steps: batches that are predicted, and then learned, together.
        window_seconds: how long a window waits for more, once it has a sample.
        to_end: whether to stop where there are no more messages for now.
    """

    broker: str = ""
    topics: tuple[str, ...] = ()
    since: str = "earliest"
    window_steps: int = 50
    window_seconds: float = 60.0
    to_end: bool = False

    def __post_init__(self) -> None:
        if not (self.broker and self.topics):
            raise UserError(
                "`stream.broker` and `stream.topics` (`--stream`, `--topics`) belong "
                f"together. Received: {self.broker!r} and {list(self.topics)}"
            )
        if self.since not in SINCE:
            raise UserError(unknown_name("stream.since", self.since, SINCE))
        for key in ("window_steps", "window_seconds"):
            value = getattr(self, key)
            if not value > 0:
                raise UserError(f"`stream.{key}` must be positive. Received: {value!r}")
