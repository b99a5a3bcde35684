"""A training that starts from the weights of a run, whose vocabularies are others."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf import config as configs
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.models import Ranker
from ctr_tf.schema import FIRST_ID, OUT_OF_VOCABULARY_ID
from ctr_tf.schema.vocabulary import Vocabularies, content_hash, different_line
from ctr_tf.tables.saved_tables import SLOTS, read_rows, read_scalar
from ctr_tf.tables.tables import Tables
from ctr_tf.training.checkpoints import (
    best_weights,
    last_step,
    load_weights,
    named,
    optimizer_values,
)
from ctr_tf.training.config import Config
from ctr_tf.training.optimizers import learning_rate, paired
from ctr_tf.training.run import (
    Run,
    checkpoint_folder,
    load_run,
    read_config,
    read_content,
)
from ctr_tf.training.trainer import Trainer

_log = logging.getLogger(__name__)


def check_start(config: Config, data: PreparedData) -> None:
    """Looks whether the recipe's run can be started from, where it names one.

    Raises:
        FileNotFoundError: if there is no such run.
        UserError: if the run is of another model, or of another schema; names what
            differs.
    """
    folder = config.training.start_from
    if folder is None:
        return
    found = read_config(folder)
    models = [configs.to_mapping(c.model) for c in (found, config)]
    if different := configs.differences(models[0], models[1], "model"):
        raise UserError(f"The run '{folder}' is of another model: {different[0]}")
    if config.training.start_slots:
        _check_optimizers(found, config)
    check_schema(folder, data)


def _check_optimizers(run: Config, config: Config) -> None:
    for key in ("dense", "tables"):
        one, other = (getattr(c.optimizer, key) for c in (run, config))
        if one != other:
            raise UserError(
                f"`training.start_slots` needs the optimizer of the run, "
                f"`optimizer.{key}={one}`. Received: {other}"
            )
    if run.distillation is not None or config.distillation is not None:
        raise UserError(
            "`training.start_slots` is for models that have no teacher, neither in the "
            "run nor here. Received: a section `distillation`"
        )


def check_schema(folder: str | Path, data: PreparedData) -> None:
    """Looks whether a run is of the data's schema, but for the sizes of vocabularies.

    Raises:
        FileNotFoundError: if there is no such run.
        UserError: names the first line that differs, or another tokenizer.
    """
    found, vocabularies = read_content(folder)
    if different := different_line(found, data.schema):
        there, here = different
        raise UserError(
            f"The run '{folder}' is of another schema: '{there}' there, '{here}' in "
            f"'{data.folder}'"
        )
    if vocabularies.texts is not None:
        known = data.vocabularies.known_texts
        vocabularies.texts.check_tokenizer(known, data.folder)


def start_from(
    ranker: Ranker, data: PreparedData, folder: str | Path, learns: bool = True
) -> None:
    """Takes over a run's best weights; rows of tables by the values they stand for.

    A value that the run did not know keeps its new row, to be learned; where nothing
    is learned any more, it gets the row of unknown values, as in the run. Numbers stay
    clipped and standardized as the run has them, for its weights belong to that.

    Args:
        ranker: built for the data.
        data: to be trained on.
        folder: of the run, see `check_start`.
        learns: whether the ranker is trained further.
    """
    content = content_hash(*read_content(folder))
    if content == data.content_hash:  # row by row
        load_weights(checkpoint_folder(folder), ranker, "best", content)
        _log.info("weights from '%s', of the same vocabularies", folder)
        return
    run = load_run(folder, shard=Tables(ranker.embedding.tables).shard)
    with best_weights(checkpoint_folder(folder)) as best:
        _take_weights(ranker, data, run, best, as_unknown=not learns)
    _tell(ranker, data, run)


def go_on_from(trainer: Trainer, data: PreparedData, folder: str | Path) -> int:
    """Takes over weights and optimizer of a run's last step.

    Rows, and what the optimizer remembers of them, go by the values that they stand
    for. A value that the run did not know begins with the row of unknown values, so
    that no score changes before the first step, and the optimizer knows nothing of it.
    Numbers stay as in `start_from`; the learning rate is the recipe's own.

    Args:
        trainer: compiled, of the data.
        data: to be trained on.
        folder: of the run, see `check_start`.

    Returns:
        Steps that the optimizer has done.
    """
    ranker = trainer.ranker
    run = load_run(folder, "last", Tables(ranker.embedding.tables).shard)
    content = content_hash(run.schema, run.vocabularies)
    order = [*named(ranker), *trainer.tables]
    with last_step(checkpoint_folder(folder), content, order) as last:
        _take_weights(ranker, data, run, last, as_unknown=True)
        _take_slots(trainer, data, run, last)
    _tell(ranker, data, run)
    return int(trainer.optimizer.iterations.numpy())


def _take_weights(
    ranker: Ranker, data: PreparedData, run: Run, saved: Path, as_unknown: bool
) -> None:
    for new, old in zip(ranker.network, run.ranker.network, strict=True):
        new.assign(old.numpy())
    for table, new in ranker.embedding.tables.items():
        before = _rows_before(ranker, table, data, run)
        if as_unknown:
            before[before < 0] = OUT_OF_VOCABULARY_ID
        values, known = new.table.numpy(), before >= 0
        values[known] = _rows_of(run, table, before[known], saved)
        new.table.assign(values)


def _take_slots(trainer: Trainer, data: PreparedData, run: Run, saved: Path) -> None:
    """An optimizer's variables: steps done, its rate if that is a number, slots."""
    rates = int(isinstance(learning_rate(run.config.used_optimizer, 1.0, 1), float))
    ours = paired(trainer.optimizer)
    own = [v for v in ours.network.variables if v is not ours.network._learning_rate]
    steps, *slots = optimizer_values(saved)[-len(own) - rates :]
    for variable, value in zip(own, [steps, *slots[rates:]], strict=True):
        variable.assign(value)
    of_rows = ours.tables.updates()
    of_rows.iterations.assign(read_scalar(saved, SLOTS, "0"))
    for number, (table, slot) in enumerate(
        zip(ours.tables.tables, of_rows.slots, strict=True), 1 + rates
    ):
        before = _rows_before(trainer.ranker, table, data, run)
        values, known = slot.numpy(), before >= 0
        values[known] = read_rows(saved, str(number), before[known], SLOTS)
        slot.assign(values)


