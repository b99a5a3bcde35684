"""Checkpoints: everything that the next step depends on, written whole or not at all.

    checkpoints/step-00001000/   tables, network, optimizer, metrics, and state.json:
                                 the position in the data, the best validation, …
    checkpoints/best-00000800/   the weights of the best validation so far: the first
                                 ranker's, which is the one that is trained for

A checkpoint is written to a hidden folder, which is renamed when it is complete; for a
run in a store to one of this machine, whose `state.json` is copied last. Tables are
written and read by those who keep them (`ctr_tf.tables`).
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

from ctr_tf.errors import UserError
from ctr_tf.losses.loss import MAIN
from ctr_tf.models.ranker import Ranker
from ctr_tf.saved_variables import SavedVariables
from ctr_tf.storage import as_path, files, is_remote
from ctr_tf.storage.folders import reading, upload
from ctr_tf.tables.replicated import ReplicatedTables
from ctr_tf.training.trainer import Trainer

_log = logging.getLogger(__name__)
_STATE = "state.json"
_NETWORK = "network"
_FORMAT = 2
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
        history: rows of the learning curve.
        validation: metrics of the best validation.
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    validated: int = 0
    finished: bool = False
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    validation: dict[str, float] = dataclasses.field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: they lie in.
        trainer: compiled.
        keep: latest ones kept, beside the best.
        data: identifies the training data; a checkpoint goes on only with its own.
        worker: index of this process; only the files of worker 0 become a checkpoint.
            All workers must call `save` together, because some variables are summed
            over the workers when they are read.
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
        worker: int = 0,
        content: str = "",
        teacher: str = "",
    ):
        self.folder = as_path(folder)
        self.trainer = trainer
        self.keep = keep
        self.data = data
        self.worker = worker
        self.content = content
        self.teacher = teacher
        self._restored: Path | None = None

    def save(self, progress: Progress) -> None:
        """Writes a checkpoint to go on from, and removes old ones."""
        state = {**dataclasses.asdict(progress), "data": self.data}
        state["slots"] = self._order()
        state["teacher"] = self.teacher
        with self._writing(f"step-{progress.step:08d}", state) as folder:
            SavedVariables(_NETWORK, self._network() | self._metrics()).write(folder)
            self.trainer.store.save(folder)
        self._remove_all_but("step-*", self.keep)

    def save_best(self, step: int) -> None:
        """Writes the weights alone, and removes the last best."""
        ranker = self.trainer.ranker
        with self._writing(f"best-{step:08d}", {}) as folder:
            SavedVariables(_NETWORK, {MAIN: named(ranker)}).write(folder)
            tables = ranker.embedding.tables
            self.trainer.store.save(folder, slots=False, only=tables)
        self._remove_all_but("best-*", 1)

    def restore(self) -> Progress:
        """Reads the latest checkpoint that is whole, if there is one.

        A damaged one is named and left out.

        Raises:
            UserError: if it was made from other data, or with other weights; if all
                are damaged.
        """
        if not is_remote(self.folder):
            for unfinished in self.folder.glob(f".*.{self.worker}"):
                shutil.rmtree(unfinished)
        folders = sorted(self.folder.glob("step-*"), reverse=True)
        for folder in folders:
            try:
                progress = self._restore(folder)
            except _DAMAGE as error:
                _log.warning(
                    "The checkpoint '%s' is damaged and left out: %s",
                    folder, str(error).split("\n")[0],
                )  # fmt: skip
                continue
            self._restored = folder
            return progress
        if folders:
            raise UserError(
                f"All checkpoints of the run are damaged; delete them to begin anew. "
                f"Received: {', '.join(str(folder) for folder in folders)}"
            )
        return Progress()

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

    @contextlib.contextmanager
    def _writing(self, name: str, state: dict) -> Iterator[Path]:
        """A folder to write to; it takes its place when it is complete."""
        state |= {"format": _FORMAT, "content_hash": self.content}
        final = self.folder / name
        if is_remote(self.folder):
            with tempfile.TemporaryDirectory(prefix="ctr-tf-") as temporary:
                yield Path(temporary)
                if not self.worker:
                    _write_state(Path(temporary), state)
                    files.remove(final)
                    upload(Path(temporary), final, last=[_STATE])
            return
        hidden = self.folder / f".{name}.{self.worker}"
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True)
        yield hidden
        if self.worker:
            shutil.rmtree(hidden)
            return
        _write_state(hidden, state)
        files.remove(final)
        files.sync(hidden)
        hidden.rename(final)

    def _remove_all_but(self, pattern: str, count: int) -> None:
        if not self.worker:
            for folder in sorted(self.folder.glob(pattern))[:-count]:
                files.remove(folder)


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
        ReplicatedTables(ranker.embedding.tables).load(here, slots=False)


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
    (folder / _STATE).write_text(json.dumps(state, indent=1), "utf-8")


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
