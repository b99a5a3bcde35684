"""The teacher of a training: made to learn beside the student, or read from a run."""

import dataclasses
from pathlib import Path
from typing import Any

from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import history_lengths
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.models import Ranker, build_ranker
from ctr_tf.training.checkpoints import digest
from ctr_tf.training.config import Config
from ctr_tf.training.distillation import DistillationConfig
from ctr_tf.training.run import checkpoint_folder, read_config
from ctr_tf.training.start import check_schema, start_from


@dataclasses.dataclass(frozen=True)
class Teacher:
    """What a recipe's section `distillation` says about its teacher, resolved.

    Args:
        config: the section.
        model: the teacher's.
        precision: of its network.
        data: the recipe's section, with the teacher's `history_lengths`: what batches
            are made by.
        student_history: behaviors that the student sees; None: all of the teacher's.
    """

    config: DistillationConfig
    model: Any
    precision: str
    data: DataConfig
    student_history: int | None

    @property
    def digest(self) -> str:
        """Identifies a finished teacher's weights; empty for one that learns."""
        run = self.config.teacher_run
        return "" if run is None else digest(checkpoint_folder(run))

    def make(self, data: PreparedData, student: Ranker) -> Ranker:
        """Builds it for the data; with its weights and frozen where it is finished.

        Args:
            data: to be trained on; rows of a finished teacher's tables are mapped by
                the values that they stand for.
            student: whose tables it shares, where it does.
        """
        teacher = build_ranker(
            self.model,
            data.schema,
            data.vocabularies.table_sizes(data.schema),
            self.precision,
            student if self.config.shared_tables else None,
        )
        if self.config.teacher_run is not None:
            start_from(teacher, data, self.config.teacher_run)
            teacher.trainable = False
        return teacher


def find_teacher(config: Config, data: PreparedData) -> Teacher | None:
    """Looks what the recipe says about a teacher, and whether that can be.

    Args:
        config: the recipe.
        data: to be trained on.

    Returns:
        None where the recipe has no section `distillation`.

    Raises:
        FileNotFoundError: if there is no such run.
        UserError: if its run is of another schema or label, or the student's history is
            longer than the teacher's.
    """
    section = config.distillation
    if section is None:
        return None
    model, lengths = section.teacher, section.history_lengths
    precision = config.training.precision
    if section.teacher_run is not None:
        run = read_config(section.teacher_run)
        model, lengths = run.model, run.data.history_lengths
        precision = run.training.precision
        _check_run(section.teacher_run, run, config, data)
    teachers = dataclasses.replace(config.data, history_lengths=lengths)
    teachers = dataclasses.replace(
        teachers, history_lengths=history_lengths(data, teachers)
    )
    longest = teachers.history_lengths[-1]
    own = config.data.history_lengths[-1] if config.data.history_lengths else None
    if own is not None and own > longest:
        raise UserError(
            f"The teacher's history holds {longest} behaviors, which the student's "
            f"cannot exceed. Received: data.history_lengths="
            f"{list(config.data.history_lengths)}"
        )
    return Teacher(section, model, precision, teachers, own)


def _check_run(
    folder: str | Path, run: Config, config: Config, data: PreparedData
) -> None:
    check_schema(folder, data)
    for key, there, here in (
        ("data.label", run.data.label, config.data.label),
        ("model.tasks", run.model.tasks, config.model.tasks),
    ):
        if there != here:
            raise UserError(
                f"The teacher '{folder}' was trained for another `{key}`, {there!r}. "
                f"Received: {here!r}"
            )
