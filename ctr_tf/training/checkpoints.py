"""Checkpoints: everything that the next step depends on, written whole or not at all.

    checkpoints/step-00001000/   tables, network, optimizer, metrics, and state.json:
                                 the position in the data, the best validation, …
    checkpoints/best-00000800/   the weights of the best validation so far: the first
                                 ranker's, which is the one that is trained for

A checkpoint is written to a hidden folder, which is renamed when it is complete; in a
store its `state.json` is written last. Tables are written and read by those who keep
them (`ctr_tf.tables`).

Of several workers the first writes what all of them have, and every one its shard of
tables that are cut. Where one fails, all do. To go on, the first says from which step,
and all read that: they need one folder, or one store.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ctr_tf.errors import UserError
from ctr_tf.losses.loss import MAIN
from ctr_tf.models.ranker import Ranker
from ctr_tf.saved_variables import SavedVariables, key_of
from ctr_tf.storage import as_path, files, is_remote
from ctr_tf.storage.folders import reading, upload
from ctr_tf.tables import saved_tables
from ctr_tf.tables.own_variables import own_variables
from ctr_tf.tables.shard import Shard
from ctr_tf.tables.tables import Tables
from ctr_tf.training.distribution import named as named_workers
from ctr_tf.training.distribution import together, told_by_all, worker
from ctr_tf.training.trainer import Trainer

_log = logging.getLogger(__name__)
_STATE = "state.json"
_NETWORK = "network"
_FORMAT = 2
_SECONDS_TO_SEE = 30.0  # what another worker has written, in a folder of both
_NONE = -1  # there is no checkpoint to go on from
_WHOLE, _DAMAGED, _WRONG = range(3)
# Layers that had no name of their own in the first format: Keras counted them.
_COUNTED = re.compile(r"\b(feature_embedding|full_attention)_\d+\b")
# What reading a file raises that was cut off, or is not there.
_DAMAGE = (
    json.JSONDecodeError,
    LookupError,
    OSError,
    tf.errors.OpError,
)


@dataclasses.dataclass
class Progress:
    """Where a training stands, beside the values of its variables.

    Args:
        step: steps done; with the batch size, the position in the data.
        best: best value of the monitored validation metric.
        best_step: its step.
        waited: validations since.
        validated: step of the last validation.
        finished: whether the training is over.
        first_step: steps that the optimizer had done before this training.
        history: rows of the learning curve.
        validation: metrics of the best validation; on a stream, of what was predicted
            before it was learned.
        positions: in a stream, `Message.place` → offset of the next message.
        samples: of a stream, learned so far.
        defined: of a stream, metric → samples of the windows in which it was defined.
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    validated: int = 0
    finished: bool = False
    first_step: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    validation: dict[str, float] = dataclasses.field(default_factory=dict)
    positions: dict[str, int] = dataclasses.field(default_factory=dict)
    samples: int = 0
    defined: dict[str, int] = dataclasses.field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run.

    All workers of a training must make the same calls together.

    Args:
        folder: they lie in.
        trainer: compiled.
        keep: latest ones kept, beside the best.
        data: identifies the training data; a checkpoint goes on only with its own.
        content: hash of schema and vocabularies; weights are read only for their own.
        teacher: identifies the weights of a finished teacher, which no checkpoint has;
            one goes on only with its own.
    """

    def __init__(
        self,
        folder: str | Path,
        trainer: Trainer,
        keep: int = 2,
        data: str = "",
        content: str = "",
        teacher: str = "",
    ):
        self.folder = as_path(folder)
        self.trainer = trainer
        self.keep = keep
        self.data = data
        self.content = content
        self.teacher = teacher
        self._strategy = trainer.distribute_strategy
        self._worker, _ = worker(self._strategy)
        self._restored: Path | None = None

    def save(self, progress: Progress) -> None:
        """Writes a checkpoint to go on from, and removes old ones.

        Raises:
            OSError: if a worker cannot write its part.
        """
        state = {**dataclasses.asdict(progress), "data": self.data}
        state["slots"] = self._order()
        state["teacher"] = self.teacher
        parts = self._network() | self._metrics()
        name = f"step-{progress.step:08d}"
        self._write(name, state, parts, self.trainer.store.save)
        self._remove_all_but("step-*", self.keep)

    def save_best(self, step: int) -> None:
        """Writes the weights alone, and removes the last best.

        Raises:
            OSError: if a worker cannot write its part.
        """
        ranker, store = self.trainer.ranker, self.trainer.store
        tables = ranker.embedding.tables
        save_tables = functools.partial(store.save, slots=False, only=tables)
        self._write(f"best-{step:08d}", {}, {MAIN: named(ranker)}, save_tables)
        self._remove_all_but("best-*", 1)

    def restore(self) -> Progress:
        """Reads the latest checkpoint that is whole, if there is one.

        A damaged one is named and left out.

        Raises:
            UserError: if it was made from other data, or with other weights; if all
                are damaged; if a worker does not see the one of the first.
        """
        if not self._worker and not is_remote(self.folder):
            for unfinished in self.folder.glob(".*"):
                shutil.rmtree(unfinished)
        left_out: list[Path] = []
        while (step := self._latest_but(left_out)) != _NONE:
            folder = self._folder_of(step)
            outcome, progress, error = self._attempt(folder, step)
            told = told_by_all(self._strategy, [outcome])[:, 0]
            if outcome == _WRONG:
                assert error is not None
                raise error
            if (told == _WRONG).any():
                raise UserError(
                    f"The checkpoint '{folder}' cannot be gone on from by "
                    f"{named_workers(told == _WRONG)}, whose log says why."
                )
            if not told.any():
                self._restored = folder
                return progress
            _log.warning(
                "The checkpoint '%s' is damaged and left out: %s",
                folder,
                str(error).split("\n")[0] if error else f"so {named_workers(told)} say",
            )
            left_out.append(folder)
        if left_out:
            raise UserError(
                f"All checkpoints of the run are damaged; delete them to begin anew. "
                f"Received: {', '.join(str(folder) for folder in left_out)}"
            )
        return Progress()

    def _folder_of(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _latest_but(self, left_out: list[Path]) -> int:
        """The latest step that the first worker sees a checkpoint of, or `_NONE`."""
        found = {int(path.name.removeprefix("step-")) for path in self._steps()}
        steps = [step for step in found if self._folder_of(step) not in left_out]
        return int(told_by_all(self._strategy, [max(steps, default=_NONE)])[0, 0])

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*")) if not self._worker else []

    def _attempt(
        self, folder: Path, step: int
    ) -> tuple[int, Progress, Exception | None]:
        """Reads a checkpoint on this worker; says whether it is whole here."""
        try:
            if self._worker:
                self._wait_to_see(folder, step)
            return _WHOLE, self._restore(folder), None
        except UserError as error:
            return _WRONG, Progress(), error
        except _DAMAGE as error:
            # What all read, the first has read as well; shards it has not.
            if self._worker and self.trainer.store.shard.is_whole:
                trouble = str(error).split("\n")[0]
                wrong = UserError(
                    f"This worker, {self._worker}, cannot read the checkpoint of step "
                    f"{step} that the training goes on from. Received: '{folder}': "
                    f"{trouble}"
                )
                return _WRONG, Progress(), wrong
            return _DAMAGED, Progress(), error

    def _wait_to_see(self, folder: Path, step: int) -> None:
        if not _wait_until((folder / _STATE).is_file):
            raise UserError(
                f"This worker, {self._worker}, does not see the checkpoint of step "
                f"{step} that the training goes on from: all workers need one folder "
                f"for the run, or one store. Received: '{folder}'"
            )

    def _restore(self, folder: Path) -> Progress:
        state = _read_state(folder, self.content)
        if state.get("format") != _FORMAT:
            raise UserError(
                f"Checkpoint '{folder}' was written by an older version. A run cannot "
                "go on from it, but a new one can start from its weights: "
                "`ctr-tf train --from`."
            )
        if state.pop("data") != self.data:
            raise UserError(
                f"Checkpoint '{folder}' was made from other data than the data set has "
                "now: a run goes on only with its own data."
            )
        if state.pop("teacher", "") != self.teacher:
            raise UserError(
                f"Checkpoint '{folder}' was made with other weights of the teacher "
                "than its run has now: a run goes on only with its own teacher."
            )
        if state.pop("slots") != self._order():
            raise UserError(
                f"Checkpoint '{folder}' has the weights of the optimizer in another "
                "order: it was written by another version. A new run can start from "
                "its weights: `ctr-tf train --from`."
            )
        with reading(folder) as here:
            SavedVariables(_NETWORK, self._network()).read(here)
            self.trainer.store.load(here)
        del state["format"], state["content_hash"]
        return Progress(**state)

    def restore_metrics(self) -> None:
        """Reads the running metrics of the checkpoint that was restored, if any."""
        if self._restored is not None:
            with reading(self._restored, f"{_NETWORK}*") as here:
                SavedVariables(_NETWORK, self._metrics()).read(here)
            self._restored = None

    def _network(self) -> dict[str, dict]:
        parts = {
            f"{MAIN}_{name}" if index else MAIN: named(ranker)
            for index, (name, ranker) in enumerate(self.trainer.learners.items())
        }
        return parts | {"optimizer": _numbered(self.trainer.optimizer.variables)}

    def _order(self) -> list[str]:
        """What the optimizers' slots belong to, which are saved by their numbers."""
        rankers = self.trainer.learners.values()
        network = [name for ranker in rankers for name in named(ranker)]
        return [*network, *self.trainer.tables]

    def _metrics(self) -> dict[str, dict]:
        metrics = self.trainer.metrics
        return {"metrics": _numbered([v for m in metrics for v in m.variables])}

    def _write(
        self,
        name: str,
        state: dict,
        parts: dict[str, dict],
        save_tables: Callable[[Path], None],
    ) -> None:
        """Writes to a place that nobody takes for a checkpoint before it is one."""
        state |= {"format": _FORMAT, "content_hash": self.content}
        parts = {part: _added_up(variables) for part, variables in parts.items()}
        final, shard = self.folder / name, self.trainer.store.shard
        place = final if is_remote(final) else self.folder / f".{name}"

        def begin() -> None:
            files.remove(place)
            if not is_remote(place):
                place.mkdir(parents=True)

        def write(folder: Path) -> None:
            if not self._worker:
                SavedVariables(_NETWORK, parts).write(folder)
            if not (self._worker and shard.is_whole):
                save_tables(folder)

        def write_part() -> None:
            if not is_remote(place):
                write(place)
                for own in (_NETWORK, saved_tables.file_name(shard)):
                    for path in place.glob(f"{own}.*"):
                        files.sync(path)
                return
            with tempfile.TemporaryDirectory(prefix="ctr-tf-") as temporary:
                write(Path(temporary))
                upload(Path(temporary), place)

        def publish() -> None:
            _check_shards(place, shard.count)
            _write_state(place, state)
            if place != final:
                files.remove(final)
                files.sync(place)
                place.rename(final)

        self._together(final, begin, first_alone=True)
        self._together(final, write_part)
        self._together(final, publish, first_alone=True)

    def _together(
        self, final: Path, action: Callable[[], None], first_alone: bool = False
    ) -> None:
        if first_alone and self._worker:
            action = _nothing
        together(self._strategy, f"Writing the checkpoint '{final}'", action)

    def _remove_all_but(self, pattern: str, count: int) -> None:
        if not self._worker:
            for folder in sorted(self.folder.glob(pattern))[:-count]:
                files.remove(folder)


