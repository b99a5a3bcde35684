"""Names of files and folders, here and in stores, and whether a store answers."""

import contextlib
import importlib
import os
import re
from pathlib import Path
from typing import Any, cast

from ctr_tf.errors import UserError, unknown_name

# A store that does not answer is told of within seconds.
_S3 = {"connect_timeout": 5, "retries": {"max_attempts": 3, "mode": "standard"}}
# Scheme → the package that reads it, and what is given to it.
STORES: dict[str, tuple[str, dict[str, Any]]] = {
    "s3": ("s3fs", {"use_listings_cache": False, "config_kwargs": _S3}),
    "gs": ("gcsfs", {"use_listings_cache": False}),
    "hdfs": ("pyarrow", {}),
}
_SETTINGS = {
    "s3": "the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a profile, or the "
    "machine's role), AWS_DEFAULT_REGION, and AWS_ENDPOINT_URL for another server than "
    "Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
    "hdfs": "HADOOP_HOME, CLASSPATH (`hadoop classpath --glob`) and JAVA_HOME",
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")


def as_path(place: str | os.PathLike) -> Path:
    """A path of this machine or of a store; both have the methods of `pathlib.Path`.

    Args:
        place: such as `runs/demo`, `/data`, `s3://bucket/data`; or a path.

    Raises:
        UserError: for a scheme that is not known, or a store whose package is not
            installed.
    """
    if hasattr(place, "fs"):
        return cast(Path, place)
    text = os.fspath(place)
    found = _SCHEME.match(text)
    if found is None:
        return Path(text)
    scheme = found[1].lower()
    if scheme == "file":
        return Path(text[len("file:") :].replace("//", "", 1))
    if scheme not in STORES:
        raise UserError(f"{unknown_name('store', scheme, STORES)} In: '{text}'")
    if not text.startswith(f"{scheme}://"):
        raise UserError(
            f"A path in a store begins with '{scheme}://'. Received: {text}"
        )
    package, options = STORES[scheme]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"'{text}' needs the package {package}: pip install 'ctr-tf[{scheme}]'"
        ) from error
    from upath import UPath

    return cast(Path, UPath(text.rstrip("/"), **options))


def is_remote(place: str | os.PathLike) -> bool:
    """Whether a path lies in a store, and not on this machine."""
    return hasattr(as_path(place), "fs")


def as_local(place: str | os.PathLike, what: str) -> Path:
    """A path of this machine.

    Args:
        place: see `as_path`.
        what: it is, as the user knows it.

    Raises:
        UserError: if it lies in a store.
    """
    if is_remote(place):
        raise UserError(f"{what} must lie on this machine. Received: {place}")
    return as_path(place)


def check_store(place: str | os.PathLike) -> Path:
    """The path, after its store has answered; nothing is asked of this machine's disk.

    Raises:
        UserError: names the path, the endpoint and what to set.
    """
    path: Any = as_path(place)
    if not is_remote(path):
        return path
    bucket = path.path.strip("/").split("/")[0]
    try:
        with contextlib.suppress(FileNotFoundError):
            path.fs.ls(path.path)
            return path
        if path.protocol != "hdfs" and not path.fs.exists(bucket):
            raise FileNotFoundError(f"there is no bucket '{bucket}'")
    except Exception as error:  # of a store's library, which has many kinds
        raise UserError(
            f"'{path}' cannot be reached{_endpoint(path.protocol)}: "
            f"{str(error) or type(error).__name__}. Set {_SETTINGS[path.protocol]}."
        ) from error
    return path


def _endpoint(scheme: str) -> str:
    endpoint = s3_endpoint()
    return f" at {endpoint}" if scheme == "s3" and endpoint else ""


def s3_endpoint() -> str | None:
    """Where the environment says that S3 is, if it does."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    return next(filter(None, map(os.environ.get, names)), None)
