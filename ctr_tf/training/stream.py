"""Training on a stream: every window is predicted, and only then learned.

Messages are samples as record files have them (`ctr_tf.data.records`), by the ids of
the recipe's data set. A window is `stream.window_steps` batches, or what has come in
`stream.window_seconds`. Its samples are scored by the weights of before it, which is
the honest measure of a model that goes on learning, and then learned once, in their
order. It ends with `training.max_steps`; called again with more of them, it goes on.

A checkpoint has the positions in the topics: a run that was killed goes on from there,
as if nothing had happened, whatever the broker thinks it has read. What is no sample is
set aside in the run's `rejected.jsonl`, with its place and reason (some twice, after a
crash). The weights of the latest checkpoint are the best: `ctr-tf export` takes them
while the stream goes on.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.sample_messages import SampleMessages, reasons, told
from ctr_tf.data.topics import Message, PlacedTopics
from ctr_tf.errors import UserError
from ctr_tf.storage import as_path, is_remote
from ctr_tf.training.callbacks import (
    Reporter,
    StepCounter,
    defined,
    memory_gib,
    whole_passes,
)
from ctr_tf.training.checkpoints import Checkpoints
from ctr_tf.training.config import Config
from ctr_tf.training.huge_pages import use_huge_pages
from ctr_tf.training.optimizers import begin_schedules
from ctr_tf.training.preemption import LeftError, Wishes, leaving_when_told
from ctr_tf.training.run import (
    LOGS,
    checkpoint_folder,
    held_run,
    made_now,
    open_run,
)
from ctr_tf.training.start import check_start, go_on_from, start_from
from ctr_tf.training.stream_config import StreamConfig
from ctr_tf.training.train import (
    OF_VALIDATION,
    make_trainer,
    tell_without_effect,
    write_results,
)

_log = logging.getLogger(__name__)
_WITHOUT_EFFECT = ("epochs", "min_steps", *OF_VALIDATION)  # keys of `training`
_HISTORY = 10_000  # windows that a checkpoint tells of; TensorBoard has all
REJECTED = "rejected.jsonl"


def check_stream(config: Config) -> None:
    """Looks whether a recipe is one for a stream, which has no end.

    Raises:
        UserError: names the key that is not.
    """
    training, optimizer = config.training, config.optimizer
    for key, value, is_right, need in (
        (
            "training.start_from",
            training.start_from,
            training.start_from is not None,
            "a run to go on from (`--from`)",
        ),
        (
            "training.distribution",
            training.distribution,
            training.distribution == "none",
            "'none': it is one process",
        ),
        (
            "optimizer.schedule",
            optimizer.schedule,
            optimizer.schedule == "constant",
            "'constant', as it has no end",
        ),
        (
            "distillation",
            config.distillation and "a teacher",
            config.distillation is None,
            "nothing: it has no teacher",
        ),
    ):
        if not is_right:
            raise UserError(
                f"A training on a stream needs in `{key}` {need}. Received: {value!r}"
            )


def train_on_stream(config: Config) -> dict:
    """Trains on a stream, until it ends or the process is told to leave.

    Args:
        config: the recipe, with a section `stream`.

    Returns:
        What `metrics.json` of the run holds; `validation` has what was predicted before
        it was learned, the mean over all samples of each window's.

    Raises:
        LeftError: if a SIGTERM ended it; the same call goes on.
        UserError: if the recipe is not for a stream, if no message of a window is a
            sample, or if the broker cannot go on from where the run stands.
    """
    check_stream(config)
    tell_without_effect(config.training, _WITHOUT_EFFECT, "a stream is read once")
    keras.utils.set_random_seed(config.training.seed)
    wishes = Wishes()
    with leaving_when_told(wishes, alone=True):
        data = PreparedData.load(config.data.path)
        check_start(config, data)
        open_run(config, data)
        with held_run(config.run):
            return _Streaming(config, data, wishes).run()


class _Streaming:
    """One process' work on a stream."""

    def __init__(self, config: Config, data: PreparedData, wishes: Wishes):
        assert config.stream is not None
        self.stream: StreamConfig = config.stream
        self.config = config
        self.folder = as_path(config.run)
        self.wishes = wishes
        self.trainer = make_trainer(config, data, 1, None)
        self.trainer.wishes = wishes
        if self.trainer.progress_readers:
            raise UserError(
                "A training on a stream has no end that its progress is a share of, "
                f"which this model reads: {config.model.name}"
            )
        topics = ",".join(sorted(self.stream.topics))
        self.checkpoints = Checkpoints(
            checkpoint_folder(self.folder),
            self.trainer,
            config.training.keep_checkpoints,
            f"stream of {topics}",
            data.content_hash,
        )
        self.progress = self.checkpoints.restore()
        self.progress.finished = False  # there may be more by now
        if not self.progress.step:
            self._start(data)
        begin_schedules(self.trainer.optimizer, self.progress.first_step)
        use_huge_pages(self.trainer.store.variables)
        self.messages = SampleMessages(
            data,
            config.data,
            self.trainer.num_chunks,
            self.trainer.ranker.tasks,
            self.trainer.text_inputs(data.vocabularies),
        )
        self.reporter = Reporter(
            self.progress,
            *(0, config.training.log_every, config.data.batch_size),
            self.folder / LOGS,
        )
        self._carried: list[Message] = []
        self._saved = time.monotonic()
        self._learned, self._seconds = 0, 0.0

    def _start(self, data: PreparedData) -> None:
        run = self.config.training.start_from
        assert run is not None
        if self.config.training.start_slots:
            self.progress.first_step = go_on_from(self.trainer, data, run)
        else:
            start_from(self.trainer.ranker, data, run)

    def run(self) -> dict:
        """Window after window."""
        stream, progress = self.stream, self.progress
        if progress.step:
            _log.info("the run goes on after step %d", progress.step)
        topics = PlacedTopics(
            stream.broker, stream.topics, progress.positions, stream.since
        )
        started = time.perf_counter()
        try:
            while steps := self._steps_of_window():
                most = steps * self.config.data.batch_size
                found, at_end = topics.window(
                    most - len(self._carried),
                    stream.window_seconds,
                    stream.to_end,
                    lambda: self.wishes.asked_to_leave,
                )
                ended = stream.to_end and at_end
                self._take(found, topics.behind, last=ended)
                if ended:
                    break
                if self.wishes.asked_to_leave:
                    self._save()
                    raise LeftError(f"after step {progress.step}, with a checkpoint")
        finally:
            topics.close()
        if not progress.step:
            raise UserError(
                f"There is no message in {', '.join(stream.topics)}, and nothing was "
                f"learned. Received: stream={stream.broker}, since={stream.since}"
            )
        progress.finished = True
        self._save()
        metrics = {
            "validation": progress.validation,
            "best_step": progress.best_step,
            "steps": progress.step,
            "samples": progress.samples,
            "seconds": time.perf_counter() - started,
            "examples_per_second": self._learned / (self._seconds or 1),
            "memory_gib": memory_gib(),
            **made_now(),
        }
        write_results(self.folder, metrics, progress)
        return metrics

    def _steps_of_window(self) -> int:
        """Of the next window, at most; 0 where the training is over."""
        steps, most = self.stream.window_steps, self.config.training.max_steps
        return steps if most is None else min(steps, max(most - self.progress.step, 0))

    def _take(self, found: list[Message], behind: int, last: bool) -> None:
        """Predicts and learns whole batches of what is there; the rest is kept."""
        messages = self._carried + found
        size = self.config.data.batch_size
        count = len(messages) if last else len(messages) // size * size
        window, self._carried = messages[:count], messages[count:]
        if not window:
            return
        started = time.perf_counter()
        predicted, fit, faults = self._predict(window)
        if faults:
            self._set_aside(faults)
        if not fit:
            raise UserError(
                f"None of {len(window):,} messages of {', '.join(self.stream.topics)} "
                f"is a sample of '{self.config.data.path}': {reasons(faults)}"
            )
        learned = self._learn([message.value for message in fit])
        seconds = time.perf_counter() - started
        self._learned += len(fit)
        self._seconds += seconds
        for message in window:
            self.progress.positions[message.place] = message.offset + 1
        self._note(predicted, learned, len(fit))
        counted = {"samples": len(fit), "rejected": len(faults), "behind": behind}
        self.reporter.write("predicted", self.progress.step, {**predicted, **counted})
        _log.info(
            "step %d: %s samples predicted  %s, then learned; %.0f samples/s, "
            "behind by %s messages%s",
            self.progress.step,
            f"{len(fit):,}",
            "  ".join(f"{key} {value:.4f}" for key, value in predicted.items()),
            len(fit) / seconds,
            f"{behind:,}",
            f", {len(faults):,} set aside: {reasons(faults)}" if faults else "",
        )
        if self._is_due():
            self._save()

    def _note(
        self, predicted: dict[str, float], learned: dict[str, float], samples: int
    ) -> None:
        """Adds a window to what the run knows of itself."""
        progress = self.progress
        progress.samples += samples
        for key, value in predicted.items():
            # A window in which a metric is undefined says nothing of it.
            progress.defined[key] = progress.defined.get(key, 0) + samples
            before = progress.validation.get(key, 0.0)
            share = samples / progress.defined[key]
            progress.validation[key] = before + share * (value - before)
        row = {"step": progress.step, **learned}
        row |= {f"validation_{key}": value for key, value in predicted.items()}
        progress.history = [*progress.history, row][-_HISTORY:]

    def _predict(
        self, window: Sequence[Message]
    ) -> tuple[dict[str, float], list[Message], list[tuple[Message, str]]]:
        """Scores a window; its messages that are no samples are found if that fails."""
        fit, faults = list(window), list[tuple[Message, str]]()
        try:
            return self._scored(fit), fit, faults
        except tf.errors.OpError:
            for message in window:
                if (fault := self.messages.fault(message)) is not None:
                    faults.append((message, fault))
            if not faults:  # it is something else
                raise
        wrong = {(message.place, message.offset) for message, _ in faults}
        fit = [m for m in window if (m.place, m.offset) not in wrong]
        return self._scored(fit) if fit else {}, fit, faults

    def _scored(self, fit: Sequence[Message]) -> dict[str, float]:
        batches = self.messages.batches([message.value for message in fit])
        with whole_passes():
            values = self.trainer.evaluate(batches, verbose=0, return_dict=True)
        return defined({key: float(value) for key, value in values.items()})

    def _learn(self, samples: Sequence[bytes]) -> dict[str, float]:
        counter = StepCounter(self.progress)
        with whole_passes():
            found = self.trainer.fit(
                self.messages.batches(samples),
                shuffle=False,
                verbose=0,
                callbacks=[counter],
            ).history
        return defined({key: float(found[key][-1]) for key in ("loss", "auc")})

    def _set_aside(self, faults: Sequence[tuple[Message, str]]) -> None:
        place = self.folder / REJECTED
        if is_remote(place):  # where nothing can be appended
            _log.warning("set aside: %s", "\n".join(told(faults)))
            return
        with Path(place).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in told(faults))

    def _is_due(self) -> bool:
        options, progress = self.config.training, self.progress
        every, most = options.checkpoint_every, options.checkpoint_minutes
        minutes = (time.monotonic() - self._saved) / 60
        # The best step is that of the last checkpoint.
        by_steps = progress.step // every > progress.best_step // every
        return by_steps or (most is not None and minutes > most)

    def _save(self) -> None:
        if not self.progress.step:
            return  # nothing was learned
        self.progress.best_step = self.progress.step
        self.checkpoints.save_best(self.progress.step)
        self.checkpoints.save(self.progress)
        self._saved = time.monotonic()
