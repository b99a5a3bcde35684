"""Every file of a folder of raw logs is read, or named."""

import posixpath
from collections.abc import Iterator, Sequence

from ctr_tf.errors import UserError
from pipelines.sources.raw_files import IGNORED, join, list_folder, matches
from pipelines.sources.source import Shard, Source


def check_all_read(
    source: Source, folder: str, shards: Sequence[Shard], ignore: str = ""
) -> list[str]:
    """Holds the entries of a folder against what is read of it.

    Args:
        source: of the logs.
        folder: of the raw files.
        shards: that are read.
        ignore: further patterns of names that may be left, with commas between.

    Returns:
        Names of what is not read.

    Raises:
        UserError: names an entry that nobody reads, and nobody said may be left.
    """
    patterns = (*IGNORED, *source.ignored, *filter(None, ignore.split(",")))
    beside = {join(folder, name) for name in source.read_beside}
    read = {shard.path for shard in shards} | beside
    ignored = []
    for path in _unread(str(folder), read):
        name = posixpath.relpath(path, str(folder))
        if not any(matches(part, patterns) for part in (name, *name.split("/"))):
            raise UserError(
                f"Source '{source.name}' does not read '{path}'. Take it "
                "out of the folder, rename it to what the source reads, or say that it "
                f"may be left: --ignore '{name}'. Left anyway are "
                f"{', '.join(patterns)}. Received: {name}"
            )
        ignored.append(name)
    return ignored


def _unread(folder: str, read: set[str]) -> Iterator[str]:
    """Visible files of a folder that are not read, and folders nothing of which is."""
    for info in list_folder(folder):
        path = join(folder, info.base_name)
        if path in read:
            continue
        if any(other.startswith(f"{path}/") for other in read):
            yield from _unread(path, read)
        else:
            yield path
