"""What memory a training needs on each worker, and what to change.

The command is `ctr_tf.commands.plan`, which tells how it is computed.
"""

import argparse
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import keras
import tensorflow as tf

from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset, history_lengths, slate_sizes
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.losses.loss import MAIN, TEACHER
from ctr_tf.models import make_ranker
from ctr_tf.recipes.find import find_recipe
from ctr_tf.recipes.read import load_recipe
from ctr_tf.schema.vocabulary import Vocabularies
from ctr_tf.training.callbacks import memory_gib
from ctr_tf.training.config import Config
from ctr_tf.training.optimizers import TABLES
from ctr_tf.training.teacher import Teacher, find_teacher
from ctr_tf.training.train import make_trainer
from ctr_tf.training.trainer import Trainer

_ROWS = 1_000  # of a table at most, in the steps that are measured
_FEW, _SOME = 2, 8  # samples of the first batches
_LEAST_SAMPLE = 1e-4  # GiB, where the first batches need the same
_SHARE = 0.5  # of the free memory, that the last batch may need
_STEPS = 3
_GIB = 2**30
_BYTES = 4  # of a weight; tables are float32
_LEAST = "adagrad_row"  # of `TABLES`, what remembers the least


class Table(NamedTuple):
    """An embedding table.

    Args:
        rows: all of them.
        width: weights of a row.
        learns: whether an optimizer remembers something of its rows.
    """

    rows: int
    width: int
    learns: bool


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a few steps of a recipe needed, in GiB.

    Args:
        tables: by name.
        sample: of a step, for each sample.
        program: of everything else.
    """

    tables: Mapping[str, Table]
    sample: float
    program: float

    def of_tables(self, optimizer: str, shards: int = 1) -> float:
        """GiB of the tables on one worker.

        Args:
            optimizer: of the rows, a key of `TABLES`.
            shards: workers that share the rows of each table.
        """
        return (
            sum(
                -(-table.rows // shards) * row_bytes(optimizer, table.width)
                if table.learns
                else table.rows * table.width * _BYTES
                for table in self.tables.values()
            )
            / _GIB
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one worker of a training needs, in GiB.

    Args:
        tables: rows and slots.
        step: of its share of the global batch.
        program: everything else.
    """

    tables: float
    step: float
    program: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.tables + self.step + self.program


def row_bytes(optimizer: str, width: int) -> float:
    """Bytes of a row with what its optimizer remembers of it.

    Args:
        optimizer: a key of `TABLES`.
        width: weights of the row.
    """
    rows = keras.Variable(tf.zeros((_ROWS, width)))
    rule = TABLES[optimizer]()
    rule.build([rows])
    every = [rows, *(slot for slot in rule.variables if slot.shape[:1] == (_ROWS,))]
    return sum(variable.value.numpy().nbytes for variable in every) / _ROWS


def make_plan(measured: Measured, config: Config, workers: int, replicas: int) -> Plan:
    """What a worker, or each of its GPUs, needs.

    Args:
        measured: of the recipe.
        config: the recipe.
        workers: of the training.
        replicas: of each worker.
    """
    samples = share_of(config.data.batch_size, workers * replicas)
    shards = workers if config.training.tables == "sharded" else 1
    tables = measured.of_tables(config.optimizer.tables, shards)
    return Plan(tables, samples * measured.sample, measured.program)


def share_of(batch_size: int, replicas: int) -> int:
    """Samples of the global batch that each replica gets.

    Raises:
        UserError: if it cannot be shared evenly.
    """
    samples, rest = divmod(batch_size, replicas)
    if rest:
        raise UserError(
            f"`data.batch_size` must be a multiple of the {replicas} replicas. "
            f"Received: {batch_size}"
        )
    return samples


def measure(config: Config, samples: int) -> Measured:
    """Trains for a few steps.

    Args:
        config: the recipe.
        samples: of a batch, at most.
    """
    data = PreparedData.load(config.data.path)
    keras.utils.set_random_seed(config.training.seed)
    teacher = find_teacher(config, data)
    small = _with_small_tables(data)
    trainer = make_trainer(config, small, 1_000, teacher)
    batches_by = teacher.batches_by if teacher else config.data
    (few, less), (most, peak) = _peaks(batches_by, small, trainer, samples).items()
    sample = (peak - less) / (most - few)
    tables = _tables(config, data, teacher)
    own = _tables(config, small, teacher)
    found = Measured(own, sample, peak - most * sample)
    held = found.of_tables(config.optimizer.tables)
    return Measured(tables, sample, found.program - held)


def _with_small_tables(data: PreparedData) -> PreparedData:
    """The same records; of values that are not the most frequent nothing is known."""
    whole = data.vocabularies
    few = {name: whole.values(name)[:_ROWS] for name in whole.names}
    return data.read_as(data.schema, Vocabularies(few, whole.texts))


