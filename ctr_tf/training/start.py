"""A training that starts from the weights of a run, whose vocabularies are others."""

import itertools
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
from ctr_tf.schema.vocabulary import Vocabularies, content_hash, without_limits
from ctr_tf.tables.saved_tables import read_rows
from ctr_tf.tables.tables import Tables
from ctr_tf.training.checkpoints import best_weights, load_weights
from ctr_tf.training.config import Config
from ctr_tf.training.run import (
    Run,
    checkpoint_folder,
    load_run,
    read_config,
    read_content,
)

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
    models = [configs.to_mapping(c.model) for c in (read_config(folder), config)]
    if different := configs.differences(models[0], models[1], "model"):
        raise UserError(f"The run '{folder}' is of another model: {different[0]}")
    check_schema(folder, data)


def check_schema(folder: str | Path, data: PreparedData) -> None:
    """Looks whether a run is of the data's schema, but for the sizes of vocabularies.

    Raises:
        FileNotFoundError: if there is no such run.
        UserError: names the first line that differs, or another tokenizer.
    """
    found, vocabularies = read_content(folder)
    one, other = (
        without_limits(schema).to_yaml().splitlines() for schema in (found, data.schema)
    )
    for there, here in itertools.zip_longest(one, other, fillvalue=""):
        if here != there:
            raise UserError(
                f"The run '{folder}' is of another schema: '{there.strip()}' there, "
                f"'{here.strip()}' in '{data.folder}'"
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
    for new, old in zip(ranker.network, run.ranker.network, strict=True):
        new.assign(old.numpy())
    vocabularies = _vocabulary_of_tables(ranker)
    with best_weights(checkpoint_folder(folder)) as best:
        for table, new in ranker.embedding.tables.items():
            before = np.arange(new.rows)
            if name := vocabularies.get(table):
                before = _rows_before(name, data.vocabularies, run.vocabularies)
            if not learns:
                before[before < 0] = OUT_OF_VOCABULARY_ID
            before = before[new.shard.index :: new.shard.count]
            values, known = new.table.numpy(), before >= 0
            values[known] = _rows_of(run, table, before[known], best)
            new.table.assign(values)
    for name in sorted(set(vocabularies.values())):
        known = _places(name, data.vocabularies, run.vocabularies) >= 0
        _log.info(
            "%s: %s of %s values have rows in '%s', %s are new",
            name, *(f"{n:,}" for n in (known.sum(), len(known))), folder,
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


def _rows_before(name: str, to: Vocabularies, of: Vocabularies) -> np.ndarray:
    """For each row of a table, which one it was in another's; -1 for none."""
    place = _places(name, to, of)
    before = np.where(place >= 0, FIRST_ID + place, -1)
    return np.concatenate([np.arange(FIRST_ID), before])  # padding and unknown


def _rows_of(run: Run, table: str, rows: np.ndarray, best: Path) -> np.ndarray:
    """Of a run's table that is whole here; else of its file."""
    known = run.ranker.embedding.tables[table]
    if known.shard.is_whole:
        return known.table.numpy()[rows]
    return read_rows(best, table, rows)


def _places(name: str, to: Vocabularies, of: Vocabularies) -> np.ndarray:
    """For each value of a vocabulary, where it stands in another; -1 for nowhere."""
    known = pa.array(of.values(name), pa.string())
    index = pc.index_in(pa.array(to.values(name), pa.string()), value_set=known)
    return pc.fill_null(index, -1).to_numpy(zero_copy_only=False)
