"""Prints what `prepare`, `synthesize` and `ingest` need, without TensorFlow.

    pip install --no-deps .
    python docker/requirements.py [EXTRA,EXTRA…] > requirements.txt
    pip install -r requirements.txt

The versions are those of `setup.py`, as the installed package has them.
"""

import importlib.metadata
import re
import sys

JOBS = (
    "apache-beam",
    "google-crc32c",
    "isal",
    "lmdb",
    "msgpack",
    "numpy",
    "pandas",
    "pyarrow",
    "PyYAML",
    "redis",
    "tokenizers",
    "tzdata",
    "universal-pathlib",
)
_DECLARED = re.compile(
    r"(?P<pinned>(?P<name>[\w.-]+)[^;]*?)\s*"
    r"(?:;\s*extra\s*==\s*[\"'](?P<extra>[\w-]+)[\"'])?"
)


def select(declared: list[str], extras: list[str]) -> list[str]:
    """What the jobs and some extras need.

    Args:
        declared: requirements of the package, as its metadata has them.
        extras: of the package.

    Raises:
        ValueError: names what the package does not declare.
    """
    found = [match for text in declared if (match := _DECLARED.fullmatch(text))]
    known = {match["name"] for match in found if match["extra"] is None}
    known_extras = {match["extra"] for match in found}
    unknown = {*(set(JOBS) - known), *(set(extras) - known_extras)}
    if unknown:
        raise ValueError(f"ctr-tf declares none of these: {', '.join(sorted(unknown))}")
    return [
        match["pinned"]
        for match in found
        if (match["extra"] is None and match["name"] in JOBS)
        or match["extra"] in extras
    ]


if __name__ == "__main__":
    asked = [name for word in sys.argv[1:] for name in word.split(",") if name]
    requires = importlib.metadata.requires("ctr-tf") or []
    print("\n".join(select(requires, asked)))
