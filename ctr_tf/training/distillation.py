"""Distillation: a student learns from the labels, and from what a teacher says.

    L = L(y, z_S) + L(y, z_T) + weight · w(step) · t^2 BCE(sigmoid(z_T / t), z_S / t)

Online, both learn from the same batches; a finished teacher only puts out its logits,
and the second term is absent. The student has its own, shorter history. It is the main
ranker, so it alone is in `best-*`, and what evaluates, exports and serves a run sees an
ordinary one.
"""

import dataclasses
import math
from typing import Any

from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.losses import DistillationLoss
from ctr_tf.losses.loss import TEACHER
from ctr_tf.models.choose import choose_model
from ctr_tf.training.objective import Objective, Term, make_terms


def _choose_teacher(values: Any) -> type:
    return type(None) if values is None else choose_model(values)


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """From whom the recipe's model learns, and how much.

    Args:
        teacher: a model, like the section `model`, that learns on the same batches.
        teacher_run: instead, the folder of a finished run, whose best weights teach.
        history_lengths: of the teacher, like `data.history_lengths`, the largest of
            which is the student's; empty: the schema's. A finished teacher's are those
            of its run.
        weight: of the loss by which the student learns from the teacher. At 0 it learns
            as if it were alone on the same batches; but for tables that it shares, and
            steps that loss scaling leaves out for the teacher's sake.
        temperature: t, by which both logits are divided there.
        warmup_share: of the training, over which the student learns from the labels
            alone; over as long the weight then rises to its full size. None: a quarter,
            and 0 for a finished teacher.
        shared_tables: whether both have the same embedding tables, which learn from
            both.
    """

    teacher: Any = dataclasses.field(default=None, metadata={"choose": _choose_teacher})
    teacher_run: str | None = None
    history_lengths: tuple[int, ...] = ()
    weight: float = 1.0
    temperature: float = 1.0
    warmup_share: float | None = None
    shared_tables: bool = False

    def __post_init__(self) -> None:
        if (self.teacher is None) == (self.teacher_run is None):
            raise UserError(
                "`distillation` needs a `teacher`, a model that learns beside the "
                "student, or a `teacher_run`, a finished one. Received: "
                f"teacher={self.teacher!r}, teacher_run={self.teacher_run!r}"
            )
        share = self.warmup_share
        if share is None:
            share = 0.0 if self.is_finished else 0.25
            object.__setattr__(self, "warmup_share", share)
        for key, valid, words in (
            ("weight", self.weight >= 0, "not negative"),
            ("temperature", self.temperature > 0, "positive"),
            (
                "warmup_share",
                0 <= share <= 0.5,
                "0 … 0.5: it rises as long",
            ),
        ):
            if not valid:
                raise UserError(
                    f"`distillation.{key}` is {words}. Received: {getattr(self, key)!r}"
                )
        for key, value in (
            ("history_lengths", self.history_lengths),
            ("shared_tables", self.shared_tables),
        ):
            if self.is_finished and value:
                raise UserError(
                    f"`distillation.{key}` is for a teacher that learns: a finished "
                    f"one has its own. Received: {value!r}"
                )

    @property
    def is_finished(self) -> bool:
        """Whether the teacher's training is over."""
        return self.teacher_run is not None


@dataclasses.dataclass(frozen=True)
class Ramp:
    """``w(step)``: 0 for a share of the training, then over as long up to 1.

    Args:
        share: of the training.
        total_steps: of the training.
    """

    share: float
    total_steps: int

    @property
    def full_at(self) -> int:
        """The step from which on w is 1."""
        return math.ceil(2 * self.share * self.total_steps)

    def __call__(self, step: Any) -> Any:
        """The share of the weight after so many steps, a scalar."""
        if not self.share:
            return 1.0
        done = ops.cast(step, "float32") / self.total_steps
        return ops.clip((done - self.share) / self.share, 0.0, 1.0)


def make_ramp(section: DistillationConfig, total_steps: int) -> Ramp:
    """The ramp of a recipe's section, in a training of so many steps."""
    assert section.warmup_share is not None  # `__post_init__` has seen to it
    return Ramp(section.warmup_share, total_steps)


def distilled_objective(
    section: DistillationConfig,
    objective: Any,
    student: Any,
    teacher: Any,
    total_steps: int,
) -> Objective:
    """The objective of student and teacher.

    Args:
        section: the recipe's.
        objective: an `ObjectiveConfig`, which both are trained for.
        student: the main ranker.
        teacher: the other; frozen where it is finished.
        total_steps: of the training.
    """
    terms = make_terms(objective, student)
    if teacher.trainable:
        terms += make_terms(objective, teacher, TEACHER)
    if section.weight:
        terms.append(
            Term(
                DistillationLoss.name,
                DistillationLoss(temperature=section.temperature),
                section.weight,
                make_ramp(section, total_steps),
            )
        )
    return Objective(terms)