def _nothing() -> None:
    pass


def _check_shards(folder: Path, count: int) -> None:
    """Waits for the files of all workers, which their folder may show late."""
    shards = [Shard(index, count) for index in range(count)]
    if not _wait_until(lambda: not saved_tables.missing_shards(folder, shards)):
        missing = saved_tables.missing_shards(folder, shards)
        raise OSError(
            f"The checkpoint in '{folder}' lacks what other workers have written: all "
            "workers need one folder for the run, or one store. Missing: "
            f"{', '.join(missing)}"
        )


def _wait_until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within `_SECONDS_TO_SEE`."""
    latest = time.monotonic() + _SECONDS_TO_SEE
    while not (true := condition()) and time.monotonic() < latest:
        time.sleep(0.1)
    return true


def _added_up(variables: dict[str, tf.Variable]) -> dict[str, tf.Variable]:
    """Reads those that are added up over all workers, by all of them in one order."""
    summed = tf.VariableSynchronization.ON_READ
    with own_variables():
        return {
            name: tf.Variable(variable.numpy(), trainable=False)
            if variable.synchronization == summed
            else variable
            for name, variable in variables.items()
        }


def digest(folder: str | Path) -> str:
    """Identifies the best weights among a run's checkpoints, by their checksums.

    Raises:
        FileNotFoundError: if there are none.
    """
    found = _find(folder, "best")
    indices = sorted(found.glob("*.index"))  # TensorFlow's, with each tensor's checksum
    return hashlib.sha256(b"".join(path.read_bytes() for path in indices)).hexdigest()


def load_weights(
    folder: str | Path, ranker: Ranker, weights: str = "best", content: str = ""
) -> None:
    """Reads a model's weights.

    Args:
        folder: of a run's checkpoints.
        ranker: built.
        weights: `"best"` or `"last"`.
        content: hash of schema and vocabularies; weights are read only for their own.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        UserError: for another word, or if the model's weights differ.
    """
    found = _find(folder, weights)
    state = _read_state(found, content)
    if state.get("format") != _FORMAT:
        with reading(found) as here:
            _load_first_format(here, ranker, state["shapes"])
        return
    with reading(found) as here:
        SavedVariables(_NETWORK, {MAIN: named(ranker)}).read(here)
        Tables(ranker.embedding.tables).load(here, slots=False)


@contextlib.contextmanager
def best_weights(folder: str | Path) -> Iterator[Path]:
    """The folder of the best weights among a run's checkpoints, here.

    Raises:
        FileNotFoundError: if there are none.
    """
    with reading(_find(folder, "best")) as here:
        yield here


@contextlib.contextmanager
def last_step(folder: str | Path, content: str, order: Sequence[str]) -> Iterator[Path]:
    """The folder of a run's last checkpoint, here, whose slots are those of a trainer.

    Args:
        folder: of the run's checkpoints.
        content: hash of the run's schema and vocabularies.
        order: what the trainer's slots belong to.

    Raises:
        FileNotFoundError: if there is no checkpoint of a step.
        UserError: if its slots belong to something else.
    """
    found = _find(folder, "last")
    state = _read_state(found, content)
    if state.get("format") != _FORMAT or state["slots"] != [*order]:
        raise UserError(
            f"What the optimizer knows in the checkpoint '{found}' is of another "
            "version, or of other weights: start without `--slots`."
        )
    with reading(found) as here:
        yield here


def optimizer_values(folder: Path) -> list[np.ndarray]:
    """Values of the network's optimizer in a checkpoint, in its own order."""
    reader = tf.train.load_checkpoint(str(folder / _NETWORK))
    there = reader.get_variable_to_shape_map()
    values: list[np.ndarray] = []
    while (key := key_of("optimizer", str(len(values)))) in there:
        values.append(reader.get_tensor(key))
    return values


