"""Trains a model by a recipe, or goes on where a killed run stopped.

The command is `ctr_tf.commands.train`.
"""

import functools
import json
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import tensorflow as tf

from ctr_tf.data.dataset import dataset, num_samples, steps_per_epoch
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import diagnosed
from ctr_tf.errors import UserError, plain_line
from ctr_tf.losses.loss import MAIN, TEACHER
from ctr_tf.models import build_ranker
from ctr_tf.models.config_checks import without_effect
from ctr_tf.storage import as_path, files
from ctr_tf.training.callbacks import (
    Checkpointing,
    Reporter,
    StepCounter,
    Validation,
    memory_gib,
)
from ctr_tf.training.checkpoints import Checkpoints, Progress
from ctr_tf.training.config import Config, TrainingConfig
from ctr_tf.training.distillation import distilled_objective, make_ramp
from ctr_tf.training.distribution import (
    distribute,
    make_strategy,
    shard_of,
    wait_for_all,
    worker,
)
from ctr_tf.training.huge_pages import use_huge_pages
from ctr_tf.training.last_weights import LastWeights
from ctr_tf.training.learning_curve import write_learning_curve
from ctr_tf.training.objective import make_objective
from ctr_tf.training.optimizers import begin_schedules, make_optimizer
from ctr_tf.training.preemption import (
    LOST,
    LeftError,
    Wishes,
    leaving_when_told,
)
from ctr_tf.training.projector import write_projector
from ctr_tf.training.row_dropout import RowDropout
from ctr_tf.training.run import (
    LOGS,
    METRICS,
    check_workers,
    checkpoint_folder,
    fingerprint,
    held_run,
    made_now,
    open_run,
)
from ctr_tf.training.start import check_start, go_on_from, start_from
from ctr_tf.training.statuses import LEFT
from ctr_tf.training.teacher import Teacher, find_teacher
from ctr_tf.training.trainer import Trainer
from ctr_tf.training.unknown_values import UnknownValues

_log = logging.getLogger(__name__)
_ADAPT_BATCHES = 100  # that the statistics of numeric features are measured on
OF_VALIDATION = ("patience", "validate_every", "monitor")  # keys of `training`


def train(config: Config) -> dict:
    """Trains a model.

    Args:
        config: the recipe.

    Returns:
        What `metrics.json` of the run holds.

    Raises:
        LeftError: if a SIGTERM to a worker ended it, or another worker was lost; the
            same call goes on from the latest checkpoint.
        UserError: if another process trains in the run's folder, or workers have
            different recipes, data or versions.
    """
    if config.stream is not None:
        from ctr_tf.training.stream import train_on_stream

        return train_on_stream(config)
    keras.utils.set_random_seed(config.training.seed)
    strategy = make_strategy(config.training.distribution)
    index, workers = worker(strategy)
    wishes = Wishes()
    with leaving_when_told(wishes, alone=workers == 1):
        data = PreparedData.load(config.data.path)
        check_start(config, data)
        teacher = find_teacher(config, data)
        try:
            check_workers(strategy, config, data)
            if index == 0:
                open_run(config, data)
            with held_run(config.run, index):
                return _train(config, data, teacher, strategy, wishes)
        except LeftError:
            wait_for_all(strategy)
            raise
        except LOST as error:
            if workers == 1:
                raise
            raise LeftError(
                "because another worker was lost: all of them must be started "
                f"again. TensorFlow says: {plain_line(error.message)}"
            ) from error


