"""The teacher of a training: made to learn beside the student, or read from a run."""

import dataclasses
from pathlib import Path
from typing import Any

from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import history_lengths
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.losses.loss import MAIN
from ctr_tf.models import Ranker, build_ranker
from ctr_tf.storage import as_path
from ctr_tf.tables.shard import Shard
from ctr_tf.training.checkpoints import digest
from ctr_tf.training.config import Config
from ctr_tf.training.distillation import DistillationConfig
from ctr_tf.training.run import METRICS, checkpoint_folder, model_of, read_config
from ctr_tf.training.start import check_schema, start_from


@dataclasses.dataclass(frozen=True)
class Teacher:
    """What a recipe's section `distillation` says about its teacher, resolved.

    Args:
        section: the recipe's.
        model: the teacher's, like the section `model`.
        precision: of its network.
        batches_by: the recipe's section `data`, with the teacher's `history_lengths`:
            what batches are made by.
        student_history: behaviors that the student sees of those.
        digest: identifies a finished teacher's weights; empty for one that learns.
    """

    section: DistillationConfig
    model: Any
    precision: str
    batches_by: DataConfig
    student_history: int
    digest: str

    @property
    def history_lengths(self) -> dict[str, int]:
        """Of rankers that see less than batches have, see `Trainer`."""
        if self.student_history == self.batches_by.history_lengths[-1]:
            return {}
        return {MAIN: self.student_history}

    def make(
        self, data: PreparedData, student: Ranker, shard: Shard | None = None
    ) -> Ranker:
        """Builds it for the data; with its weights and frozen where it is finished.

        Args:
            data: to be trained on; rows of a finished teacher's tables are found by
                the values that they stand for.
            student: whose tables it shares, where it does.
            shard: of the rows of a teacher that learns, that which is here; None: all.
        """
        teacher = build_ranker(
            self.model,
            data.schema,
            data.vocabularies.table_sizes(data.schema),
            self.precision,
            student if self.section.shared_tables else None,
            data.vocabularies.texts,
            None if self.section.is_finished else shard,
        )
        if self.section.teacher_run is not None:
            start_from(teacher, data, self.section.teacher_run, learns=False)
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
        UserError: if its run has not come to its end, or teacher and student differ in
            schema, labels, or the width of tables that they share; if the student's
            history is longer than the teacher's.
    """
    section = config.distillation
    if section is None:
        return None
    model, lengths, mark = section.teacher, section.history_lengths, ""
    precision = config.training.precision
    if section.teacher_run is not None:
        run = read_config(section.teacher_run)
        model, lengths = model_of(section.teacher_run, run), run.data.history_lengths
        precision = run.training.precision
        _check_run(section.teacher_run, run, config, data)
        mark = digest(checkpoint_folder(section.teacher_run))
    _check_models(section, model, config.model)
    # One size by default, so that batches are those of the student alone.
    lengths = lengths or (data.schema.history_length,)
    batches_by = dataclasses.replace(config.data, history_lengths=lengths)
    longest = history_lengths(data, batches_by)[-1]
    own = history_lengths(data, config.data)[-1]
    if own > longest:
        raise UserError(
            f"The teacher's history holds {longest} behaviors, which the student's "
            f"cannot exceed. Received: a history of {own}, by data.history_lengths="
            f"{list(config.data.history_lengths)}"
        )
    return Teacher(section, model, precision, batches_by, own, mark)


def _check_run(
    folder: str | Path, run: Config, config: Config, data: PreparedData
) -> None:
    check_schema(folder, data)
    if not (as_path(folder) / METRICS).is_file():
        raise UserError(
            f"The training of the teacher '{folder}' has not come to its end: "
            f"it has no {METRICS}. The command that began it goes on with it."
        )
    there, here = (c.data.label or data.schema.labels[0] for c in (run, config))
    if there != here:
        raise UserError(
            f"The teacher '{folder}' was trained for another `data.label`, '{there}'. "
            f"Received: '{here}'"
        )


def _check_models(section: DistillationConfig, teacher: Any, student: Any) -> None:
    keys = ["tasks", *(["embedding_dim"] if section.shared_tables else [])]
    for key in keys:
        there, here = getattr(teacher, key), getattr(student, key)
        if there != here:
            why = ", whose tables are shared," if key == "embedding_dim" else ""
            raise UserError(
                f"Teacher and student{why} have equal `{key}`: the teacher's is "
                f"{there!r}. Received: model.{key}={here!r}"
            )
