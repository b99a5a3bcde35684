"""A recipe: everything that a training run is made from."""

import dataclasses
from typing import Any

from ctr_tf.data.config import DataConfig
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.models.choose import choose_model
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.training.distillation import DistillationConfig
from ctr_tf.training.distribution import STRATEGIES, TABLES
from ctr_tf.training.objective import ObjectiveConfig
from ctr_tf.training.optimizers import OptimizerConfig
from ctr_tf.training.row_dropout import RowDropoutConfig
from ctr_tf.training.stream_config import StreamConfig
from ctr_tf.training.unknown_values import UnknownValuesConfig
from ctr_tf.tuning.ranges import read_ranges

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
MONITORS = ("auc", "gauc_request")
_LARGEST_SEED = 2**32 - 1  # NumPy's


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, how exactly and where.

    Args:
        epochs: passes over the training samples.
        min_steps: go on with further passes up to so many steps, where the passes of
            `epochs` are fewer; None: no further ones.
        max_steps: stop after so many steps even so; None: no limit.
        start_from: folder of a run whose best weights the training starts from, each
            row of a table by the value that it stands for; `--from` sets it.
        start_slots: whether to go on from the run's last step instead, with what its
            optimizer knows of every weight, and without a warm-up; `--slots` sets it.
        seed: of weights, dropout and the order of the samples.
        row_dropout: of embedding rows, against learning users by heart.
        unknown_values: shares of known ids that are read as unknown, so that the row of
            unknown values is learned.
        precision: `"float32"`, `"mixed_float16"` (with loss scaling) or
            `"mixed_bfloat16"`.
        jit_compile: whether XLA compiles the dense network; None: where there is a GPU.
        distribution: `"none"`, `"mirrored"` or `"multi_worker"`.
        tables: `"replicated"`: every replica has all rows; or `"sharded"`: each worker
            of `"multi_worker"` has a share of the rows and of what the optimizer
            remembers of them, in its host's memory, and no loss is scaled. One worker
            has all of them.
        validate: whether to validate, and keep the best weights; without, the weights
            of the last step are the best, and the data need no validation.
        validate_every: steps from one validation to the next; None: an epoch.
        monitor: the validation metric by which a checkpoint is the best: `"auc"`, or
            `"gauc_request"`, the mean AUC of the requests' slates.
        patience: stop after so many validations without a new best; None: never.
        checkpoint_every: steps from one checkpoint to the next.
        checkpoint_minutes: from one checkpoint to the next at most; None: however long
            those steps take.
        keep_checkpoints: latest ones kept, beside the best.
        log_every: steps from one log line (and TensorBoard point) to the next.
        baseline: whether `ctr-tf train` fits logistic regression at its end, to be told
            beside the run; see `ctr_tf.evaluation.baseline_line`.
    """

    epochs: int = 1
    min_steps: int | None = None
    max_steps: int | None = None
    start_from: str | None = None
    start_slots: bool = False
    seed: int = 0
    row_dropout: RowDropoutConfig = RowDropoutConfig()
    unknown_values: UnknownValuesConfig = UnknownValuesConfig()
    precision: str = "float32"
    jit_compile: bool | None = None
    distribution: str = "none"
    tables: str = "replicated"
    validate: bool = True
    validate_every: int | None = None
    monitor: str = "auc"
    patience: int | None = None
    checkpoint_every: int = 1_000
    checkpoint_minutes: float | None = 30.0
    keep_checkpoints: int = 2
    log_every: int = 50
    baseline: bool = True

    def __post_init__(self) -> None:
        for key, known in (
            ("precision", PRECISIONS),
            ("distribution", STRATEGIES),
            ("tables", TABLES),
            ("monitor", MONITORS),
        ):
            if getattr(self, key) not in known:
                raise UserError(
                    unknown_name(f"training.{key}", getattr(self, key), known)
                )
        for key in (
            *("epochs", "min_steps", "max_steps", "validate_every", "patience"),
            *("checkpoint_every", "keep_checkpoints", "log_every"),
        ):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(
                    f"`training.{key}` must be a positive integer. Received: {value!r}"
                )
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise UserError(
                f"`training.seed` lies between 0 and {_LARGEST_SEED}. "
                f"Received: {self.seed}"
            )

        minutes = self.checkpoint_minutes
        if minutes is not None and not minutes > 0:
            raise UserError(
                f"`training.checkpoint_minutes` must be positive. Received: {minutes!r}"
            )

        if self.start_slots and self.start_from is None:
            raise UserError(
                "`training.start_slots` goes with `training.start_from`. "
                "Received: start_from=None"
            )

    def total_steps(self, epoch_steps: int) -> int:
        """Steps of the training.

        Args:
            epoch_steps: of one pass.
        """
        steps = max(self.epochs * epoch_steps, self.min_steps or 0)
        return min(steps, self.max_steps or steps)


@dataclasses.dataclass(frozen=True)
class Config:
    """A recipe; see `ctr_tf.config` for how it is read.

    Args:
        run: folder of the run: checkpoints, logs, metrics, plots.
        data: the prepared data set and its batches.
        model: its `name` selects the model, and with it the other keys.
        objective: what is made small: the weight of each term.
        distillation: the teacher of the model; None: it has none.
        optimizer: of the weights.
        training: how long, how exactly and where.
        stream: what is trained on instead of the data set's split; None: nothing.
        tune: key → range, of `ctr-tf tune` alone; see `read_ranges`.
        recipe: what the recipe is called, to be told; `load_recipe` says it.
    """

    run: str = "runs/run"
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: Any = dataclasses.field(
        default_factory=SparseCTRConfig, metadata={"choose": choose_model}
    )
    # Made of `LOSSES`, which a type checker does not follow.
    objective: ObjectiveConfig = dataclasses.field(  # type: ignore[valid-type]
        default_factory=ObjectiveConfig
    )
    distillation: DistillationConfig | None = None
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    stream: StreamConfig | None = None
    tune: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"read": read_ranges}
    )
    recipe: str = dataclasses.field(default="", compare=False)

    @property
    def used_optimizer(self) -> OptimizerConfig:
        """The optimizer's section; without a warm-up where its slots are warm."""
        if not self.training.start_slots:
            return self.optimizer
        return dataclasses.replace(self.optimizer, warmup_steps=0)