def _train(
    config: Config,
    data: PreparedData,
    teacher: Teacher | None,
    strategy: tf.distribute.Strategy,
    wishes: Wishes,
) -> dict:
    options = config.training
    index, _ = worker(strategy)
    folder = as_path(config.run)
    epoch_steps = steps_per_epoch(data, "train", config.data)
    total_steps = options.total_steps(epoch_steps)
    validate_every = options.validate_every or epoch_steps

    if not options.validate and index == 0:
        tell_without_effect(options, OF_VALIDATION, "nothing is validated")
    with strategy.scope():
        trainer = make_trainer(config, data, total_steps, teacher)
    trainer.wishes = wishes
    ranker = trainer.ranker
    checkpoints = Checkpoints(
        checkpoint_folder(folder),
        trainer,
        options.keep_checkpoints,
        fingerprint(data),
        data.content_hash,
        teacher.digest if teacher else "",
    )
    progress = checkpoints.restore()
    _announce(config, data, trainer, progress, total_steps)
    began = progress.step

    read = functools.partial(
        dataset,
        data,
        config=teacher.batches_by if teacher else config.data,
        num_chunks=trainer.num_chunks,
        tasks=ranker.tasks,
    )
    reporter = Reporter(
        progress,
        total_steps,
        options.log_every,
        config.data.batch_size,
        folder / LOGS if index == 0 else None,
    )
    started = time.perf_counter()
    if not progress.finished:
        with diagnosed(data, "train", "validation"):
            if not progress.step and options.start_from is not None:
                with strategy.scope():
                    if options.start_slots:
                        progress.first_step = go_on_from(
                            trainer, data, options.start_from
                        )
                    else:
                        start_from(ranker, data, options.start_from)
            if not progress.step:
                known = [MAIN] if options.start_from is not None else []
                names = [name for name in trainer.learners if name not in known]
                _adapt(trainer, names, read, strategy, options.seed)
            begin_schedules(trainer.optimizer, progress.first_step)
            use_huge_pages(trainer.store.variables)  # after whole assignments
            # What reads items has its weights by now, wherever they come from.
            read = functools.partial(read, texts=trainer.text_inputs(data.vocabularies))
            batches = functools.partial(
                read,
                split="train",
                training=True,
                seed=options.seed,
                first_step=progress.step,
            )
            checkpointing = Checkpointing(
                progress,
                checkpoints,
                options.checkpoint_every,
                total_steps,
                None if index else options.checkpoint_minutes,
            )
            validating: Validation | LastWeights
            if options.validate:
                validation = functools.partial(read, split="validation", training=False)
                validating = Validation(
                    progress,
                    distribute(strategy, validation),
                    validate_every,
                    total_steps,
                    options.monitor,
                    options.patience,
                    checkpoints,
                    reporter,
                    make_ramp(teacher.section, total_steps).full_at if teacher else 0,
                )
            else:
                validating = LastWeights(progress, checkpoints, total_steps)
            callbacks = [StepCounter(progress), reporter, validating, checkpointing]
            validating.set_model(trainer)
            validating.make_up()  # where it was killed in a validation
            if trainer.stop_training or progress.step == total_steps:
                progress.finished = True
                checkpoints.save(progress)
            else:
                trainer.fit(
                    distribute(strategy, batches),
                    steps_per_epoch=total_steps - progress.step,
                    shuffle=False,
                    verbose=0,
                    callbacks=callbacks,
                )
            _check_end(progress, total_steps)
    metrics = {
        "validation": progress.validation,
        "best_step": progress.best_step,
        "steps": progress.step,
        "seconds": time.perf_counter() - started,
        "examples_per_second": reporter.steps
        * config.data.batch_size
        / (reporter.seconds or 1),
        "input_wait_share": reporter.input_seconds / (reporter.seconds or 1),
        "memory_gib": memory_gib(),
        **made_now(),
    }
    if index == 0:
        write_results(folder, metrics, progress)
        if progress.step > began:
            write_projector(folder / LOGS, ranker, data)
    wait_for_all(strategy)
    return metrics


def tell_without_effect(options: TrainingConfig, keys: Iterable[str], why: str) -> None:
    """Tells which keys of `training` were set for nothing.

    Args:
        options: the recipe's.
        keys: that have no effect here.
        why: they have none.
    """
    usual = TrainingConfig()
    for key in keys:
        if (value := getattr(options, key)) != getattr(usual, key):
            _log.warning("`training.%s=%s` has no effect: %s", key, value, why)


def _check_end(progress: Progress, total_steps: int) -> None:
    """Raises RuntimeError if the training stopped for no reason that it had."""
    if not progress.finished:
        raise RuntimeError(
            f"The training stopped after step {progress.step} of {total_steps}, and "
            "its last checkpoint was not written: the same command goes on from the "
            "one before. Look for what was logged before this."
        )


def _adapt(
    trainer: Trainer,
    names: Iterable[str],
    read: Callable,
    strategy: tf.distribute.Strategy,
    seed: int,
) -> None:
    """Measures the numeric features; every worker reads the same batches for it."""
    batches = read(split="train", training=True, seed=seed).take(_ADAPT_BATCHES)
    for name in names:
        inputs = (trainer.inputs_of(name, inputs) for inputs, _, _ in batches)
        with strategy.scope():
            trainer.rankers[name].embedding.adapt(inputs)