def _find(folder: str | Path, weights: str) -> Path:
    patterns = {"best": "best-*", "last": "step-*"}
    if weights not in patterns:
        raise UserError(f"`weights` is 'best' or 'last'. Received: {weights!r}")
    every = as_path(folder).glob(patterns[weights])
    found = max((path for path in every if (path / _STATE).is_file()), default=None)
    if found is None:
        raise FileNotFoundError(
            f"There is no {weights} checkpoint ('{patterns[weights]}') in '{folder}'."
        )
    return found


def named(ranker: Ranker) -> dict[str, tf.Variable]:
    """The variables of a ranker's network, by their paths within it."""
    return _by_path(ranker.network)


def _by_path(variables: list[keras.Variable]) -> dict[str, tf.Variable]:
    """Without the model's own name, of which Keras counts those of a process."""
    found = {v.path.partition("/")[2]: v.value for v in variables}
    if len(found) < len(variables):
        raise UserError(
            "A model's layers need names that differ, for its weights are saved by "
            f"them. Received: {sorted(v.path for v in variables)}"
        )
    return found


def _numbered(variables: list[keras.Variable]) -> dict[str, tf.Variable]:
    return {str(index): variable.value for index, variable in enumerate(variables)}


def _write_state(folder: Path, state: dict) -> None:
    files.write_text(folder / _STATE, json.dumps(state, indent=1))


