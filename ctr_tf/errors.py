"""How this project words a user's mistake: the thing, the value received, the fix."""

import difflib
import errno
import os
import re
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """A mistake of the user, told in one line: the thing, the value received, the fix.

    Every other exception is one of ours, and keeps its traceback.
    """


_MOST_NAMES = 40
_OF_TENSORFLOW = re.compile(r"^\{\{.*?\}\} | \[Op:\w+\]")
_STORAGE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES)


def unknown_name(what: str, received: object, known: Iterable[str]) -> str:
    """Words the error for a name that is not among the known ones.

    Args:
        what: what was looked up, as the user knows it (``"config key"``).
        received: the name that was given.
        known: the names that exist.

    Returns:
        A sentence that names the value received, the nearest known name where one is
        near, and all known names unless they are very many.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(received), names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    if len(names) > _MOST_NAMES:
        return f"Unknown {what} '{received}'.{hint}"
    return f"Unknown {what} '{received}'.{hint} Known: {', '.join(names) or '(none)'}."


def check_positive_options(options: Any, *names: str) -> None:
    """Raises UserError for an option of a command line that is not positive."""
    for name in names:
        value = getattr(options, name)
        if not value > 0:
            raise UserError(f"`--{name}` must be positive. Received: {value}")


def storage_trouble(error: Exception) -> str | None:
    """What is wrong with the disk, where a library hides it in an error of its own.

    Returns:
        The line that says it, with the path where the library names it; None if the
        error is another.
    """
    for line in str(error).split("\n"):
        if any(os.strerror(number) in line for number in _STORAGE):
            return plain_line(line)
    return None


def plain_line(message: str) -> str:
    """The first line of what TensorFlow says, without its names of operations."""
    return _OF_TENSORFLOW.sub("", message.split("\n")[0]).strip()
