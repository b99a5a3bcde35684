"""What TensorFlow itself reads from a store: record files, by tensorflow-io.

tensorflow-io is loaded where such a path is used, for it takes seconds. A process that
has read by it aborts when it ends (status 134, tensorflow/io issue 2039), whatever came
before; `leave` ends it with its own status.
"""

import atexit
import functools
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from ctr_tf.errors import UserError
from ctr_tf.storage.paths import is_remote, s3_endpoint


def for_tensorflow(path: str | Path) -> str:
    """The name of a file, once TensorFlow can open it.

    Raises:
        UserError: if tensorflow-io cannot be loaded.
    """
    if is_remote(path):
        _load()
    return str(path)


@functools.cache
def _load() -> None:
    endpoint = s3_endpoint()
    if endpoint:
        os.environ.setdefault("S3_ENDPOINT", endpoint)
        secure = str(int(endpoint.startswith("https")))
        os.environ.setdefault("S3_USE_HTTPS", secure)
        os.environ.setdefault("S3_VERIFY_SSL", secure)
    region = os.environ.get("AWS_DEFAULT_REGION")
    if region:
        os.environ.setdefault("AWS_REGION", region)
    try:
        import tensorflow_io  # noqa: F401  its import is what registers the stores
    except Exception as error:  # also of its kernels, made for one TensorFlow
        raise UserError(
            f"tensorflow-io, which reads samples in a store, does not load: {error}"
        ) from error


def leave(status: int) -> NoReturn:
    """Ends the process with a status, whatever tensorflow-io does at its end."""
    if _load.cache_info().currsize:
        atexit._run_exitfuncs()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