def _read_state(folder: Path, content: str) -> dict:
    state = json.loads((folder / _STATE).read_text("utf-8"))
    if state.get("content_hash") != content:
        raise UserError(
            f"Checkpoint '{folder}' was made with another schema or other "
            f"vocabularies: it must have the content hash {content!r}. "
            f"Received: {state.get('content_hash')!r}"
        )
    return state


def _load_first_format(folder: Path, ranker: Ranker, shapes: list) -> None:
    """Reads weights as they were written before tables had a file of their own.

    A model's layers have since moved into parts, so a path there is the end of a path
    here.
    """
    own = _by_path(ranker.variables)
    wanted = []
    for path, shape in shapes:
        tail = _COUNTED.sub(r"\1", path.partition("/")[2])
        fits = [p for p in own if p == tail] or [
            p for p in own if p.endswith(f"/{tail}")
        ]
        if len(fits) != 1 or own[fits[0]].shape.as_list() != shape:
            raise UserError(
                f"Checkpoint '{folder}' does not fit the model, which has no one "
                f"variable for '{path}' of shape {shape}."
            )
        wanted.append(own.pop(fits[0]))
    if own:
        raise UserError(
            f"Checkpoint '{folder}' does not fit the model: it has nothing for "
            f"{', '.join(own)}."
        )
    status = tf.train.Checkpoint(model=wanted).read(str(folder / "variables"))
    status.assert_existing_objects_matched().expect_partial()
