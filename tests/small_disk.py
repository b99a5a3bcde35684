"""Programs in processes that cannot write files beyond a size, as on a full disk."""

import sys

_LIMITED = (
    "import os, resource, sys; size = int(sys.argv[1]); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


def with_small_files(size: int, words: list[str]) -> list[str]:
    """The command that runs this Python with `words` under the limit.

    The limit is set by the new process itself: code between fork and exec would run
    in a copy of this one, whose threads are gone and whose gRPC aborts over that.
    """
    return [sys.executable, "-c", _LIMITED, str(size), *words]
