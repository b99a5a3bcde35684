"""The optimizer and the learning-rate schedule that a recipe describes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.replicated import ReplicatedTables
from ctr_tf.tables.row_wise_optimizers import (
    RowScalarAdagrad,
    RowWiseAdagrad,
    RowWiseAdam,
)
from ctr_tf.tables.sharded import ShardedTables
from ctr_tf.training.paired_optimizer import (
    SGD,
    Adagrad,
    Adam,
    LossScaleOptimizer,
    PairedOptimizer,
)

DENSE = {"adam": Adam, "adagrad": Adagrad, "sgd": SGD}
TABLES = {
    "adam": RowWiseAdam,
    "adagrad": RowWiseAdagrad,
    "adagrad_row": RowScalarAdagrad,
}
SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How weights are updated.

    Args:
        dense: of the network: `"adam"`, `"adagrad"` or `"sgd"`.
        tables: of the embedding tables, row-wise: `"adam"`, which keeps two numbers a
            weight; `"adagrad"`, one; or `"adagrad_row"`, one a row.
        learning_rate: of the network, after the warm-up.
        table_learning_rate: of the tables; `learning_rate` where None.
        language_model_learning_rate: of what learns within a language model, LoRA's
            factors too; `learning_rate` where None.
        schedule: after the warm-up `"constant"`, or `"cosine"` down to 0 at the end of
            the training, which a training that starts from another begins anew.
        warmup_steps: over which learning rates rise from 0.
        global_clipnorm: norm to which the gradients of the global batch, of network and
            tables together, are scaled down; None: not at all.
        weight_decay: of the network, decoupled (AdamW); None: none.
    """

    dense: str = "adam"
    tables: str = "adam"
    learning_rate: float = 1e-3
    table_learning_rate: float | None = None
    language_model_learning_rate: float | None = None
    schedule: str = "constant"
    warmup_steps: int = 0
    global_clipnorm: float | None = None
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        for key, known in (
            ("dense", DENSE),
            ("tables", TABLES),
            ("schedule", SCHEDULES),
        ):
            if getattr(self, key) not in known:
                raise UserError(
                    unknown_name(f"optimizer.{key}", getattr(self, key), known)
                )
        for key in (
            "learning_rate",
            "table_learning_rate",
            "language_model_learning_rate",
            "global_clipnorm",
        ):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise UserError(
                    f"`optimizer.{key}` must be positive. Received: {value!r}"
                )
        for key in ("warmup_steps", "weight_decay"):
            value = getattr(self, key)
            if value is not None and value < 0:
                raise UserError(
                    f"`optimizer.{key}` must not be negative. Received: {value!r}"
                )


def make_optimizer(
    config: OptimizerConfig,
    tables: Mapping[str, EmbeddingTable],
    total_steps: int = 1,
    loss_scaling: bool = False,
    owner: Callable[[Any], str] | None = None,
    language_model: Sequence[keras.Variable] = (),
) -> PairedOptimizer | LossScaleOptimizer:
    """Makes the optimizer.

    Args:
        config: what it is like.
        tables: name → table, built.
        total_steps: of the training, where a cosine schedule ends.
        loss_scaling: dynamic, as `mixed_float16` needs it.
        owner: see `PairedOptimizer`.
        language_model: weights of the network that are a language model's.
    """
    table_rate = config.table_learning_rate or config.learning_rate
    network = DENSE[config.dense](
        learning_rate(config, config.learning_rate, total_steps),
        weight_decay=config.weight_decay,
    )
    if config.language_model_learning_rate is not None:
        theirs = {id(variable) for variable in language_model}
        scale = config.language_model_learning_rate / config.learning_rate
        network.rate_scale = lambda v: scale if id(v) in theirs else 1.0
    of_rows = TABLES[config.tables](learning_rate(config, table_rate, total_steps))
    cut = any(not table.shard.is_whole for table in tables.values())
    store = ShardedTables if cut else ReplicatedTables
    optimizer = PairedOptimizer(
        network, store(tables, of_rows), config.global_clipnorm, owner
    )
    return LossScaleOptimizer(optimizer) if loss_scaling else optimizer


class Schedule(keras.optimizers.schedules.CosineDecay):
    """Keras' own, over the steps of one training.

    Attributes:
        first_step: steps that the optimizer had done before the training.
    """

    first_step = 0

    def __call__(self, step: Any) -> Any:
        """The learning rate after so many steps of the optimizer."""
        return super().__call__(step - self.first_step)


def paired(optimizer: Any) -> PairedOptimizer:
    """The optimizer of `make_optimizer` without what scales the loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def begin_schedules(optimizer: Any, first_step: int) -> None:
    """Lets what goes by steps begin where a training does, before anything reads it.

    Args:
        optimizer: of `make_optimizer`.
        first_step: steps that it had done before the training.
    """
    whole = paired(optimizer)
    whole.first_step = first_step
    for part in (whole.network, whole.tables.updates()):
        if isinstance(part._learning_rate, Schedule):
            part._learning_rate.first_step = first_step


def learning_rate(
    config: OptimizerConfig, peak: float, total_steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """A float or a Keras schedule that peaks at `peak`."""
    if config.schedule == "constant" and not config.warmup_steps:
        return float(peak)
    return Schedule(
        0.0 if config.warmup_steps else peak,
        decay_steps=max(total_steps - config.warmup_steps, 1),
        alpha=1.0 if config.schedule == "constant" else 0.0,
        warmup_target=peak if config.warmup_steps else None,
        warmup_steps=config.warmup_steps,
    )