def _tell(ranker: Ranker, data: PreparedData, run: Run) -> None:
    for name in sorted(set(_vocabulary_of_tables(ranker).values())):
        known = _places(name, data.vocabularies, run.vocabularies) >= 0
        _log.info(
            "%s: %s of %s values have rows in '%s', %s are new",
            name, *(f"{n:,}" for n in (known.sum(), len(known))), run.folder,
            f"{(~known).sum():,}",
        )  # fmt: skip


def _vocabulary_of_tables(ranker: Ranker) -> dict[str, str]:
    """Table → the vocabulary that its rows stand for."""
    embedding = ranker.embedding
    features = {
        f"{group}_{feature.name}": feature
        for group, of_group in ranker.schema.groups().items()
        for feature in of_group
    }
    found = {}
    for key, table in embedding.sources().values():
        if name := features[key].vocabulary_name:
            found[table] = name
    return found


def _rows_before(
    ranker: Ranker, table: str, data: PreparedData, run: Run
) -> np.ndarray:
    """For each row of a table that is here, which one it was in the run; -1: none."""
    new = ranker.embedding.tables[table]
    before = np.arange(new.rows)
    if name := _vocabulary_of_tables(ranker).get(table):
        place = _places(name, data.vocabularies, run.vocabularies)
        before[FIRST_ID:] = np.where(place >= 0, FIRST_ID + place, -1)
    return before[new.shard.index :: new.shard.count]


def _rows_of(run: Run, table: str, rows: np.ndarray, saved: Path) -> np.ndarray:
    """Of a run's table that is whole here; else of its file."""
    known = run.ranker.embedding.tables[table]
    if known.shard.is_whole:
        return known.table.numpy()[rows]
    return read_rows(saved, table, rows)


def _places(name: str, to: Vocabularies, of: Vocabularies) -> np.ndarray:
    """For each value of a vocabulary, where it stands in another; -1 for nowhere."""
    known = pa.array(of.values(name), pa.string())
    index = pc.index_in(pa.array(to.values(name), pa.string()), value_set=known)
    return pc.fill_null(index, -1).to_numpy(zero_copy_only=False)
