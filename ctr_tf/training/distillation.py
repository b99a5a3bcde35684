"""Distillation: a student learns from the labels, and from what a teacher says.

    L = L(y, z_S) + L(y, z_T) + weight · w(step) · t^2 BCE(sigmoid(z_T / t), z_S / t)

Online, both learn from the same batches; a finished teacher only puts out its logits,
and the second term is absent. The student has its own, shorter history. It is the main
ranker, so it alone is in `best-*`, and what evaluates, exports and serves a run sees an
ordinary one.
"""

import dataclasses
from typing import Any

from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.losses import DistillationLoss
from ctr_tf.models.choose import choose_model
from ctr_tf.training.objective import Objective, Term, make_terms

TEACHER = "teacher"


def _choose_teacher(values: Any) -> type:
    return type(None) if values is None else choose_model(values)


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """From whom the recipe's model learns, and how much.

    Args:
        teacher: a model, like the section `model`, that learns on the same batches.
        teacher_run: instead, the folder of a finished run, whose best weights teach.
        history_lengths: of the teacher, like `data.history_lengths`, which are the
            student's. A finished teacher's are those of its run.
        weight: of the loss by which the student learns from the teacher; 0: it learns
            as if it were alone.
        temperature: t, by which both logits are divided there.
        warmup_share: of the training, over which the teacher learns alone; over as long
            the weight then rises to its full size. None: a quarter, and 0 for a
            finished teacher.
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
            ("warmup_share", 0 <= share <= 1, "a share, 0 … 1"),
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
    """w(step): 0 for a share of the training, then over as long up to 1.

    Args:
        share: of the training.
        total_steps: of the training.
    """

    share: float
    total_steps: int

    def __call__(self, step: Any) -> Any:
        """W after so many steps, a float32 scalar."""
        done = ops.cast(step, "float32") / self.total_steps
        if not self.share:
            return ops.ones_like(done)
        return ops.clip((done - self.share) / self.share, 0.0, 1.0)


def distilled_objective(
    config: DistillationConfig,
    objective: Any,
    student: Any,
    teacher: Any,
    total_steps: int,
) -> Objective:
    """The objective of student and teacher.

    Args:
        config: the recipe's section.
        objective: an `ObjectiveConfig`, which both are trained for.
        student: the main ranker.
        teacher: the other; frozen where it is finished.
        total_steps: of the training.
    """
    terms = make_terms(objective, student)
    if teacher.trainable:
        terms += make_terms(objective, teacher, TEACHER)
    if config.weight:
        assert config.warmup_share is not None  # `__post_init__` has seen to it
        terms.append(
            Term(
                DistillationLoss.name,
                DistillationLoss(teacher=TEACHER, temperature=config.temperature),
                config.weight,
                Ramp(config.warmup_share, total_steps),
            )
        )
    return Objective(terms)
