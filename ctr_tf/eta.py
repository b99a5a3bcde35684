"""When long work will be done: told in every line of progress that knows its total."""

import time
from collections.abc import Callable

from ctr_tf.time import duration


class Eta:
    """Says how long the rest will take, if it goes on as it has gone.

    Args:
        total: units of the work; None where nobody knows.
        done: of them before the clock starts.
        clock: seconds, from any start.
    """

    def __init__(
        self,
        total: float | None,
        done: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total = total
        self._before = done
        self._clock = clock
        self._started = clock()

    def told(self, done: float) -> str:
        """`"  ETA 3 m 20 s"`; empty where it is not known yet, or all is done.

        Args:
            done: units by now, those before the clock started among them.
        """
        mine = done - self._before
        if self._total is None or mine <= 0 or done >= self._total:
            return ""
        each = (self._clock() - self._started) / mine
        return f"  ETA {duration(round(each * (self._total - done)))}"
