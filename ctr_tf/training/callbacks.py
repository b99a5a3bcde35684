"""What happens between the steps: checks, reports, validation, checkpoints.

All callbacks share one `Progress`, and count steps from the start of the run, not of
the process.
"""

import atexit
import contextlib
import logging
import math
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ctr_tf.errors import UserError
from ctr_tf.eta import Eta
from ctr_tf.process_memory import peak_bytes
from ctr_tf.storage import is_remote
from ctr_tf.storage.folders import upload
from ctr_tf.training.checkpoints import Checkpoints, Progress
from ctr_tf.training.preemption import LeftError

_log = logging.getLogger(__name__)
_TELL_EVERY = 30.0  # seconds, where steps take long
_WHY_UNDEFINED = {
    "auc": "it has no clicked candidate, or none that is not clicked",
    "gauc_request": "no request has both clicked and unclicked candidates",
}


class StepCounter(keras.callbacks.Callback):
    """Counts steps, and stops a training whose loss is no number; must come first.

    The loss is looked at one step late, so that an accelerator need not wait for it.

    Args:
        progress: of the run.
    """

    def __init__(self, progress: Progress):
        super().__init__()
        self.progress = progress
        self._last: tuple[int, Any] | None = None

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Counts, and checks the step before."""
        self._check()
        self.progress.step += 1
        self._last = self.progress.step, logs["loss"]

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Checks the last step."""
        self._check()

    def _check(self):
        if self._last is not None and not math.isfinite(float(self._last[1])):
            raise UserError(
                f"The loss is no finite number since step {self._last[0]}: lower "
                "`optimizer.learning_rate`, set `optimizer.global_clipnorm`, or look "
                f"at the numeric features. Received: loss={float(self._last[1])}"
            )


