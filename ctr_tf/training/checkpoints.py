"""Checkpoints: everything that the next step depends on, written whole or not at all.

    checkpoints/step-00001000/   weights, optimizer slots, metrics, and state.json: the
                                 position in the data, the best validation, …
    checkpoints/best-00000800/   the weights of the best validation so far

A checkpoint is written to a hidden folder, which is renamed when it is complete.
"""

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from ctr_tf import files
from ctr_tf.errors import storage_trouble

_log = logging.getLogger(__name__)
_STATE = "state.json"
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
        ranker: built, and compiled if it trains.
        keep: latest ones kept, beside the best.
        data: identifies the training data; a checkpoint goes on only with its own.
        worker: index of this process; only the files of worker 0 become a checkpoint.
            All workers must call `save` together, because some variables are summed
            over the workers when they are read.
        content: hash of schema and vocabularies; weights are read only for their own.
    """

    def __init__(
        self,
        folder: str | Path,
        ranker,
        keep: int = 2,
        data: str = "",
        worker: int = 0,
        content: str = "",
    ):
        self.folder = Path(folder)
        self.ranker = ranker
        self.keep = keep
        self.data = data
        self.worker = worker
        self.content = content
        self._restored: Path | None = None

    def save(self, progress: Progress) -> None:
        """Writes a checkpoint to go on from, and removes old ones."""
        state = {**dataclasses.asdict(progress), "data": self.data}
        self._write(f"step-{progress.step:08d}", self._variables(), state)
        self._remove_all_but("step-*", self.keep)

    def save_best(self, step: int) -> None:
        """Writes the weights alone, and removes the last best."""
        self._write(f"best-{step:08d}", {"model": self._variables()["model"]}, {})
        self._remove_all_but("best-*", 1)

    def restore(self) -> Progress:
        """Reads the latest checkpoint that is whole, if there is one.

        A damaged one is named and left out.

        Raises:
            ValueError: if it was made from other data, or with other weights; if all
                are damaged.
        """
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
            raise ValueError(
                f"All checkpoints of the run are damaged; delete them to begin anew. "
                f"Received: {', '.join(str(folder) for folder in folders)}"
            )
        return Progress()

    def _restore(self, folder: Path) -> Progress:
        state = _read_state(folder)
        if state.pop("data") != self.data:
            raise ValueError(
                f"Checkpoint '{folder}' was made from other data than the data set has "
                "now: a run goes on only with its own data."
            )
        self._read(folder, ("model", "optimizer"), state)
        del state["shapes"], state["content_hash"]
        return Progress(**state)

    def restore_metrics(self) -> None:
        """Reads the running metrics of the checkpoint that was restored, if any."""
        if self._restored is not None:
            self._read(self._restored, ("metrics",), _read_state(self._restored))
            self._restored = None

    def load_weights(self, weights: str) -> None:
        """Reads the model's weights.

        Args:
            weights: `"best"` or `"last"`.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            ValueError: for another word, or if the model's weights differ.
        """
        patterns = {"best": "best-*", "last": "step-*"}
        if weights not in patterns:
            raise ValueError(f"`weights` is 'best' or 'last'. Received: {weights!r}")
        folder = _latest(self.folder, patterns[weights])
        if folder is None:
            raise FileNotFoundError(
                f"There is no {weights} checkpoint ('{patterns[weights]}') in "
                f"'{self.folder}'."
            )
        self._read(folder, ("model",), _read_state(folder))

    def _variables(self) -> dict[str, list]:
        ranker = self.ranker
        parts: dict[str, Any] = {"model": ranker.variables}
        if ranker.step:
            parts["optimizer"] = ranker.optimizer.variables
            parts["metrics"] = [v for m in ranker.metrics for v in m.variables]
        return {key: [v.value for v in part] for key, part in parts.items()}

    def _write(self, name: str, variables: dict, state: dict) -> None:
        temporary = self.folder / f".{name}.{self.worker}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            tf.train.Checkpoint(**variables).write(str(temporary / "variables"))
        except tf.errors.OpError as error:
            # Of a full disk it is "out of range", which Keras takes for the data's end.
            raise OSError(storage_trouble(error) or str(error)) from error
        state |= {"shapes": self._shapes(), "content_hash": self.content}
        (temporary / _STATE).write_text(json.dumps(state, indent=1), "utf-8")
        if self.worker:
            shutil.rmtree(temporary)
            return
        final = self.folder / name
        shutil.rmtree(final, ignore_errors=True)
        files.sync(temporary)
        temporary.rename(final)

    def _shapes(self) -> list:
        return [[v.path, list(v.shape)] for v in self.ranker.variables]

    def _read(self, folder: Path, keys: tuple[str, ...], state: dict) -> None:
        if state.get("content_hash") != self.content:
            raise ValueError(
                f"Checkpoint '{folder}' was made with another schema or other "
                "vocabularies: it must have the content hash "
                f"{self.content!r}. Received: {state.get('content_hash')!r}"
            )
        saved, own = state["shapes"], self._shapes()
        for (path, shape), (_, expected) in zip(saved, own, strict=False):
            if shape != expected:
                raise ValueError(
                    f"Checkpoint '{folder}' does not fit the model: '{path}' has shape "
                    f"{shape} there, and {expected} by this schema and vocabularies."
                )
        if len(saved) != len(own):
            raise ValueError(
                f"Checkpoint '{folder}' does not fit the model: it has {len(saved)} "
                f"variables, and the model {len(own)}."
            )
        variables = self._variables()
        checkpoint = tf.train.Checkpoint(**{key: variables[key] for key in keys})
        status = checkpoint.read(str(folder / "variables"))
        status.assert_existing_objects_matched().expect_partial()

    def _remove_all_but(self, pattern: str, count: int) -> None:
        if not self.worker:
            for folder in sorted(self.folder.glob(pattern))[:-count]:
                shutil.rmtree(folder)


def _latest(folder: Path, pattern: str) -> Path | None:
    return max(folder.glob(pattern), default=None)


def _read_state(folder: Path) -> dict:
    return json.loads((folder / _STATE).read_text("utf-8"))