def make_trainer(
    config: Config, data: PreparedData, total_steps: int, teacher: Teacher | None
) -> Trainer:
    """The compiled trainer that a recipe describes.

    Args:
        config: the recipe.
        data: to be trained on.
        total_steps: of the training.
        teacher: of `find_teacher`.
    """
    options = config.training
    for key, value in without_effect(config.model).items():
        _log.warning(
            "`model.%s` has no effect beside the other keys of the model. Received: %r",
            *(key, value),
        )
    shard = shard_of(options.tables, tf.distribute.get_strategy())
    ranker = build_ranker(
        config.model,
        data.schema,
        data.vocabularies.table_sizes(data.schema),
        dtype=options.precision,
        texts=data.vocabularies.texts,
        shard=shard,
    )
    scaling = options.precision == "mixed_float16"
    if scaling and not shard.is_whole:
        raise UserError(
            "Sharded tables are not trained with loss scaling, which would look for "
            "infinities on each worker by itself: take training.precision="
            f"mixed_bfloat16 or float32. Received: {options.precision}"
        )
    jit_compile = options.jit_compile
    if jit_compile is None:
        jit_compile = bool(tf.config.list_logical_devices("GPU"))
    if teacher is None:
        trainer = Trainer(make_objective(config.objective, ranker), ranker)
    else:
        other = teacher.make(data, ranker, shard)
        trainer = Trainer(
            distilled_objective(
                teacher.section, config.objective, ranker, other, total_steps
            ),
            {MAIN: ranker, TEACHER: other},
            teacher.history_lengths,
        )
    trainer.compile(
        make_optimizer(
            *(config.used_optimizer, trainer.tables, total_steps, scaling),
            *(trainer.owner, _language_model_weights(config, trainer)),
        ),
        jit_compile=jit_compile,
        row_dropout=RowDropout(options.row_dropout, options.seed),
        unknown_values=UnknownValues(options.unknown_values, options.seed),
        total_steps=total_steps,
    )
    return trainer


def _language_model_weights(config: Config, trainer: Trainer) -> list[keras.Variable]:
    rankers = trainer.learners.values()
    weights = [v for ranker in rankers for v in ranker.language_model_weights]
    rate = config.used_optimizer.language_model_learning_rate
    if rate is not None and not any(variable.trainable for variable in weights):
        _log.info(
            "`optimizer.language_model_learning_rate=%g` counts for nothing: no "
            "language model learns here",
            rate,
        )
    return weights


def _announce(
    config: Config,
    data: PreparedData,
    trainer: Trainer,
    progress: Progress,
    total_steps: int,
) -> None:
    for name, ranker in trainer.rankers.items():
        counts = ranker.count_weights()
        _log.info(
            "%s%s: %s weights in tables, %s in the network",
            *("" if name == MAIN else f"{name} ", ranker.config.name),
            *(f"{counts[part]:,}" for part in ("tables", "network")),
        )
    _log.info(
        "%s training samples, %d steps of %d",
        f"{num_samples(data, 'train', config.data):,}",
        *(total_steps, config.data.batch_size),
    )
    texts = getattr(config.model, "texts", None)
    begins = not progress.step and config.training.start_from is None
    if begins and texts and not texts.pretrained and texts.tune != "all":
        _log.warning(
            "the language model's token table begins at random (`pretrained: false`) "
            "and stays so by `tune: %s`: `tune: all` lets it learn",
            texts.tune,
        )
    if progress.step:
        state = "is complete" if progress.finished else "goes on"
        _log.info("the run %s after step %d", state, progress.step)


def write_results(folder: Path, metrics: dict, progress: Progress) -> None:
    """Leaves `metrics.json` and the learning curve in a run's folder."""
    if progress.history:
        write_learning_curve(folder, progress.history)
    path = folder / METRICS
    if path.exists() and not metrics["examples_per_second"]:
        return  # nothing was trained
    files.write_text(path, json.dumps(metrics, indent=2) + "\n")


def run(config: Config) -> int:
    """Trains, tells what came of it, and returns the exit status of the command."""
    try:
        with files.naming(config.run):
            metrics = train(config)
    except LeftError as left:
        _log.info("left %s", left)
        _log.info("the same command goes on from the latest checkpoint")
        return LEFT
    values = "  ".join(f"{k} {v:.4f}" for k, v in metrics["validation"].items())
    if values and config.stream is not None:
        samples = f"{metrics['samples']:,}"
        _log.info(
            "predicted, before it was learned, of %s samples: %s", samples, values
        )
    elif values:
        _log.info("best validation at step %d: %s", metrics["best_step"], values)
    _log.info("the run lies in %s", config.run)
    return 0
