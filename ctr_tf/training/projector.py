"""Item embeddings for TensorBoard's projector, as they are when a training ends.

`logs/projector/` has the rows of the most frequent items, and beside each what the item
is: its id, and a categorical feature of items where there is one. That is found in
samples, for vocabularies do not know it; an item that none of those has is `?`.
"""

import itertools
import logging
from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr_tf.data.inspect import find_samples
from ctr_tf.data.prepared import PreparedData
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import FIRST_ID, ITEM_KEY, Feature, Schema
from ctr_tf.storage.folders import writing

ITEMS = 10_000
_SAMPLES = 1_000  # in which features of items are looked up
_FOLDER = "projector"

_log = logging.getLogger(__name__)


def write_projector(logs: str | Path, ranker: Ranker, data: PreparedData) -> None:
    """Writes the embeddings of the most frequent items; says so where there are none.

    Args:
        logs: folder of TensorBoard's logs.
        ranker: with its weights.
        data: that it was trained on.
    """
    item = next(f for f in data.schema.of("item") if f.name == ITEM_KEY)
    table = ranker.embedding.tables.get(item.table)
    why = ""
    if item.vocabulary_name is None:
        why = f"`{ITEM_KEY}` is hashed, and no row is one item's"
    elif table is None:
        why = "the model has no table of items"
    elif not table.shard.is_whole:
        why = "no worker has the whole table of items"
    if why or table is None or item.vocabulary_name is None:
        _log.info("TensorBoard gets no embeddings of items: %s", why)
        return
    words = data.vocabularies.values(item.vocabulary_name)[:ITEMS]
    if not words:
        return
    ids = np.arange(FIRST_ID, FIRST_ID + len(words))
    rows = tf.gather(table.table.value, ids).numpy()
    columns = {ITEM_KEY: words}
    feature = shown_feature(data.schema)
    if feature is not None:
        known = values_of_items(data, feature)
        columns[feature.name] = [known.get(int(i), "?") for i in ids]
    with writing(logs) as here:
        _write(here, rows, columns)


def shown_feature(schema: Schema) -> Feature | None:
    """The feature that items are shown by: the first categorical one of one value."""
    for feature in schema.of("item"):
        fits = feature.stores_ids and feature.can_decode and feature.max_values == 1
        if fits and feature.name != ITEM_KEY:
            return feature
    return None


def values_of_items(data: PreparedData, feature: Feature) -> dict[int, str]:
    """Id of an item → its value of a feature, in words, of items in some samples."""
    found: dict[int, int] = {}
    for _, sample in itertools.islice(find_samples(data, "train"), _SAMPLES):
        for group in ("behavior", "candidate"):
            ids, values = (sample[f"{group}_{n}"] for n in (ITEM_KEY, feature.name))
            found.update(zip(ids.tolist(), values.tolist(), strict=True))
    words = feature.words(list(found.values()), data.vocabularies)
    return dict(zip(found, words, strict=True))


def _write(logs: Path, rows: np.ndarray, columns: dict[str, list[str]]) -> None:
    from tensorboard.plugins import projector

    (logs / _FOLDER).mkdir(parents=True, exist_ok=True)
    np.savetxt(logs / _FOLDER / "items.tsv", rows, "%.6g", delimiter="\t")
    items = zip(*columns.values(), strict=True)
    lines = ["\t".join(word.replace("\t", " ") for word in item) for item in items]
    if len(columns) > 1:  # one column has no head
        lines.insert(0, "\t".join(columns))
    text = "".join(f"{line}\n" for line in lines)
    (logs / _FOLDER / "items_metadata.tsv").write_text(text, "utf-8")
    config = projector.ProjectorConfig()
    shown = config.embeddings.add()
    shown.tensor_name = "items"
    shown.tensor_path = f"{_FOLDER}/items.tsv"
    shown.metadata_path = f"{_FOLDER}/items_metadata.tsv"
    projector.visualize_embeddings(str(logs), config)