class Reporter(keras.callbacks.Callback):
    """Tells how training goes: a progress bar or log lines, TensorBoard, history.

    The clock leaves out the first step of the process, which compiles, validation and
    checkpoints.

    Args:
        progress: of the run.
        total_steps: of the run.
        every: steps from one report to the next.
        examples: of a step.
        logs: folder for TensorBoard; None writes and tells nothing.
    """

    def __init__(
        self,
        progress: Progress,
        total_steps: int,
        every: int,
        examples: int,
        logs: Path | None,
    ):
        super().__init__()
        self.progress = progress
        self.total_steps = total_steps
        self.every = every
        self.examples = examples
        self._logs = logs
        self._written = logs  # here, before it is copied to a store
        if logs and is_remote(logs):
            self._written = Path(tempfile.mkdtemp(prefix="ctr-tf-logs-"))
            atexit.register(shutil.rmtree, self._written, ignore_errors=True)
        written = str(self._written)
        self.writer = tf.summary.create_file_writer(written) if logs else None
        self.bar = (
            sys.stdout.isatty()
            and self.writer
            and keras.utils.Progbar(
                total_steps,
                stateful_metrics=("loss", "auc", "examples/s", "input wait"),
            )
        )
        self.seconds = self.input_seconds = 0.0
        self.steps = 0
        self._recent = [0, 0.0, 0.0]
        self._told = time.monotonic()
        self._eta: Eta | None = None  # since the first step, which compiles

    def on_train_batch_begin(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Starts the clock."""
        self._started = time.perf_counter(), self.model.input_seconds

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Stops the clock, and reports now and then."""
        if self._eta is None:
            self._eta = Eta(self.total_steps, self.progress.step)
        if batch:
            seconds = time.perf_counter() - self._started[0]
            waited = self.model.input_seconds - self._started[1]
            self.steps += 1
            self.seconds += seconds
            self.input_seconds += waited
            for index, value in enumerate((1, seconds, waited)):
                self._recent[index] += value
        step = self.progress.step
        if self._recent[0] and (step % self.every == 0 or step == self.total_steps):
            self._report(step, self.model.get_metrics_result())
            self._recent = [0, 0.0, 0.0]
            self._told = time.monotonic()
        elif self.writer and time.monotonic() - self._told > _TELL_EVERY:
            self._told = time.monotonic()
            _log.info("step %d/%d%s", step, self.total_steps, self._eta.told(step))

    def _report(self, step, logs):  # over all replicas
        steps, seconds, waited = self._recent
        terms = [term.name for term in self.model.objective.terms if term.name in logs]
        values = {
            **defined({key: float(logs[key]) for key in ("loss", *terms, "auc")}),
            "learning_rate": float(
                keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            ),
            "examples_per_second": steps * self.examples / seconds,
            "input_wait_share": waited / seconds,
            "memory_gib": memory_gib(),
        }
        self.progress.history.append({"step": step, **values})
        self.write("train", step, values)
        if self.bar:
            shown: list[tuple[str, float]] = [
                (k, values[k]) for k in ("loss", "auc") if k in values
            ]
            shown.append(("examples/s", values["examples_per_second"]))
            shown.append(("input wait", values["input_wait_share"]))
            self.bar.update(step, shown, finalize=step == self.total_steps)
        elif self.writer:
            _log.info(
                "step %*d/%d  loss %.4f%s  auc %s  %.0f examples/s  input wait %.1f %%"
                "  memory %.1f GiB%s",
                *(len(str(self.total_steps)), step, self.total_steps, values["loss"]),
                "".join(f"  {n} {values[n]:.4f}" for n in terms if n in values),
                f"{values['auc']:.4f}" if "auc" in values else "-",
                values["examples_per_second"],
                *(100 * values["input_wait_share"], values["memory_gib"]),
                self._eta.told(step) if self._eta else "",
            )

    def write(self, group: str, step: int, values: dict[str, float]) -> None:
        """Writes scalars to TensorBoard."""
        if self.writer:
            with self.writer.as_default(step):
                for name, value in values.items():
                    tf.summary.scalar(f"{group}/{name}", value)
            self.writer.flush()
            if self._logs and self._written and is_remote(self._logs):
                upload(self._written, self._logs)

    def write_histograms(
        self, group: str, step: int, histograms: Mapping[str, np.ndarray]
    ) -> None:
        """Writes histograms to TensorBoard.

        Args:
            group: before their names.
            step: of the run.
            histograms: name → `[K, 3]`, the ends of a bin and how many are in it.
        """
        if not self.writer:
            return
        from tensorboard.plugins.histogram import metadata

        # `tf.summary.histogram` would want every value, and these are counts already.
        described = metadata.create_summary_metadata(None, None)
        with self.writer.as_default(step):
            for name, bins in histograms.items():
                tf.summary.write(f"{group}/{name}", bins, metadata=described)


class Validation(keras.callbacks.Callback):
    """Validates, keeps the best weights, and stops when they get no better.

    The running metrics of the training begin anew after each validation.

    Args:
        progress: of the run.
        dataset: to validate on.
        every: steps from one validation to the next; the last step is always one.
        total_steps: of the run.
        monitor: metric by which weights are the best.
        patience: validations without a new best after which training stops, or None.
        checkpoints: of the run.
        reporter: writes the metrics.
        patient_until: step up to which no validation counts for `patience`.
    """

    def __init__(
        self,
        progress: Progress,
        dataset: Any,
        every: int,
        total_steps: int,
        monitor: str,
        patience: int | None,
        checkpoints: Checkpoints,
        reporter: Reporter,
        patient_until: int = 0,
    ):
        super().__init__()
        self.progress = progress
        self.dataset = dataset
        self.every = every
        self.total_steps = total_steps
        self.monitor = monitor
        self.patience = patience
        self.checkpoints = checkpoints
        self.reporter = reporter
        self.patient_until = patient_until

    def make_up(self) -> None:
        """Validates, if that was due at the last step and did not come to an end.

        To be called before `fit`, of which nothing is left where this stops it.
        """
        progress = self.progress
        if self._is_due(progress.step) and progress.validated < progress.step:
            self.checkpoints.restore_metrics()  # which begin anew behind it
            self._validate(progress.step)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Takes up the running metrics, which Keras has just reset."""
        self.checkpoints.restore_metrics()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Validates now and then, once what was learned so far is safe."""
        step = self.progress.step
        # Where the loss is no number, the next step's check tells.
        if self._is_due(step) and math.isfinite(float(logs["loss"])):
            self.checkpoints.save(self.progress)
            self._validate(step)

    def _is_due(self, step: int) -> bool:
        return step > 0 and (step % self.every == 0 or step == self.total_steps)

    def _validate(self, step):
        progress = self.progress
        with whole_passes():
            values = self.model.evaluate(
                self.dataset, verbose=0, return_dict=True, callbacks=[Leaving()]
            )
        values = defined({key: float(value) for key, value in values.items()})
        if "loss" not in values:
            raise UserError(
                f"The loss on the validation split is no number at step {step}: look "
                "at the numeric features, and whether any slate there tells anything "
                "to the objective. Received: loss=nan"
            )
        if self.monitor not in values:
            raise UserError(
                f"`training.monitor={self.monitor}` cannot be computed on the "
                f"validation split: {_WHY_UNDEFINED[self.monitor]}. Computed: "
                f"{', '.join(values)}"
            )
        scores = {f"logit_{k}": v for k, v in self.model.score_histograms().items()}
        self.model.reset_metrics()
        self.reporter.write_histograms("validation", step, scores)
        self.reporter.write("validation", step, values)
        progress.history.append(
            {"step": step, **{f"validation_{k}": v for k, v in values.items()}}
        )
        progress.validated = step
        value = values[self.monitor]
        better = progress.best is None or value > progress.best
        if better:
            progress.best, progress.best_step, progress.waited = value, step, 0
            progress.validation = values
            self.checkpoints.save_best(step)
        elif step > self.patient_until:
            progress.waited += 1
        if self.reporter.writer:
            _log.info(
                "validation at step %d: %s%s",
                step,
                "  ".join(f"{key} {value:.4f}" for key, value in values.items()),
                "  (best so far)" if better else "",
            )
        if self.patience and progress.waited >= self.patience:
            _log.info(
                "stopped: no better %s in %d validations", self.monitor, self.patience
            )
            self.model.stop_training = True


class Leaving(keras.callbacks.Callback):
    """Leaves a validation when a worker was told to; a checkpoint is there already."""

    def on_test_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Leaves, if all know of it."""
        if self.model.wishes.leave:
            raise LeftError("during a validation, which will be made again")


class Checkpointing(keras.callbacks.Callback):
    """Writes checkpoints, the last one when a worker was told to leave; comes last.

    Args:
        progress: of the run.
        checkpoints: of the run.
        every: steps from one checkpoint to the next; the last step is always one.
        total_steps: of the run.
        minutes: from one checkpoint to the next at most, by this worker's clock, where
            it is the first one; None: however long.
    """

    def __init__(
        self,
        progress: Progress,
        checkpoints: Checkpoints,
        every: int,
        total_steps: int,
        minutes: float | None = None,
    ):
        super().__init__()
        self.progress = progress
        self.checkpoints = checkpoints
        self.every = every
        self.total_steps = total_steps
        self.minutes = minutes
        self._saved = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Writes a checkpoint now and then."""
        step, wishes = self.progress.step, self.model.wishes
        finished = self.model.stop_training or step == self.total_steps
        due = finished or step % self.every == 0
        if wishes.take_save() or wishes.leave or due:
            if not math.isfinite(float(logs["loss"])):
                return  # the next step's check tells
            self.progress.finished = finished
            self.checkpoints.save(self.progress)
            self._saved = time.monotonic()
            if wishes.leave and not finished:
                raise LeftError(f"after step {step}, with a checkpoint")
        if self.minutes and time.monotonic() - self._saved > 60 * self.minutes:
            wishes.ask_to_save()


@contextlib.contextmanager
def whole_passes() -> Iterator[None]:
    """Keeps Keras from warning of the end of data that are read to their end."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")
        yield


def defined(values: dict[str, float]) -> dict[str, float]:
    """The values that are numbers: a metric that cannot be computed is absent."""
    return {key: value for key, value in values.items() if not math.isnan(value)}


def memory_gib() -> float:
    """Peak memory of the first GPU, or of this process where there is none."""
    if tf.config.list_logical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30
    return peak_bytes() / 2**30