def _tables(
    config: Config, data: PreparedData, teacher: Teacher | None
) -> dict[str, Table]:
    """Name → what one table of the training is like; no memory is taken for it."""
    sizes = data.vocabularies.table_sizes(data.schema)
    models = {MAIN: config.model} | ({TEACHER: teacher.model} if teacher else {})
    found: dict[str, Table] = {}
    for name, model in models.items():
        ranker = make_ranker(model, data.schema, sizes, texts=data.vocabularies.texts)
        section = config.distillation if name == TEACHER else None
        learns = section is None or section.teacher_run is None
        shared = section is not None and section.shared_tables
        for table_name, table in ranker.embedding.tables.items():
            if not (shared and table_name in found):
                key = table_name if name == MAIN else f"{name}/{table_name}"
                found[key] = Table(table.rows, table.width, learns)
    return found


def _peaks(
    config: DataConfig, data: PreparedData, trainer: Trainer, wanted: int
) -> dict[int, float]:
    """Samples of a batch → GiB that steps on it needed; of two sizes.

    The second one is as large as is wanted, or as this machine has memory for.
    """
    largest = dataclasses.replace(
        config,
        history_lengths=history_lengths(data, config)[-1:],
        slate_sizes=slate_sizes(data, config)[-1:],
    )
    step = trainer.make_train_function()

    def peak(samples: int) -> float:
        batches = iter(_batches(largest, samples, data, trainer))
        for _ in range(_STEPS):
            step(batches)
        return memory_gib()

    least, few = peak(_FEW), peak(_SOME)
    sample = max((few - least) / (_SOME - _FEW), _LEAST_SAMPLE)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
    samples = max(min(wanted, int(_SHARE * free / sample)), _SOME)
    while True:
        try:
            return {_FEW: least, samples: peak(samples)}
        except tf.errors.ResourceExhaustedError:  # of a GPU
            if samples == _SOME:
                raise
            samples = max(samples // 2, _SOME)


def _batches(
    config: DataConfig, samples: int, data: PreparedData, trainer: Trainer
) -> tf.data.Dataset:
    return dataset(
        data,
        "train",
        dataclasses.replace(config, batch_size=samples, streams=None),
        num_chunks=trainer.num_chunks,
        tasks=trainer.ranker.tasks,
        training=True,
        texts=trainer.text_inputs(data.vocabularies),
    )


def alternatives(config: Config, workers: int) -> Iterator[list[str]]:
    """What to set instead, to need less memory: one key, and all of them."""
    words = []
    if workers > 1 and config.training.tables != "sharded":
        words.append("training.tables=sharded")
    if config.optimizer.tables != _LEAST:
        words.append(f"optimizer.tables={_LEAST}")
    if config.data.batch_size % 2 == 0:
        words.append(f"data.batch_size={config.data.batch_size // 2}")
    yield from ([word] for word in words)
    if len(words) > 1:
        yield words


def plan(options: argparse.Namespace, overrides: list[str]) -> int:
    """Prints the plan of a recipe; the status is 1 if it needs too much.

    Args:
        options: of the command.
        overrides: `key=value` of the recipe.
    """
    recipe = find_recipe(options.config)
    config = load_recipe(recipe, overrides)
    replicas = options.workers * options.replicas
    measured = measure(config, share_of(config.data.batch_size, replicas))
    found = make_plan(measured, config, options.workers, options.replicas)
    print(_table(measured, found, config, options))
    if options.memory is None or found.total <= options.memory:
        return 0
    print(f"That does not fit into {options.memory:g} GiB. Instead:")
    for words in alternatives(config, options.workers):
        other = load_recipe(recipe, [*overrides, *words])
        total = make_plan(measured, other, options.workers, options.replicas).total
        fits = "fits" if total <= options.memory else "too much"
        print(f"{'':9}{total:8.2f} GiB  {fits:<10}{' '.join(words)}")
    return 1


def _table(
    measured: Measured, plan: Plan, config: Config, options: argparse.Namespace
) -> str:
    rows = sum(table.rows for table in measured.tables.values())
    samples = config.data.batch_size // (options.workers * options.replicas)
    where = "GPU" if tf.config.list_logical_devices("GPU") else "process"
    lines = [
        ("tables", plan.tables, f"{len(measured.tables)}, {config.training.tables}, "
         f"{rows:,} rows, with what {config.optimizer.tables} remembers"),
        ("step", plan.step, f"{samples} samples of {1024 * measured.sample:.2f} MiB"),
        ("program", plan.program, "TensorFlow, the network, graphs, waiting batches"),
        ("all", plan.total, f"of each {where}"),
    ]  # fmt: skip
    return "\n".join(f"{name:<9}{size:8.2f} GiB  {what}" for name, size, what in lines)
