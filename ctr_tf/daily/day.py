"""One day, from raw logs to the run that serves the next one.

The command is `ctr_tf.commands.day`, which tells what a day leaves.
"""

import argparse
import datetime
import json
import logging
from collections.abc import Callable
from pathlib import Path

from ctr_tf import config as configs
from ctr_tf.daily.record import DAY, MEASURED, table, write_record
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.schema.vocabulary import check_extended
from ctr_tf.storage import as_local, files

_log = logging.getLogger(__name__)
_OPTIONS = "options.json"
# Options of `ctr-tf prepare` that are none of the user's.
_OWN = (
    *("output", "overwrite", "vocabularies", "samples_from", "samples_until"),
    *("validation_from", "validation_days", "test_from", "test_days"),
)
_A_DAY = datetime.timedelta(days=1)
# Every sample is trained on once, and the next day is the validation.
TRAINING = (
    *("training.validate=false", "training.patience=null"),
    *("training.epochs=1", "training.min_steps=null"),
)


class Day:
    """The stages of one day; each does nothing where it is done.

    Args:
        options: of the command line.
        prepare: further options of `ctr-tf prepare`.
        previous: folder of the day to go on from; None: begin from nothing.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        prepare: list[str],
        previous: Path | None,
    ):
        self.options = options
        self.day: datetime.date = options.day
        self.folder = options.root / self.day.isoformat()
        self.data = self.folder / "data"
        self.run = self.folder / "run"
        self.predicted = self.folder / "predicted"
        self._prepare = prepare
        self._previous = previous

    def begin(self) -> None:
        """Notes what the day is begun with.

        Raises:
            UserError: if it was begun with something else.
        """
        mine = {
            "source": self.options.source,
            "input": self.options.input,
            "renew": self.options.renew,
            "from": None if self._previous is None else self._previous.name,
            "prepare": self._prepare,
        }
        path = self.folder / _OPTIONS
        if not path.is_file():
            files.write_text(path, json.dumps(mine, indent=1) + "\n")
        elif changed := configs.differences(files.read_json(path), mine):
            raise UserError(
                f"{self.day} was begun with other options. Give those, or remove "
                f"'{self.folder}' to begin it anew. They differ in "
                f"{', '.join(changed)}."
            )

    def prepare(self) -> bool:
        """Prepares the samples; returns whether there was anything to do."""
        from pipelines import listwise

        if self.data.exists():
            return False
        start, stop = self.day.isoformat(), (self.day + _A_DAY).isoformat()
        words = [
            *("--source", self.options.source, "--input", self.options.input),
            *("--output", str(self.data), *self._prepare),
            *("--samples_from", start, "--samples_until", stop),
            *("--validation_from", stop, "--test_from", stop),
        ]
        if self._previous is not None and not self.options.renew:
            words += ["--vocabularies", str(self._previous / "run")]
        unfinished = self.data.with_name("data.unchecked")
        words[words.index(str(self.data))] = str(unfinished)
        manifest = listwise.run([*words, "--overwrite"])
        if not manifest.splits["train"].samples:
            files.remove(unfinished)
            raise UserError(
                f"The logs must have exposures of the day. Received: none of {start} "
                f"(UTC) in '{self.options.input}'"
            )
        unfinished.rename(self.data)
        return True

    def check_ids(self) -> None:
        """Raises UserError where ids of the day before do not mean the same here."""
        from ctr_tf.training.run import read_content

        if self._previous is not None and not self.options.renew:
            earlier = self._previous / "run"
            _, before = read_content(earlier)
            now = PreparedData.load(self.data).vocabularies
            check_extended(before, now, earlier, self.data)

    def predict(self) -> bool:
        """Scores the day by the run of the day before."""
        from ctr_tf.evaluation.evaluate import METRICS, OneClassError, evaluate_run

        if self._previous is None or self.predicted.exists():
            return False
        unfinished = self.predicted.with_name("predicted.unfinished")
        files.remove(unfinished)
        try:
            evaluate_run(
                self._previous / "run",
                "train",
                output=unfinished,
                withheld=False,
                data=self.data,
            )
        except OneClassError as error:
            _log.warning("the day is predicted without a report: %s", error)
            metrics = {name: error.metrics[name] for name in MEASURED}
            files.remove(unfinished)
            unfinished.mkdir()
            files.write_text(unfinished / METRICS, json.dumps(metrics) + "\n")
        files.sync(unfinished)
        unfinished.rename(self.predicted)
        return True

    def train(self) -> int | None:
        """Trains on the day; returns None where that is done, else the exit status."""
        from ctr_tf.commands import train
        from ctr_tf.training.run import METRICS

        if (self.run / METRICS).is_file():
            return None
        words = ["--config", self.options.config]
        if self.options.model is not None:
            words += ["--model", self.options.model]
        if self._previous is not None:
            words += ["--from", str(self._previous / "run")]
            words.append("training.start_slots=true")
        words += [*TRAINING, *self.options.overrides]
        words += ["--data", str(self.data), "--run", str(self.run)]
        if status := train.main(words):
            return status
        self._tell_uneven()
        return 0

    def _tell_uneven(self) -> None:
        """Tells of samples that were not learned, or learned again: a batch is full."""
        from ctr_tf.data.dataset import num_samples
        from ctr_tf.training.run import METRICS, read_config

        data = read_config(self.run).data
        samples = num_samples(self.data, "train", data)
        learned = files.read_json(self.run / METRICS)["steps"] * data.batch_size
        if learned < samples:
            _log.info(
                "%s of the day's %s samples were not learned: they do not fill a batch "
                "of %d",
                *(f"{samples - learned:,}", f"{samples:,}", data.batch_size),
            )
        elif learned > samples:
            _log.info(
                "the day's %s samples were passed over again, to learn %s in batches "
                "of %d",
                *(f"{samples:,}", f"{learned:,}", data.batch_size),
            )

    def export(self) -> bool:
        """Exports the run, if asked."""
        from ctr_tf.commands import export
        from serving.export import versions

        if not self.options.with_export or versions(self.run / "export"):
            return False
        if status := export.main(["--run", str(self.run)]):
            raise UserError(f"The export failed, see above. Received: status {status}")
        return True

    def write_down(self) -> bool:
        """Writes `day.json`, by which the next day knows that this one is done."""
        if (self.folder / DAY).is_file():
            return False
        data = PreparedData.load(self.data)
        row = {
            "day": self.day.isoformat(),
            "from": None if self._previous is None else self._previous.name,
            "samples": data.num_samples("train"),
            "candidates": data.manifest.splits["train"].candidates,
            "clicks": data.manifest.splits["train"].clicks,
            "predicted": self._metrics(),
            "new_values": self._new_values(data),
            "steps": files.read_json(self.run / "metrics.json")["steps"],
        }
        files.write_text(self.folder / DAY, json.dumps(row, indent=1) + "\n")
        return True

    def _metrics(self) -> dict | None:
        if self._previous is None:
            return None
        metrics = files.read_json(self.predicted / "metrics.json")
        return {name: metrics[name] for name in MEASURED}

    def _new_values(self, data: PreparedData) -> dict[str, int]:
        from ctr_tf.training.run import read_content

        names, now = data.vocabularies.names, data.vocabularies
        known: dict[str, set[str]] = {name: set() for name in names}
        if self._previous is not None:
            _, before = read_content(self._previous / "run")
            known = {name: set(before.values(name)) for name in names}
        return {name: len(set(now.values(name)) - known[name]) for name in names}


def find_previous(root: Path, day: datetime.date, after: str | None) -> Path | None:
    """The folder of the day to go on from; None for the first day of all.

    Args:
        root: folder of the days.
        day: to be trained.
        after: another day than the one before, where the user names one.

    Raises:
        UserError: if that day is not finished.
    """
    others = [path for path in sorted(root.glob("????-??-??")) if path.name != str(day)]
    if after is None and not others:
        return None
    wanted = after or (day - _A_DAY).isoformat()
    if wanted >= day.isoformat():
        raise UserError(f"`--after` must be a day before {day}. Received: {wanted}")
    if not (root / wanted / DAY).is_file():
        finished = [path.name for path in others if (path / DAY).is_file()]
        earlier = [name for name in finished if name < day.isoformat()]
        raise UserError(
            f"{day} goes on from {wanted}, which is not finished in '{root}': run that "
            "day first, or go on from another (`--after`). Finished before: "
            f"{', '.join(earlier[-3:]) or 'none'}"
        )
    return root / wanted


def run(options: argparse.Namespace, prepare: list[str]) -> int:
    """Runs one day.

    Args:
        options: of the command.
        prepare: further options of `ctr-tf prepare`.

    Returns:
        The exit status.
    """
    for word in prepare:
        name = word.removeprefix("--").split("=")[0]
        if "=" not in word or name in _OWN:
            raise UserError(
                "Options of `ctr-tf prepare` are written `--name=value`, and none of "
                f"{', '.join(_OWN)}. Received: {word}"
            )
    options.root = as_local(options.root, "`--root`")
    options.root.mkdir(parents=True, exist_ok=True)
    try:
        with files.held(options.root), files.naming(options.root):
            return _run(options, prepare)
    except BlockingIOError:
        raise UserError(
            f"Another `ctr-tf day` is at work in this root. Received: {options.root}"
        ) from None


def _run(options: argparse.Namespace, prepare: list[str]) -> int:
    day = Day(options, prepare, find_previous(options.root, options.day, options.after))
    day.begin()
    done = [_stage("prepare", day.prepare)]
    day.check_ids()
    done.append(_stage("predict", day.predict))
    status = _stage("train", day.train)
    if status:
        return status
    done.append(status is not None)
    done += [_stage("export", day.export), _stage("write down", day.write_down)]
    rows = write_record(options.root)
    if not any(done):
        print(f"{options.day} is done already: there was nothing to do.")
    print("\n".join(table(rows)))
    return 0


def _stage(name: str, stage: Callable) -> int | bool | None:
    _log.info("=== %s", name)
    return stage()
