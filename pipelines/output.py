"""The folder that a job publishes: a reader sees all of it or nothing.

On this machine workers write into a folder beside the output, and one rename publishes
it. In a store, which has no rename, they write into a folder of their own within the
output, and the manifest, written last, names it: readers go by the manifest, also while
an output is replaced.
"""

import contextlib
import dataclasses
import glob
import logging
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from ctr_tf.data.manifest import MANIFEST, Document
from ctr_tf.errors import UserError
from ctr_tf.storage import check_store, files, is_remote
from pipelines.limits import RejectionLimits

REPORT = "report.json"  # what `Output.finish` decides by
WORK = "work"  # folder of what steps leave for one another; gone when published
_LONGEST_EXAMPLE = 1_000
_OF_A_JOB = re.compile(r"data-[0-9a-f]{32}")  # no folder of somebody else's
D = TypeVar("D", bound=Document)
_log = logging.getLogger(__name__)


class Output:
    """The folder that a job publishes.

    Args:
        path: of the folder.
        overwrite: whether it may replace an existing one.

    Raises:
        FileExistsError: if it exists and must not be replaced.
        UserError: if it lies in a store that does not answer.
    """

    def __init__(self, path: str, overwrite: bool):
        self.path = path.rstrip("/")
        place = check_store(self.path)
        self._place = (_InStore if is_remote(place) else _Here)(place, overwrite)
        self._place.clean_up()
        if self._place.exists() and not overwrite:
            raise FileExistsError(
                f"The output '{self.path}' exists. Give another `--output`, or "
                "`--overwrite` to replace it."
            )

    @contextlib.contextmanager
    def unfinished(self) -> Iterator[str]:
        """A folder to write into; it is gone afterwards, unless it was published."""
        with self._place.working():
            yield str(self._place.folder)

    def finish(self, kind: type[D], limits: RejectionLimits) -> D:
        """Publishes the folder.

        Args:
            kind: of the manifest.
            limits: of the rows put aside.

        Returns:
            The manifest.

        Raises:
            UserError: if more rows were rejected; their lines are in
                `<output>.rejected` then.
        """
        report_path = self._place.folder / REPORT
        report = files.read_json(report_path)
        files.remove(report_path)
        manifest = kind.from_mapping(report["manifest"])
        self._check_rejected(manifest, report["examples"], limits)
        files.remove(self._place.folder / WORK)
        manifest = dataclasses.replace(manifest, folder=self._place.name)
        self._place.publish(manifest)
        return manifest

    def _check_rejected(
        self, manifest: Document, examples: dict[str, str], limits: RejectionLimits
    ) -> None:
        faults = limits.faults(manifest.counts)
        if not faults:
            return
        reasons: Counter[str] = Counter()
        for count in manifest.counts.values():
            reasons.update({r: n for r, n in count.lost.items() if r in examples})
        kept_at = f"{self.path}.rejected"
        files.remove(kept_at)
        files.move(self._place.folder / "rejected", kept_at)
        listed = "".join(
            f"\n  {count:,} {reason}, such as {_shortened(examples[reason])}"
            for reason, count in reasons.most_common()
        )
        raise UserError(
            f"{'; '.join(faults)}. See `--max_rejected_fraction` and "
            f"`--allow_rejected`. Nothing was published; all that is unfit is in "
            f"'{kept_at}'.{listed}\nReceived: max_rejected_fraction={limits.fraction}"
        )


class _Here:
    """An output on this machine.

    Args:
        output: its folder.
        overwrite: whether it may be replaced.

    Attributes:
        folder: to write into.
        name: of `folder` within the published output.
    """

    name = ""

    def __init__(self, output: Path, overwrite: bool):
        self._output = output
        self._overwrite = overwrite
        unique = uuid.uuid4().hex[:8]
        self.folder = output.with_name(f"{output.name}.{unique}.unfinished")

    def clean_up(self) -> None:
        """Mends what a job left that was killed; a living one holds its folder."""
        if done := files.recover(self._output):
            _log.warning("An earlier job was killed: %s.", done)
        for left in files.remove_left(f"{glob.escape(str(self._output))}.*.unfinished"):
            _log.warning("An earlier job was killed: removed '%s'.", left)

    def exists(self) -> bool:
        """Whether there is an output already."""
        return self._output.exists()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Makes the folder, and removes what is left of it."""
        self.folder.mkdir(parents=True)
        try:
            with files.held(self.folder):
                yield
        finally:
            files.remove(self.folder)

    def publish(self, manifest: Document) -> None:
        """Writes the manifest, and puts the folder in its place."""
        files.write_text(self.folder / MANIFEST, manifest.to_json())
        if self._overwrite:
            files.replace(self.folder, self._output)
        else:
            self.folder.rename(self._output)


class _InStore:
    """An output in a store; see `_Here`."""

    def __init__(self, output: Path, overwrite: bool):
        self._output = output
        self._overwrite = overwrite
        self.name = f"data-{uuid.uuid4().hex}"
        self.folder = output / self.name
        self._published = False

    def clean_up(self) -> None:
        """Removes what jobs left that were killed, which no manifest names."""
        for left in self._others(self._named()):
            _log.warning(
                "An earlier job did not come to its end: removed '%s'. If it still "
                "runs, it will fail.",
                left,
            )
            files.remove(left)

    def exists(self) -> bool:
        """Whether there is an output already, or something else."""
        return self._output.exists()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Removes the folder, unless it was published."""
        try:
            yield
        finally:
            if not self._published:
                files.remove(self.folder)

    def publish(self, manifest: Document) -> None:
        """Writes the manifest, and removes what it replaces."""
        self._check_complete(manifest.sizes)
        if not self._overwrite and self._named() is not None:
            raise FileExistsError(f"Another job has published '{self._output}'.")
        files.write_text(self._output / MANIFEST, manifest.to_json())
        self._published = True
        for replaced in self._others(self.name):
            files.remove(replaced)

    def _named(self) -> str | None:
        """The folder that the manifest names, where there is one."""
        path = self._output / MANIFEST
        return files.read_json(path).get("folder") if path.is_file() else None

    def _others(self, name: str | None) -> list[Path]:
        found = self._output.glob("data-*") if self._output.is_dir() else ()
        ours = (path for path in found if _OF_A_JOB.fullmatch(path.name))
        return sorted(path for path in ours if path.name != name)

    def _check_complete(self, sizes: Mapping[str, int]) -> None:
        """Raises OSError if a file is gone, which another job for this output does."""
        for name, size in sizes.items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != size:
                raise OSError(
                    f"'{path}' is not there as it was written: another job for this "
                    "output has begun. Nothing was published."
                )


def _shortened(line: str) -> str:
    """A line for people; whole, it is in `rejected/`."""
    return line if len(line) <= _LONGEST_EXAMPLE else line[:_LONGEST_EXAMPLE] + "…"
