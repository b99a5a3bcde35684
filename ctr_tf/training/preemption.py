"""Leaving in time: what a scheduler asks for by SIGTERM, agreed on by all workers.

A worker that is told to leave says so in its next step, with which all workers add up
what they wish. Each looks at the sum of the step before, so that no accelerator has to
be waited for. So all know at the end of the same step: they write one checkpoint, and
leave with the status `LEFT`. The same command goes on from there.

A process by itself that has made no step leaves at once: it has nothing to write.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

import tensorflow as tf

_LEAVE, _SAVE = range(2)
# What TensorFlow raises in a worker when another one is gone.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class LeftError(Exception):
    """The training left before its end, and goes on when it is called again."""


class Wishes:
    """What each worker wishes, and what all of them know that one of them wished.

    Attributes:
        has_stepped: whether this process has made a step.
    """

    def __init__(self) -> None:
        self._asked = [False, False]
        self._told = [False, False]
        self._own = tf.Variable(tf.zeros(2), trainable=False)
        self._sums: list[tf.Tensor] = []
        self.has_stepped = False

    def ask_to_leave(self) -> None:
        """Wishes that all leave; may be called at any time, by a signal too."""
        self._asked[_LEAVE] = True

    def ask_to_save(self) -> None:
        """Wishes that all write a checkpoint."""
        self._asked[_SAVE] = True

    def tell(self) -> None:
        """Puts this worker's wishes where the next step finds them."""
        asked = list(self._asked)
        if asked != self._told:
            self._own.assign(tf.cast(asked, tf.float32))
            self._told = asked

    def over_replicas(self) -> tf.Tensor:
        """The wishes of all replicas, summed `[2]`; a part of a step."""
        replica = tf.distribute.get_replica_context()
        own = self._own.read_value()
        if replica.num_replicas_in_sync == 1:
            return own
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, own)

    def stepped(self, sums: tf.Tensor) -> None:
        """Keeps what `over_replicas` gave in the step that was just begun."""
        self._sums = [*self._sums[-1:], sums]
        self.has_stepped = True

    @property
    def asked_to_leave(self) -> bool:
        """Whether this process was told to leave; the others need not know it yet."""
        return self._asked[_LEAVE]

    @property
    def leave(self) -> bool:
        """Whether all know that one of them is to leave."""
        return self._known(_LEAVE)

    def take_save(self) -> bool:
        """Whether all know that one wishes a checkpoint, which is then forgotten."""
        known = self._known(_SAVE)
        if known:
            self._asked[_SAVE] = False
            self._sums = []  # which have the wish still
        return known

    def _known(self, wish: int) -> bool:
        return len(self._sums) == 2 and float(self._sums[0][wish]) > 0


@contextlib.contextmanager
def leaving_when_told(wishes: Wishes, alone: bool) -> Iterator[None]:
    """Lets a SIGTERM to this process end the training inside, with a checkpoint.

    Only the main thread hears signals: in another one nothing changes. To be entered
    when a strategy is there, because TensorFlow takes the signal over as it makes one
    of several workers.

    Args:
        wishes: of the trainer.
        alone: whether this is the only worker.

    Raises:
        LeftError: when there is nothing to write.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> None:
        if alone and not wishes.has_stepped:
            raise LeftError("before the first step")
        wishes.ask_to_leave()

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
